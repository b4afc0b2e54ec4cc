/**
 * Asks one gateway over PCP, NAT-PMP and SSDP at the same time and reports each offer as it comes.
 */

import { NatwardError } from '../errors.ts';
import type { MappingProtocol } from '../net/protocol.ts';
import type { System } from '../system/system.ts';
import type { Gateway, Offer, UpnpDevice } from './gateway.ts';
import { GatewayLink } from './link.ts';
import { probeNatpmp, probePcp } from './probe.ts';
import { describeLazily, search } from './search.ts';

export interface DiscoveryOptions {
  readonly gateway: Gateway;
  readonly protocols: ReadonlySet<MappingProtocol>;
  /**
   * Where the gateway described itself last time: asked at once, beside the search, and believed only when
   * it answers again. A function, because it may have to be read from disk, and the probes go first.
   */
  readonly knownLocation: () => string | undefined;
  /** Offered at once, without being asked: the caller asks it for something, and that is the proof. */
  readonly knownDevice: UpnpDevice | undefined;
  readonly onOffer: (offer: Offer) => void;
  /** Ends the asking; links stay open until the discovery is disposed of. */
  readonly signal: AbortSignal;
}

export interface DiscoveryReport {
  /** Packets that were dropped: from elsewhere, unreadable, or no answer to what was asked. */
  readonly dropped: number;
  /** Why a gateway or a protocol made no offer, in the order of arrival. */
  readonly failures: readonly Error[];
}

/** By then PCP or NAT-PMP has answered, and the code that reads descriptions need not be loaded. */
const PROBE_FIRST_MS = 5;

/** A UPnP gateway that is still where it was has answered by now. */
const KNOWN_DEVICE_MS = 500;

export class Discovery implements AsyncDisposable {
  /** Resolves when nobody is left who could answer. Never rejects. */
  readonly done: Promise<DiscoveryReport>;
  /** Resolves when the first probes have been sent, or cannot be. */
  readonly asked: Promise<void>;
  readonly #system: System;
  readonly #options: DiscoveryOptions;
  #link: Promise<GatewayLink> | undefined;
  readonly #failures: Error[] = [];
  #dropped = 0;
  /** Over PCP or NAT-PMP. */
  #answered = false;

  constructor(system: System, options: DiscoveryOptions) {
    this.#system = system;
    this.#options = options;
    let asked: () => void = () => undefined;
    this.asked = new Promise((resolve) => {
      asked = resolve;
    });
    this.done = this.#run(asked);
  }

  async #run(asked: () => void): Promise<DiscoveryReport> {
    // The search goes first: its answer takes longest.
    const searching = this.#options.protocols.has('upnp') ? this.#search() : undefined;
    await Promise.all([this.#probe(asked).finally(asked), searching]);
    const link = await this.#link?.catch(() => undefined);
    return { dropped: this.#dropped + (link?.dropped ?? 0), failures: this.#failures };
  }

  async #probe(asked: () => void): Promise<void> {
    const { gateway, protocols, signal, onOffer } = this.#options;
    const pcp = protocols.has('pcp');
    const natpmp = protocols.has('natpmp') && gateway.family === 4;
    if (!pcp && !natpmp) return;
    try {
      this.#link = GatewayLink.open(this.#system, gateway);
      const link = await this.#link;
      const answered = (offer: Offer) => {
        this.#answered = true;
        onOffer(offer);
      };
      const report = (offer: Promise<Offer>) => offer.then(answered, (error: Error) => this.#fail(error));
      const probes: Promise<void>[] = [];
      if (pcp) probes.push(report(probePcp(gateway, link, signal)));
      if (natpmp) probes.push(report(probeNatpmp(gateway, link, signal)));
      asked();
      await Promise.all(probes);
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  async #search(): Promise<void> {
    const { gateway, signal, onOffer, knownDevice, knownLocation } = this.#options;
    const locations = new Set<string>();
    const found = new AbortController();
    const report = (device: UpnpDevice) => {
      // The same device by two roads: from last time and from its answer to the search.
      if (locations.has(device.location)) return;
      locations.add(device.location);
      onOffer({ protocol: 'upnp', gateway, device });
      if (device.host === gateway.address) found.abort();
    };
    if (knownDevice !== undefined) {
      onOffer({ protocol: 'upnp', gateway, device: knownDevice });
      // While it does what it is asked nobody need be searched for.
      await this.#system.clock.sleep(KNOWN_DEVICE_MS, signal).catch(() => undefined);
      if (signal.aborted) return;
    }
    const untilFound = AbortSignal.any([signal, found.signal]);
    const searching = search(this.#system, gateway, report, untilFound);
    try {
      await this.asked;
      await this.#system.clock.sleep(PROBE_FIRST_MS, untilFound).catch(() => undefined);
      const known = this.#answered ? undefined : knownLocation();
      // A description that has moved is no failure: the search finds it.
      const again =
        known &&
        describeLazily(this.#system, gateway, known, gateway.address, untilFound).then(
          report,
          () => undefined,
        );
      const { dropped, rejected } = await searching;
      await again;
      this.#dropped += dropped;
      this.#failures.push(...rejected);
      if (locations.size === 0 && rejected.length === 0) {
        this.#fail(new NatwardError('TIMEOUT', `no UPnP gateway answered a search on ${gateway.interface}`));
      }
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  #fail(error: Error): void {
    this.#failures.push(error);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const link = await this.#link?.catch(() => undefined);
    await link?.[Symbol.asyncDispose]();
  }
}
