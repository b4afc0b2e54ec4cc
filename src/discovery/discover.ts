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

export class Discovery implements AsyncDisposable {
  /** Resolves when nobody is left who could answer. Never rejects. */
  readonly done: Promise<DiscoveryReport>;
  readonly #system: System;
  readonly #options: DiscoveryOptions;
  #link: Promise<GatewayLink> | undefined;
  readonly #failures: Error[] = [];
  #dropped = 0;

  constructor(system: System, options: DiscoveryOptions) {
    this.#system = system;
    this.#options = options;
    this.done = this.#run();
  }

  async #run(): Promise<DiscoveryReport> {
    await Promise.all([this.#probe(), this.#options.protocols.has('upnp') ? this.#search() : undefined]);
    const link = await this.#link?.catch(() => undefined);
    return { dropped: this.#dropped + (link?.dropped ?? 0), failures: this.#failures };
  }

  async #probe(): Promise<void> {
    const { gateway, protocols, signal, onOffer } = this.#options;
    const pcp = protocols.has('pcp');
    const natpmp = protocols.has('natpmp') && gateway.family === 4;
    if (!pcp && !natpmp) return;
    try {
      this.#link = GatewayLink.open(this.#system, gateway);
      const link = await this.#link;
      const report = (offer: Promise<Offer>) => offer.then(onOffer, (error: Error) => this.#fail(error));
      await Promise.all([
        pcp ? report(probePcp(gateway, link, signal)) : undefined,
        natpmp ? report(probeNatpmp(gateway, link, signal)) : undefined,
      ]);
    } catch (error) {
      this.#fail(error as Error);
    }
  }

  async #search(): Promise<void> {
    const { gateway, signal, onOffer, knownLocation } = this.#options;
    const locations = new Set<string>();
    const found = new AbortController();
    const report = (device: UpnpDevice) => {
      // The same device by two roads: from last time and from its answer to the search.
      if (locations.has(device.location)) return;
      locations.add(device.location);
      onOffer({ protocol: 'upnp', gateway, device });
      if (device.host === gateway.address) found.abort();
    };
    const untilFound = AbortSignal.any([signal, found.signal]);
    const searching = search(this.#system, gateway, report, untilFound);
    const known = knownLocation();
    try {
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
