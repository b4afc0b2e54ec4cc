/** What people read about leases: one fact a line. */

import {
  type AgentEvent,
  type LeaseStatus,
  RESPONDER_OWNER,
  type ResponderStatus,
  type StatusAnswer,
} from '../control/protocol.ts';
import { NatwardError } from '../errors.ts';
import { bracketed } from '../net/address.ts';
import { formatEndpoint } from '../net/endpoint.ts';
import { MAPPING_PROTOCOL_NAME } from '../net/protocol.ts';
import { duration, print, printError } from './output.ts';
import { printRules } from './rule-words.ts';

/** Leases of one intent that stand alike are one line: a range of a thousand ports is. */
export function printLeases(leases: readonly LeaseStatus[]): void {
  for (const run of runsOf(leases)) print(leaseLine(run));
  for (const note of new Set(leases.flatMap(({ notes }) => notes))) print(`note: ${note}`);
}

export function printLeaseErrors(leases: readonly LeaseStatus[]): void {
  const seen = new Set<string>();
  for (const { error } of leases) {
    if (error === null || seen.has(error.message)) continue;
    seen.add(error.message);
    printError(
      new NatwardError(error.code, error.message, error.advice === null ? {} : { advice: error.advice }),
    );
  }
}

export function printDropped(released: readonly LeaseStatus[]): void {
  for (const lease of released) {
    if (lease.state !== 'held') print(`${what(lease)} is no longer kept`);
    else if (lease.error === null) print(`${path(lease)} released`);
    else print(`${path(lease)} is no longer kept, and not released: ${lease.error.message}`);
  }
}

export function printStatus(status: StatusAnswer): void {
  const { agent, gateways, leases, rulesPaused, rules, responders, warnings } = status;
  print(
    `agent ${agent.version}, pid ${agent.pid}, since ${agent.startedAt}, remembers in ${agent.directory}`,
  );
  for (const gateway of gateways) {
    const { address, state, protocols, externalAddress } = gateway;
    const speaks = protocols.map((protocol) => MAPPING_PROTOCOL_NAME[protocol]).join(', ');
    const facts = [
      gateway.interface,
      speaks,
      externalAddress === null ? '' : `external address ${externalAddress}`,
    ];
    print(`gateway ${address} ${state}: ${facts.filter((fact) => fact !== '').join(', ')}`);
  }
  for (const responder of responders) print(responderLine(responder));
  printLeases(leases);
  if (leases.length === 0) print('nothing is kept');
  if (rules.length > 0) printRules(rules, rulesPaused);
  for (const warning of warnings) print(`warning: ${warning}`);
}

function responderLine({ interface: name, addresses, clients, mappings }: ResponderStatus): string {
  const where = `answers on ${name} (${addresses.join(', ')})`;
  if (mappings === 0) return `${where}: no mappings`;
  return `${where}: ${counted(mappings, 'mapping')} of ${counted(clients, 'client')}`;
}

function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

/** One line for what has happened; a renewal is no news. */
export function printEvent(event: AgentEvent): void {
  const line = eventLine(event);
  if (line !== undefined) print(line);
}

function eventLine(event: AgentEvent): string | undefined {
  switch (event.type) {
    case 'renewed':
      return undefined;
    case 'granted':
      return [leaseLine([event.lease]), ...event.lease.notes.map((note) => `(${note})`)].join(' ');
    case 'changed': {
      const { externalAddress, externalPort, internalClient } = event.previous;
      const before = `${bracketed(externalAddress ?? '*')}:${externalPort} -> ${internalClient}`;
      return `${leaseLine([event.lease])}, changed: it was ${before}`;
    }
    case 'lost':
      return `${what(event.lease)} lost: ${event.reason}`;
    case 'refused':
      return `${what(event.lease)} refused: ${[event.lease.error?.message, event.lease.error?.advice].filter(Boolean).join('. ')}`;
    case 'released':
      return event.reason === null
        ? `${what(event.lease)} released`
        : `${what(event.lease)} not released: ${event.reason}`;
    case 'gateway-up': {
      const { address, externalAddress } = event.gateway;
      return `gateway ${address} answers${externalAddress === null ? '' : `, external address ${externalAddress}`}`;
    }
    case 'gateway-down':
      return `gateway ${event.gateway.address} is gone: ${event.reason}`;
    case 'address-changed':
      return `the external address is now ${event.gateway.externalAddress ?? 'unknown'}, it was ${event.previous ?? 'unknown'}`;
    case 'warning':
      return `warning: ${[event.message, event.advice].filter(Boolean).join('. ')}`;
  }
}

