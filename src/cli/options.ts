/** Options that several commands share, and how their values are read. */

import { type EngineChoice, parseEngineChoice } from '../control/engines.ts';
import type { AskOptions } from '../control/protocol.ts';
import { NatwardError } from '../errors.ts';
import { type IpAddress, parseAddress } from '../net/address.ts';
import { parseDuration } from '../net/duration.ts';
import { type MacAddress, parseMacAddress } from '../net/mac-address.ts';
import { MAPPING_PROTOCOLS, type MappingProtocol } from '../net/protocol.ts';

/** A week, the longest that UPnP knows (WANIPConnection:2, section 2.3.16). */
const MAX_LIFETIME_SECONDS = 604_800;
const MAX_TIMEOUT_SECONDS = 600;
const MAX_DESCRIPTION_LENGTH = 250;

/** Throws USAGE. */
export function parseLifetime(text: string): number {
  const lifetime = parseDuration(text);
  if (lifetime === undefined || lifetime < 1 || lifetime > MAX_LIFETIME_SECONDS) {
    throw new NatwardError('USAGE', `--lifetime ${text}: write 90s, 30m, 2h or 7d; at least 1s, at most 7d`);
  }
  return lifetime;
}

/** In milliseconds. Throws USAGE. */
export function parseTimeout(text: string): number {
  const timeout = parseDuration(text);
  if (timeout === undefined || timeout < 1 || timeout > MAX_TIMEOUT_SECONDS) {
    throw new NatwardError('USAGE', `--timeout ${text}: write 5s or 1m; at least 1s, at most 10m`);
  }
  return timeout * 1000;
}

export function parseLines(text: string): number {
  if (!/^\d{1,6}$/.test(text)) throw new NatwardError('USAGE', `--lines ${text}: write a number`);
  return Number(text);
}

export function parseGateway(text: string): IpAddress {
  const address = parseAddress(text.replace(/^\[(.*)\]$/, '$1'));
  if (address === undefined) throw new NatwardError('USAGE', `--gateway ${text}: not an IP address`);
  return address;
}

export function parseMac(text: string): MacAddress {
  const address = parseMacAddress(text);
  if (address === undefined) throw new NatwardError('USAGE', `--set ${text}: write 02:aa:bb:cc:dd:ee`);
  return address;
}

export function parseVia(text: string): MappingProtocol {
  const via = MAPPING_PROTOCOLS.find((protocol) => protocol === text);
  if (via === undefined) throw new NatwardError('USAGE', `--via ${text}: write pcp, natpmp or upnp`);
  return via;
}

export function parseEngine(text: string): EngineChoice {
  try {
    return parseEngineChoice(text);
  } catch (cause) {
    throw new NatwardError('USAGE', `--engine: ${(cause as Error).message}`, { cause });
  }
}

export function parseDescription(text: string): string {
  if (text.length > MAX_DESCRIPTION_LENGTH) {
    throw new NatwardError(
      'USAGE',
      `--description is ${text.length} characters long: at most ${MAX_DESCRIPTION_LENGTH}`,
    );
  }
  return text;
}

/** As commander hands them over. */
export interface GatewayFlags {
  readonly gateway?: IpAddress;
  readonly interface?: string;
  readonly via?: MappingProtocol;
  readonly timeout: number;
  readonly json?: true;
}

/** The agent's options for a command's flags; Ctrl-C stops what they start. */
export function askOptions(flags: GatewayFlags, signal: AbortSignal): AskOptions {
  return {
    ...(flags.gateway === undefined ? {} : { gateway: flags.gateway }),
    ...(flags.interface === undefined ? {} : { interface: flags.interface }),
    ...(flags.via === undefined ? {} : { via: flags.via }),
    timeoutMs: flags.timeout,
    signal,
  };
}
