/**
 * The network adapters of this machine and their MAC addresses, as `ip` of iproute2 tells them. Linux alone. How an
 * address is changed is in adapter-address.ts.
 */

import * as v from 'valibot';
import { NatwardError } from '../errors.ts';
import { type MacAddress, parseMacAddress } from '../net/mac-address.ts';
import type { ProgramResult, RunProgram } from './program.ts';

export interface Adapter {
  readonly name: string;
  /** Undefined where it has none: a tunnel, or a link that is no Ethernet. */
  readonly address: MacAddress | undefined;
  /** Of the hardware. Told only while it differs from `address`; virtual adapters may have none. */
  readonly permanentAddress: MacAddress | undefined;
  /** `ether` of Ethernet and Wi-Fi; `loopback`, `none`, `sit` and others. */
  readonly type: string;
}

const TIME_LIMIT_MS = 10_000;
/** Some 1 KB an adapter: a host with thousands of containers is within it. */
const OUTPUT_LIMIT_BYTES = 16 * 2 ** 20;

const linksSchema = v.array(
  v.object({
    ifname: v.string(),
    link_type: v.string(),
    address: v.optional(v.string()),
    permaddr: v.optional(v.string()),
  }),
);

/** Throws UNSUPPORTED (not Linux) or FAILED. */
export async function readAdapters(
  run: RunProgram,
  platform: NodeJS.Platform = process.platform,
): Promise<readonly Adapter[]> {
  if (platform !== 'linux') {
    throw new NatwardError(
      'UNSUPPORTED',
      `natward reads and changes MAC addresses on Linux alone: this is ${platform}`,
    );
  }
  const asked = ['-d', '-j', 'link', 'show'];
  const result = await runIp(run, asked);
  const failure = failureOf(result);
  if (failure !== undefined) throw listFailed(failure);
  try {
    return parseLinks(result.stdout);
  } catch (cause) {
    throw listFailed(`its answer cannot be read: ${(cause as Error).message}`, cause);
  }
}

function listFailed(what: string, cause?: unknown): NatwardError {
  const advice = 'natward needs ip of iproute2 (4.14 or later), which can answer with JSON.';
  return new NatwardError('FAILED', `ip link was asked for the adapters: ${what}`, { advice, cause });
}

/** What `ip -j link show` prints. Throws where it is something else. */
export function parseLinks(text: string): readonly Adapter[] {
  const links = v.parse(linksSchema, JSON.parse(text));
  return links.map(({ ifname, link_type, address, permaddr }) => {
    const has = link_type === 'ether';
    return {
      name: ifname,
      type: link_type,
      address: has ? parseMacAddress(address ?? '') : undefined,
      permanentAddress: has ? parseMacAddress(permaddr ?? '') : undefined,
    };
  });
}

/** Runs `ip` to its end, however that comes. Throws FAILED where it cannot be started. */
export async function runIp(run: RunProgram, args: readonly string[]): Promise<ProgramResult> {
  try {
    return await run({
      command: ['ip', ...args],
      timeLimitMs: TIME_LIMIT_MS,
      keptBytes: OUTPUT_LIMIT_BYTES,
      floodBytes: OUTPUT_LIMIT_BYTES,
    });
  } catch (cause) {
    const advice = 'natward reads and changes MAC addresses with it: install iproute2.';
    throw new NatwardError('FAILED', (cause as Error).message, { advice, cause });
  }
}

/** What `ip` says it could not do, without its prefix; undefined where it did. */
export function failureOf({ exitCode, endedBy, cut, stderr }: ProgramResult): string | undefined {
  if (cut === 'time') return `no answer in ${TIME_LIMIT_MS / 1000} s`;
  if (cut === 'output') return 'more came back than natward reads';
  if (exitCode === 0) return undefined;
  const said = stderr.trim().split('\n', 1)[0]?.slice(0, 200) ?? '';
  return said.replace(/^(RTNETLINK answers|Error): /, '') || `it ended with ${exitCode ?? endedBy}`;
}
