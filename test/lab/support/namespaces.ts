/**
 * The lab's wires: network namespaces joined by veth pairs, under a prefix of the run's own.
 *
 *     wan eth0 --- ext0 gw int0 --- eth0 lan
 *                          \------- eth0 rival   (then int0 is a bridge)
 *     wan eth1 --- ext0 gw2 int0 -- eth1 lan    (a second way out, which is no default route at first)
 *     lan inner0 --- eth0 inner1                (a bridge, as a host has one for its containers)
 *            \------ eth0 inner2
 *
 * The links are created inside the namespaces, so that the machine's own namespace never sees them, and
 * they go when the namespaces go (janitor.ts).
 */

import type { Processes } from './processes.ts';

/** A machine of the lab. */
export type Place = 'wan' | 'gw' | 'gw2' | 'lan' | 'rival' | 'inner1' | 'inner2';

export interface NetworkOptions {
  /** A second host beside `lan`. */
  readonly rival?: boolean;
  /** IPv6 on both sides. Without it the machines have no IPv6 at all outside their loopback. */
  readonly ipv6?: boolean;
  /** A second gateway, on a link of its own: `lan` has a cable to each. IPv4 alone. */
  readonly secondGateway?: boolean;
  /** Two hosts behind `lan`, which forwards and masquerades for them: no link of theirs leads to the gateway. */
  readonly inner?: boolean;
}

export const ADDRESSES = {
  /** The peer on the outside. */
  wan: '203.0.113.2',
  /** The gateway's outer address: where a mapped port is reached. */
  outer: '203.0.113.1',
  /** What the gateway says its external address is: miniupnpd insists on a public one. */
  external: '11.22.33.44',
  gateway: '192.168.77.1',
  lan: '192.168.77.10',
  rival: '192.168.77.11',
  /** The second gateway's, and `lan`'s towards it. */
  outer2: '198.51.100.1',
  gateway2: '192.168.78.1',
  lan2: '192.168.78.10',
  /** `lan`'s towards the hosts behind it, and theirs. */
  inner0: '10.77.0.1',
  inner1: '10.77.0.11',
  inner2: '10.77.0.12',
  wan6: '2001:db8:2::2',
  gateway6: '2001:db8:1::1',
  lan6: '2001:db8:1::10',
  rival6: '2001:db8:1::11',
  inner06: '2001:db8:77::1',
  inner16: '2001:db8:77::11',
  inner26: '2001:db8:77::12',
} as const;

const LAN_HOSTS = {
  lan: [ADDRESSES.lan, ADDRESSES.lan6],
  rival: [ADDRESSES.rival, ADDRESSES.rival6],
} as const;
const INNER_HOSTS = {
  inner1: [ADDRESSES.inner1, ADDRESSES.inner16],
  inner2: [ADDRESSES.inner2, ADDRESSES.inner26],
} as const;

export class Network {
  readonly places: readonly Place[];
  readonly #prefix: string;
  readonly #processes: Processes;
  readonly #ipv6: boolean;

  constructor(prefix: string, processes: Processes, options: NetworkOptions) {
    const { rival = false, ipv6 = false, secondGateway = false, inner = false } = options;
    this.#prefix = prefix;
    this.#processes = processes;
    this.#ipv6 = ipv6;
    this.places = [
      ...(['wan', 'gw', 'lan'] as const),
      ...(rival ? (['rival'] as const) : []),
      ...(secondGateway ? (['gw2'] as const) : []),
      ...(inner ? (['inner1', 'inner2'] as const) : []),
    ];
  }

  get namespaces(): string[] {
    return this.places.map((place) => this.namespace(place));
  }

  namespace(place: Place): string {
    return `${this.#prefix}-${place}`;
  }

  /** The command that runs `command` in a place. `ip` execs it, so the pid that is started is its own. */
  inside(place: Place, command: readonly string[]): string[] {
    return ['ip', 'netns', 'exec', this.namespace(place), ...command];
  }

