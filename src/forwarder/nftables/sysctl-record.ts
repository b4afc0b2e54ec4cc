/**
 * Settings of the kernel that are natward's for a while. What each was is remembered at its first change, and put back
 * where nobody else has changed it since. The record itself is for the caller to keep: it outlives a crash with him.
 */

import { adapterOfSysctl, type Sysctls } from '../../system/sysctl.ts';

/** `net.ipv4.conf.eth0.rp_filter` -> `1>2`: what it was, and what natward made of it. */
export type Originals = ReadonlyMap<string, string>;

export class SysctlRecord {
  readonly #sysctls: Sysctls;
  #originals: Map<string, string> = new Map();

  constructor(sysctls: Sysctls) {
    this.#sysctls = sysctls;
  }

  get originals(): Originals {
    return this.#originals;
  }

  adopt(originals: Originals): void {
    this.#originals = new Map([...originals, ...this.#originals]);
  }

  /** A setting as it would be without natward. */
  read(name: string): string | undefined {
    const present = this.#sysctls.read(name);
    const recorded = this.#originals.get(name);
    if (recorded === undefined) return present;
    const { was, set } = parse(recorded);
    return present === set ? was : present;
  }

  /** What `apply` records before it changes anything, with all that is recorded already. */
  planned(wanted: ReadonlyMap<string, string>): Originals {
    const record = new Map(this.#originals);
    for (const [name, value] of wanted) {
      const present = this.#sysctls.read(name);
      const known = record.get(name);
      if (known !== undefined) record.set(name, `${parse(known).was}>${value}`);
      else if (present !== undefined && present !== value) {
        this.#witness(name, record);
        record.set(name, `${present}>${value}`);
      }
    }
    return record;
  }

  /** Answers what failed; all else is done. */
  apply(wanted: ReadonlyMap<string, string>): unknown[] {
    const failures: unknown[] = [];
    this.#originals = new Map(this.planned(wanted));
    // The other way round than they were set: accept_ra may fall only after forwarding has.
    for (const [name, recorded] of [...this.#originals].toReversed()) {
      if (!wanted.has(name)) attempt(failures, () => this.#putBack(name, recorded));
    }
    this.#forgetWitnesses(wanted);
    for (const [name, value] of wanted) attempt(failures, () => this.#set(name, value));
    return failures;
  }

  #putBack(name: string, recorded: string): void {
    const { was, set } = parse(recorded);
    if (was === set) return;
    const witness = witnessOf(name);
    const isOurs = this.#sysctls.read(name) === set;
    if (isOurs && (witness === undefined || this.#isUnchanged(witness))) this.#sysctls.write(name, was);
    this.#originals.delete(name);
  }

  #set(name: string, value: string): void {
    const present = this.#sysctls.read(name);
    // It is set when the adapter comes, by the next call.
    if (present === undefined && adapterOfSysctl(name) !== undefined) return;
    if (present !== value) this.#sysctls.write(name, value);
  }

  #witness(name: string, record: Map<string, string>): void {
    const witness = witnessOf(name);
    if (witness === undefined || record.has(witness)) return;
    const present = this.#sysctls.read(witness);
    if (present !== undefined) record.set(witness, `${present}>${present}`);
  }

  #isUnchanged(witness: string): boolean {
    const recorded = this.#originals.get(witness);
    return recorded === undefined || parse(recorded).was === this.#sysctls.read(witness);
  }

  #forgetWitnesses(wanted: ReadonlyMap<string, string>): void {
    const needed = new Set([...this.#originals.keys()].map(witnessOf));
    for (const [name, recorded] of this.#originals) {
      const { was, set } = parse(recorded);
      if (was === set && !needed.has(name) && !wanted.has(name)) this.#originals.delete(name);
    }
  }
}

function parse(recorded: string): { readonly was: string; readonly set: string } {
  const at = recorded.indexOf('>');
  return { was: recorded.slice(0, at), set: recorded.slice(at + 1) };
}

/**
 * Where another program turns all forwarding on, the adapter's reads as if it were still ours: nobody but `ip_forward`
 * tells. It is recorded beside, unchanged.
 */
function witnessOf(name: string): string | undefined {
  return /^net\.ipv4\.conf\..+\.forwarding$/.test(name) ? 'net.ipv4.ip_forward' : undefined;
}

function attempt(failures: unknown[], act: () => void): void {
  try {
    act();
  } catch (error) {
    failures.push(error);
  }
}
