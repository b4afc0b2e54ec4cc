/**
 * Ways out in a kernel, with real packets: a client, a router with two uplinks, and a server that both lead to. All that
 * is done to the router is done as an ordinary user who has CAP_NET_ADMIN.
 */

import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { checkIp, Plumber, removePlumbing } from '../../../src/forwarder/nftables/plumber.ts';
import {
  forwardingSysctls,
  type Path,
  type Plumbing,
  pathSysctls,
} from '../../../src/forwarder/nftables/plumbing.ts';
import type { Family } from '../../../src/net/address.ts';
import { type RunProgram, runProgram } from '../../../src/system/program.ts';
import { type Sysctls, sysctlPath } from '../../../src/system/sysctl.ts';
import { Janitor } from '../support/janitor.ts';
import { until } from '../support/keeping.ts';
import { labUnavailable } from '../support/lab.ts';
import { Processes } from '../support/processes.ts';

const unavailable = labUnavailable();
const PLACES = ['client', 'router', 'first', 'second'] as const;
/** Of the router. */
const ADAPTERS = ['c0', 's0', 't0'];
type Place = (typeof PLACES)[number];

const TARGETS: Readonly<Record<Family, string>> = { 4: '203.0.113.9', 6: '2001:db8::9' };
const USER = ['--reuid=65534', '--regid=65534', '--clear-groups'];
const AS_AGENT = ['setpriv', ...USER, '--inh-caps=+net_admin', '--ambient-caps=+net_admin'];

/** Answers each datagram with the server's name. */
const SERVE = `
  const dgram = require('node:dgram');
  let left = 2;
  for (const [type, address] of [['udp4', '${TARGETS[4]}'], ['udp6', '${TARGETS[6]}']]) {
    const socket = dgram.createSocket(type);
    socket.on('message', (bytes, peer) => socket.send(process.argv[1], peer.port, peer.address));
    socket.bind(7000, address, () => --left === 0 && console.log('listening'));
  }`;
const ASK = `
  const [address] = process.argv.slice(1);
  const socket = require('node:dgram').createSocket(address.includes(':') ? 'udp6' : 'udp4');
  const end = (text) => process.stdout.write(text, () => process.exit(0));
  socket.on('message', (bytes) => end(String(bytes)));
  socket.on('error', (error) => end(error.code));
  setTimeout(() => end('silence'), 500);
  socket.connect(7000, address, () => socket.send('?', (error) => error && end(error.code)));`;

// Everything to port 7000 goes the way number 1, and its answers are not marked: they are routed as ever.
const TABLE = `table inet scene {
  chain pre {
    type filter hook prerouting priority -106
    iifname c0 udp dport 7000 meta mark set 0x00010000
  }
  chain out {
    type route hook output priority -150
    udp dport 7000 meta mark set 0x00010000
  }
  chain post {
    type nat hook postrouting priority 95
    oifname { s0, t0 } masquerade
  }
}`;

