/** The transport protocols that gateways map, with their IANA numbers. */

export type TransportProtocol = 'tcp' | 'udp';

/** IANA protocol numbers, as PCP carries them (RFC 6887, section 11.1). */
export const PROTOCOL_NUMBER: Readonly<Record<TransportProtocol, number>> = { tcp: 6, udp: 17 };

/** The protocols by which a gateway can be asked to map a port. */
export type MappingProtocol = 'pcp' | 'natpmp' | 'upnp';

export const MAPPING_PROTOCOLS: readonly MappingProtocol[] = ['pcp', 'natpmp', 'upnp'];

/** As people write them. */
export const MAPPING_PROTOCOL_NAME: Readonly<Record<MappingProtocol, string>> = {
  pcp: 'PCP',
  natpmp: 'NAT-PMP',
  upnp: 'UPnP',
};
