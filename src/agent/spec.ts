/** Reads what people type for a mapping: `[EXTERNAL:][HOST:]PORT[/tcp|/udp|/tcp+udp]`. Sends nothing. */

import { NatwardError } from '../errors.ts';
import { family, type IpAddress, parseAddress } from '../net/address.ts';
import { type PortRange, parsePortRange, portCount } from '../net/port-range.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import type { MapAsk } from './map.ts';

/** A spec whose host may still be a name. */
export interface Spec extends Omit<MapAsk, 'host'> {
  readonly host: string | undefined;
}

const PROTOCOLS: ReadonlyMap<string, readonly TransportProtocol[]> = new Map([
  ['tcp', ['tcp']],
  ['udp', ['udp']],
  ['tcp+udp', ['tcp', 'udp']],
  ['udp+tcp', ['tcp', 'udp']],
]);

/** Two ranges, a protocol and the longest name that DNS has (RFC 1035, section 2.3.4). */
const MAX_SPEC_LENGTH = 300;

const EXTERNAL = /^(\*|\d+(-\d+)?)$/;
const HOST_NAME =
  /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,62}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,62}[a-z0-9_])?)*\.?$/i;

/** Throws USAGE and names the token at fault. */
export function parseSpec(text: string): Spec {
  if (text.length > MAX_SPEC_LENGTH) {
    throw usage(
      `"${text.slice(0, 40)}..." is neither a port nor a host: it is ${text.length} characters long`,
    );
  }
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof NatwardError) || error.message.includes(text)) throw error;
    throw new NatwardError('USAGE', `${error.message} (in "${text}")`, { cause: error });
  }
}

function parse(spec: string): Spec {
  const slash = spec.indexOf('/');
  const protocolToken = slash < 0 ? 'tcp' : spec.slice(slash + 1).toLowerCase();
  const protocols = PROTOCOLS.get(protocolToken);
  if (protocols === undefined) {
    throw usage(`"${protocolToken}" is not a protocol: write /tcp, /udp or /tcp+udp`);
  }
  const parts = splitOutsideBrackets(slash < 0 ? spec : spec.slice(0, slash));
  const portToken = parts.pop() ?? '';
  const internal = parsePortRange(portToken);
  const hostToken = parts.length > 0 && !EXTERNAL.test(parts.at(-1) ?? '') ? parts.pop() : undefined;
  const externalToken = parts.pop();
  if (parts.length > 0) throw usage(`"${spec}" has too many parts: write [EXTERNAL:][HOST:]PORT[/PROTOCOL]`);
  const host = hostToken === undefined ? undefined : parseHost(hostToken);
  return { spec, protocols, external: externalOf(externalToken, internal), internal, host };
}

function splitOutsideBrackets(text: string): string[] {
  return text.split(/:(?![^[]*\])/);
}

function externalOf(token: string | undefined, internal: PortRange): PortRange | 'any' {
  if (token === undefined) return internal;
  if (token === '*') return 'any';
  const external = parsePortRange(token);
  if (portCount(external) !== portCount(internal)) {
    throw usage(
      `${token} is ${portCount(external)} external ports for ${portCount(internal)} internal ones: they must be as many`,
    );
  }
  return external;
}

function parseHost(token: string): string {
  const bracketed = /^\[(.*)\]$/.exec(token)?.[1];
  if (bracketed !== undefined) {
    const address = parseAddress(bracketed);
    if (address === undefined || family(address) !== 6) throw usage(`"${bracketed}" is not an IPv6 address`);
    return address;
  }
  const address = parseAddress(token);
  if (address !== undefined) return address;
  if (!HOST_NAME.test(token) || /^[\d.-]+$/.test(token))
    throw usage(`"${token}" is neither a port nor a host`);
  return token;
}

/**
 * The ask of a spec, its host looked up. IPv4 is preferred, since ports are mapped over it. Throws USAGE
 * where the name does not resolve.
 */
export async function resolveSpec(
  spec: Spec,
  resolve: (name: string) => Promise<readonly IpAddress[]>,
): Promise<MapAsk> {
  const { host } = spec;
  if (host === undefined || parseAddress(host) !== undefined) return { ...spec, host };
  const found = await resolve(host).catch((error: NodeJS.ErrnoException) => {
    throw usage(`the name "${host}" does not resolve (${error.code ?? error.message})`);
  });
  const address = found[0];
  if (address === undefined) throw usage(`the name "${host}" has no address`);
  return { ...spec, host: address };
}

function usage(message: string): NatwardError {
  return new NatwardError('USAGE', message);
}
