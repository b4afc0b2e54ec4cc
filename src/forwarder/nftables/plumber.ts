/**
 * Puts plumbing.ts into the kernel and takes it away again: differences only, against what the kernel says is there. What
 * a crash has left behind is found by natward's protocol number, and sysctls by the record that the caller keeps.
 */

import { NatwardError } from '../../errors.ts';
import type { Family } from '../../net/address.ts';
import { failureOf } from '../../system/adapters.ts';
import type { RunProgram } from '../../system/program.ts';
import { type Sysctls, systemSysctls } from '../../system/sysctl.ts';
import { NOTHING, parsePresent, type Present, SHOW_LINES } from './plumbing-present.ts';
import { batchOf, linesOf, MAX_PATHS, missingAdapters, type Path, type Plumbing } from './plumbing.ts';
import { type Originals, SysctlRecord } from './sysctl-record.ts';

export interface PlumberSystem {
  readonly runProgram: RunProgram;
  readonly sysctls: Sysctls;
}

const FAMILIES: readonly Family[] = [4, 6];
const TIME_LIMIT_MS = 10_000;
const OUTPUT_LIMIT_BYTES = 16 * 2 ** 20;
/** `ip neigh` knows protocols, and `ip -N` numbers, in all versions since. */
const OLDEST_IP: readonly [major: number, minor: number] = [5, 5];

export class Plumber {
  readonly #runProgram: RunProgram;
  readonly #sysctls: SysctlRecord;
  /** False: nothing of ours is in the kernel. It may be, until somebody has looked. */
  #mayHavePaths = true;

  constructor(system: PlumberSystem) {
    this.#runProgram = system.runProgram;
    this.#sysctls = new SysctlRecord(system.sysctls);
  }

  originals(): Originals {
    return this.#sysctls.originals;
  }

  /** What an agent before this one has recorded. */
  adopt(originals: Originals): void {
    this.#sysctls.adopt(originals);
  }

  /** A setting as it would be without natward: what `pathSysctls` and `forwardingSysctls` have to judge by. */
  readonly read = (name: string): string | undefined => this.#sysctls.read(name);

  /** The whole record that `apply` will go by. It is kept first, and the kernel changed then. */
  planned({ sysctls }: Plumbing): Originals {
    return this.#sysctls.planned(sysctls);
  }

  /**
   * Answers the paths that wait for their adapter, with the reason: their packets are refused until it is called again.
   * Throws UNSUPPORTED (this kernel has no such setting), USAGE or FAILED; what could be done is done.
   */
  async apply(plumbing: Plumbing): Promise<{ readonly waiting: ReadonlyMap<number, string> }> {
    checkPaths(plumbing.paths);
    const failures = this.#sysctls.apply(plumbing.sysctls);
    const waiting = await this.#applyPaths(plumbing.paths, failures);
    if (failures.length > 0) throw failures[0];
    return { waiting };
  }

  /** Takes everything away, as far as it can, and throws what could not be. */
  async remove(): Promise<void> {
    await this.apply({ sysctls: new Map(), paths: [] });
  }