describe.skipIf(unavailable)(`lab: ways out in the kernel${unavailable ? ` (${unavailable})` : ''}`, () => {
  const prefix = `nwk${randomBytes(3).toString('hex')}`;
  const mark = `NATWARD_LAB=${prefix}`;
  const processes = new Processes({ NATWARD_LAB: prefix });
  const janitor = new Janitor(
    mkdtempSync(join(tmpdir(), 'natward-kernel-')),
    mark,
    PLACES.map((place) => `${prefix}-${place}`),
  );
  const inside = (place: Place, command: readonly string[]): string[] => [
    'ip',
    'netns',
    'exec',
    `${prefix}-${place}`,
    ...command,
  ];
  const sh = (place: Place, text: string): Promise<string> =>
    processes.must(inside(place, ['sh', '-eu']), { input: text });

  const runAsAgent: RunProgram = (request) => {
    if ('shell' in request.command) throw new Error('no shell is needed');
    const [program, ...args] = inside('router', [...AS_AGENT, ...request.command]);
    return runProgram({ ...request, command: [program as string, ...args] });
  };
  const sysctls: Sysctls = {
    read(name) {
      const [program, ...args] = inside('router', [...AS_AGENT, 'cat', `/proc/sys/${sysctlPath(name)}`]);
      const { status, stdout } = spawnSync(program as string, args, { encoding: 'utf8' });
      return status === 0 ? stdout.trim() : undefined;
    },
    write(name, value) {
      const script = ['sh', '-c', 'printf %s "$1" 1<>"$0"', `/proc/sys/${sysctlPath(name)}`, value];
      const [program, ...args] = inside('router', [...AS_AGENT, ...script]);
      const { status, stderr } = spawnSync(program as string, args, { encoding: 'utf8' });
      if (status !== 0) throw new Error(`${name}: ${stderr}`);
    },
  };
  const newPlumber = (): Plumber => new Plumber({ runProgram: runAsAgent, sysctls });

  /** All that natward may touch there. */
  const dump = (): Promise<string> =>
    sh(
      'router',
      `for family in -4 -6; do ip $family rule; ip $family route show table all; done
       ip neigh show nud permanent
       cd /proc/sys; grep -r . net/ipv4/conf net/ipv4/ip_forward net/ipv6/conf net/netfilter/nf_conntrack_acct 2>/dev/null \\
         | grep -v -e stable_secret -e temp | sort`,
    );
  const ask = (place: Place, family: Family): Promise<string> =>
    processes.must(inside(place, [process.execPath, '-e', ASK, TARGETS[family]]));
  const asks = async (): Promise<string[]> => {
    const answers: string[] = [];
    for (const place of ['client', 'router'] as const) {
      for (const family of [4, 6] as const) answers.push(await ask(place, family));
    }
    return answers;
  };
  const macOf = async (place: Place, adapter: string): Promise<string> =>
    (await sh(place, `cat /sys/class/net/${adapter}/address`)).trim();

  const plumbingOf = (plumber: Plumber, path: Path): Plumbing => ({
    sysctls: new Map([
      ...forwardingSysctls([4, 6], ADAPTERS, ADAPTERS, plumber.read),
      ...pathSysctls(path, plumber.read),
      ['net.netfilter.nf_conntrack_acct', '1'],
    ]),
    paths: [path],
  });
  const straight: Path = { number: 1, adapter: 't0', targetMac: undefined, families: [4, 6] };

  beforeAll(async () => {
    for (const place of PLACES) await processes.must(['ip', 'netns', 'add', `${prefix}-${place}`]);
    const off = 'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad';
    for (const place of PLACES) await sh(place, `${off}; ip link set lo up`);
    // As some distributions have it: answers by the second uplink would be dropped.
    await sh(
      'router',
      'echo 1 >/proc/sys/net/ipv4/conf/default/rp_filter; echo 0 >/proc/sys/net/ipv4/ip_forward',
    );
    const nets = [
      ['client', 'c0', 1],
      ['first', 's0', 2],
      ['second', 't0', 3],
    ] as const;
    for (const [place, link, net] of nets) {
      const peer = `type veth peer name eth0 netns ${prefix}-${place}`;
      await sh('router', `ip link add ${link} ${peer}; ip link set ${link} up`);
      await sh('router', `ip addr add 10.0.${net}.1/24 dev ${link}; ip addr add fd0${net}::1/64 dev ${link}`);
      await sh(
        place,
        `ip link set eth0 up; ip addr add 10.0.${net}.2/24 dev eth0; ip addr add fd0${net}::2/64 dev eth0
         ip route add default via 10.0.${net}.1; ip route add default via fd0${net}::1`,
      );
    }
    for (const [place, metric, net, link] of [
      ['first', 10, 2, 's0'] as const,
      ['second', 20, 3, 't0'] as const,
    ]) {
      await sh(place, `ip addr add ${TARGETS[4]}/32 dev lo; ip addr add ${TARGETS[6]}/128 dev lo`);
      await sh(
        'router',
        `ip route add default via 10.0.${net}.2 dev ${link} metric ${metric}
         ip route add default via fd0${net}::2 dev ${link} metric ${metric}`,
      );
      const server = processes.start(inside(place, [process.execPath, '-e', SERVE, place]));
      await until('the server listens', () => Promise.resolve(server.stdout.includes('listening')));
    }
    await processes.must(inside('router', ['nft', '-f', '-']), { input: TABLE });
  });
  afterAll(async () => {
    await processes.stopAll();
    await janitor.clean();
  });

  test('the lab’s `ip` is recent enough', async () => {
    await checkIp(runAsAgent);
  });

  test('marked packets leave by the adapter’s own gateway, answers come back, and nothing stays behind', async () => {
    const before = await dump();
    const plumber = newPlumber();
    const plumbing = plumbingOf(plumber, straight);
    const planned = plumber.planned(plumbing);
    expect(await dump()).toBe(before);
    expect(await plumber.apply(plumbing)).toEqual({ waiting: new Map() });
    expect(plumber.originals()).toEqual(planned);
    expect(await asks()).toEqual(['second', 'second', 'second', 'second']);
    // What is read is as if natward were not there, so that the same comes of it again, and nothing changes.
    const during = await dump();
    await plumber.apply(plumbingOf(plumber, straight));
    expect(await dump()).toBe(during);
    await plumber.remove();
    expect(await dump()).toBe(before);
    expect(plumber.originals()).toEqual(new Map());
  });

  test('with a MAC address the frames go to it, and to another one when it changes', async () => {
    const before = await dump();
    const plumber = newPlumber();
    const mac = await macOf('second', 'eth0');
    await plumber.apply(plumbingOf(plumber, { ...straight, targetMac: mac }));
    const sniffer = processes.start(
      inside('second', ['tcpdump', '-lnei', 'eth0', '-c', '2', 'udp', 'dst', 'port', '7000']),
    );
    await expect.poll(() => sniffer.output, { timeout: 5000 }).toContain('listening on');
    expect(await asks()).toEqual(['second', 'second', 'second', 'second']);
    await sniffer.exited;
    expect(sniffer.stdout.match(new RegExp(`> ${mac}, ethertype IPv[46]`, 'g'))).toHaveLength(2);
    await plumber.apply(plumbingOf(plumber, { ...straight, targetMac: '02:00:00:00:00:99' }));
    expect(await ask('client', 4)).toBe('silence');
    await plumber.apply(plumbingOf(plumber, straight));
    expect(await asks()).toEqual(['second', 'second', 'second', 'second']);
    await plumber.remove();
    expect(await dump()).toBe(before);
  });

  test('while the adapter is down its packets are refused, and leave by no other', async () => {
    const before = await dump();
    const plumber = newPlumber();
    const mac = await macOf('second', 'eth0');
    const path: Path = { ...straight, targetMac: mac };
    await plumber.apply(plumbingOf(plumber, path));
    await sh('router', 'ip link set t0 down');
    expect(await asks()).toEqual(['silence', 'silence', 'EHOSTUNREACH', 'EHOSTUNREACH']);
    expect(await plumber.apply(plumbingOf(plumber, path))).toEqual({ waiting: new Map([[1, 't0 is down']]) });
    await sh('router', 'ip link set t0 up; ip addr replace fd03::1/64 dev t0');
    await sh('router', 'ip route replace default via 10.0.3.2 dev t0 metric 20');
    await sh('router', 'ip route replace default via fd03::2 dev t0 metric 20');
    expect(await plumber.apply(plumbingOf(plumber, path))).toEqual({ waiting: new Map() });
    expect(await asks()).toEqual(['second', 'second', 'second', 'second']);
    const absent: Path = { ...straight, number: 2, adapter: 'tun9' };
    const two = { ...plumbingOf(plumber, path), paths: [path, absent] };
    expect(await plumber.apply(two)).toEqual({ waiting: new Map([[2, 'there is no adapter tun9']]) });
    await plumber.remove();
    expect((await dump()).split('\n').toSorted()).toEqual(before.split('\n').toSorted());
  });

  test('what a crash left behind is found: by the next agent, and by somebody who only has the machine', async () => {
    const before = await dump();
    const crashed = newPlumber();
    await sh(
      'router',
      'ip rule add pref 16001 fwmark 0x7 lookup 110001; ip route add 192.0.2.0/24 dev s0 table 110001',
    );
    const others = await dump();
    await crashed.apply(plumbingOf(crashed, { ...straight, targetMac: '02:00:00:00:00:99' }));
    const next = newPlumber();
    next.adopt(crashed.originals());
    await next.apply(plumbingOf(next, { ...straight, number: 3 }));
    expect(await sh('router', 'ip rule; ip -6 rule; ip neigh')).not.toMatch(/0x10000|240\.110|fe80::6e61/);
    await removePlumbing(runAsAgent, next.originals(), sysctls);
    expect(await dump()).toBe(others);
    await sh('router', 'ip rule del pref 16001; ip route flush table 110001');
    expect(await dump()).toBe(before);
  });

  test('what somebody else has changed meanwhile is left to them', async () => {
    const plumber = newPlumber();
    await plumber.apply(plumbingOf(plumber, straight));
    await sh('router', 'echo 0 >/proc/sys/net/ipv4/conf/t0/rp_filter; echo 1 >/proc/sys/net/ipv4/ip_forward');
    await plumber.remove();
    expect(sysctls.read('net.ipv4.conf.t0.rp_filter')).toBe('0');
    expect(sysctls.read('net.ipv4.conf.c0.forwarding')).toBe('1');
    expect(sysctls.read('net.netfilter.nf_conntrack_acct')).toBe('0');
  });
});
