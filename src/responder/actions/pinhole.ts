/** The actions of WANIPv6FirewallControl:1. */

import { family, type IpAddress, parseAddress } from '../../net/address.ts';
import type { SoapValues } from '../../wire/soap.ts';
import type { Refusal } from '../grant.ts';
import type { Pinhole } from '../pinholes.ts';
import type { Site } from '../site.ts';
import { type Action, type ActionCall, Fault, fault, number, response, text } from './action.ts';

/** WANIPv6FirewallControl:1, table 2-9. */
const FAULT: Readonly<Record<Refusal, number>> = {
  'not-authorized': 606,
  'wrong-nonce': 606,
  'denied-port': 606,
  taken: 501,
  'manual-rule': 501,
  'over-quota': 701,
  'too-many-peers': 708,
  'table-full': 701,
  'no-free-port': 701,
  'network-down': 501,
};

/** Section 2.3.6. */
const LONGEST_LEASE_SECONDS = 86_400;
/** Section 2.3.4: 65535 is every protocol. */
const ANY_PROTOCOL = 65_535;
const TCP = 6;
const UDP = 17;
const UDP_LITE = 136;

export const getFirewallStatus: Action = (_call, site) =>
  response({
    FirewallEnabled: site.settings.firewallEnabled ? '1' : '0',
    InboundPinholeAllowed: site.settings.inboundPinholeAllowed ? '1' : '0',
  });

export const addPinhole: Action = async (call, site) => {
  checkFirewall(site);
  const { values } = call;
  const leaseSeconds = lease(values, 'LeaseTime');
  const internalPort = number(values, 'InternalPort', 65_535);
  const remotePort = number(values, 'RemotePort', 65_535);
  const protocol = number(values, 'Protocol', 65_535);
  const internalClient = ipv6(text(values, 'InternalClient'));
  const remoteHost = ipv6(text(values, 'RemoteHost'));
  if (internalClient === undefined) return fault(708);
  if (internalPort === 0) return fault(706);
  if (protocol === ANY_PROTOCOL) return fault(707);
  if (![TCP, UDP, UDP_LITE].includes(protocol)) return fault(705);
  if (!site.grants.mayActFor(call.requester, internalClient)) return fault(606);
  const outcome = await site.pinholes.put({
    protocol,
    internalClient,
    internalPort,
    remoteHost,
    remotePort,
    expiresAtMs: site.clock.now() + leaseSeconds * 1000,
    description: '',
    via: 'upnp',
    nonce: undefined,
  });
  if (outcome.kind === 'refused') return fault(FAULT[outcome.refusal]);
  return response({ UniqueID: String(outcome.pinhole.uniqueId) });
};

export const updatePinhole: Action = async (call, site) => {
  const pinhole = own(call, site);
  const expiresAtMs = site.clock.now() + lease(call.values, 'NewLeaseTime') * 1000;
  const outcome = await site.pinholes.put({ ...pinhole, expiresAtMs });
  return outcome.kind === 'refused' ? fault(FAULT[outcome.refusal]) : response();
};

export const deletePinhole: Action = async (call, site) => {
  await site.pinholes.delete(own(call, site));
  return response();
};

/** No packet passes through this process: none was seen, which is not that none was sent. */
export const getPinholePackets: Action = (call, site) => {
  own(call, site);
  return response({ PinholePackets: '0' });
};

export const checkPinholeWorking: Action = (call, site) => {
  own(call, site);
  return fault(709);
};

function own(call: ActionCall, site: Site): Pinhole {
  checkFirewall(site);
  const pinhole = site.pinholes.get(number(call.values, 'UniqueID', 65_535));
  if (pinhole === undefined) throw new Fault(704);
  if (!site.grants.mayActFor(call.requester, pinhole.internalClient)) throw new Fault(606);
  return pinhole;
}

function checkFirewall(site: Site): void {
  if (!site.settings.firewallEnabled) throw new Fault(702);
  if (!site.settings.inboundPinholeAllowed) throw new Fault(703);
}

function lease(values: SoapValues, name: string): number {
  const seconds = number(values, name, LONGEST_LEASE_SECONDS);
  if (seconds === 0) throw new Fault(402);
  return seconds;
}

/** undefined is the wildcard: the empty text, or one that is written out. */
function ipv6(value: string): IpAddress | undefined {
  if (value === '' || value === '*' || value === '::') return undefined;
  const address = parseAddress(value);
  if (address === undefined || family(address) !== 6) throw new Fault(402);
  return address;
}
