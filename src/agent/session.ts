/**
 * One gateway while a command runs: it is being discovered, and whatever it offers takes part in the race.
 * Opens what the command needs, closes it all at the end, and remembers where the gateway was found.
 */

import { Discovery, type DiscoveryReport } from '../discovery/discover.ts';
import type { Gateway, Offer, UpnpDevice } from '../discovery/gateway.ts';
import { isNatwardError, NatwardError } from '../errors.ts';
import { MAPPING_PROTOCOL_NAME, type MappingProtocol } from '../net/protocol.ts';
import { createMapper, preloadUpnp, Race } from '../mapping/race.ts';
import type { PortMapper } from '../mapping/mapping.ts';
import type { System } from '../system/system.ts';
import type { KnownGateway, Store } from './store.ts';

export interface SessionOptions {
  readonly protocols: ReadonlySet<MappingProtocol>;
  readonly signal: AbortSignal;
  readonly onOffer?: (offer: Offer) => void;
  /** UPnP's side of the gateway, where this process has mapped by it before: asked without being searched for. */
  readonly knownDevice: UpnpDevice | undefined;
}

/** The gateways that this process has mapped on by UPnP, last. */
export class KnownDevices {
  readonly #devices = new Map<string, UpnpDevice>();

  of(gateway: Gateway): UpnpDevice | undefined {
    return this.#devices.get(keyOf(gateway));
  }

  /** `via` is what answered a mapping first; undefined where nothing did. */
  keep({ gateway, offers }: Session, via: MappingProtocol | undefined): void {
    const offer = via === 'upnp' ? offers.findLast(({ protocol }) => protocol === 'upnp') : undefined;
    if (offer?.protocol === 'upnp') this.#devices.set(keyOf(gateway), offer.device);
    else this.#devices.delete(keyOf(gateway));
  }
}

function keyOf({ address, interface: name, localAddress, ports }: Gateway): string {
  return `${address} ${name} ${localAddress} ${ports.ssdp}`;
}

/** PCP and NAT-PMP answer sooner; an answer to a search takes longer. */
const PRELOAD_AFTER_MS = 15;

export class Session implements AsyncDisposable {
  readonly gateway: Gateway;
  readonly race: Race;
  readonly offers: Offer[] = [];
  /** Resolves when the first probes have been sent. */
  readonly asked: Promise<void>;
  /** Resolves when everything that can answer has answered. Never rejects. */
  readonly discovered: Promise<DiscoveryReport>;
  readonly #discovery: Discovery;
  readonly #protocols: ReadonlySet<MappingProtocol>;
  readonly #stop = new AbortController();
  readonly #waiting = new Set<() => void>();

  constructor(system: System, store: Store, gateway: Gateway, options: SessionOptions) {
    const answered = new AbortController();
    const joining: Promise<void>[] = [];
    this.gateway = gateway;
    this.#protocols = options.protocols;
    this.race = new Race(system);
    this.#discovery = new Discovery(system, {
      gateway,
      protocols: options.protocols,
      knownDevice: options.knownDevice,
      knownLocation: () => knownGateways(store).find((known) => isSame(known, gateway))?.location,
      signal: AbortSignal.any([options.signal, this.#stop.signal]),
      onOffer: (offer) => {
        answered.abort();
        this.offers.push(offer);
        options.onOffer?.(offer);
        joining.push(this.#join(createMapper(offer, system)));
      },
    });
    if (options.protocols.has('upnp')) {
      void system.clock.sleep(PRELOAD_AFTER_MS, answered.signal).then(preloadUpnp, () => undefined);
    }
    this.asked = this.#discovery.asked;
    this.discovered = this.#discovery.done.then(async (report) => {
      await Promise.all(joining);
      this.race.close();
      for (const wake of this.#waiting) wake();
      return report;
    });
  }

  async #join(mapper: Promise<PortMapper>): Promise<void> {
    this.race.add(await mapper);
    for (const wake of this.#waiting) wake();
  }

  /** The first mapper that `wanted` accepts, as soon as it has answered; undefined when none will. */
  async mapper(wanted: (mapper: PortMapper) => boolean): Promise<PortMapper | undefined> {
    let over = false;
    void this.discovered.then(() => {
      over = true;
    });
    for (;;) {
      const found = this.race.mappers.find(wanted);
      if (found !== undefined || over) return found;
      await new Promise<void>((resolve) => {
        const wake = () => {
          this.#waiting.delete(wake);
          resolve();
        };
        this.#waiting.add(wake);
        void this.discovered.then(wake);
      });
    }
  }

  /** Asks nobody any more who has not answered yet. */
  stopAsking(): void {
    this.#stop.abort();
  }

  /** What to say when the gateway has offered nothing: never mere silence where something was refused. */
  async noOffer(): Promise<NatwardError> {
    const { failures } = await this.discovered;
    const { address, interface: name } = this.gateway;
    const spoken = [...this.#protocols]
      .filter((protocol) => protocol !== 'upnp')
      .map((protocol) => MAPPING_PROTOCOL_NAME[protocol]);
    const refused = failures.some((failure) => isNatwardError(failure, 'UNREACHABLE'));
    const said: string[] = [];
    if (spoken.length > 0) {
      const verb = refused ? 'refuses' : 'does not answer';
      said.push(`${address} ${verb} ${spoken.join(' and ')}${refused ? ' (ICMP port unreachable)' : ''}`);
    }
    if (this.#protocols.has('upnp')) {
      const hostile = failures.find((failure) => isNatwardError(failure, 'HOSTILE'));
      said.push(hostile?.message ?? `no UPnP gateway answers a search on ${name}`);
    }
    return new NatwardError('NO_GATEWAY', said.join(', and '), {
      advice: 'Switch UPnP or NAT-PMP on in the gateway’s settings, or name another gateway: --gateway ADDR.',
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.race.settled();
    this.#stop.abort();
    await this.discovered;
    await this.#discovery[Symbol.asyncDispose]();
  }
}

/** Keeps where the gateway described itself, for the next time. Nothing is lost where it cannot be kept. */
export async function rememberGateways(store: Store, sessions: readonly Session[]): Promise<void> {
  const found = sessions.flatMap(({ gateway, offers }) =>
    offers.flatMap((offer) =>
      offer.protocol === 'upnp'
        ? [{ address: gateway.address, interface: gateway.interface, location: offer.device.location }]
        : [],
    ),
  );
  const known = knownGateways(store);
  const fresh = found.filter(
    (one) => !known.some((old) => isSame(old, one) && old.location === one.location),
  );
  if (fresh.length === 0) return;
  await store
    .update((state) => ({
      ...state,
      gateways: [...fresh, ...state.gateways.filter((old) => !fresh.some((one) => isSame(old, one)))].slice(
        0,
        32,
      ),
    }))
    .catch(() => undefined);
}

/** None where the memory cannot be read: looking for a gateway needs none. */
function knownGateways(store: Store): readonly KnownGateway[] {
  try {
    return store.read().gateways;
  } catch {
    return [];
  }
}

function isSame(
  a: { address: string; interface: string },
  b: { address: string; interface: string },
): boolean {
  return a.address === b.address && a.interface === b.interface;
}
