/**
 * Where this machine stands in its network: its ways out and its addresses, at this moment. On Linux two files
 * tell, read at once; elsewhere the system's own tool is asked, within limits. Knows which platform keeps what
 * where; each table's form is in routes/, and what to make of the answer is discovery's.
 */

import { closeSync, openSync, readSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { NatwardError } from '../errors.ts';
import type { ProgramResult } from './program.ts';
import { type InterfaceAddress, interfaceAddresses } from './routes/addresses.ts';
import { type DefaultRoute, defaultRoutes, type RouteEntry } from './routes/default.ts';
import { IPV4_TABLE, IPV6_TABLE, parseIpv4Table, parseIpv6Table } from './routes/linux.ts';
import { netstatArguments, parseNetstat } from './routes/netstat.ts';
import { POWERSHELL_ARGUMENTS, parseNetRoutes, powershell } from './routes/windows.ts';

export type { DefaultRoute, InterfaceAddress };

export interface NetworkState {
  /** The one that traffic takes comes first: the VPN's halves before the route they hide, then by metric. */
  readonly defaultRoutes: readonly DefaultRoute[];
  readonly addresses: readonly InterfaceAddress[];
}

/** What the machine tells; a test hands in its own. */
export interface NetworkSource {
  readonly platform: NodeJS.Platform;
  /** The file's text, undefined where it is absent. */
  readFile(path: string): string | undefined;
  /** What the program printed. Rejects with FAILED where it failed, took too long or printed too much. */
  run(command: string, args: readonly string[]): Promise<string>;
  addresses(): readonly InterfaceAddress[];
}

const TOOL_TIME_LIMIT_MS = 5_000;
const TOOL_OUTPUT_LIMIT_BYTES = 2 ** 20;
/** Room for the 10,000 lines that are looked at; the kernel would write hundreds of MiB for a full table. */
const FILE_LIMIT_BYTES = 2 ** 21;

/** Reads the network as it is now. Throws FAILED where the machine does not tell. */
export async function readNetwork(source: NetworkSource = thisMachine): Promise<NetworkState> {
  return { defaultRoutes: defaultRoutes(await readEntries(source)), addresses: source.addresses() };
}

function readEntries(source: NetworkSource): RouteEntry[] | Promise<RouteEntry[]> {
  switch (source.platform) {
    case 'linux':
    case 'android':
      return readFiles(source);
    case 'win32':
      return askPowershell(source);
    default:
      return askNetstat(source);
  }
}

function readFiles(source: NetworkSource): RouteEntry[] {
  const ipv4 = source.readFile(IPV4_TABLE);
  const ipv6 = source.readFile(IPV6_TABLE); // absent where the kernel has IPv6 switched off
  if (ipv4 === undefined && ipv6 === undefined) {
    throw new NatwardError('FAILED', `no routing table: ${IPV4_TABLE} and ${IPV6_TABLE} do not exist`, {
      advice: 'Mount /proc where natward runs: it finds the default gateway there.',
    });
  }
  return [...parseIpv4Table(ipv4 ?? ''), ...parseIpv6Table(ipv6 ?? '')];
}

async function askNetstat(source: NetworkSource): Promise<RouteEntry[]> {
  const [ipv4, ipv6] = await Promise.all([
    source.run('netstat', netstatArguments(4)),
    source.run('netstat', netstatArguments(6)),
  ]);
  return [...parseNetstat(ipv4, 4), ...parseNetstat(ipv6, 6)];
}

async function askPowershell(source: NetworkSource): Promise<RouteEntry[]> {
  const command = powershell(process.env['SystemRoot']);
  const answer = await source.run(command, POWERSHELL_ARGUMENTS);
  const entries = parseNetRoutes(answer);
  if (entries === undefined) {
    const start = JSON.stringify(answer.slice(0, 80));
    throw new NatwardError('FAILED', `PowerShell was asked for the routing table as JSON and said ${start}`, {
      advice: 'Run `Get-NetRoute | ConvertTo-Json` in PowerShell to see what is in its way.',
    });
  }
  return entries;
}

/** The machine that this process runs on. */
export const thisMachine: NetworkSource = {
  platform: process.platform,
  readFile(path) {
    try {
      return readStart(path, FILE_LIMIT_BYTES);
    } catch (cause) {
      if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined;
      throw new NatwardError('FAILED', `${path} was asked for the routing table: ${messageOf(cause)}`, {
        advice: `Let natward read ${path} (a sandbox's network rules, or an AppArmor profile, may forbid it).`,
        cause,
      });
    }
  },
  run: runTool,
  addresses() {
    try {
      return interfaceAddresses(networkInterfaces(), process.platform);
    } catch (cause) {
      throw new NatwardError('FAILED', `the system was asked for its addresses: ${messageOf(cause)}`, {
        advice: 'Let natward list the network interfaces (a sandbox may forbid it).',
        cause,
      });
    }
  },
};

function messageOf(cause: unknown): string {
  return cause instanceof Error ? cause.message : String(cause);
}

/** The first `limit` bytes. The files of /proc come a page at a time and have no size. */
function readStart(path: string, limit: number): string {
  const file = openSync(path, 'r');
  try {
    const chunks: Buffer[] = [];
    for (let total = 0; total < limit; ) {
      const chunk = Buffer.allocUnsafe(Math.min(2 ** 16, limit - total));
      const count = readSync(file, chunk);
      if (count === 0) break;
      chunks.push(chunk.subarray(0, count));
      total += count;
    }
    return Buffer.concat(chunks).toString('utf8');
  } finally {
    closeSync(file);
  }
}

async function runTool(command: string, args: readonly string[]): Promise<string> {
  // Loaded here, so that Linux, which needs no tool, does not pay for it.
  const { runProgram } = await import('./program.ts');
  const result = await runProgram({
    command: [command, ...args],
    timeLimitMs: TOOL_TIME_LIMIT_MS,
    keptBytes: TOOL_OUTPUT_LIMIT_BYTES,
    floodBytes: TOOL_OUTPUT_LIMIT_BYTES,
  }).catch((cause: unknown) => {
    throw toolFailed('the routing table was asked for', messageOf(cause), cause);
  });
  const failure = failureOf(result);
  if (failure === undefined) return result.stdout;
  const asked = `${command} ${args.join(' ')}`.slice(0, 100);
  throw toolFailed(`${asked} was asked for the routing table`, failure);
}

function toolFailed(asked: string, what: string, cause?: unknown): NatwardError {
  const advice = 'Run the same in a terminal: natward finds the default gateway with it.';
  return new NatwardError('FAILED', `${asked}: ${what}`, { advice, cause });
}

function failureOf({ exitCode, endedBy, cut, stderr }: ProgramResult): string | undefined {
  if (cut === 'output') return 'more than 1 MiB came back';
  if (cut === 'time') return `no answer in ${TOOL_TIME_LIMIT_MS / 1000} s`;
  if (exitCode === 0) return undefined;
  return stderr.trim().split('\n', 1)[0]?.slice(0, 200) || `it ended with ${exitCode ?? endedBy}`;
}