  async create(): Promise<void> {
    for (const place of this.places) {
      await this.#processes.must(['ip', 'netns', 'add', this.namespace(place)]);
      // Before any link exists, since a link takes these over when it is made. Duplicate address detection
      // would leave every IPv6 address unusable for a second.
      await this.#shell(
        place,
        this.#ipv6
          ? ['echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad']
          : ['test ! -e /proc/sys/net/ipv6 || echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6'],
      );
    }
    await this.#joinLinks();
    await Promise.all(this.places.map((place) => this.#shell(place, this.#addressing(place))));
  }

  async #joinLinks(): Promise<void> {
    const [wan, gw] = [this.namespace('wan'), this.namespace('gw')];
    const pair = (outer: string, place: string, gateway = gw, peer = 'eth0'): string =>
      `link add ${outer} netns ${gateway} type veth peer name ${peer} netns ${place}`;
    const lines = [pair('ext0', wan)];
    if (this.places.includes('rival')) {
      lines.push(pair('port-lan', this.namespace('lan')), pair('port-rival', this.namespace('rival')));
    } else {
      lines.push(pair('int0', this.namespace('lan')));
    }
    if (this.places.includes('gw2')) {
      const gw2 = this.namespace('gw2');
      lines.push(pair('ext0', wan, gw2, 'eth1'), pair('int0', this.namespace('lan'), gw2, 'eth1'));
    }
    if (this.places.includes('inner1')) {
      for (const host of ['inner1', 'inner2'] as const) {
        lines.push(pair(`port-${host}`, this.namespace(host), this.namespace('lan')));
      }
    }
    await this.#processes.must(['ip', '-batch', '-'], { input: lines.join('\n') });
  }

  #addressing(place: Place): string[] {
    const lines = ['ip link set lo up'];
    const link = (name: string, ...addresses: string[]): void => {
      lines.push(`ip link set ${name} up`);
      for (const address of addresses) {
        if (!address.includes(':')) lines.push(`ip addr add ${address}/24 dev ${name}`);
        else if (this.#ipv6) lines.push(`ip addr add ${address}/64 dev ${name} nodad`);
      }
    };
    const bridge = (name: string, ports: readonly string[]): void => {
      lines.push(`ip link add ${name} type bridge`);
      for (const port of ports) lines.push(`ip link set ${port} master ${name}`, `ip link set ${port} up`);
    };
    const second = this.places.includes('gw2');
    const inner = this.places.includes('inner1');
    if (place === 'wan') {
      link('eth0', ADDRESSES.wan, ADDRESSES.wan6);
      if (second) link('eth1', '198.51.100.2');
      if (this.#ipv6) lines.push('ip route add 2001:db8:1::/64 via 2001:db8:2::1');
      if (this.#ipv6 && inner) lines.push('ip route add 2001:db8:77::/64 via 2001:db8:2::1');
    } else if (place === 'gw') {
      if (this.places.includes('rival')) bridge('int0', ['port-lan', 'port-rival']);
      link('ext0', ADDRESSES.outer, '2001:db8:2::1');
      link('int0', ADDRESSES.gateway, ADDRESSES.gateway6);
      lines.push('echo 1 > /proc/sys/net/ipv4/ip_forward');
      if (this.#ipv6) lines.push('echo 1 > /proc/sys/net/ipv6/conf/all/forwarding');
      if (this.#ipv6 && inner) lines.push(`ip route add 2001:db8:77::/64 via ${ADDRESSES.lan6}`);
    } else if (place === 'inner1' || place === 'inner2') {
      link('eth0', ...INNER_HOSTS[place]);
      lines.push(`ip route add default via ${ADDRESSES.inner0}`);
      if (this.#ipv6) lines.push(`ip route add default via ${ADDRESSES.inner06}`);
    } else if (place === 'gw2') {
      link('ext0', ADDRESSES.outer2);
      link('int0', ADDRESSES.gateway2);
      lines.push('echo 1 > /proc/sys/net/ipv4/ip_forward');
    } else {
      link('eth0', ...LAN_HOSTS[place]);
      if (second && place === 'lan') link('eth1', ADDRESSES.lan2);
      lines.push(`ip route add default via ${ADDRESSES.gateway}`);
      if (this.#ipv6) lines.push(`ip route add default via ${ADDRESSES.gateway6}`);
      if (inner && place === 'lan') {
        bridge('inner0', ['port-inner1', 'port-inner2']);
        link('inner0', ADDRESSES.inner0, ADDRESSES.inner06);
        lines.push('echo 1 > /proc/sys/net/ipv4/ip_forward');
        if (this.#ipv6) lines.push('echo 1 > /proc/sys/net/ipv6/conf/all/forwarding');
      }
    }
    return lines;
  }

  async #shell(place: Place, lines: readonly string[]): Promise<void> {
    await this.#processes.must(this.inside(place, ['sh', '-eu']), { input: `${lines.join('\n')}\n` });
  }
}
