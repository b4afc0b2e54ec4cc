/**
 * The words of the command line: facts on stdout, one a line; what went wrong on stderr; with `--json` one
 * document on stdout and nothing else there.
 */

import type { DemoStep } from '../control/demo.ts';
import type { GatewayReport, Granted, MapFailure, Offer, OwnMapping, Released } from '../control/protocol.ts';
import { NatwardError } from '../errors.ts';
import { bracketed } from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';
import { MAPPING_PROTOCOL_NAME } from '../net/protocol.ts';
import { EXIT } from './exit.ts';

/** Failures of one command that are written out; the rest is counted. */
const FAILURES_SHOWN = 10;

let output: 'unopened' | 'open' | 'broken' = 'unopened';

/** Text to stdout, which is opened here: it costs a command 3 ms that has nothing to say yet. */
export function write(text: string): void {
  if (output === 'unopened') {
    process.stdout.on('error', cannotWrite);
    output = 'open';
  }
  if (output === 'open') process.stdout.write(text);
}

/** The command goes on: what it has mapped is still to be remembered. */
function cannotWrite(error: NodeJS.ErrnoException): void {
  const first = output === 'open';
  output = 'broken';
  // `natward list | head` closes our output early: that is no failure. A full disk is one.
  if (!first || error.code === 'EPIPE') return;
  printError(new NatwardError('FAILED', `the output cannot be written: ${error.message}`));
  process.exitCode = EXIT.failed;
}

export function print(line: string): void {
  write(`${clean(line)}\n`);
}

/** A line each; of thousands that is one piece of text for the system. */
export function printLines(lines: readonly string[]): void {
  if (lines.length > 0) write(lines.map((line) => `${clean(line)}\n`).join(''));
}

export function printJson(document: unknown): void {
  write(`${JSON.stringify(document, null, 2)}\n`);
}

/** One document of several: JSON lines. */
export function printJsonLine(document: unknown): void {
  write(`${JSON.stringify(document)}\n`);
}

export function printError(error: NatwardError): void {
  const message = error.message.replace(/[.:\s]+$/, '');
  const advice = error.advice === undefined ? '' : ` ${error.advice}`;
  process.stderr.write(`natward: ${clean(`${message}.${advice}`)}\n`);
}

/** What a gateway wrote may hold characters that drive the terminal, end the line or turn its direction. */
function clean(text: string): string {
  return text.replace(/[\p{Cc}\p{Bidi_Control}\u2028\u2029]/gu, '?');
}

/** Runs of ports are one line: `tcp 198.51.100.7:6000-6010 -> 192.168.1.10:7000-7010 ...`. */
export function printMappings(mappings: readonly Granted[]): void {
  const facts = (one: Granted) => [one.lifetimeSeconds, one.via, ...one.notes].join();
  for (const run of runsOf(mappings, facts)) {
    const first = run[0];
    const outside = endpoint(first.externalAddress ?? '*', run, (one) => one.externalPort);
    const lifetime = first.lifetimeSeconds === 0 ? 'until deleted' : `for ${duration(first.lifetimeSeconds)}`;
    const via = `via ${MAPPING_PROTOCOL_NAME[first.via]} on ${first.gateway}`;
    print(`${first.protocol} ${outside} -> ${insideOf(run)} ${lifetime} ${via}`);
    for (const note of first.notes) print(`note: ${first.protocol} ${first.externalPort}: ${note}`);
  }
}

export function printReleased(released: readonly Released[]): void {
  for (const run of runsOf(released, (one) => one.gateway)) {
    const outside = portsOf(run, (one) => one.externalPort);
    print(`${run[0].protocol} ${outside} -> ${insideOf(run)} released on ${run[0].gateway}`);
  }
}

type Ported = Pick<Granted, 'protocol' | 'externalPort' | 'internalClient' | 'internalPort'>;
type Run<T> = [T, ...T[]];

/** Neighbours that differ by one in both ports and in none of the other facts. */
function runsOf<T extends Ported>(all: readonly T[], facts: (one: T) => string): Run<T>[] {
  const sorted = [...all].sort(
    (a, b) =>
      a.protocol.localeCompare(b.protocol) ||
      a.internalPort - b.internalPort ||
      a.externalPort - b.externalPort,
  );
  const runs: Run<T>[] = [];
  for (const one of sorted) {
    const run = runs.at(-1);
    const last = run?.at(-1);
    const joins =
      last !== undefined &&
      last.protocol === one.protocol &&
      last.internalClient === one.internalClient &&
      last.internalPort + 1 === one.internalPort &&
      last.externalPort + 1 === one.externalPort &&
      facts(last) === facts(one);
    if (joins) run?.push(one);
    else runs.push([one]);
  }
  return runs;
}

