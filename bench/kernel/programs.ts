/** What is put beside natward's rules in the kernel: the vocabulary of the parts, and who is measured. */

import { NATWARD_KERNEL, NATWARD_KERNEL_CLIENT, NATWARD_RELAY } from './natward.ts';
import { IPTABLES, NFT, NFT_LINEAR, NFT_MASQUERADE, ROUTED_CONNTRACK } from './netfilter.ts';
import type { Network } from '../relay/network.ts';
import { PEERS } from '../relay/peers.ts';
import { type Forward, type Relay, ROUTED } from '../relay/programs.ts';

export interface KernelProgram extends Relay {
  /** Made for thousands of rules: not measured with one. */
  readonly manyOnly?: true;
  /** Ready to be told thousands of rules, of which it has none yet. */
  readonly open?: (network: Network) => Promise<Table>;
}

/** A program's rules in one network. */
export interface Table {
  /** All rules at once, where there are none: the whole command, from its start to its end. */
  apply(forward: Forward): Promise<number>;
  /** The same rules, from none again, without the start of a program: where there is one to be asked. */
  ask?(forward: Forward): Promise<number>;
  /** The rule of the port `at` leads to another port of the server. Milliseconds. */
  edit(forward: Forward, at: number, serverPort: number): Promise<number>;
  /** What has gone through each of the rules. Milliseconds. */
  read(): Promise<number>;
  /** As `read`, with rules that nobody carries out. */
  readIdle?(): Promise<number>;
}

/** Who is judged. */
export const NATWARD: string = NATWARD_KERNEL.name;
/** The reference: what every program that keeps conversations pays. */
export const REFERENCE: string = ROUTED_CONNTRACK.name;
export const MEASURES: readonly string[] = [ROUTED.name, REFERENCE, NFT.name];

/** A relay of the relay benchmark, in every part. */
function peer(name: string, shown: string = name): KernelProgram {
  const found = PEERS.find((other) => other.name === name);
  if (found === undefined) throw new Error(`the relay benchmark has no ${name}`);
  return { ...found, name: shown, bulkOnly: false };
}

export const PROGRAMS: readonly KernelProgram[] = [
  ROUTED,
  ROUTED_CONNTRACK,
  NFT,
  NFT_MASQUERADE,
  NATWARD_KERNEL,
  NATWARD_KERNEL_CLIENT,
  NATWARD_RELAY,
  peer('haproxy-tuned', 'haproxy, forced splice'),
  peer('nginx'),
  peer('rinetd'),
  peer('socat'),
  NFT_LINEAR,
  IPTABLES,
];
