/** Which engine is to carry the rules out, as people choose it. Pure. */

import { NatwardError } from '../errors.ts';
import type { EngineName } from './engine.ts';

/** `auto`: the best that this machine and this user have. */
export type EngineChoice = 'auto' | EngineName;

const CHOICES: readonly EngineChoice[] = ['auto', 'relay', 'nftables'];

/** Throws USAGE. */
export function parseEngineChoice(text: string): EngineChoice {
  const choice = CHOICES.find((one) => one === text);
  if (choice !== undefined) return choice;
  throw new NatwardError('USAGE', `"${text}" is no engine: write auto, relay or nftables`);
}
