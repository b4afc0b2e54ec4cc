/** What natward may touch of a machine's network, as text that is compared. */

import type { Place } from './place.ts';

/** Tables, rules of routing, routes, neighbours, settings: each line of it. */
export async function kernelState(place: Place): Promise<readonly string[]> {
  const text = await place.sh(`
    nft -s list ruleset
    for family in -4 -6; do ip $family rule; ip $family route show table all; done
    ip neigh show nud permanent
    cd /proc/sys/net
    grep -r . ipv4/conf ipv4/ip_forward ipv6/conf netfilter/nf_conntrack_acct netfilter/nf_conntrack_timestamp 2>/dev/null |
      grep -v -e stable_secret -e use_tempaddr -e ioam6 | sort`);
  return text.split('\n');
}

/** The marks of conversations that the kernel has, as `conntrack` tells them. */
export async function connectionMarks(place: Place): Promise<readonly number[]> {
  const text = await place.sh('conntrack -L 2>/dev/null || true');
  return [...text.matchAll(/ mark=(\d+)/g)].map(([, mark]) => Number(mark)).filter((mark) => mark !== 0);
}