  async #applyPaths(paths: readonly Path[], failures: unknown[]): Promise<ReadonlyMap<number, string>> {
    if (paths.length === 0 && !this.#mayHavePaths) return new Map();
    this.#mayHavePaths = true;
    const before = failures.length;
    const present = new Map<Family, Present>();
    for (const family of FAMILIES) {
      await attempt(failures, async () => present.set(family, await this.#present(family, paths)));
    }
    const waiting = missingAdapters(paths, present.get(4)?.up ?? new Map());
    for (const [family, state] of present) {
      const wanted = linesOf(paths, family, waiting, (adapter) => state.gateways.get(adapter));
      const batch = batchOf(state.lines, wanted);
      if (batch.length > 0) await attempt(failures, () => this.#ip(family, ['-force'], batch));
    }
    if (paths.length === 0 && failures.length === before) this.#mayHavePaths = false;
    return waiting;
  }

  async #present(family: Family, paths: readonly Path[]): Promise<Present> {
    try {
      return parsePresent(await this.#ip(family, ['-N', '-j'], SHOW_LINES));
    } catch (error) {
      // A machine without `ip`, or a kernel without IPv6, has nothing of ours.
      if (!paths.some(({ families }) => families.includes(family))) return NOTHING;
      throw error;
    }
  }

  async #ip(family: Family, options: readonly string[], lines: readonly string[]): Promise<string> {
    const result = await this.#runProgram({
      command: ['ip', `-${family}`, ...options, '-batch', '-'],
      input: `${lines.join('\n')}\n`,
      timeLimitMs: TIME_LIMIT_MS,
      keptBytes: OUTPUT_LIMIT_BYTES,
      floodBytes: OUTPUT_LIMIT_BYTES,
    });
    const failure = failureOf(result);
    if (failure === undefined) return result.stdout;
    const line = lines[Number(/^Command failed -:(\d+)/m.exec(result.stderr)?.[1] ?? 1) - 1];
    const advice = 'Routing by rule takes CAP_NET_ADMIN, and a kernel with policy routing.';
    throw new NatwardError('FAILED', `ip -${family} was asked for "${line}": ${failure}`, { advice });
  }
}

/** For somebody who only has the machine: everything of natward's goes. */
export async function removePlumbing(
  runProgram: RunProgram,
  originals: Originals,
  sysctls: Sysctls = systemSysctls,
): Promise<void> {
  const plumber = new Plumber({ runProgram, sysctls });
  plumber.adopt(originals);
  await plumber.remove();
}

/** Throws UNSUPPORTED where there is no `ip` that can do this. */
export async function checkIp(runProgram: RunProgram): Promise<void> {
  const advice = `Install iproute2 ${OLDEST_IP.join('.')} or later, or take "via" out of the rules.`;
  const request = {
    command: ['ip', '-V'] as const,
    timeLimitMs: TIME_LIMIT_MS,
    keptBytes: 1000,
    floodBytes: 1000,
  };
  const result = await runProgram(request).catch((cause: unknown) => {
    throw new NatwardError(
      'UNSUPPORTED',
      `routing by rule needs ip of iproute2: ${(cause as Error).message}`,
      {
        advice,
        cause,
      },
    );
  });
  const said = `${result.stdout}${result.stderr}`.trim().split('\n', 1)[0] ?? '';
  if (isIpRecent(said)) return;
  const what = said.slice(0, 100) || 'nothing';
  throw new NatwardError('UNSUPPORTED', `routing by rule needs a newer ip: \`ip -V\` says "${what}"`, {
    advice,
  });
}

/** Of `ip utility, iproute2-6.1.0, libbpf 1.1.2`, or `iproute2-ss200127`: a day, as versions to 5.5 were named. */
function isIpRecent(said: string): boolean {
  const [, day, major, minor] = /iproute2-(?:ss(\d{6})|v?(\d+)\.(\d+))/.exec(said) ?? [];
  if (day !== undefined) return Number(day) >= 200_101;
  const [oldestMajor, oldestMinor] = OLDEST_IP;
  return Number(major) > oldestMajor || (Number(major) === oldestMajor && Number(minor) >= oldestMinor);
}

/** Whatever goes into a line for `ip` is looked at here. */
function checkPaths(paths: readonly Path[]): void {
  const numbers = new Set<number>();
  for (const { number, adapter, targetMac } of paths) {
    const isFine =
      Number.isInteger(number) &&
      number >= 1 &&
      number <= MAX_PATHS &&
      !numbers.has(number) &&
      /^[\w.:@+-]{1,15}$/.test(adapter) &&
      (targetMac === undefined || /^([\da-f]{2}:){5}[\da-f]{2}$/i.test(targetMac));
    if (!isFine) throw new NatwardError('USAGE', `path ${number} by "${adapter}" cannot be set up`);
    numbers.add(number);
  }
}

async function attempt(failures: unknown[], act: () => Promise<unknown>): Promise<void> {
  try {
    await act();
  } catch (error) {
    failures.push(error);
  }
}
