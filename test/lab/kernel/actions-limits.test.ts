/** How many, how fast, how much, and for how long: limits of rules, with real packets. */

import { beforeAll, describe, expect, test } from 'vitest';
import { until } from '../support/keeping.ts';
import { AskedAgent } from './support/asked-agent.ts';
import { describeKernel } from './support/topology.ts';

const FAMILIES = [
  { family: 'IPv4', router: '10.61.0.1', clients: ['10.61.0.2', '10.61.0.3'], header: 28 },
  { family: 'IPv6', router: 'fd61::1', clients: ['fd61::2', 'fd61::3'], header: 48 },
] as const;

describeKernel('kernel rules: limits', (scene) => {
  let agent: AskedAgent;
  beforeAll(async () => {
    agent = await AskedAgent.start(scene());
  });

  describe.each(FAMILIES)('$family', ({ family, router, clients: [one, other], header }) => {
    test.each(['tcp', 'udp'] as const)(
      'so many begin in a second, and others a second later: %s',
      async (protocol) => {
        const id = `new-${protocol}-${family}`;
        await agent.rules({ id, rule: `in ${protocol} 80 -> :8080 new 2/s` });
        await using _ = await scene().router.serve({ port: 8080, protocol });
        const ask = () => scene().client.ask(router, 80, { protocol, timeoutMs: 500 });
        // In a second the kernel tells one host six times of a refusal, with ICMP.
        const answers = await Promise.all(Array.from({ length: 6 }, ask));
        const passed = answers.filter((answer) => typeof answer === 'object').length;
        // One more where half a second passed between them.
        expect(passed).toBeGreaterThanOrEqual(2);
        expect(passed).toBeLessThanOrEqual(4);
        expect(answers.filter((answer) => answer === 'refused')).toHaveLength(6 - passed);
        expect(await agent.activity(id)).toMatchObject({
          conversations: passed,
          refused: 6 - passed,
          lastRefusal: 'more begin in a second than may',
        });
        await until('more may begin', async () => typeof (await ask()) === 'object', 5_000);
      },
    );

    test('so many are open, and another one when one has ended', async () => {
      await agent.rules({ id: `open-${family}`, rule: 'in tcp 80 -> :8080 open 2' });
      await using _ = await scene().router.serve({ port: 8080 });
      const { client } = scene();
      await using first = await client.open(router, 80);
      {
        await using second = await client.open(router, 80, { from: other });
        expect([first.first, second.first]).toMatchObject([{ from: one }, { from: other }]);
        expect(await client.ask(router, 80)).toBe('refused');
        expect(await agent.activity(`open-${family}`)).toMatchObject({
          open: 2,
          lastRefusal: 'as many are open as may be',
        });
        // Those that run are not touched.
        expect(await second.say('still')).toMatchObject({ text: 'still' });
      }
      await until('one may begin', async () => typeof (await client.ask(router, 80)) === 'object', 5_000);
      expect(await first.say('still')).toMatchObject({ text: 'still' });
    });

    test('so many of one client are open, and others of another', async () => {
      await agent.rules({ id: `client-${family}`, rule: 'in tcp 80 -> :8080 per-client 1' });
      await using _ = await scene().router.serve({ port: 8080 });
      const { client } = scene();
      await using first = await client.open(router, 80, { from: one });
      expect(first.first).toMatchObject({ from: one });
      expect(await client.ask(router, 80, { from: one })).toBe('refused');
      expect(await agent.activity(`client-${family}`)).toMatchObject({
        refused: 1,
        lastRefusal: 'as many of this client are open as may be',
      });
      expect(await client.ask(router, 80, { from: other })).toMatchObject({ from: other });
    });

    test.each(['tcp', 'udp'] as const)(
      'a quota ends what runs and refuses what is new, whatever becomes of other rules meanwhile: %s',
      async (protocol) => {
        const id = `quota-${protocol}-${family}`;
        const quota = { id, rule: `in ${protocol} 5000 -> :5100 quota 20KB` };
        await agent.rules(quota);
        await using _ = await scene().router.serve({ port: 5100, protocol });
        await using asked = await scene().client.open(router, 5000, { protocol });
        const text = 'x'.repeat(1_000);
        for (let count = 0; count < 3; count++) expect(await asked.say(text)).toMatchObject({ text });
        await agent.rules({ id: 'other', rule: 'in udp 5001 -> :5101' }, quota);
        await agent.rules({ id: 'other', rule: 'in udp 5001 -> :5102 quota 1KB' }, quota);
        let answered = 3;
        let outcome = await asked.say(text);
        for (; typeof outcome === 'object' && answered < 40; answered++) {
          expect(outcome).toMatchObject({ text });
          outcome = await asked.say(text, 300);
        }
        // One and its answer take some 2200 bytes.
        expect(answered).toBeGreaterThanOrEqual(7);
        expect(answered).toBeLessThanOrEqual(9);
        expect(outcome).toBe('silence');
        const { bytesIn, bytesOut } = await agent.activity(id);
        expect(bytesIn + bytesOut).toBeLessThanOrEqual(20_000);
        expect(bytesIn + bytesOut).toBeGreaterThan(20_000 - 1_500 - header);
        expect(await scene().client.ask(router, 5000, { protocol, timeoutMs: 500 })).toBe('refused');
        expect(await agent.activity(id)).toMatchObject({ refused: 1, lastRefusal: 'the quota is used up' });
      },
    );

    test('bytes pass at the rate that is said', async () => {
      const [rate, size] = [1_000_000, 3_000_000];
      await agent.rules('in tcp 80 -> :8080 rate 1MB/s');
      const sink = `const s = require('node:net').createServer((c) => { let n = 0; c.on('data', (d) => (n += d.length)).on('end', () => console.log('got ' + n)); }).listen(8080, '::', () => console.log('listening'));`;
      const server = scene().router.spawn([process.execPath, '-e', sink]);
      await server.waitFor(/^listening$/m);
      const source = `const c = require('node:net').connect(80, '${router}', () => c.end(Buffer.alloc(${size})));`;
      const startMs = performance.now();
      const client = scene().client.spawn([process.execPath, '-e', source]);
      const [, got] = await server.waitFor(/^got (\d+)$/m, 30_000);
      const seconds = (performance.now() - startMs) / 1000;
      console.log(`rate ${rate} bytes/s over ${router}: ${size} bytes in ${seconds.toFixed(2)} s`);
      await client.stop();
      await server.stop();
      expect(Number(got)).toBe(size);
      // The kernel lets a second's worth and a burst pass at once. TCP learns the rate by losing packets.
      expect(seconds).toBeGreaterThan((size - 70_000) / rate - 1);
      expect(seconds).toBeLessThan(10 * (size / rate));
    });
  });

  describe('idle', () => {
    const open = async (id: string) =>
      (await agent.client.conversations()).filter(({ ruleId }) => ruleId === id).length;
    /** What the kernel says of when it ends. */
    const timeouts = async (pattern: RegExp): Promise<number[]> => {
      const listing = await scene().router.sh(
        'for family in ipv4 ipv6; do conntrack -L -f $family 2>/dev/null; done',
      );
      const lines = listing.split('\n').filter((line) => pattern.test(line));
      return lines.map((line) => Number(/^\S+ +\d+ (\d+) /.exec(line)?.[1]));
    };

    test('conversations end after so long without a packet', async () => {
      await agent.rules(
        { id: 'udp', rule: 'in udp 5600 -> :5100 idle 2s' },
        { id: 'tcp', rule: 'in tcp 5600 -> :5100 idle 3s' },
      );
      await using _ = await scene().router.serve({ port: 5100 });
      await using __ = await scene().router.serve({ port: 5100, protocol: 'udp' });
      const { client } = scene();
      const begun = (protocol: 'tcp' | 'udp') =>
        Promise.all(FAMILIES.map(({ router }) => client.open(router, 5600, { protocol })));
      const [streams, datagrams] = [await begun('tcp'), await begun('udp')];
      for (const { first } of [...streams, ...datagrams]) expect(first).toMatchObject({ name: 'router' });
      // What is said anew begins the time anew.
      const startMs = performance.now();
      while (performance.now() - startMs < 2_500) {
        for (const one of datagrams) expect(await one.say('again')).toMatchObject({ text: 'again' });
        expect(await open('udp')).toBe(2);
      }
      expect(await agent.activity('udp')).toMatchObject({ conversations: 2 });
      for (const one of streams) expect(await one.say('again')).toMatchObject({ text: 'again' });
      const quietMs = performance.now();
      const left = await timeouts(/dport=5600 /);
      expect(left).toHaveLength(4);
      for (const one of left) expect(one).toBeLessThanOrEqual(3);
      await until('all have ended', async () => (await open('udp')) + (await open('tcp')) === 0, 15_000);
      expect(performance.now() - quietMs).toBeGreaterThan(1_000);
      // Its way back is closed, and a stream does not begin in its middle.
      for (const one of streams) {
        expect(await one.say('late', 500)).not.toMatchObject({ name: 'router' });
      }
      await Promise.all([...streams, ...datagrams].map((one) => one[Symbol.asyncDispose]()));
    });

    test('without a word about it they last as long as the RFCs say', async () => {
      await agent.rules('in udp 5700 -> :5100', 'in tcp 5700 -> :5100');
      await using _ = await scene().router.serve({ port: 5100 });
      await using __ = await scene().router.serve({ port: 5100, protocol: 'udp' });
      for (const { router } of FAMILIES) {
        await using stream = await scene().client.open(router, 5700);
        await using datagrams = await scene().client.open(router, 5700, { protocol: 'udp' });
        expect([stream.first, datagrams.first]).toMatchObject([{ name: 'router' }, { name: 'router' }]);
        const [tcp = 0] = await timeouts(/^tcp .* ESTABLISHED .*dport=5700 /);
        expect(tcp).toBeGreaterThan(7_400);
        expect(tcp).toBeLessThanOrEqual(7_440);
        const udp = Math.max(...(await timeouts(/^udp .*dport=5700 /)));
        expect(udp).toBeGreaterThan(100);
        expect(udp).toBeLessThanOrEqual(120);
      }
    });
  });
});
