/**
 * What a forwarder is to this suite: rules, a program that carries them, and what its configuration can say.
 * How a program is started and told its rules is in `programs/`, one file a program.
 */

export type Protocol = 'tcp' | 'udp';

export interface Endpoint {
  readonly address: string;
  readonly port: number;
}

export interface ForwardRule {
  readonly protocol: Protocol;
  readonly listen: Endpoint;
  readonly target: Endpoint;
  /** Networks (CIDR) that may come in. Everybody, where it is left out. */
  readonly allow?: readonly string[];
  readonly idleMs?: number;
  readonly connectTimeoutMs?: number;
}

export type Feature =
  | 'udp'
  | 'allow lists'
  | 'TCP idle timeout'
  | 'idle TCP closed'
  | 'UDP idle timeout'
  | 'connect timeout'
  | 'reload'
  | 'drain'
  | 'ICMP errors';

export interface Usage {
  /** Of all its processes, what they share counted in each. */
  readonly rssBytes: number;
  readonly descriptors: number;
}

/** A program that is running, with all the processes that it made. */
export interface Forwarder {
  readonly pid: number;
  usage(): Usage;
  /** Resolves when the new rules are in force. */
  reload(rules: readonly ForwardRule[]): Promise<void>;
  /** Resolves when it has ended. With `drain` the conversations that are open may end by themselves first. */
  stop(how: { readonly drain: boolean }): Promise<void>;
  /** Ends it now; what it leaves behind is nobody's. */
  kill(): void;
}

export interface Program {
  readonly name: string;
  /** A file that is there where the program is installed. */
  readonly file: string;
  /** Why a case that needs the feature says nothing of this program. */
  readonly lacks: Readonly<Partial<Record<Feature, string>>>;
  /** How it was configured, where that decides a case. Printed below the table. */
  readonly setting: string;
  /** Two of it cannot be in one network namespace: each has one of its own, with the case that it is run on. */
  readonly isAlone?: boolean;
  /** Resolves when every rule listens. `directory` is empty, and its own. */
  start(rules: readonly ForwardRule[], directory: string): Promise<Forwarder>;
}
