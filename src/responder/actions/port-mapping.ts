/** The actions of WANIPConnection and WANPPPConnection that change or read the table of mappings. */

import { family, type IpAddress, parseAddress } from '../../net/address.ts';
import type { TransportProtocol } from '../../net/protocol.ts';
import { encodePortListing, type SoapValues } from '../../wire/soap.ts';
import type { GrantOutcome, Refusal } from '../grant.ts';
import type { Site } from '../site.ts';
import type { TableEntry } from '../table.ts';
import { type Action, type ActionCall, Fault, fault, number, response, text, truth } from './action.ts';

const FAULT: Readonly<Record<Refusal, number>> = {
  'not-authorized': 606,
  'wrong-nonce': 606,
  'denied-port': 606,
  taken: 718,
  'manual-rule': 729,
  // Of AddAnyPortMapping by the letter; it says more than the 501 that is left for AddPortMapping.
  'over-quota': 728,
  'too-many-peers': 726,
  'table-full': 728,
  'no-free-port': 728,
  'network-down': 501,
};

/** WANIPConnection:2, section 2.3.16: a week is the longest lease, and what 0 stands for. */
const LONGEST_LEASE_SECONDS = 604_800;
/** As far as the standard goes a description has no limit; the table's memory does. */
const MAX_DESCRIPTION = 256;

export const addPortMapping: Action = async (call, site) => {
  if (number(call.values, 'NewExternalPort', 65_535) === 0) return fault(716);
  const outcome = await grant(call, site, true);
  return outcome.kind === 'granted' ? response() : fault(FAULT[outcome.refusal]);
};

export const addAnyPortMapping: Action = async (call, site) => {
  const outcome = await grant(call, site, false);
  if (outcome.kind === 'refused') return fault(FAULT[outcome.refusal]);
  return response({ NewReservedPort: String(outcome.entry.externalPort) });
};

function grant(call: ActionCall, site: Site, exact: boolean): Promise<GrantOutcome> {
  const { values, requester } = call;
  // Nobody is whoever asks, as miniupnpd has it: some control points do not know their own address.
  const internalClient = parseAddress(text(values, 'NewInternalClient') || requester);
  // Where nothing is translated there is nothing to map: IPv6 has AddPinhole.
  if (internalClient === undefined || family(internalClient) === 6) throw new Fault(402);
  const remoteHost = remoteHostOf(values);
  const internalPort = number(values, 'NewInternalPort', 65_535);
  if (internalPort === 0) throw new Fault(732);
  return site.grants.grant({
    via: 'upnp',
    requester,
    protocol: protocolOf(values),
    internalClient,
    internalPort,
    suggestedExternalPort: number(values, 'NewExternalPort', 65_535),
    exact,
    lifetimeSeconds: leaseOf(values, call.version),
    description: text(values, 'NewPortMappingDescription').slice(0, MAX_DESCRIPTION),
    enabled: truth(values, 'NewEnabled'),
    remotePeers:
      remoteHost === undefined
        ? []
        : [{ address: remoteHost, prefixLength: family(remoteHost) === 6 ? 128 : 32, port: 0 }],
  });
}

function leaseOf(values: SoapValues, version: number): number | undefined {
  const seconds = number(values, 'NewLeaseDuration', 2 ** 32 - 1);
  if (version === 1) return seconds === 0 ? undefined : seconds;
  return seconds === 0 ? LONGEST_LEASE_SECONDS : Math.min(seconds, LONGEST_LEASE_SECONDS);
}

function protocolOf(values: SoapValues): TransportProtocol {
  const protocol = text(values, 'NewProtocol').toLowerCase();
  if (protocol !== 'tcp' && protocol !== 'udp') throw new Fault(402);
  return protocol;
}

/** undefined is the wildcard. A name could be one as well by the standard; this gateway resolves none. */
function remoteHostOf(values: SoapValues): IpAddress | undefined {
  const host = text(values, 'NewRemoteHost');
  if (host === '' || host === '*' || host === '0.0.0.0') return undefined;
  const address = parseAddress(host);
  if (address === undefined) throw new Fault(726);
  return address;
}