function portsOf<T>(run: Run<T>, port: (one: T) => number): string {
  const [first, last] = [port(run[0]), port(run.at(-1) ?? run[0])];
  return first === last ? String(first) : `${first}-${last}`;
}

function endpoint<T>(address: string, run: Run<T>, port: (one: T) => number): string {
  return `${bracketed(address)}:${portsOf(run, port)}`;
}

function insideOf<T extends Ported>(run: Run<T>): string {
  return endpoint(run[0].internalClient, run, (one) => one.internalPort);
}

export function printFailures(failures: readonly MapFailure[]): void {
  const seen = new Set<string>();
  const distinct = failures.filter(({ error }) => !seen.has(error.message) && seen.add(error.message));
  for (const { error } of distinct.slice(0, FAILURES_SHOWN)) printError(error);
  const more = failures.length - Math.min(distinct.length, FAILURES_SHOWN);
  if (more > 0) process.stderr.write(`natward: and ${more} more failures: --json lists them all\n`);
}

function insideOfRow(row: OwnMapping): string {
  return insideOf([row]);
}

export function printTable(rows: readonly OwnMapping[]): void {
  const width = (of: (row: OwnMapping) => string) => Math.max(0, ...rows.map((row) => of(row).length));
  const outside = (row: OwnMapping) => String(row.externalPort);
  const [outsideWidth, insideWidth] = [width(outside), width(insideOfRow)];
  for (const row of rows) {
    const left = remaining(row.remainingSeconds);
    const marks = `${row.own ? ' own' : ''}${row.enabled ? '' : ' disabled'}`;
    print(
      `${row.protocol} ${outside(row).padStart(outsideWidth)} -> ${insideOfRow(row).padEnd(insideWidth)} ${left} "${row.description}"${marks}`,
    );
  }
  if (rows.length === 0) print('no mappings');
}

function remaining(seconds: number | undefined): string {
  if (seconds === undefined) return '?';
  return seconds === 0 ? 'until deleted' : duration(seconds);
}

export function printStep({ elapsedMs, via, message }: DemoStep): void {
  const label = via === undefined ? '' : MAPPING_PROTOCOL_NAME[via];
  print(`${String(elapsedMs).padStart(5)} ms  ${label.padEnd(8)} ${message}`);
}

export function printOffer(offer: Offer): void {
  const { address, interface: name } = offer.gateway;
  const detail =
    offer.protocol === 'upnp'
      ? `: ${offer.device.model}, ${offer.device.connection.serviceType}, ${offer.device.location}`
      : '';
  print(`${address} on ${name} speaks ${MAPPING_PROTOCOL_NAME[offer.protocol]}${detail}`);
}

export function printGateway(report: GatewayReport): void {
  if (report.externalAddress !== undefined)
    print(`${report.address} external address ${report.externalAddress}`);
  print(`${report.address} ${report.verdict.message}`);
}

/** `1d 2h`, `59m 58s`: the two largest units. */
export function duration(seconds: number): string {
  const units = [
    ['d', Math.floor(seconds / 86_400)],
    ['h', Math.floor(seconds / 3600) % 24],
    ['m', Math.floor(seconds / 60) % 60],
    ['s', seconds % 60],
  ] as const;
  const shown = units.filter(([, count]) => count > 0).slice(0, 2);
  return shown.length === 0 ? '0s' : shown.map(([unit, count]) => `${count}${unit}`).join(' ');
}

export function failureJson({ spec, error }: MapFailure): object {
  return { spec, code: error.code, message: error.message, advice: error.advice ?? null };
}

/** `target`: where it is carried on to from this host. */
export function mappingJson(mapping: Granted, target: Endpoint | undefined): object {
  return {
    protocol: mapping.protocol,
    externalAddress: mapping.externalAddress ?? null,
    externalPort: mapping.externalPort,
    internalClient: mapping.internalClient,
    internalPort: mapping.internalPort,
    target: target ?? null,
    lifetimeSeconds: mapping.lifetimeSeconds,
    expiresAt: mapping.expiresAtMs === undefined ? null : new Date(mapping.expiresAtMs).toISOString(),
    via: mapping.via,
    gateway: mapping.gateway,
    description: mapping.description,
    notes: mapping.notes,
  };
}

export function rowJson(row: OwnMapping): object {
  const { protocol, externalPort, internalClient, internalPort, description, enabled, own } = row;
  const remainingSeconds = row.remainingSeconds ?? null;
  return {
    protocol,
    externalPort,
    internalClient,
    internalPort,
    description,
    remainingSeconds,
    enabled,
    own,
  };
}

export function gatewayJson(report: GatewayReport): object {
  return { ...report, externalAddress: report.externalAddress ?? null, upnp: report.upnp ?? null };
}
