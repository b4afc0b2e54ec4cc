/**
 * A responder without a network and without time: its faces on sockets in memory, its grants over an outer gateway that
 * the harness answers for, its clock moved by the harness. Everything in between is the real thing.
 */

import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { setMaxListeners } from 'node:events';
import type { Server } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { type Family, family, type IpAddress, sameNetwork } from '../../../src/net/address.ts';
import { ClientGuard } from '../../../src/responder/client-guard.ts';
import { Counters } from '../../../src/responder/counters.ts';
import { EventSource } from '../../../src/responder/events/source.ts';
import type { Granting } from '../../../src/responder/granting.ts';
import { HookSet } from '../../../src/responder/hooks.ts';
import { HttpSide } from '../../../src/responder/http.ts';
import { Identity } from '../../../src/responder/identity.ts';
import { LeaseGrants } from '../../../src/responder/lease-grants.ts';
import { LeasePinholes } from '../../../src/responder/lease-pinholes.ts';
import { MappingPort } from '../../../src/responder/mapping-port.ts';
import type { ClientRights } from '../../../src/responder/rights.ts';
import type { Site } from '../../../src/responder/site.ts';
import { SsdpSide } from '../../../src/responder/ssdp.ts';
import { FuzzClock } from './clock.ts';
import { Outer } from './outer.ts';
import type { Random } from './random.ts';
import { MemoryDatagrams, MemoryStream } from './sockets.ts';

export const GATEWAY = '127.1.0.1';
const GATEWAY_6 = 'fd00:1::1';
const NETWORKS = [
  { address: GATEWAY, prefixLength: 24 },
  { address: GATEWAY_6, prefixLength: 64 },
];
export const MOST_OF_ONE = 6;
export const MOST_OF_ALL = 24;

const ORDINARY: ClientRights = {
  externalPorts: [{ first: 1024, last: 65_535 }],
  maxMappings: MOST_OF_ONE,
  requestsPerSecond: 10_000_000,
  mayMapForOthers: false,
};
const NARROW = {
  ...ORDINARY,
  externalPorts: [
    { first: 20_100, last: 20_199 },
    { first: 30_000, last: 30_001 },
  ],
};
const TRUSTED = { ...ORDINARY, mayMapForOthers: true };
const SLOW = { ...ORDINARY, requestsPerSecond: 5 };

const RIGHTS: ReadonlyMap<IpAddress, ClientRights> = new Map([
  ['127.1.0.10', ORDINARY],
  ['127.1.0.11', ORDINARY],
  ['127.1.0.12', NARROW],
  ['127.1.0.20', TRUSTED],
  ['127.1.0.30', SLOW],
  ['fd00:1::10', ORDINARY],
  ['fd00:1::11', ORDINARY],
  ['fd00:1::20', TRUSTED],
]);
/** Answered always, now and then, and never. */
export const CLIENTS: readonly IpAddress[] = [...RIGHTS.keys()].filter((client) => client !== '127.1.0.30');
export const SLOW_CLIENT = '127.1.0.30';
/** Of no rights, of no network, of the gateway itself, of everybody, of nobody. */
export const STRANGERS: readonly IpAddress[] = [
  '127.1.0.40',
  '127.2.0.5',
  GATEWAY,
  '127.1.0.255',
  '0.0.0.0',
  '198.51.100.99',
  'fd00:1::40',
  'fd00:2::5',
  GATEWAY_6,
  '::1',
];

export function rightsOf(client: IpAddress): ClientRights | undefined {
  return RIGHTS.get(client);
}

function isInside(host: IpAddress): boolean {
  return NETWORKS.some(
    ({ address, prefixLength }) =>
      family(address) === family(host) && address !== host && sameNetwork(address, host, prefixLength),
  );
}

/** What the standards and the user's rights say, in the harness's own words. */
export function mayActFor(requester: IpAddress, client: IpAddress): boolean {
  const own = rightsOf(requester);
  if (own === undefined) return false;
  return requester === client || (own.mayMapForOthers && isInside(client) && rightsOf(client) !== undefined);
}

/** Puts a fault between the faces and what grants, so that the judge is judged. */
export type Plant = (grants: LeaseGrants, outer: Outer) => Granting;

