/**
 * Which parts of nftables this kernel takes, and this nft: some kernels are built without the modules that single
 * clauses need. Asked by batches that are checked and never carried out. What every rule needs, or the engine is of no
 * use; what single clauses need, or the rules that have them are not for it.
 */

import { NatwardError } from '../../errors.ts';
import type { Shortcoming } from '../engine.ts';
import type { Rule } from '../rule.ts';
import type { Nft } from './tools.ts';

export type Feature = 'timeouts' | 'counts' | 'rates' | 'quotas' | 'copies' | 'rejects' | 'egress';

interface Part {
  /** In words, behind "this kernel has no". */
  readonly called: string;
  /** That may be missing, as modprobe calls them. */
  readonly modules: string;
  /** Its table is of its own name, so that all of them make one batch. */
  readonly text: string;
}

/** What no rule can do without. */
const BASE: readonly Part[] = [
  {
    called: 'tables of the family inet with maps of marks and counters',
    modules: 'nf_tables nft_ct',
    text: `table inet natward_probe_tables {
 set ids { type mark; elements = { 0x00010000 comment "one" }; }
 set counts { type mark . ct_dir; size 16; flags dynamic; counter; }
 map plain { type nf_proto . inet_proto . inet_service : mark; }
 map chains { type inet_proto . inet_service : verdict; }
 chain classify {
  type filter hook prerouting priority -106; policy accept;
  ct state new ct mark & 0xffff0000 == 0 meta l4proto . th dport vmap @chains
  ct mark set meta nfproto . meta l4proto . th dport map @plain
  update @counts { ct mark & 0xffff0000 . ct direction counter }
 }
}
`,
  },
  {
    called: 'translation of addresses in tables of the family inet',
    modules: 'nft_chain_nat nft_nat nft_masq',
    text: `table inet natward_probe_nat {
 map to { type mark : ipv4_addr . inet_service; }
 map host { type mark : ipv6_addr; }
 map port { type mark : inet_service; }
 chain arrives {
  type nat hook prerouting priority -105; policy accept;
  meta l4proto { tcp, udp } dnat ip to ct mark & 0xffff0000 map @to
  dnat ip6 to ct mark & 0xffff0000 map @host
  meta l4proto { tcp, udp } dnat to : ct mark & 0xffff0000 map @port
 }
 chain leaves {
  type nat hook postrouting priority 95; policy accept;
  snat ip to ct original ip daddr
  masquerade
 }
}
`,
  },
  {
    called: 'lookup of whether an address is its own (fib)',
    modules: 'nft_fib_inet nft_fib_ipv4 nft_fib_ipv6',
    text: `table inet natward_probe_fib {
 chain classify {
  fib daddr type local accept
 }
}
`,
  },
];

const PARTS: Readonly<Record<Feature, Part>> = {
  timeouts: {
    called: 'timeouts of conversations',
    modules: 'nft_ct nfnetlink_cttimeout',
    text: `table inet natward_probe_timeouts {
 ct timeout one {
  protocol tcp; l3proto ip; policy = { established : 60 };
 }
 chain gate {
  meta nfproto ipv4 meta l4proto tcp ct timeout set "one"
 }
}
`,
  },
  counts: {
    called: 'count of conversations',
    modules: 'nft_connlimit',
    text: `table inet natward_probe_counts {
 set clients { type ipv4_addr; size 16; flags dynamic; }
 chain gate {
  ct count over 1 drop
  add @clients { ip saddr ct count over 1 } drop
 }
}
`,
  },
  rates: {
    called: 'limits of rates',
    modules: 'nft_limit',
    text: `table inet natward_probe_rates {
 chain gate {
  limit rate over 1/second burst 1 packets drop
  limit rate over 1000 bytes/second burst 65536 bytes drop
 }
}
`,
  },
  quotas: {
    called: 'quotas',
    modules: 'nft_quota nft_objref',
    text: `table inet natward_probe_quotas {
 quota one {
  over 1 bytes used 0 bytes
 }
 chain gate {
  quota name "one" drop
 }
}
`,
  },
  copies: {
    called: 'copies of packets',
    modules: 'nft_dup_ipv4 nft_dup_ipv6',
    text: `table ip natward_probe_copies {
 chain copy {
  dup to 192.0.2.1
  dup to ip saddr device "lo"
 }
}
table ip6 natward_probe_copies {
 chain copy {
  dup to 2001:db8::1
  dup to ip6 saddr device "lo"
 }
}
`,
  },
  rejects: {
    called: 'refusals that are told to the sender',
    modules: 'nft_reject_inet',
    text: `table inet natward_probe_rejects {
 chain refused {
  meta l4proto tcp reject with tcp reset
  reject
 }
}
`,
  },
  egress: {
    called: 'egress hook (Linux 5.16)',
    modules: 'nf_tables',
    text: `table netdev natward_probe_egress {
 chain leave {
  type filter hook egress device "lo" priority 0; policy accept;
  ether saddr set 02:00:00:00:00:01
 }
}
`,
  },
};

