/** One protocol under fire: how its packets are made, what each may do, and what its answers have to be. */

import type { Endpoint } from '../../../src/net/endpoint.ts';
import type { Ground } from './ground.ts';
import type { Claim, Tables } from './judge.ts';
import type { Random } from './random.ts';

export interface Shot {
  readonly source: Endpoint;
  readonly bytes: Uint8Array;
  readonly claim: Claim;
  /** Over TCP: its client does not end its side before it has its answer. */
  readonly waits?: boolean;
}

/** What there is to judge an answer by. */
export interface Scene {
  readonly ground: Ground;
  readonly after: Tables;
  /** Nobody else asked for anything at the same time. */
  readonly isAlone: boolean;
}

export interface Verdict {
  /** For the counts. */
  readonly result: string;
  readonly faults: readonly string[];
}

export interface Campaign {
  readonly name: string;
  /** Most packets at once. */
  readonly mostAtOnce: number;
  /** Its packets come over IPv4 alone. */
  readonly isIpv4?: true;
  open?(ground: Ground): Promise<void>;
  shot(random: Random, source: Endpoint): Shot;
  /** Nothing is spoiled, but several such at once make, change and end the same few mappings. */
  contest?(random: Random, source: Endpoint): Shot;
  /** Has all of them received, and returns what came back for each. */
  fire(shots: readonly Shot[], ground: Ground, random: Random): Promise<readonly (readonly Uint8Array[])[]>;
  judge(shot: Shot, answers: readonly Uint8Array[], scene: Scene): Verdict;
  /** What must hold beside the tables, now and then. */
  stateFaults?(ground: Ground): readonly string[];
  close?(): Promise<void>;
}
