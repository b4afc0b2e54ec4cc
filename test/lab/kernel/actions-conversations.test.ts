/** Conversations as they are told, and what becomes of those that run when their rule changes. */

import { beforeAll, describe, expect, test } from 'vitest';
import type { EngineEvent } from '../../../src/control/protocol.ts';
import { until } from '../support/keeping.ts';
import { AskedAgent } from './support/asked-agent.ts';
import { describeKernel, FAR } from './support/topology.ts';

const FAMILIES = [
  {
    family: 'IPv4',
    router: '10.61.0.1',
    client: '10.61.0.2',
    server: '10.62.0.2',
    uplink: '10.63.0.2',
    header: 28,
  },
  { family: 'IPv6', router: 'fd61::1', client: 'fd61::2', server: 'fd62::2', uplink: 'fd63::2', header: 48 },
] as const;
const PROTOCOLS = ['tcp', 'udp'] as const;
const EACH = FAMILIES.flatMap((one) => PROTOCOLS.map((protocol) => ({ ...one, protocol })));
/** What takes several packets. */
const LONG = Array.from({ length: 3_000 }, (_, at) => `${at}`).join(' ');

/** As it stands in a rule. */
function host(address: string): string {
  return address.includes(':') ? `[${address}]` : address;
}

describeKernel('kernel rules: conversations', (scene) => {
  let agent: AskedAgent;
  beforeAll(async () => {
    agent = await AskedAgent.start(scene());
  });

  describe('are told', () => {
    test.each(EACH)('when they open and close, with what they carried: $protocol, $family', async (one) => {
      const { family, protocol, router, client, server, header } = one;
      const id = `told-${protocol}-${family}`;
      await agent.rules({ id, rule: `in ${protocol} 80 -> ${host(server)}:8080 idle 1s` });
      await using _ = await scene().server.serve({ port: 8080, protocol });
      const over = new AbortController();
      const events: EngineEvent[] = [];
      const following = (async () => {
        for await (const event of agent.client.follow(over.signal, id)) events.push(event);
      })().catch((error: unknown) => {
        if (!over.signal.aborted) throw error;
      });
      // It is followed as soon as one is heard; each asks once.
      await until('an event', async () => {
        await scene().client.ask(router, 80, { protocol });
        return events.length > 0;
      });
      const fromPort = 40_000 + Math.floor(Math.random() * 10_000);
      const startMs = Date.now();
      let bytesOut = header;
      {
        await using asked = await scene().client.open(router, 80, { protocol, fromPort });
        expect(asked.first).toMatchObject({ name: 'server' });
        bytesOut += `${JSON.stringify(asked.first)}\n`.length;
        const ends = {
          ruleId: id,
          protocol,
          client: { address: client, port: fromPort },
          local: { address: router, port: 80 },
          target: { address: server, port: 8080 },
        };
        const isIt = (event: EngineEvent) =>
          event.type !== 'refused' && event.conversation.client.port === fromPort;
        await until('it is told as open', async () => events.some(isIt));
        expect(events.find(isIt)).toMatchObject({ type: 'opened', conversation: ends });
        const listed = (await agent.client.conversations()).filter((other) => other.client.port === fromPort);
        expect(listed).toMatchObject([ends]);
        expect(listed[0]?.beganAtMs).toBeGreaterThan(startMs - 1_000);
        expect(listed[0]?.beganAtMs).toBeLessThanOrEqual(Date.now());
      }
      const isClosed = (event: EngineEvent) =>
        event.type === 'closed' && event.conversation.client.port === fromPort;
      await until('it is told as closed', async () => events.some(isClosed), 10_000);
      const closed = events.find(isClosed);
      const carried = { bytesIn: header + 'ask'.length, bytesOut };
      // TCP has more packets than what is said.
      expect(closed).toMatchObject(
        protocol === 'udp'
          ? { conversation: carried, reason: 'silent for too long' }
          : { reason: 'finished' },
      );
      expect((closed as { conversation: { bytesIn: number } }).conversation.bytesIn).toBeGreaterThan(0);
      const { rule }: { rule: { activity: { lastAtMs: number } } } = JSON.parse(
        await scene().run(['rule', 'show', id, '--json']),
      );
      expect(rule.activity.lastAtMs).toBeGreaterThanOrEqual(startMs);
      over.abort();
      await following;
    });
  });

  describe('of a rule that changes', () => {
    test.each(EACH)(
      'go on where they are, and new ones where it leads now: $protocol, $family',
      async (one) => {
        const { family, protocol, router, server, uplink } = one;
        const id = `drain-${protocol}-${family}`;
        const to = (there: string) => `in ${protocol} 80 -> ${host(there)}:8080`;
        await agent.rules({ id, rule: to(server) });
        await using _ = await scene().server.serve({ port: 8080, protocol });
        await using __ = await scene().uplink.serve({ port: 8080, protocol });
        await using asked = await scene().client.open(router, 80, { protocol });
        expect(asked.first).toMatchObject({ name: 'server' });
        const text = protocol === 'tcp' ? LONG : 'on';
        for (const there of [uplink, server, uplink]) {
          // What runs goes on, byte for byte, while it changes.
          const changing = agent.change(id, to(there));
          for (let count = 0; count < 10; count++)
            expect(await asked.say(text)).toMatchObject({ name: 'server', text });
          await changing;
          expect(await asked.say(text)).toMatchObject({ name: 'server', text });
          const name = there === server ? 'server' : 'uplink';
          expect(await scene().client.ask(router, 80, { protocol })).toMatchObject({ name });
        }
        // Off, gone, and another table altogether.
        await agent.rules({ id, rule: to(uplink), enabled: false });
        expect(await asked.say(text)).toMatchObject({ name: 'server', text });
        expect(await scene().client.ask(router, 80, { protocol })).toBe('refused');
        await agent.rules();
        expect(await asked.say(text)).toMatchObject({ name: 'server', text });
        expect(await scene().client.ask(router, 80, { protocol })).toBe('refused');
      },
    );

    test.each(FAMILIES)(
      'end where that is asked for: $family',
      async ({ family, router, server, uplink }) => {
        const id = `cut-${family}`;
        await agent.rules(
          { id, rule: `in tcp 80 -> ${host(server)}:8080` },
          { id: `kept-${family}`, rule: 'in tcp 81 -> :8081' },
        );
        await using _ = await scene().server.serve({ port: 8080 });
        await using __ = await scene().uplink.serve({ port: 8080 });
        await using ___ = await scene().router.serve({ port: 8081 });
        await using asked = await scene().client.open(router, 80);
        await using other = await scene().client.open(router, 81);
        expect([asked.first, other.first]).toMatchObject([{ name: 'server' }, { name: 'router' }]);
        await scene().run(['rule', 'edit', id, `in tcp 80 -> ${host(uplink)}:8080`, '--cut']);
        // It is told at once, and does not begin anew in its middle.
        expect(await asked.say('on')).toBe('refused');
        expect(await other.say('on')).toMatchObject({ name: 'router', text: 'on' });
        expect((await agent.client.conversations()).filter(({ ruleId }) => ruleId === id)).toEqual([]);
        expect(await scene().client.ask(router, 80)).toMatchObject({ name: 'uplink' });
      },
    );

    test.each(EACH)(
      'keep what was done with each of their packets: their way, $protocol, $family',
      async (one) => {
        const { family, protocol, router } = one;
        const far = family === 'IPv4' ? FAR[4] : FAR[6];
        const id = `way-${protocol}-${family}`;
        const by = (adapter: string) => `in ${protocol} 80 -> ${host(far)}:8080 via ${adapter}`;
        await agent.rules({ id, rule: by('t0') });
        await using _ = await scene().server.serve({ port: 8080, protocol, address: far });
        await using __ = await scene().uplink.serve({ port: 8080, protocol, address: far });
        await using asked = await scene().client.open(router, 80, { protocol });
        expect(asked.first).toMatchObject({ name: 'uplink' });
        await agent.change(id, by('s0'));
        expect(await scene().client.ask(router, 80, { protocol })).toMatchObject({ name: 'server' });
        expect(await asked.say('on')).toMatchObject({ name: 'uplink', text: 'on' });
        await agent.rules();
        expect(await asked.say('on')).toMatchObject({ name: 'uplink', text: 'on' });
      },
    );

    test.each(FAMILIES)(
      'keep what was done with each of their packets: copies and a quota, $family',
      async (one) => {
        const { family, router } = one;
        const id = `copies-${family}`;
        const monitor = family === 'IPv4' ? '10.64.0.2' : '[fd64::2]';
        await agent.rules({ id, rule: `in udp 5000 -> :5100 clone ${monitor}:5200 quota 3KB` });
        await using _ = await scene().router.serve({ port: 5100, protocol: 'udp' });
        await using copies = await scene().monitor.serve({ port: 5200, protocol: 'udp' });
        await using asked = await scene().client.open(router, 5000, { protocol: 'udp' });
        expect(asked.first).toMatchObject({ name: 'router' });
        await agent.change(id, 'in udp 5000 -> :5100');
        expect(await asked.say('after')).toMatchObject({ name: 'router' });
        expect(await scene().client.ask(router, 5000, { protocol: 'udp', text: 'new' })).toMatchObject({
          text: 'new',
        });
        await until(
          'its copy',
          async () => (await copies.seen()).some(({ text }) => text === 'after'),
          5_000,
        );
        expect((await copies.seen()).map(({ text }) => text)).not.toContain('new');
        let outcome = await asked.say('x'.repeat(500), 300);
        for (let count = 0; count < 6 && typeof outcome === 'object'; count++) {
          outcome = await asked.say('x'.repeat(500), 300);
        }
        expect(outcome).toBe('silence');
        expect(await scene().client.ask(router, 5000, { protocol: 'udp' })).toMatchObject({ name: 'router' });
      },
    );
  });
});