const FEATURES = Object.keys(PARTS) as readonly Feature[];
const RELAY = 'or leave the engine to natward: the relay can.';

/** One question where nothing is missing. Throws UNSUPPORTED where every rule lacks something, and NOT_AUTHORIZED. */
export async function missingFeatures(nft: Pick<Nft, 'accepts'>): Promise<ReadonlySet<Feature>> {
  const features = FEATURES.map((feature) => PARTS[feature]);
  if (await nft.accepts([...BASE, ...features].map(({ text }) => text).join(''))) return new Set();
  for (const part of BASE) {
    if (await nft.accepts(part.text)) continue;
    throw new NatwardError('UNSUPPORTED', `the kernel’s engine cannot run: ${lackOf(part)}`, {
      advice: `${remedy(part)}, or choose auto or relay.`,
    });
  }
  const missing = new Set<Feature>();
  for (const feature of FEATURES) if (!(await nft.accepts(PARTS[feature].text))) missing.add(feature);
  return missing;
}

/** What of the rule needs a part that is missing. */
export function featureShortcoming(rule: Rule, missing: ReadonlySet<Feature>): Shortcoming | undefined {
  if (missing.size === 0) return undefined;
  for (const [feature, field] of needsOf(rule)) {
    if (!missing.has(feature)) continue;
    const part = PARTS[feature];
    // Nobody but the kernel's engine has these.
    const others = field === 'reflect' || field === 'source-mac' ? 'or leave it out.' : RELAY;
    return { field, reason: lackOf(part), advice: `${remedy(part)}, ${others}` };
  }
  return undefined;
}

function lackOf({ called }: Part): string {
  return `this kernel, or its nft, has no ${called}`;
}

function remedy({ modules }: Part): string {
  return `Load what is missing (modprobe -a ${modules}) and start natward again`;
}

type Needed = readonly [feature: Feature, field: string];

/** By which clause it needs what. */
function needsOf({ verdict, access, limits, clone, reflection, direction, via, ...rule }: Rule): Needed[] {
  const needs: Needed[] = [];
  const add = (isThere: boolean, field: string, ...features: Feature[]) => {
    if (isThere) needs.push(...features.map((feature) => [feature, field] as const));
  };
  add(verdict === 'refuse', 'refuse', 'rejects');
  add(access.allow !== undefined, 'allow', 'rejects');
  add(access.deny !== undefined, 'deny', 'rejects');
  add(rule.idleSeconds !== undefined, 'idle', 'timeouts');
  add(limits.newPerSecond !== undefined, 'new', 'rates', 'rejects');
  add(limits.open !== undefined, 'open', 'counts', 'rejects');
  add(limits.openPerClient !== undefined, 'per-client', 'counts', 'rejects');
  add(limits.bytesPerSecond !== undefined, 'rate', 'rates');
  add(limits.quotaBytes !== undefined, 'quota', 'quotas', 'rejects');
  add(clone !== undefined, 'clone', 'copies');
  add(reflection === 'plain' && direction === 'in', 'reflect', 'copies');
  add(via?.sourceMac !== undefined, 'source-mac', 'egress');
  return needs;
}
