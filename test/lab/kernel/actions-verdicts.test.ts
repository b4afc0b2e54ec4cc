/** What passes and is counted, and what is refused or dropped, with what is told of it. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { until } from '../support/keeping.ts';
import { AskedAgent } from './support/asked-agent.ts';
import type { Outcome } from './support/station.ts';
import { describeKernel } from './support/topology.ts';

const FAMILIES = [
  {
    family: 'IPv4',
    router: '10.61.0.1',
    clients: ['10.61.0.2', '10.61.0.3'],
    server: '10.62.0.2',
    header: 28,
  },
  { family: 'IPv6', router: 'fd61::1', clients: ['fd61::2', 'fd61::3'], server: 'fd62::2', header: 48 },
] as const;
const PROTOCOLS = ['tcp', 'udp'] as const;
const SHORT_MS = 300;

/** Of its text as the station sends it. */
function bytesOf(outcome: Outcome): number {
  return Buffer.byteLength(`${JSON.stringify(outcome)}\n`);
}

describeKernel('kernel rules: monitor, refuse, drop', (scene) => {
  let agent: AskedAgent;
  beforeAll(async () => {
    agent = await AskedAgent.start(scene());
  });

  describe('monitor', () => {
    beforeAll(async () => {
      // The rule counts; that packets pass through here is not its doing.
      await scene().router.sh(
        'echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding',
      );
      await agent.rules(
        { id: 'own', rule: 'in udp 5000 -> monitor' },
        { id: 'through4', rule: 'in udp 10.62.0.2:5001 -> monitor' },
        { id: 'through6', rule: 'in udp [fd62::2]:5001 -> monitor' },
        { id: 'sent4', rule: 'out udp 10.62.0.2:5002 -> monitor' },
        { id: 'sent6', rule: 'out udp [fd62::2]:5002 -> monitor' },
        { id: 'web', rule: 'out tcp 80,443 -> monitor' },
        { id: 'self', rule: 'in udp 10.61.0.1,[fd61::1]:5003 -> monitor' },
      );
    });
    afterAll(() =>
      scene().router.sh(
        'echo 0 >/proc/sys/net/ipv4/ip_forward; echo 0 >/proc/sys/net/ipv6/conf/all/forwarding',
      ),
    );

    test.each(
      FAMILIES.flatMap(({ family, router, server, header }) => {
        const number = family === 'IPv4' ? 4 : 6;
        return [
          {
            family,
            header,
            what: 'what comes in',
            id: 'own',
            from: 'client',
            at: 'router',
            to: router,
            port: 5000,
          },
          {
            family,
            header,
            what: 'what passes',
            id: `through${number}`,
            from: 'client',
            at: 'server',
            to: server,
            port: 5001,
          },
          {
            family,
            header,
            what: 'what is sent',
            id: `sent${number}`,
            from: 'router',
            at: 'server',
            to: server,
            port: 5002,
          },
          {
            family,
            header,
            what: 'what this host sends itself',
            id: 'self',
            from: 'router',
            at: 'router',
            to: router,
            port: 5003,
          },
        ] as const;
      }),
    )('counts packets and bytes both ways, to the last one: $what, $family', async (one) => {
      const { id, from, at, to, port, header } = one;
      await using _ = await scene()[at].serve({ port, protocol: 'udp', address: to });
      const before = await agent.activity(id);
      const startMs = Date.now();
      const texts = Array.from({ length: 20 }, (__, index) => 'x'.repeat(1 + index * 50));
      await using asked = await scene()[from].open(to, port, { protocol: 'udp', text: texts[0] ?? '' });
      let back = header + bytesOf(asked.first);
      for (const text of texts.slice(1)) {
        const answer = await asked.say(text);
        expect(answer).toMatchObject({ name: at, text });
        back += header + bytesOf(answer);
      }
      const after = await agent.activity(id);
      expect({
        packetsIn: after.packetsIn - before.packetsIn,
        bytesIn: after.bytesIn - before.bytesIn,
        packetsOut: after.packetsOut - before.packetsOut,
        bytesOut: after.bytesOut - before.bytesOut,
        conversations: after.conversations - before.conversations,
      }).toEqual({
        packetsIn: texts.length,
        bytesIn: texts.reduce((sum, text) => sum + header + text.length, 0),
        packetsOut: texts.length,
        bytesOut: back,
        conversations: 1,
      });
      expect(after.lastAtMs).toBeGreaterThanOrEqual(startMs);
      expect(after.lastAtMs).toBeLessThanOrEqual(Date.now());
    });

    // Example 3 of the reference.
    test('web traffic is watched unchanged, both ways, as the wire has it', async () => {
      const before = await agent.activity('web');
      await using _ = await scene().server.serve({ port: 80 });
      await using sniffer = await scene().server.sniff('eth0', 'tcp port 80');
      for (const { server } of FAMILIES) {
        await using asked = await scene().router.open(server, 80);
        expect(asked.first).toMatchObject({ name: 'server', toPort: 80 });
        expect(await asked.say('more')).toMatchObject({ text: 'more' });
      }
      const frame = 14;
      const sum = (pattern: RegExp): { packets: number; bytes: number } => {
        const lines = sniffer.packets.filter((line) => pattern.test(line));
        const lengths = lines.map((line) => Number(/, length (\d+): /.exec(line)?.[1]) - frame);
        return { packets: lengths.length, bytes: lengths.reduce((all, one) => all + one, 0) };
      };
      // What ends the conversations comes last, and takes its time.
      let after = before;
      await until('the counts are those of the wire', async () => {
        after = await agent.activity('web');
        const [sent, back] = [sum(/\.80: Flags/), sum(/\.80 > /)];
        return (
          sent.packets > 8 &&
          after.packetsIn - before.packetsIn === sent.packets &&
          after.bytesIn - before.bytesIn === sent.bytes &&
          after.packetsOut - before.packetsOut === back.packets &&
          after.bytesOut - before.bytesOut === back.bytes
        );
      });
      expect(after.conversations - before.conversations).toBe(2);
    });
  });

  describe('refuse and drop', () => {
    beforeAll(() =>
      agent.rules(
        { id: 'refuse', rule: 'in tcp+udp 81 -> refuse' },
        { id: 'drop', rule: 'in tcp+udp 82 -> drop' },
        { id: 'refuse-out', rule: 'out tcp+udp 83 -> refuse' },
        { id: 'drop-out', rule: 'out tcp+udp 84 -> drop' },
        { id: 'refuse-through', rule: 'in tcp+udp 10.62.0.2,[fd62::2]:85 -> refuse' },
      ),
    );

    test.each(FAMILIES.flatMap((one) => PROTOCOLS.map((protocol) => ({ ...one, protocol }))))(
      'who is refused is told at once, who is dropped is not: $protocol, $family',
      async ({ protocol, router, server }) => {
        const { client, router: own, server: there } = scene();
        const ports = [81, 82, 83, 84, 85];
        await using _ = await own.serve({ port: 81, ports, protocol });
        await using __ = await there.serve({ port: 83, ports, protocol });
        const options = { protocol, timeoutMs: SHORT_MS } as const;
        for (const [id, outcome, ask] of [
          ['refuse', 'refused', () => client.ask(router, 81, options)],
          ['drop', 'silence', () => client.ask(router, 82, options)],
          ['refuse-out', 'refused', () => own.ask(server, 83, options)],
          ['drop-out', 'silence', () => own.ask(server, 84, options)],
          ['refuse-through', 'refused', () => client.ask(server, 85, options)],
        ] as const) {
          const before = await agent.activity(id);
          const answer = await ask();
          // Of its own datagram a program hears no refusal that is told from a loss: the next test.
          const isTold = protocol === 'tcp' || id !== 'refuse-out';
          expect([id, isTold ? answer : outcome]).toEqual([id, outcome]);
          const after = await agent.activity(id);
          expect(after.refused).toBeGreaterThan(before.refused);
          expect(after).toMatchObject({ conversations: 0, open: 0, lastRefusal: 'its rule refuses' });
        }
      },
    );
  });

  test.each(FAMILIES)('a datagram that this host sends is refused with ICMP: $family', async ({ server }) => {
    await agent.rules('out udp 83 -> refuse');
    await using sniffer = await scene().router.sniff('lo', 'icmp or icmp6');
    await scene().router.ask(server, 83, { protocol: 'udp', timeoutMs: SHORT_MS });
    await sniffer.seen(/ udp port 83 unreachable| unreachable port, .* udp port 83/);
  });

  describe('allow and deny', () => {
    beforeAll(() =>
      agent.rules(
        { id: 'allow', rule: 'in tcp+udp 81 -> :8081 allow 10.61.0.2,[fd61::2]' },
        { id: 'deny', rule: 'in tcp+udp 82 -> :8081 deny 10.61.0.3,[fd61::3]' },
        {
          id: 'except',
          rule: 'in tcp+udp 83 -> :8081 allow 10.61.0.0/24,[fd61::]/64 EXCEPT 10.61.0.3,[fd61::3]',
        },
        // No other rule is tried for who may not.
        { id: 'other', rule: 'in tcp+udp 81-83 -> :8081' },
      ),
    );

    test.each(FAMILIES.flatMap((one) => PROTOCOLS.map((protocol) => ({ ...one, protocol }))))(
      'say who may pass, and no other rule is tried for others: $protocol, $family',
      async ({ protocol, router, clients: [friend, other] }) => {
        await using _ = await scene().router.serve({ port: 8081, protocol });
        for (const [id, port] of [
          ['allow', 81],
          ['deny', 82],
          ['except', 83],
        ] as const) {
          const before = await agent.activity(id);
          const answer = await scene().client.ask(router, port, { protocol, from: friend });
          expect(answer).toMatchObject({ name: 'router', from: friend });
          expect(await agent.activity(id)).toMatchObject({ refused: before.refused });
          expect(await scene().client.ask(router, port, { protocol, from: other })).toBe('refused');
          expect(await agent.activity(id)).toMatchObject({
            refused: before.refused + 1,
            conversations: before.conversations + 1,
            lastRefusal: 'it is not among those who may',
          });
        }
        expect(await agent.activity('other')).toMatchObject({ conversations: 0, refused: 0 });
      },
    );
  });

  test('a conversation that runs is not asked again when who may changes', async () => {
    const { client, server } = scene();
    await agent.rules({ id: 'web', rule: 'in tcp 80 -> 10.62.0.2:8080' });
    await using _ = await server.serve({ port: 8080 });
    await using asked = await client.open('10.61.0.1', 80);
    expect(asked.first).toMatchObject({ name: 'server' });
    await agent.change('web', 'in tcp 80 -> 10.62.0.2:8080 deny ALL');
    expect(await client.ask('10.61.0.1', 80)).toBe('refused');
    expect(await asked.say('still')).toMatchObject({ name: 'server', text: 'still' });
  });
});
