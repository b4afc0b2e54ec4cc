/**
 * The gateways that somebody needs: a site for each choice of one, opened when it is first needed and closed when it is
 * idle. What one of them notices the others are told.
 */

import type { GatewayPorts } from '../discovery/gateway.ts';
import type { Family, IpAddress } from '../net/address.ts';
import type { WatchChoice } from './gateway-watch.ts';
import type { Intent } from './lease.ts';
import type { LeaseRecord } from './lease-record.ts';
import { Site, type SiteContext } from './site.ts';

export interface SitesContext extends Omit<SiteContext, 'doubt' | 'addressKnown'> {
  /** Of the gateways; the standard ones where nothing is said. */
  readonly ports: GatewayPorts | undefined;
  /** There is one more. It waits to hear what the network is. */
  opened(): void;
}

export class Sites implements AsyncDisposable {
  readonly #context: SitesContext;
  readonly #sites = new Map<string, Site>();
  readonly #siteOf = new WeakMap<LeaseRecord, Site>();
  /** Looked at without a lease, and who is told of their external addresses. */
  readonly #attended = new Map<Site, (address: IpAddress | undefined) => void>();

  constructor(context: SitesContext) {
    this.#context = context;
  }

  get all(): readonly Site[] {
    return [...this.#sites.values()];
  }

  /** Where the lease was added. */
  of(lease: LeaseRecord): Site {
    return this.#siteOf.get(lease) as Site;
  }

  add(lease: LeaseRecord): void {
    const site = this.open(lease.family, lease.intent);
    this.#siteOf.set(lease, site);
    site.add(lease);
  }

  /** Needed without a lease as well. `know` is called with its external address, as in `SiteContext.addressKnown`. */
  attend(of: Family, know: (address: IpAddress | undefined) => void): void {
    this.#attended.set(this.open(of, {}), know);
  }

  /** The site for this choice of a gateway; a new one where there is none. */
  open(of: Family, { via, gateway, interface: name }: Pick<Intent, 'via' | 'gateway' | 'interface'>): Site {
    const key = JSON.stringify([of, via, gateway, name]);
    const known = this.#sites.get(key);
    if (known !== undefined) return known;
    const { ports } = this.#context;
    const choice: WatchChoice = {
      family: of,
      via,
      ...(gateway !== undefined && { gateway }),
      ...(name !== undefined && { interface: name }),
      ...(ports !== undefined && { ports }),
    };
    const site = new Site(
      {
        ...this.#context,
        doubt: (one) => {
          for (const other of this.#sites.values()) if (other !== one) other.watch.wake();
        },
        addressKnown: (one, address) => this.#attended.get(one)?.(address),
      },
      choice,
    );
    this.#sites.set(key, site);
    this.#context.opened();
    return site;
  }

  /** Closes it where nobody has a lease there, or attends it. */
  async closeIdle(site: Site): Promise<void> {
    if (site.leases.size > 0 || this.#attended.has(site)) return;
    for (const [key, one] of this.#sites) if (one === site) this.#sites.delete(key);
    await site[Symbol.asyncDispose]();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.all.map((site) => site[Symbol.asyncDispose]()));
  }
}
