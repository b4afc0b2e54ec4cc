/** One thing that a forwarder owes its users, and whether a program gives it. */

import { Context, Subject } from './context.ts';
import type { Feature, Program, Protocol } from './program.ts';

export interface Case {
  readonly name: string;
  readonly protocol: Protocol;
  /** What a program's configuration has to be able to say for the case to mean anything. */
  readonly needs?: readonly Feature[];
  /** Nothing else runs meanwhile: it loads the machine and its network, or measures. */
  readonly alone?: 'loads' | 'measures';
  readonly limitMs?: number;
  /** Rejects with the reason where the program does not give it. */
  run(subject: Subject, context: Context): Promise<void>;
}

export const CASE_LIMIT_MS = 20_000;

/** Why the case says nothing of the program; undefined where it does. */
export function inapplicable({ protocol, needs = [] }: Case, { lacks }: Program): string | undefined {
  const wanted: readonly Feature[] = protocol === 'udp' ? ['udp', ...needs] : needs;
  return wanted.map((feature) => lacks[feature]).find((reason) => reason !== undefined);
}

/** Whether other cases may run meanwhile. In a network of its own, only who measures is disturbed. */
export function isBeside({ alone }: Case, { isAlone }: Program): boolean {
  return alone === undefined || (alone === 'loads' && isAlone === true);
}

/** Runs a case on a program of its own, and takes everything down. Rejects with the reason where it fails. */
export async function runCase({ run, limitMs = CASE_LIMIT_MS }: Case, program: Program): Promise<void> {
  const context = new Context();
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${limitMs / 1000} s`)), limitMs);
  });
  const work = run(new Subject(program, context), context);
  // After one of the others it fails too, since everything is taken down.
  work.catch(() => {});
  try {
    await Promise.race([work, late, context.failed]);
  } finally {
    clearTimeout(timer);
    await context.end();
  }
}