type Run = [LeaseStatus, ...LeaseStatus[]];

function runsOf(leases: readonly LeaseStatus[]): Run[] {
  const runs: Run[] = [];
  const facts = (one: LeaseStatus) =>
    [
      one.intentId,
      one.protocol,
      one.state,
      one.family,
      one.internalClient,
      one.via,
      one.lifetimeSeconds,
      one.error?.message,
    ].join();
  const sorted = [...leases].sort(
    (a, b) =>
      a.intentId.localeCompare(b.intentId) || a.family - b.family || a.protocol.localeCompare(b.protocol),
  );
  for (const lease of sorted) {
    const last = runs.at(-1)?.at(-1);
    const joins =
      last !== undefined &&
      facts(last) === facts(lease) &&
      last.internalPort + 1 === lease.internalPort &&
      (last.externalPort === null || last.externalPort + 1 === lease.externalPort);
    if (joins) runs.at(-1)?.push(lease);
    else runs.push([lease]);
  }
  return runs;
}

function leaseLine(run: Run): string {
  const [first] = run;
  const last = run.at(-1) ?? first;
  const id = `[${first.intentId}]`;
  if (first.state !== 'held') {
    return `${what(first, last)} ${STATE_WORDS[first.state]} ${id}`;
  }
  const lifetime =
    first.lifetimeSeconds === 0
      ? 'kept, without an end'
      : `kept, ${duration(first.lifetimeSeconds ?? 0)} at a time`;
  const via = first.via === null ? '' : `via ${MAPPING_PROTOCOL_NAME[first.via]} on ${first.gateway}`;
  return `${path(first, last)} ${lifetime} ${via} ${id}`;
}

const STATE_WORDS: Readonly<Record<Exclude<LeaseStatus['state'], 'held'>, string>> = {
  asking: 'is being asked for',
  lost: 'lost, is being asked for again',
  refused: 'refused, is asked for again from time to time',
  'no-gateway': 'waits for a gateway',
};

/** `tcp 198.51.100.7:443 -> 192.168.1.10:8443` */
function path(first: LeaseStatus, last: LeaseStatus = first): string {
  const outside = `${bracketed(first.externalAddress ?? '*')}:${ports(first.externalPort, last.externalPort)}`;
  const inside = `${bracketed(first.internalClient ?? '*')}:${ports(first.internalPort, last.internalPort)}`;
  const beyond = first.target === null ? '' : ` -> ${formatEndpoint(first.target)}`;
  return `${first.protocol} ${outside} -> ${inside}${beyond}`;
}

/** `tcp 443 -> 8443`, for what has no addresses yet, or no longer. */
function what(first: LeaseStatus, last: LeaseStatus = first): string {
  const wanted = ports(first.requestedExternalPort, last.requestedExternalPort);
  // Its spec names the client, where nobody typed one.
  const whose = first.owner === RESPONDER_OWNER ? ` (${first.spec})` : '';
  return `${first.protocol} ${wanted} -> ${ports(first.internalPort, last.internalPort)}${first.family === 6 ? ' (IPv6)' : ''}${whose}`;
}

function ports(first: number | null, last: number | null): string {
  if (first === null) return '*';
  return first === last ? String(first) : `${first}-${last}`;
}
