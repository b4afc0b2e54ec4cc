/** Traffic that leaves by another adapter than the routing table says, with other Ethernet addresses. */

import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { until } from '../support/keeping.ts';
import { describeKernel, FAR, MACS } from './support/topology.ts';

const SOURCE_MAC = '02:00:00:00:00:77';
const FAMILIES = [
  { family: 'IPv4', of: 4, router: '10.61.0.1', by: '10.63.0.1', main: '10.62.0.1', far: FAR[4] },
  { family: 'IPv6', of: 6, router: 'fd61::1', by: 'fd63::1', main: 'fd62::1', far: FAR[6] },
] as const;
const PROTOCOLS = ['tcp', 'udp'] as const;
const EACH = FAMILIES.flatMap((one) => PROTOCOLS.map((protocol) => ({ ...one, protocol })));
const PORTS = [80, 81, 82, 83, 84, 85] as const;

/** As it stands in a rule. */
function host(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

const RULES = [
  'out tcp+udp 80 -> via t0',
  `out tcp+udp 81 -> via t0 target-mac ${MACS.uplink} source-mac ${SOURCE_MAC}`,
  `in tcp+udp ${FAR[4]},[${FAR[6]}]:82 -> via t0`,
  `in tcp+udp ${FAR[4]},[${FAR[6]}]:83 -> via s0`,
  ...FAMILIES.map(({ router, far }) => `in tcp+udp ${host(router)}:84 -> ${host(far)}:84 via t0`),
  `in tcp+udp ${FAR[4]},[${FAR[6]}]:85 -> via t0 target-mac ${MACS.uplink} source-mac ${SOURCE_MAC}`,
];

describeKernel('kernel rules: via', (scene) => {
  beforeAll(async () => {
    await scene().startAgent();
    await scene().rules(...RULES);
  });

  describe.each(EACH)('$protocol over $family', ({ of, protocol, router, by, main, far }) => {
    test('what this host sends, what passes through and what is led elsewhere go that way and come back', async () => {
      await using _ = await scene().server.serve({ port: 80, ports: PORTS, protocol, address: far });
      await using __ = await scene().uplink.serve({ port: 80, ports: PORTS, protocol, address: far });
      const { client, router: own } = scene();
      expect(await own.ask(far, 80, { protocol })).toMatchObject({ name: 'uplink', from: by });
      expect(await own.ask(far, 82, { protocol })).toMatchObject({ name: 'server', from: main });
      expect(await client.ask(far, 82, { protocol })).toMatchObject({ name: 'uplink', from: by });
      expect(await client.ask(far, 83, { protocol })).toMatchObject({ name: 'server', from: main });
      expect(await client.ask(router, 84, { protocol })).toMatchObject({ name: 'uplink', from: by });
      if (of !== 4) return;
      // The strict filter would have dropped those answers.
      expect((await own.sh('cat /proc/sys/net/ipv4/conf/t0/rp_filter')).trim()).toBe('2');
    });

    test.each([
      { who: 'router', port: 81 },
      { who: 'client', port: 85 },
    ] as const)(
      'frames go from and to the Ethernet addresses that the rule says: $who',
      async ({ who, port }) => {
        await using _ = await scene().uplink.serve({ port, protocol, address: far });
        await using sniffer = await scene().uplink.sniff('eth0', `${protocol} dst port ${port}`);
        await using conversation = await scene()[who].open(far, port, { protocol });
        expect(conversation.first).toMatchObject({ name: 'uplink', from: by });
        expect(await conversation.say('again')).toMatchObject({ name: 'uplink', text: 'again' });
        await until('both are seen', async () => sniffer.packets.length >= 2);
        for (const line of sniffer.packets) expect(line).toContain(` ${SOURCE_MAC} > ${MACS.uplink}, `);
      },
    );
  });

  describe('an adapter that is down', () => {
    const up = [
      'ip link set t0 up',
      'ip addr replace fd63::1/64 dev t0 nodad',
      'ip route replace default via 10.63.0.2 dev t0 metric 20',
      'ip route replace default via fd63::2 dev t0 metric 20',
    ].join('\n');
    afterEach(async () => {
      await scene().router.sh(up);
    });

    test('nothing of it leaves by another, and all is as before when it is up again', async () => {
      const { client, router: own, server, uplink } = scene();
      await using _ = await uplink.serve({ port: 80, ports: [80, 82] });
      await using __ = await server.serve({ port: 80, ports: [80, 82, 86] });
      await using leaks = await own.sniff('s0', 'port 80 or port 82 or port 86');
      await own.sh('ip link set t0 down');
      const isKept = async (): Promise<void> => {
        for (const { far } of FAMILIES) {
          expect(await own.ask(far, 80, { timeoutMs: 300 })).not.toHaveProperty('name');
          expect(await client.ask(far, 82, { timeoutMs: 300 })).not.toHaveProperty('name');
        }
      };
      // At once, and when the agent has seen it.
      await isKept();
      await scene().apply(...RULES, 'in tcp 9999 -> :9998');
      expect((await scene().list())[0]?.waiting).toContain('t0 is down');
      await isKept();
      // What is not of the rule still leaves there, which tells that the sniffer sees.
      expect(await own.ask(FAR[4], 86)).toMatchObject({ name: 'server' });
      await leaks.seen(/\.86: /);
      expect(leaks.packets.filter((line) => !/\.86[: ]/.test(line))).toEqual([]);
      await own.sh(up);
      for (const { far, by } of FAMILIES) {
        const asked = async () => {
          const answer = await own.ask(far, 80, { timeoutMs: 300 });
          return typeof answer === 'object' && answer.name === 'uplink' && answer.from === by;
        };
        await until('it leaves by the uplink again', asked, 10_000);
        expect(await client.ask(far, 82)).toMatchObject({ name: 'uplink' });
      }
    });
  });
});
