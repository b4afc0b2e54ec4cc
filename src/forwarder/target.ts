/** Where a rule sends traffic: reading, writing, and which port a port becomes. */

import { NatwardError } from '../errors.ts';
import { bracketed, type IpAddress, isLoopback, parseAddress } from '../net/address.ts';
import { formatPortRange, parsePort, parsePortRange, type PortRange, portCount } from '../net/port-range.ts';
import { portRanges } from '../net/port-set.ts';
import type { RuleSpec, Source, Target, TargetPort } from './rule.ts';

const [DOT, ZERO, NINE, COLON] = [46, 48, 57, 58] as const;
const NO_NAMES: readonly string[] = [];
const HOST_NAME =
  /^(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*$/;

/** A host name in lower case without its last dot, or undefined where `text` is none (or is an address). */
export function parseHostName(text: string): string | undefined {
  const name = text.toLowerCase().replace(/\.$/, '');
  // All digits and dots is an address that somebody has mistyped.
  return HOST_NAME.test(name) && !/^[\d.]+$/.test(name) ? name : undefined;
}

/** An address or a name; IPv6 with or without brackets. Throws USAGE. */
export function parseHost(text: string): string {
  const bare = /^\[(.*)\]$/.exec(text)?.[1] ?? text;
  const host = parseAddress(bare) ?? parseHostName(text);
  if (host === undefined) throw usage(`"${text}" is neither an address nor a host name`);
  return host;
}

/** `HOST:PORT`, `:PORT`, `HOST`, `[IPV6]:PORT`. The port is absent where there is no colon after the host. */
export function splitEndpoint(text: string): { readonly host: string; readonly port: string | undefined } {
  const [, host, port] = /^((?:\[[^\]]*\]|[^:[\]])*)(?::([^:]*))?$/.exec(text) ?? [];
  if (host !== undefined) return { host, port };
  throw usage(`"${text}" is not HOST:PORT: an IPv6 address stands in brackets, [2001:db8::8]:80`);
}

export function parseTarget(text: string): Target {
  const { host, port } = splitEndpoint(text);
  const target = {
    host: host === '' ? undefined : parseHost(host),
    port: port === undefined || port === '' ? ({ kind: 'same' } as const) : parseTargetPort(port),
  };
  if (target.host === undefined && target.port.kind === 'same')
    throw usage(`"${text}" names no host and no port`);
  return target;
}

function parseTargetPort(text: string): TargetPort {
  const [, sign, digits] = /^([+-])(\d{1,5})$/.exec(text) ?? [];
  if (sign !== undefined) return { kind: 'shift', by: Number(digits) * (sign === '-' ? -1 : 1) || 0 };
  const range = parsePortRange(text);
  return range.first === range.last ? { kind: 'one', port: range.first } : { kind: 'range', range };
}

export function formatHost(host: string): string {
  return parseAddress(host) === undefined ? host : bracketed(host);
}

export function formatTarget({ host, port }: Target): string {
  const name = host === undefined ? '' : formatHost(host);
  switch (port.kind) {
    case 'same':
      return name;
    case 'one':
      return `${name}:${port.port}`;
    case 'shift':
      return `${name}:${port.by < 0 ? '' : '+'}${port.by}`;
    case 'range':
      return `${name}:${formatPortRange(port.range)}`;
  }
}

/** `ADDRESS`, `ADDRESS:PORT`, `client`, `:same`, `client:same`. */
export function parseSource(text: string): Source {
  const { host, port } = splitEndpoint(text);
  const address =
    host === '' ? undefined : host === 'client' ? host : parseAddress(host.replace(/^\[|\]$/g, ''));
  if (host !== '' && address === undefined) throw usage(`"${host}" is no address of this host, nor "client"`);
  if (port === '' || (address === undefined && port === undefined))
    throw usage(`"${text}" says no address and no port`);
  return { address, port: port === undefined || port === 'same' ? port : parsePort(port) };
}

export function formatSource({ address, port }: Source): string {
  const host = address === undefined ? '' : address === 'client' ? address : bracketed(address);
  return port === undefined ? host : `${host}:${port}`;
}

/** The host names that a rule sends to. */
export function targetNames({ targets, clone }: Pick<RuleSpec, 'targets' | 'clone'>): readonly string[] {
  let names: string[] | undefined;
  for (const { host } of targets) if (host !== undefined && isHostName(host)) (names ??= []).push(host);
  if (clone?.host !== undefined && isHostName(clone.host)) (names ??= []).push(clone.host);
  return names ?? NO_NAMES;
}

/** Whether a rule's host is a name: its addresses are in canonical form, and a name is not digits and dots alone. */
export function isHostName(host: string): boolean {
  let isName = false;
  for (let at = 0; at < host.length; at++) {
    const code = host.charCodeAt(at);
    if (code === COLON) return false;
    if (code !== DOT && (code < ZERO || code > NINE)) isName = true;
  }
  return isName;
}

/** Says why a target cannot take these ports, or undefined where it can. */
export function targetTrouble(rule: Pick<RuleSpec, 'to'>, { port }: Target): string | undefined {
  if (port.kind === 'same' || port.kind === 'one') return undefined;
  const ranges = portRanges(rule.to.ports);
  if (port.kind === 'range') {
    const wanted = ranges.reduce((sum, range) => sum + portCount(range), 0);
    if (wanted === portCount(port.range)) return undefined;
    return `${wanted} ports cannot become the ${portCount(port.range)} of ${formatPortRange(port.range)}, one each`;
  }
  const outside = ranges.find(({ first, last }) => first + port.by < 1 || last + port.by > 65_535);
  if (outside === undefined) return undefined;
  return `port ${formatPortRange(outside)} moved by ${port.by} is out of range: ports run from 1 to 65535`;
}

/** The port that `port` becomes. `ranges` are the selector's, which hold it. */
export function targetPortOf(target: TargetPort, ranges: readonly PortRange[], port: number): number {
  switch (target.kind) {
    case 'same':
      return port;
    case 'one':
      return target.port;
    case 'shift':
      return port + target.by;
    case 'range': {
      let place = target.range.first;
      for (const { first, last } of ranges) {
        if (port <= last) return place + port - first;
        place += last - first + 1;
      }
      return place;
    }
  }
}

/** Reports whether what comes in stays on this host, by the rule's word alone. */
export function isOwnHost(host: string | undefined, own: readonly IpAddress[]): boolean {
  if (host === undefined || host === 'localhost') return true;
  return !isHostName(host) && (own.includes(host) || isLoopback(host));
}

function usage(message: string): NatwardError {
  return new NatwardError('USAGE', message);
}
