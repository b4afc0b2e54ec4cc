/**
 * What a gateway is told when it starts, checked once. Everything that a gateway may refuse or limit is a
 * setting; everything that it may get wrong is a quirk (quirks/).
 */

import { NatwardError } from '../errors.ts';
import { family, type IpAddress, parseAddress } from '../net/address.ts';
import type { PortRange } from '../net/port-range.ts';
import { MAPPING_PROTOCOLS, type MappingProtocol } from '../net/protocol.ts';
import type { Quirks } from './quirks/quirks.ts';

const MAX_FILTERS = 8;

export type ConnectionService = 'WANIPConnection' | 'WANPPPConnection';

/** 0 is any free port. */
export interface GatewayPorts {
  /** PCP and NAT-PMP share it; 5351 by their standards. */
  readonly pcp: number;
  /** 1900 by its standard. */
  readonly ssdp: number;
  readonly http: number;
}

export interface GatewaySettings {
  /** The inner address, on which the gateway answers. */
  readonly address: IpAddress;
  /** The same gateway's address in the other family: it answers there on the same ports. */
  readonly otherAddress?: IpAddress;
  /** The outer address, on which mapped traffic arrives: the relay listens there. */
  readonly outerAddress: IpAddress;
  /** What the gateway reports as its external address; the outer address where nothing is said. */
  readonly externalAddress?: IpAddress;
  /** Any free one where nothing is said. */
  readonly ports?: Partial<GatewayPorts>;
  /** All three where nothing is said. */
  readonly protocols?: readonly MappingProtocol[];
  /** 2 where nothing is said. */
  readonly igdVersion?: 1 | 2;
  readonly connectionService?: ConnectionService;
  readonly friendlyName?: string;
  /** A client maps to its own address alone. On, where nothing is said. */
  readonly secureMode?: boolean;
  /** Clients that secure mode does not hold: they may map for others, PCP's THIRD_PARTY included. */
  readonly trustedClients?: readonly IpAddress[];
  /** PCP lifetimes below are granted as this; 120 where nothing is said (RFC 6887, section 15). */
  readonly minLifetimeSeconds?: number;
  /**
   * Longer lifetimes are granted as this. Where nothing is said: a day for PCP and NAT-PMP (RFC 6887,
   * section 15), what their standards allow for IGD:1 (no end) and IGD:2 (a week).
   */
  readonly maxLifetimeSeconds?: number;
  /** 32 to 1000 mappings (65,535 where no traffic is carried), and as many pinholes; 256 where nothing is said. */
  readonly maxMappings?: number;
  /**
   * Off, a mapping is an entry in the table and nothing listens: for tests and measurements of many, and for
   * outer addresses that this host does not have. On, where nothing is said.
   */
  readonly carriesTraffic?: boolean;
  /** External ports that nobody gets; WANIPConnection:2, section 2.5, recommends 1-1023 for strangers. */
  readonly deniedExternalPorts?: readonly PortRange[];
  /** The IPv6 firewall of WANIPv6FirewallControl; both true where nothing is said. */
  readonly firewall?: { readonly enabled?: boolean; readonly inboundPinholeAllowed?: boolean };
  readonly relay?: {
    /** TCP connections at once, over all mappings; 256 where nothing is said. */
    readonly maxConnections?: number;
    /** UDP conversations at once, over all mappings; 256 where nothing is said. */
    readonly maxConversations?: number;
    /** A UDP conversation ends after this silence; 300,000 where nothing is said (RFC 4787, REQ-5). */
    readonly idleMs?: number;
  };
  /**
   * Multicast searches are answered after a random wait of up to MX (UDA 2.0, section 1.3.3). Off, where
   * nothing is said: the wait spreads the answers of a thousand devices; a gateway is one, and whoever
   * searches for it waits for nothing else.
   */
  readonly spreadSearchAnswers?: boolean;
  readonly quirks?: Quirks;
}

