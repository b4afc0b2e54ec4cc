/**
 * Host names and addresses, both ways, as the machine's own resolver has them: /etc/hosts first, then DNS. How long an
 * answer may be used is DNS's to say, and getaddrinfo does not hand that on: DNS is asked for it beside.
 */

import { lookup, Resolver } from 'node:dns/promises';
import { type IpAddress, parseAddress } from '../net/address.ts';

export interface HostAddresses {
  /** At least one, in the order in which they are to be tried (RFC 6724). */
  readonly addresses: readonly IpAddress[];
  /** From 1. */
  readonly ttlSeconds: number;
}

export interface Names {
  /** Rejects where the name has no address, or nobody answers. */
  addressesOf(name: string): Promise<HostAddresses>;
  /** Names of the address that lead back to it, in lower case; none where there are none. */
  namesOf(address: IpAddress): Promise<readonly string[]>;
}

/** Of names that DNS does not know, and where it is silent about the time. */
const DEFAULT_TTL_SECONDS = 30;
/** A name that changes more often is asked for no more often. */
const MIN_TTL_SECONDS = 1;
const MAX_TTL_SECONDS = 3600;
const MAX_ADDRESSES = 64;
const MAX_NAMES = 8;
const DNS_TIMEOUT_MS = 2000;
const RESOLVER_MS = 10_000;

export const systemNames: Names = {
  async addressesOf(name) {
    const [found, ttlSeconds] = await Promise.all([lookup(name, { all: true }), ttlOf(name)]);
    const addresses = found.flatMap(({ address }) => parseAddress(address) ?? []).slice(0, MAX_ADDRESSES);
    return { addresses: [...new Set(addresses)], ttlSeconds };
  },

  async namesOf(address) {
    const names = await resolver()
      .reverse(address)
      .catch(() => []);
    const confirmed = names.slice(0, MAX_NAMES).map(async (name) => {
      const found = await lookup(name, { all: true }).catch(() => []);
      return found.some((one) => parseAddress(one.address) === address)
        ? [name.toLowerCase().replace(/\.$/, '')]
        : [];
    });
    return (await Promise.all(confirmed)).flat();
  },
};

async function ttlOf(name: string): Promise<number> {
  const dns = resolver();
  const answers = await Promise.all([
    dns.resolve4(name, { ttl: true }).catch(() => []),
    dns.resolve6(name, { ttl: true }).catch(() => []),
  ]);
  const ttls = answers.flat().map(({ ttl }) => ttl);
  if (ttls.length === 0) return DEFAULT_TTL_SECONDS;
  return Math.min(Math.max(Math.min(...ttls), MIN_TTL_SECONDS), MAX_TTL_SECONDS);
}

let current: { readonly resolver: Resolver; readonly untilMs: number } | undefined;

/** One for many questions, which would have a socket each. It knows the servers that were the system's when it was made. */
function resolver(): Resolver {
  const nowMs = performance.now();
  if (current === undefined || nowMs >= current.untilMs) {
    const fresh = new Resolver({ timeout: DNS_TIMEOUT_MS, tries: 1 });
    current = { resolver: fresh, untilMs: nowMs + RESOLVER_MS };
  }
  return current.resolver;
}
