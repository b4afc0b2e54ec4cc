/** Ports and runs of ports. */

import { NatwardError } from '../errors.ts';

/** `first` and `last` are 1..65535, both included; a single port has both the same. */
export interface PortRange {
  readonly first: number;
  readonly last: number;
}

export function portCount(range: PortRange): number {
  return range.last - range.first + 1;
}

/** Parses a port 1..65535. Throws USAGE and names the token. */
export function parsePort(token: string): number {
  if (!/^\d{1,9}$/.test(token)) throw new NatwardError('USAGE', `"${token}" is not a port number`);
  const port = Number(token);
  if (port < 1 || port > 65535) {
    throw new NatwardError('USAGE', `port ${token} is out of range: ports run from 1 to 65535`);
  }
  return port;
}

/** Parses `8080` or `6000-6010`. Throws USAGE and names the token. */
export function parsePortRange(token: string): PortRange {
  const dash = token.indexOf('-');
  if (dash < 0) {
    const port = parsePort(token);
    return { first: port, last: port };
  }
  const range = { first: parsePort(token.slice(0, dash)), last: parsePort(token.slice(dash + 1)) };
  if (range.last < range.first) throw new NatwardError('USAGE', `the range ${token} runs backwards`);
  return range;
}

export function formatPortRange(range: PortRange): string {
  return range.first === range.last ? String(range.first) : `${range.first}-${range.last}`;
}