/** What those who are asked go by, whoever grants. */
export interface FaceSettings {
  /** The inner addresses: one, or one of each family. */
  readonly addresses: readonly IpAddress[];
  readonly protocols: readonly MappingProtocol[];
  readonly igdVersion: 1 | 2;
  readonly connectionService: ConnectionService;
  readonly friendlyName: string;
  readonly minLifetimeSeconds: number;
  readonly maxLifetimeSeconds: number | undefined;
  readonly firewallEnabled: boolean;
  readonly inboundPinholeAllowed: boolean;
  readonly spreadSearchAnswers: boolean;
  /** PCP's FILTERs of one mapping (RFC 6887, section 13.3). */
  readonly maxFilters: number;
}

export interface ResolvedSettings extends FaceSettings {
  readonly address: IpAddress;
  readonly outerAddress: IpAddress;
  readonly externalAddress: IpAddress;
  readonly ports: GatewayPorts;
  readonly secureMode: boolean;
  readonly trustedClients: readonly IpAddress[];
  readonly maxMappings: number;
  readonly carriesTraffic: boolean;
  readonly deniedExternalPorts: readonly PortRange[];
  readonly maxConnections: number;
  readonly maxConversations: number;
  readonly idleMs: number;
}

/** Throws USAGE where a setting cannot be. */
export function resolveSettings(settings: GatewaySettings): ResolvedSettings {
  const address = checkedAddress(settings.address);
  const otherAddress =
    settings.otherAddress === undefined ? undefined : checkedAddress(settings.otherAddress);
  if (otherAddress !== undefined && family(address) === family(otherAddress)) {
    throw new NatwardError('USAGE', `${address} and ${otherAddress} are of one family`);
  }
  const outerAddress = checkedAddress(settings.outerAddress);
  const { maxMappings = 256, carriesTraffic = true } = settings;
  // Routers hold 32 at the least; where a mapping is a listening socket, 1000 of them are enough for one process.
  const mostMappings = carriesTraffic ? 1000 : 65_535;
  if (!Number.isInteger(maxMappings) || maxMappings < 32 || maxMappings > mostMappings) {
    throw new NatwardError('USAGE', `a table of ${maxMappings} mappings: it holds 32 to ${mostMappings}`);
  }
  return {
    address,
    addresses: otherAddress === undefined ? [address] : [address, otherAddress],
    outerAddress,
    externalAddress:
      settings.externalAddress === undefined ? outerAddress : checkedAddress(settings.externalAddress),
    ports: { pcp: 0, ssdp: 0, http: 0, ...settings.ports },
    protocols: settings.protocols ?? MAPPING_PROTOCOLS,
    igdVersion: settings.igdVersion ?? 2,
    connectionService: settings.connectionService ?? 'WANIPConnection',
    friendlyName: settings.friendlyName ?? 'natward gateway',
    secureMode: settings.secureMode ?? true,
    trustedClients: (settings.trustedClients ?? []).map((address) => checkedAddress(address)),
    minLifetimeSeconds: settings.minLifetimeSeconds ?? 120,
    maxLifetimeSeconds: settings.maxLifetimeSeconds,
    maxMappings,
    carriesTraffic,
    deniedExternalPorts: settings.deniedExternalPorts ?? [],
    firewallEnabled: settings.firewall?.enabled ?? true,
    inboundPinholeAllowed: settings.firewall?.inboundPinholeAllowed ?? true,
    maxConnections: settings.relay?.maxConnections ?? 256,
    maxConversations: settings.relay?.maxConversations ?? 256,
    idleMs: settings.relay?.idleMs ?? 300_000,
    spreadSearchAnswers: settings.spreadSearchAnswers ?? false,
    maxFilters: MAX_FILTERS,
  };
}

function checkedAddress(text: string): IpAddress {
  const address = parseAddress(text);
  if (address === undefined) throw new NatwardError('USAGE', `"${text}" is not an address`);
  return address;
}
