import { expect, test } from 'vitest';
import { MAPPING_PROTOCOLS, PROTOCOL_NUMBER } from '../../src/net/protocol.ts';

test('the transport protocols carry the numbers that IANA gave them', () => {
  expect(PROTOCOL_NUMBER).toEqual({ tcp: 6, udp: 17 });
});

test('PCP is asked before NAT-PMP, and both before UPnP (RFC 6886, section 1.1)', () => {
  expect(MAPPING_PROTOCOLS).toEqual(['pcp', 'natpmp', 'upnp']);
});
