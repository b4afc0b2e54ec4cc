/** One port that is kept, while the agent runs: what is wanted, what is held, and how it stands between the two. */

import type { NatwardError } from '../errors.ts';
import type { Family } from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import { CLIENT_KEY } from './carrier.ts';
import type { Line } from './gateway-watch.ts';
import type { Intent, LeaseState, LeaseStatus } from './lease.ts';
import type { Port } from './port.ts';
import type { RememberedMapping } from './store.ts';

/** One port of an intent, in one family, with its one or two protocols. */
export interface WantedLease {
  readonly key: string;
  readonly intent: Intent;
  readonly family: Family;
  readonly port: Port;
}

/** What a gateway granted for a lease, and which gateway that was. */
export interface Holding {
  readonly leaseKey: string;
  readonly interface: string;
  /** Of the gateway; null where the machine does not tell. */
  readonly hardwareAddress: string | null;
  readonly mapping: RememberedMapping;
}

export class LeaseRecord {
  readonly key: string;
  readonly family: Family;
  intent: Intent;
  /** As it is asked for now: where the internal port follows the external one, not as it was wanted. */
  port: Port;
  state: LeaseState = 'asking';
  /** What is held, or was: its nonce and its port are asked for again. */
  holdings: readonly Holding[];
  /** The conversation in which it was granted; what was granted in another one may be gone. */
  line: Line | undefined;
  renewAtMs = 0;
  /** Tries to renew since it was granted. */
  attempt = 0;
  /** Failures since anything was granted. */
  failures = 0;
  retryAtMs = 0;
  error: NatwardError | undefined;
  notes: readonly string[] = [];
  /** Where a rule takes it on to, from `port` of this host; undefined where the gateway maps to there itself. */
  carriedTo: Endpoint | undefined;
  /** Nobody wants it any more. */
  dropped = false;

  constructor({ key, intent, family, port }: WantedLease, holdings: readonly Holding[]) {
    this.key = key;
    this.intent = intent;
    this.family = family;
    this.holdings = holdings;
    const [first] = holdings;
    const follows = first !== undefined && followsExternal(intent);
    const { internalPort = 0, requestedExternalPort = 0 } = first?.mapping ?? {};
    this.port = follows ? { ...port, internalPort, externalPort: requestedExternalPort } : port;
    if (first !== undefined && !follows && wasCarried(port, first.mapping)) this.carry(internalPort);
  }

  /** By what its carrier knows it: those of the responder's clients are told apart. */
  get carryKey(): string {
    return this.intent.carry === 'always' ? `${CLIENT_KEY}${this.key}` : this.key;
  }

  /** It arrives on this port of this host from now on, and a rule takes it to where it was to go. */
  carry(internalPort: number): void {
    this.carriedTo ??= this.carryTarget;
    this.port = { ...this.port, host: undefined, internalPort };
  }

  /** Where it is to go, whoever takes it there. */
  get carryTarget(): Endpoint {
    return this.carriedTo ?? { address: this.port.host ?? '127.0.0.1', port: this.port.internalPort };
  }

  /** Nobody asked for this family by name: where it cannot be had, nobody misses it. */
  get isOptional(): boolean {
    return this.family === 6 && this.intent.family === undefined && this.intent.host === undefined;
  }

  get isSettled(): boolean {
    return this.state !== 'asking';
  }

  /** When the first part of it ends; undefined where nothing is held or nothing ends. */
  get expiresAtMs(): number | undefined {
    const ends = this.holdings.flatMap(({ mapping }) => mapping.expiresAtMs ?? []);
    return ends.length === 0 ? undefined : Math.min(...ends);
  }

  /** The host's clock was set by so much. */
  shift(byMs: number): void {
    this.renewAtMs += byMs;
    this.retryAtMs += byMs;
    this.holdings = this.holdings.map((holding) => {
      const { expiresAtMs } = holding.mapping;
      if (expiresAtMs === null) return holding;
      return { ...holding, mapping: { ...holding.mapping, expiresAtMs: expiresAtMs + byMs } };
    });
  }

  statusOf(protocol: TransportProtocol): LeaseStatus {
    const { intent, family, port, error } = this;
    const held = this.state === 'held';
    const mapping = held
      ? this.holdings.find((one) => one.mapping.protocol === protocol)?.mapping
      : undefined;
    const wanted = this.wantedPort;
    return {
      id: `${intent.id}/${protocol}/${wanted}${family === 6 ? '/ipv6' : ''}`,
      intentId: intent.id,
      owner: intent.owner,
      spec: intent.spec,
      state: this.state,
      protocol,
      family,
      requestedExternalPort: intent.external === 'any' ? null : port.externalPort,
      externalAddress: mapping?.externalAddress ?? null,
      externalPort: mapping?.externalPort ?? null,
      internalClient: mapping?.internalClient ?? null,
      internalPort: mapping?.arrivesOnPort ?? mapping?.internalPort ?? port.internalPort,
      target: this.carriedTo ?? null,
      lifetimeSeconds: mapping?.lifetimeSeconds ?? null,
      expiresAt: isoOrNull(mapping?.expiresAtMs),
      renewsAt: mapping === undefined ? null : isoOrNull(this.renewAtMs),
      via: mapping?.via ?? null,
      gateway: mapping?.gateway ?? null,
      description: mapping?.description ?? intent.description ?? '',
      notes: held ? this.notes : [],
      error:
        error === undefined
          ? null
          : { code: error.code, message: error.message, advice: error.advice ?? null },
    };
  }

  get statuses(): readonly LeaseStatus[] {
    return this.port.protocols.map((protocol) => this.statusOf(protocol));
  }

  /** The internal port by which people know it. */
  get wantedPort(): number {
    return Number(/\/(\d+)/.exec(this.key)?.[1]);
  }
}

/** What is held leads elsewhere than the lease does: to this host, or to the external port's number of it. */
function wasCarried({ host, internalPort, externalPort }: Port, mapping: RememberedMapping): boolean {
  if (host !== undefined) return mapping.internalClient !== host;
  return mapping.internalPort !== internalPort && mapping.internalPort === externalPort;
}

/** A client that is told the external port listens there: the mapping has to lead to that same number. */
export function followsExternal(intent: Intent): boolean {
  return intent.hooks.some(({ kind }) => kind === 'sync');
}

function isoOrNull(ms: number | null | undefined): string | null {
  return ms === undefined || ms === null ? null : new Date(ms).toISOString();
}
