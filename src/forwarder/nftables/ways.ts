/** Ways out of rules with their numbers, and what this machine has to be set to for a table: sysctls and routes. */

import { NatwardError } from '../../errors.ts';
import type { Family } from '../../net/address.ts';
import type { Machine, Needs } from './needs.ts';
import { Numbers } from './numbers.ts';
import { forwardingSysctls, type Path, pathSysctls, type Plumbing, type ReadSysctl } from './plumbing.ts';
import { type ByFamily, type Way, wayKey } from './rewrite.ts';

export type WayNumbers = ReadonlyMap<string, { readonly way: Way; readonly number: number }>;

const MAX_WAYS = 255;
const ACCOUNTING = 'net.netfilter.nf_conntrack_acct';
const LOCALNET = 'net.ipv4.conf.all.route_localnet';

export class Ways {
  readonly #numbers = new Numbers(MAX_WAYS, 1);
  #ways: WayNumbers = new Map();

  get all(): WayNumbers {
    return this.#ways;
  }

  numberOf(way: Way): number | undefined {
    return this.#ways.get(wayKey(way))?.number;
  }

  /** A way keeps its number as long as it is needed. Throws NO_RESOURCES. */
  keep({ ways }: Needs): void {
    for (const [key, { number }] of this.#ways) if (!ways.has(key)) this.#numbers.free(number);
    this.#ways = new Map(
      [...ways].map(([key, way]) => {
        const number = this.#ways.get(key)?.number ?? this.#numbers.fresh();
        if (number === undefined) {
          const message = `rules leave by more than ${MAX_WAYS} ways (via, source-mac, target-mac)`;
          throw new NatwardError('NO_RESOURCES', message);
        }
        return [key, { way, number }] as const;
      }),
    );
  }

  plumbing({ forwards, loopback }: Needs, { adapters }: Machine, read: ReadSysctl): Plumbing {
    // Answers come in by any adapter.
    const outside = [...adapters].filter((one) => one !== 'lo');
    const paths = [...this.#ways.values()].map(({ way, number }): Path => {
      return { number, adapter: way.adapter, targetMac: way.targetMac, families: [4, 6] };
    });
    return {
      sysctls: new Map([
        [ACCOUNTING, '1'],
        ...(loopback ? [[LOCALNET, '1'] as const] : []),
        ...forwardingSysctls([...forwards], outside, outside, read),
        ...paths.flatMap((path) => [...pathSysctls(path, read)]),
      ]),
      paths,
    };
  }
}

/** What natward opened, and has to guard: from what was recorded of the machine. */
export function guardsOf(records: ReadonlyMap<string, string>): {
  readonly guardedForwarding: ByFamily<readonly string[]>;
  readonly guardsLoopback: boolean;
} {
  const guarded: { readonly [F in Family]: string[] } = { 4: [], 6: [] };
  for (const [name, record] of records) {
    const [, of, adapter] = /^net\.ipv([46])\.conf\.(.+)\.(?:force_)?forwarding$/.exec(name) ?? [];
    if (adapter === undefined || !record.startsWith('0>')) continue;
    guarded[of === '4' ? 4 : 6].push(adapter);
  }
  return { guardedForwarding: guarded, guardsLoopback: records.has(LOCALNET) };
}
