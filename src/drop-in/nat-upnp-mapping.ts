/** What nat-upnp calls a mapping: how one is asked for, listed and looked for. Its words become the agent's, and back. */

import type { OwnMapping } from '../agent/survey.ts';
import { NatwardError } from '../errors.ts';
import type { PortRequest } from '../library/agent.ts';
import { MAX_LIFETIME_SECONDS } from '../mapping/mapping.ts';
import { family, type IpAddress, parseAddress } from '../net/address.ts';
import type { TransportProtocol } from '../net/protocol.ts';

/** A port, as number or text, with or without its host. */
export type PortLike = number | string | { readonly port: number | string; readonly host?: string };

export interface PortMappingOptions {
  /** The external port; its host is the only one that may send to it. */
  readonly public: PortLike;
  /** The internal port; its host is another one than this. */
  readonly private: PortLike;
  /** `TCP` or `UDP`, in any case. Default: TCP. */
  readonly protocol?: string | null | undefined;
  /** Seconds; 0: until it is unmapped. Default: 1800. */
  readonly ttl?: number | string | null | undefined;
  readonly description?: string | null | undefined;
}

/** What was mapped, or an entry of `getMappings`. */
export interface PortUnmappingOptions {
  readonly public: PortLike;
  readonly protocol?: string | null | undefined;
}

export interface MappingFilter {
  /** Only what leads to this host. */
  readonly local?: boolean | undefined;
  /** Only what is described so: in part, or by a pattern. */
  readonly description?: string | RegExp | undefined;
}

export interface Mapping {
  readonly public: { readonly host: string; readonly port: number };
  readonly private: { readonly host: string; readonly port: number };
  readonly protocol: TransportProtocol;
  readonly enabled: boolean;
  readonly description: string;
  /** What is left, in seconds; 0: no end, or the gateway does not tell. */
  readonly ttl: number;
  /** It leads to this host. */
  readonly local: boolean;
}

const DEFAULT_TTL_SECONDS = 1800;
const DEFAULT_DESCRIPTION = 'node:nat:upnp';
/** The agent takes no longer one. */
const MAX_DESCRIPTION_LENGTH = 250;

/** What is asked of the agent, each time. */
export type MappingRequest = PortRequest & {
  readonly protocol: TransportProtocol;
  readonly externalPort: number;
  readonly description: string;
};

export function requestOf(options: PortMappingOptions): {
  readonly request: MappingRequest;
  readonly forEver: boolean;
} {
  const protocol = protocolOf(options?.protocol);
  const outside = endOf(options?.public, 'public');
  const inside = endOf(options?.private, 'private');
  const ttl = ttlOf(options.ttl);
  return {
    request: {
      protocol,
      externalPort: outside.port,
      internalPort: inside.port,
      choice: 'exact',
      lifetimeSeconds: Math.min(ttl || MAX_LIFETIME_SECONDS, MAX_LIFETIME_SECONDS),
      description: (options.description || DEFAULT_DESCRIPTION).slice(0, MAX_DESCRIPTION_LENGTH),
      ...(inside.host !== undefined && { host: inside.host }),
      ...(outside.host !== undefined && {
        remotePeer: { address: outside.host, prefixLength: family(outside.host) === 6 ? 128 : 32, port: 0 },
      }),
    },
    forEver: ttl === 0,
  };
}

/** What is to be unmapped: known by its external port alone. */
export function placeOf(
  options: PortUnmappingOptions,
): Pick<MappingRequest, 'protocol' | 'externalPort' | 'internalPort'> {
  const { port } = endOf(options?.public, 'public');
  return { protocol: protocolOf(options.protocol), externalPort: port, internalPort: port };
}

function ttlOf(ttl: number | string | null | undefined): number {
  const seconds =
    typeof ttl === 'number' || (typeof ttl === 'string' && ttl !== '') ? Number(ttl) : Number.NaN;
  if (Number.isNaN(seconds)) return DEFAULT_TTL_SECONDS;
  if (seconds >= 0) return Math.ceil(seconds);
  throw new NatwardError('USAGE', `a ttl of ${seconds} seconds`, { advice: 'Give 0 or more.' });
}

function endOf(
  place: PortLike | undefined,
  name: string,
): { readonly port: number; readonly host: IpAddress | undefined } {
  const { port, host } = typeof place === 'object' && place !== null ? place : { port: place, host: '' };
  const number = port === '' ? Number.NaN : Number(port);
  if (!Number.isInteger(number) || number < 1 || number > 65_535) {
    throw new NatwardError('USAGE', `the ${name} port is ${String(port)}`, { advice: 'Give 1 to 65535.' });
  }
  if (!host) return { port: number, host: undefined };
  const address = parseAddress(host);
  if (address !== undefined) return { port: number, host: address };
  throw new NatwardError('USAGE', `the ${name} host “${host}” is no IP address`);
}

function protocolOf(text: string | null | undefined): TransportProtocol {
  const protocol = (text || 'tcp').toLowerCase();
  if (protocol === 'tcp' || protocol === 'udp') return protocol;
  throw new NatwardError('USAGE', `the protocol is “${text}”`, { advice: 'Give TCP or UDP.' });
}

type Row = Omit<OwnMapping, 'own'>;

export function toMapping(row: Row, own: ReadonlySet<IpAddress>): Mapping {
  return {
    // The agent does not tell who alone may send.
    public: { host: '', port: row.externalPort },
    private: { host: row.internalClient, port: row.internalPort },
    protocol: row.protocol,
    enabled: row.enabled,
    description: row.description,
    ttl: row.remainingSeconds ?? 0,
    local: own.has(row.internalClient),
  };
}

export function passes(mapping: Mapping, filter: MappingFilter | null | undefined): boolean {
  if (filter?.local && !mapping.local) return false;
  const wanted = filter?.description;
  if (!wanted) return true;
  return typeof wanted === 'string'
    ? mapping.description.includes(wanted)
    : mapping.description.match(wanted) !== null;
}