export const deletePortMapping: Action = async (call, site) => {
  const entry = specific(call, site);
  if (entry === undefined) return fault(714);
  if (!site.grants.mayActFor(call.requester, entry.internalClient)) return fault(606);
  await site.grants.remove('upnp', (table) => (table.has(entry) ? [entry] : []));
  return response();
};

export const deletePortMappingRange: Action = async (call, site) => {
  const meant = ranged(call, site);
  if (meant.length === 0) return fault(730);
  const own = meant.filter((entry) => site.grants.mayActFor(call.requester, entry.internalClient));
  if (own.length === 0) return fault(606);
  await site.grants.remove('upnp', (table) => own.filter((entry) => table.has(entry)));
  return response();
};

export const getSpecificPortMappingEntry: Action = (call, site) => {
  const entry = specific(call, site);
  return entry === undefined ? fault(714) : response(innerValues(entry, site));
};

export const getGenericPortMappingEntry: Action = (call, site) => {
  const entry = site.grants.list('upnp')[number(call.values, 'NewPortMappingIndex', 65_535)];
  return entry === undefined ? fault(713) : response({ ...outerValues(entry), ...innerValues(entry, site) });
};

export const getListOfPortMappings: Action = (call, site) => {
  const most = number(call.values, 'NewNumberOfPorts', 65_535);
  const listed = ranged(call, site).slice(0, most === 0 ? undefined : most);
  if (listed.length === 0) return fault(730);
  return response({ NewPortListing: encodePortListing(listed.map((entry) => listedValues(entry, site))) });
};

function specific(call: ActionCall, site: Site): TableEntry | undefined {
  const port = number(call.values, 'NewExternalPort', 65_535);
  const remoteHost = remoteHostOf(call.values);
  const entry = site.grants.get('upnp', protocolOf(call.values), port);
  return entry !== undefined && entry.remotePeers[0]?.address === remoteHost ? entry : undefined;
}

/** Without NewManage, only what points to the control point itself (WANIPConnection:2, section 2.3.22). */
function ranged(call: ActionCall, site: Site): TableEntry[] {
  const { values, requester } = call;
  const first = number(values, 'NewStartPort', 65_535);
  const last = number(values, 'NewEndPort', 65_535);
  if (first > last) throw new Fault(733);
  const protocol = protocolOf(values);
  const all = truth(values, 'NewManage');
  return site.grants
    .list('upnp')
    .filter(
      (entry) =>
        entry.protocol === protocol &&
        entry.externalPort >= first &&
        entry.externalPort <= last &&
        (all || entry.internalClient === requester),
    );
}

function outerValues(entry: TableEntry): SoapValues {
  return {
    NewRemoteHost: entry.remotePeers[0]?.address ?? '',
    NewExternalPort: String(entry.externalPort),
    NewProtocol: entry.protocol.toUpperCase(),
  };
}

function innerValues(entry: TableEntry, site: Site): SoapValues {
  return {
    NewInternalPort: String(entry.internalPort),
    NewInternalClient: entry.internalClient,
    NewEnabled: entry.enabled ? '1' : '0',
    NewPortMappingDescription: entry.description,
    NewLeaseDuration: String(leftSeconds(entry, site)),
  };
}

/** The same in the listing, which has a schema of its own (WANIPConnection:2, section 2.3.31). */
function listedValues(entry: TableEntry, site: Site): SoapValues {
  return {
    ...outerValues(entry),
    NewInternalPort: String(entry.internalPort),
    NewInternalClient: entry.internalClient,
    NewEnabled: entry.enabled ? '1' : '0',
    NewDescription: entry.description,
    NewLeaseTime: String(leftSeconds(entry, site)),
  };
}

/** 0 is a mapping without an end, so the last second of one that ends is 1. */
function leftSeconds(entry: TableEntry, site: Site): number {
  if (entry.expiresAtMs === undefined) return 0;
  return Math.max(1, Math.ceil((entry.expiresAtMs - site.clock.now()) / 1000));
}