export class Ground {
  readonly clock: FuzzClock = new FuzzClock();
  readonly outer: Outer;
  readonly grants: LeaseGrants;
  readonly pinholes: LeasePinholes;
  readonly site: Site;
  /** By family. */
  readonly mapping: Readonly<Record<Family, MemoryDatagrams>> = {
    4: new MemoryDatagrams({ address: GATEWAY, port: 5351 }),
    6: new MemoryDatagrams({ address: GATEWAY_6, port: 5351 }),
  };
  readonly ssdp: MemoryDatagrams = new MemoryDatagrams({ address: GATEWAY, port: 1900 });
  readonly http: HttpSide;
  readonly #closing = new AbortController();
  readonly #servers: Server[] = [];
  readonly #faces: readonly { close(): Promise<void> }[];

  constructor(random: Random, plant: Plant = (grants) => grants) {
    setMaxListeners(0, this.#closing.signal);
    this.outer = new Outer(random);
    const { clock } = this;
    this.grants = new LeaseGrants(this.outer, { clock, maxMappings: () => MOST_OF_ALL, rightsOf, isInside });
    this.pinholes = new LeasePinholes(this.outer, {
      clock,
      maxPinholes: 1000,
      rightsOf,
      quota: this.grants.quota,
    });
    const events = new EventSource();
    this.grants.listen({ moved: () => {}, gone: () => {}, changed: () => events.tableChanged() });
    this.site = {
      settings: {
        addresses: [GATEWAY, GATEWAY_6],
        protocols: ['pcp', 'natpmp', 'upnp'],
        igdVersion: 2,
        connectionService: 'WANIPConnection',
        friendlyName: 'a gateway under fire',
        minLifetimeSeconds: 120,
        maxLifetimeSeconds: undefined,
        firewallEnabled: true,
        inboundPinholeAllowed: true,
        spreadSearchAnswers: true,
        maxFilters: 1,
      },
      clock,
      hooks: new HookSet(),
      counters: new Counters(),
      identity: new Identity(clock, this.outer.externalAddress),
      grants: plant(this.grants, this.outer),
      pinholes: this.pinholes,
      closing: this.#closing.signal,
      guard: new ClientGuard({
        networks: NETWORKS,
        rightsOf,
        isOwn: (address) => address === GATEWAY || address === GATEWAY_6,
        clock,
      }),
      events,
    };
    const mappingPort = new MappingPort(this.site, [this.mapping[4].socket, this.mapping[6].socket]);
    // Over IPv6 there is no address here to listen at.
    const { settings } = this.site;
    this.http = new HttpSide({ ...this.site, settings: { ...settings, addresses: [GATEWAY] } });
    const ssdp = new SsdpSide(this.site, this.http, [this.ssdp.socket]);
    this.#faces = [mappingPort, ssdp, this.http];
  }

  /** Has HTTP listen: connections are then put in by `connect`. */
  async listen(): Promise<void> {
    const found = (message: unknown) => this.#servers.push((message as { readonly server: Server }).server);
    subscribe('tracing:net.server.listen:asyncStart', found);
    await this.http.open(0);
    unsubscribe('tracing:net.server.listen:asyncStart', found);
  }

  connect(from: IpAddress): MemoryStream {
    const [server] = this.#servers;
    if (server === undefined) throw new Error('nobody listens');
    const stream = new MemoryStream(from, family(from) === 4 ? GATEWAY : GATEWAY_6);
    server.emit('connection', stream.socket);
    return stream;
  }

  /** Between two packets: nothing, or time for the first to get as far as it gets, or an answer from outside as well. */
  async pause(random: Random): Promise<void> {
    if (random.percent(50)) return;
    if (random.percent(20)) this.outer.answerOne();
    await setImmediate();
  }

  /** Until whatever was asked is answered, by the outer gateway as well. */
  async settle(): Promise<void> {
    await setImmediate();
    while (!this.outer.isIdle) {
      this.outer.answerOne();
      await setImmediate();
    }
  }

  async close(): Promise<void> {
    this.#closing.abort();
    this.grants.close();
    this.pinholes.close();
    await Promise.all(this.#faces.map((face) => face.close()));
  }
}
