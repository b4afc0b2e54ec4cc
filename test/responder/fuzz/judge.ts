/**
 * What must hold whatever was received. The table is compared with what it was: each change needs a request that may
 * make it, by the harness's own reading of the packets; and what is held outside is what the table says.
 */

import type { IpAddress } from '../../../src/net/address.ts';
import { PROTOCOL_NUMBER } from '../../../src/net/protocol.ts';
import type { Pinhole } from '../../../src/responder/pinholes.ts';
import { sameNonce, type TableEntry } from '../../../src/responder/table.ts';
import { type Ground, mayActFor, MOST_OF_ALL, MOST_OF_ONE, rightsOf } from './ground.ts';
import { isPinhole, type OuterHolding } from './outer.ts';

/** What a packet has the right to do. */
export interface Claim {
  makes(entry: TableEntry | Pinhole): boolean;
  ends(entry: TableEntry | Pinhole): boolean;
}

/** Nothing at all. */
export const NO_CLAIM: Claim = { makes: () => false, ends: () => false };

/** UPnP knows who asks, and no more: whatever is of a host that the requester may act for. */
export function claimOf(requester: IpAddress): Claim {
  const may = ({ internalClient }: TableEntry | Pinhole) => mayActFor(requester, internalClient);
  return { makes: may, ends: may };
}

/** News of the outer gateway: one inner end, whoever holds it; one that is switched off gives way to it. */
export function claimOfNews({ wish, externalPort }: OuterHolding): Claim {
  const isIt = (entry: TableEntry | Pinhole) =>
    entry.internalClient === wish.internalClient &&
    entry.internalPort === wish.internalPort &&
    protocolOf(entry) === PROTOCOL_NUMBER[wish.protocol];
  const givesWay = (entry: TableEntry | Pinhole) =>
    'enabled' in entry &&
    !entry.enabled &&
    entry.protocol === wish.protocol &&
    entry.externalPort === externalPort;
  return { makes: isIt, ends: (entry) => isIt(entry) || givesWay(entry) };
}

export interface Tables {
  readonly entries: readonly TableEntry[];
  readonly pinholes: readonly Pinhole[];
}

export function tablesOf({ grants, pinholes }: Ground): Tables {
  return { entries: grants.list(), pinholes: pinholes.list() };
}

/** What is wrong, in words. */
export function changeFaults(before: Tables, after: Tables, claims: readonly Claim[]): string[] {
  return [
    ...faultsOf(
      before.entries,
      after.entries,
      claims,
      ({ protocol, externalPort }) => `${protocol} ${externalPort}`,
    ),
    ...faultsOf(before.pinholes, after.pinholes, claims, ({ uniqueId }) => `pinhole ${uniqueId}`),
  ];
}

function faultsOf<One extends TableEntry | Pinhole>(
  before: readonly One[],
  after: readonly One[],
  claims: readonly Claim[],
  keyOf: (one: One) => string,
): string[] {
  if (before === after) return [];
  const faults: string[] = [];
  const was = new Map(before.map((one) => [keyOf(one), one]));
  const makes = (one: One) => claims.some((claim) => claim.makes(one));
  const ends = (one: One) => claims.some((claim) => claim.ends(one));
  for (const one of after) {
    const key = keyOf(one);
    const old = was.get(key);
    was.delete(key);
    if (old === one) continue;
    if (!makes(one))
      faults.push(`${key} was made or changed by nobody who may: ${told(one)}, was ${told(old)}`);
    if (old !== undefined && isAnothers(old, one) && !ends(old)) {
      faults.push(`${key} was taken from its owner: ${told(one)}, was ${told(old)}`);
    }
  }
  for (const [key, old] of was)
    if (!ends(old)) faults.push(`${key} was ended by nobody who may: ${told(old)}`);
  return faults;
}

function isAnothers(old: TableEntry | Pinhole, now: TableEntry | Pinhole): boolean {
  if (old.internalClient !== now.internalClient) return true;
  return old.nonce !== undefined && (now.nonce === undefined || !sameNonce(old.nonce, now.nonce));
}

/** What must hold of the tables at any time at which nothing is being asked for. */
export function stateFaults({ grants, pinholes, outer, site, clock }: Ground): string[] {
  const faults: string[] = [];
  const { entries, pinholes: holes } = tablesOf({ grants, pinholes } as Ground);
  const held = new Map<string, OuterHolding>();
  for (const holding of outer.holdings) {
    const key = keyOfHolding(holding);
    if (held.has(key)) faults.push(`held twice: ${key}`);
    held.set(key, holding);
  }
  const ofClient = new Map<IpAddress, number>();
  for (const entry of [...entries, ...holes]) {
    const { internalClient, expiresAtMs } = entry;
    ofClient.set(internalClient, (ofClient.get(internalClient) ?? 0) + 1);
    if (expiresAtMs !== undefined && expiresAtMs <= clock.now())
      faults.push(`over, and there: ${told(entry)}`);
    if (rightsOf(internalClient) === undefined) faults.push(`of a host without rights: ${told(entry)}`);
    if ('enabled' in entry && !entry.enabled) continue;
    const key = keyOfEntry(entry);
    const holding = held.get(key);
    held.delete(key);
    if (holding === undefined) faults.push(`held by nobody outside: ${told(entry)}`);
    else if (!holding.wasMoved && !mayHave(entry))
      faults.push(`on a port that is not allowed: ${told(entry)}`);
  }
  for (const key of held.keys()) faults.push(`held outside for nobody: ${key}`);
  for (const [client, count] of ofClient) {
    if (count > MOST_OF_ONE) faults.push(`${client} has ${count} of ${MOST_OF_ONE}`);
  }
  if (entries.length + holes.length > MOST_OF_ALL)
    faults.push(`${entries.length + holes.length} of ${MOST_OF_ALL}`);
  const internal = site.counters.snapshot()['internal error'];
  if (internal !== undefined) faults.push('an internal error');
  return faults;
}

function mayHave(entry: TableEntry | Pinhole): boolean {
  const port = 'externalPort' in entry ? entry.externalPort : entry.internalPort;
  const isIn = (client: IpAddress) =>
    rightsOf(client)?.externalPorts.some(({ first, last }) => port >= first && port <= last) === true;
  // A trusted client's own range goes for what it maps for others.
  return isIn(entry.internalClient) || isIn('127.1.0.20');
}

function keyOfHolding({ wish, externalPort }: OuterHolding): string {
  const { protocol, internalClient, internalPort, remotePeer } = wish;
  const outer = isPinhole(wish)
    ? `from ${remotePeer === undefined || remotePeer.prefixLength === 0 ? '*' : remotePeer.address} ${remotePeer?.port ?? 0}`
    : externalPort;
  return `${PROTOCOL_NUMBER[protocol]} ${internalClient} ${internalPort} ${outer}`;
}

function keyOfEntry(entry: TableEntry | Pinhole): string {
  const outer =
    'externalPort' in entry ? entry.externalPort : `from ${entry.remoteHost ?? '*'} ${entry.remotePort}`;
  return `${protocolOf(entry)} ${entry.internalClient} ${entry.internalPort} ${outer}`;
}

export function protocolOf({ protocol }: TableEntry | Pinhole): number {
  return typeof protocol === 'number' ? protocol : PROTOCOL_NUMBER[protocol];
}

function told(entry: TableEntry | Pinhole | undefined): string {
  if (entry === undefined) return 'not there';
  const { nonce, ...rest } = entry;
  return JSON.stringify({ ...rest, nonce: nonce && Buffer.from(nonce).toString('hex') });
}
