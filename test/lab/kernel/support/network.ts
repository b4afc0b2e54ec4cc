/** The wires of the kernel's lab (topology.ts): who is joined to the router, every address, and the shell that makes them. */

/** Whom the router is joined to, by which of its adapters, and the number in the addresses between them. */
const LINKS = [
  { place: 'client', adapter: 'c0', net: 61 },
  { place: 'server', adapter: 's0', net: 62 },
  { place: 'uplink', adapter: 't0', net: 63 },
  { place: 'monitor', adapter: 'm0', net: 64 },
] as const;
export const PLACES = ['router', 'client', 'server', 'uplink', 'monitor'] as const;
export type PlaceName = (typeof PLACES)[number];

export const ADDRESSES = {
  client: '10.61.0.2',
  client6: 'fd61::2',
  /** The client's second one of each family. */
  guest: '10.61.0.3',
  guest6: 'fd61::3',
  /** The router's, towards the client. */
  router: '10.61.0.1',
  router6: 'fd61::1',
  /** The router's, as the server sees it. */
  behind: '10.62.0.1',
  behind6: 'fd62::1',
  server: '10.62.0.2',
  server6: 'fd62::2',
  /** The server's second one of each family. */
  spare: '10.62.0.3',
  spare6: 'fd62::3',
} as const;

/** Of the server and of the uplink alike. */
export const FAR = { 4: '203.0.113.9', 6: '2001:db8::9' } as const;

/** The Ethernet addresses of the places, and of the router's adapters. */
export const MACS = {
  client: '02:00:00:00:61:02',
  server: '02:00:00:00:62:02',
  uplink: '02:00:00:00:63:02',
  monitor: '02:00:00:00:64:02',
  c0: '02:00:00:00:61:01',
  s0: '02:00:00:00:62:01',
  t0: '02:00:00:00:63:01',
  m0: '02:00:00:00:64:01',
} as const;

/** Makes the links, in the router; `namespaceOf` tells where the other ends belong. */
export function linkLines(namespaceOf: (place: PlaceName) => string): string[] {
  return LINKS.map(
    ({ place, adapter }) =>
      `ip link add ${adapter} address ${MACS[adapter]} type veth ` +
      `peer name eth0 address ${MACS[place]} netns ${namespaceOf(place)}`,
  );
}

// Before any link exists, since a link takes these over when it is made. Duplicate address detection would leave every
// IPv6 address unusable for a second. Filtering by reverse path is what distributions have.
export const BEFORE_LINKS: readonly string[] = [
  'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad',
  'echo 1 >/proc/sys/net/ipv4/conf/default/rp_filter',
  'echo 0 >/proc/sys/net/ipv4/ip_forward',
  'ip link set lo up',
];

/** Addresses and routes, when there are links. */
export function addressing(place: PlaceName): string[] {
  const lines: string[] = [];
  for (const { place: other, adapter, net } of LINKS) {
    if (place === 'router') {
      lines.push(
        `ip link set ${adapter} up`,
        `ip addr add 10.${net}.0.1/24 dev ${adapter}`,
        `ip addr add fd${net}::1/64 dev ${adapter} nodad`,
      );
    } else if (place === other) {
      lines.push('ip link set eth0 up');
      // The last IPv6 address and the first IPv4 address is the one that is sent from.
      for (const [host, host6] of [[2, 3] as const, [3, 2] as const]) {
        lines.push(
          `ip addr add 10.${net}.0.${host}/24 dev eth0`,
          `ip addr add fd${net}::${host6}/64 dev eth0 nodad`,
        );
      }
      lines.push(`ip route add default via 10.${net}.0.1`, `ip route add default via fd${net}::1`);
    }
  }
  if (place === 'server' || place === 'uplink') {
    lines.push(`ip addr add ${FAR[4]}/32 dev lo`, `ip addr add ${FAR[6]}/128 dev lo nodad`);
  }
  if (place === 'router') {
    for (const [adapter, net, metric] of [['s0', 62, 10] as const, ['t0', 63, 20] as const]) {
      lines.push(
        `ip route add default via 10.${net}.0.2 dev ${adapter} metric ${metric}`,
        `ip route add default via fd${net}::2 dev ${adapter} metric ${metric}`,
      );
    }
  }
  return lines;
}
