/** What every ForwardEngine does, whoever carries the bytes: held against real sockets on loopback. */

import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import type { EngineEvent, ForwardEngine } from '../../src/forwarder/engine.ts';
import {
  aWhile,
  client,
  echo,
  freePort,
  named,
  noise,
  ownAddress,
  type Peer,
  serve,
  table,
  udpPeer,
  until,
} from '../forwarder/relay/support.ts';
import type { EngineTraits } from './engine-traits.ts';

export interface EngineUnderTest {
  readonly engine: ForwardEngine;
  readonly events: readonly EngineEvent[];
  /** Lets so much of the engine's time pass. */
  readonly pass: (ms: number) => Promise<void>;
}

const DRAIN = { conversations: 'drain' } as const;
const CUT = { conversations: 'cut' } as const;
const MIB = 2 ** 20;
/** Of headers that come with few bytes. */
const HANDSHAKE_BYTES = 1000;

/** `clause`, with a space before it, is what each of the rules has besides: which engine carries it may hang on that. */
export function forwardEngineContract(
  name: string,
  traits: EngineTraits,
  start: () => EngineUnderTest,
  clause = '',
): void {
  const { minute } = traits;
  const lines = (...all: readonly string[]) => table(...all.map((line) => line.replace(/(?= "|$)/, clause)));
  const isTurnedAway = ({ error }: Peer) => error === traits.turnedAway;
  const counted = (bytes: number): unknown => (traits.counts === 'payload' ? bytes : withHeaders(bytes));
  const countedReads = (reads: number): unknown => (traits.counts === 'payload' ? reads : expect.any(Number));
  const refusals = (events: readonly object[]) =>
    traits.tellsRefusals ? events.map((event) => ({ type: 'refused', ruleId: 'r1', ...event })) : [];
  /** A test of what not every engine promises: left out where this one does not. */
  const testOf = (isPromised: boolean): ((name: string, body: () => Promise<void>) => void) =>
    isPromised ? test : () => undefined;

  /** An engine with these rules; `@` stands for the address and port where the first of them takes traffic. */
  async function running(...first: readonly string[]): Promise<EngineUnderTest & Place> {
    const place = { address: ownAddress(), port: await freePort() };
    const under = start();
    const at = `${place.address}:${place.port}`;
    const rules = (...all: readonly string[]) => lines(...all.map((line) => line.replace('@', at)));
    await under.engine.apply(rules(...first), DRAIN);
    return { ...under, ...place, rules };
  }

  describe(`${name}: TCP`, () => {
    test('bytes go both ways, in order and none lost', async () => {
      const target = await serve(echo);
      const { engine, ...at } = await running(`in tcp @ -> 127.0.0.1:${target.port}`);
      const sent = noise(3 * MIB);
      const one = client(at);
      one.socket.end(sent);
      await until(() => one.hasEnded, 'all is echoed');
      expect(digest(one)).toBe(hash(sent));
      expect((await engine.activity()).get('r1')).toMatchObject({
        bytesIn: counted(sent.length),
        bytesOut: counted(sent.length),
        conversations: 1,
        refused: 0,
      });
    });

    test('the client’s FIN arrives, and an answer long after it goes back whole', async () => {
      const target = await serve();
      const { pass, ...at } = await running(`in tcp @ -> 127.0.0.1:${target.port} idle ${5 * minute}s`);
      const one = client(at);
      one.socket.end('question');
      const peer = await target.accepted();
      await until(() => peer.hasEnded);
      expect(peer.text).toBe('question');
      await pass(minute * 1000);
      peer.socket.end('answer'.repeat(50_000));
      await until(() => one.hasEnded);
      expect(one.text).toBe('answer'.repeat(50_000));
      expect([one.error, peer.error]).toEqual([undefined, undefined]);
    });

    test('the target’s FIN arrives, and what the client says after it goes on', async () => {
      const target = await serve();
      const { pass, ...at } = await running(`in tcp @ -> 127.0.0.1:${target.port}`);
      const one = client(at);
      const peer = await target.accepted();
      peer.socket.end('bye');
      await until(() => one.hasEnded);
      await pass(minute * 500);
      one.socket.end('later');
      await until(() => peer.hasEnded);
      expect([one.text, peer.text]).toEqual(['bye', 'later']);
    });

    test('RST passes as RST, both ways', async () => {
      const target = await serve();
      const { engine, ...at } = await running(`in tcp @ -> 127.0.0.1:${target.port}`);
      const [one, two] = [client(at), client(at)];
      for (const each of [one, two]) each.say('hello');
      const [a, b] = [await target.accepted(), await target.accepted()];
      await until(() => a.bytes + b.bytes === 10);
      one.socket.resetAndDestroy();
      await until(() => [a, b].some((peer) => peer.error === 'ECONNRESET'));
      const left = a.isClosed ? b : a;
      left.socket.resetAndDestroy();
      await until(() => two.error === 'ECONNRESET');
      await until(async () => (await engine.conversations()).length === 0);
      expect((await engine.activity()).get('r1')).toMatchObject({ open: 0, conversations: 2 });
    });

    test('a target that refuses is the client’s error', async () => {
      const port = await freePort();
      const { engine, events, ...at } = await running(`in tcp @ -> 127.0.0.1:${port}`);
      const one = client(at);
      await until(() => one.isClosed);
      expect(one.error).toBe(traits.turnedAway);
      await until(() => events.length > 1);
      expect(events.map(({ type }) => type)).toEqual(['opened', 'closed']);
      expect((await engine.activity()).get('r1')).toMatchObject({ open: 0, ...traits.targetRefuses });
    });

    test('a target that does not read stops the client, and loses nothing', async () => {
      const target = await serve(undefined, { paused: true });
      const at = await running(`in tcp @ -> 127.0.0.1:${target.port}`);
      const one = client(at);
      const sent = noise(40 * MIB);
      one.socket.end(sent);
      const peer = await target.accepted();
      let taken = -1;
      // What the kernel's buffers hold is taken; then it is still.
      for (let now = 0; now !== taken; now = one.socket.bytesWritten - one.socket.writableLength) {
        taken = now;
        await aWhile();
      }
      expect((await at.engine.conversations())[0]?.bytesIn).toBeLessThan(24 * MIB);
      peer.socket.resume();
      await until(() => peer.hasEnded);
      expect(digest(peer)).toBe(hash(sent));
    });

    test('the first rule that matches decides', async () => {
      const [first, second] = [await serve((peer) => peer.say('1')), await serve((peer) => peer.say('2'))];
      const at = await running(
        `in tcp @ from 127.9.9.9 -> 127.0.0.1:${first.port}`,
        `in tcp @ -> 127.0.0.1:${second.port}`,
        'in tcp @ -> refuse',
      );
      await client(at, { localAddress: '127.9.9.9' }).hears('1');
      await client(at).hears('2');
    });

    test('what is refused is reset, counted and told', async () => {
      const { engine, events, ...at } = await running('in tcp @ -> refuse "closed"');
      const one = client(at);
      await until(() => one.isClosed);
      expect((await engine.activity()).get('r1')).toMatchObject({ refused: 1, conversations: 0 });
      expect(events).toMatchObject(refusals([{ client: { address: '127.0.0.1' } }]));
      expect(await engine.conversations()).toEqual([]);
    });

    test('ports move by a shift and by a range as long, and several become one', async () => {
      const target = await serve((peer) => peer.say(`to ${peer.socket.localPort}`));
      const base = target.port;
      const address = ownAddress();
      const { engine } = start();
      await engine.apply(
        lines(
          `in tcp ${address}:3000-3002 -> 127.0.0.1:+${base - 3001}`,
          `in tcp ${address}:4000,4002-4003,~4001 -> 127.0.0.1:${base - 1}-${base + 1}`,
          `in tcp ${address}:5000-5100,~5050 -> 127.0.0.1:${base}`,
        ),
        DRAIN,
      );
      for (const port of [3001, 4002, 5000, 5100]) {
        await client({ address, port }).hears(`to ${base}`);
      }
      const excluded = client({ address, port: 5050 });
      await until(() => excluded.error === 'ECONNREFUSED');
    });

    test('example 5 of the reference: another server sees this host as its peer', async () => {
      const [server, host] = [ownAddress(), ownAddress()];
      const target = await serve((peer) => peer.say(`you are ${peer.socket.remoteAddress}`), {
        address: server,
      });
      const at = await running(`in tcp @ -> ${server}:${target.port} as ${host}`);
      await client(at, { localAddress: '127.8.8.8' }).hears(`you are ${host}`);
    });

    testOf(traits.leadsToOtherFamily)('IPv6 leads to IPv4, and IPv4 to IPv6', async () => {
      const [four, six] = [await serve(echo), await serve(echo, { address: '::1' })];
      const port = await freePort('::1');
      const address = ownAddress();
      const { engine } = start();
      await engine.apply(
        lines(
          `in tcp [::1]:${port} -> 127.0.0.1:${four.port}`,
          `in tcp ${address}:${port} -> [::1]:${six.port}`,
        ),
        DRAIN,
      );
      for (const at of [
        { address: '::1', port },
        { address, port },
      ]) {
        const one = client(at);
        one.say('over');
        await one.hears('over');
      }
    });

    test('a conversation that is silent for its time ends, and one that talks does not', async () => {
      const target = await serve(echo);
      const { engine, events, pass, ...at } = await running(
        `in tcp @ -> 127.0.0.1:${target.port} idle ${minute}s`,
      );
      const [quiet, busy] = [client(at), client(at)];
      quiet.say('a');
      await quiet.hears('a');
      const quietPort = quiet.socket.localPort;
      for (let count = 0; count < 2; count++) {
        busy.say(`${count}`);
        await busy.hears(`${count}`);
        await pass((minute * 2000) / 3);
      }
      await until(() => events.some(({ type }) => type === 'closed'), 'the silent one is over');
      if (traits.resetsBoth) await until(() => quiet.hasEnded || quiet.isClosed);
      expect(busy.hasEnded).toBe(false);
      expect((await engine.activity()).get('r1')?.open).toBe(1);
      expect(events.filter(({ type }) => type === 'closed')).toMatchObject([
        {
          reason: expect.stringMatching(traits.silence),
          conversation: { client: { port: quietPort } },
        },
      ]);
    });

    test('conversations are shown with their ends, and counted while they run', async () => {
      const target = await serve(echo);
      const { engine, events, address, port } = await running(`in tcp @ -> 127.0.0.1:${target.port}`);
      const one = client({ address, port });
      one.say('four');
      await one.hears('four');
      expect(await engine.conversations()).toMatchObject([
        {
          ruleId: 'r1',
          protocol: 'tcp',
          client: { address: '127.0.0.1', port: one.socket.localPort },
          local: { address, port },
          target: { address: '127.0.0.1', port: target.port },
          bytesIn: counted(4),
          bytesOut: counted(4),
        },
      ]);
      const packetsIn = countedReads(1);
      expect((await engine.activity()).get('r1')).toMatchObject({ open: 1, bytesIn: counted(4), packetsIn });
      one.socket.end();
      await until(() => events.some(({ type }) => type === 'closed'));
      expect(events.at(-1)).toMatchObject({
        type: 'closed',
        conversation: { bytesIn: counted(4), bytesOut: counted(4) },
      });
    });
  });

  describe(`${name}: limits and access`, () => {
    test('no more are open than the rule says, in all and of one client', async () => {
      const target = await serve(echo);
      const { engine, ...at } = await running(`in tcp @ -> 127.0.0.1:${target.port} open 2 per-client 1`);
      const [a, b, c, d] = ['127.2.0.1', '127.2.0.1', '127.2.0.2', '127.2.0.3'];
      const first = client(at, { localAddress: a });
      await target.accepted();
      const again = client(at, { localAddress: b });
      await until(() => isTurnedAway(again));
      expect((await engine.activity()).get('r1')?.lastRefusal).toMatch(traits.tooManyOfOne);
      client(at, { localAddress: c });
      await target.accepted();
      const third = client(at, { localAddress: d });
      await until(() => isTurnedAway(third));
      first.socket.destroy();
      await until(async () => (await engine.activity()).get('r1')?.open === 1);
      client(at, { localAddress: d });
      await target.accepted();
    });

    test('no more begin in a second than the rule says', async () => {
      const target = await serve(echo);
      const { pass, ...at } = await running(`in tcp @ -> 127.0.0.1:${target.port} new 2/s`);
      const three = [client(at), client(at), client(at)];
      await until(() => three.filter(isTurnedAway).length === 1);
      await pass(1000);
      client(at);
      await until(() => target.peers.length === 3);
    });

    test('a rule whose quota is used up lets nothing pass, and nobody in', async () => {
      const target = await serve(echo);
      const { engine, ...at } = await running(`in tcp @ -> 127.0.0.1:${target.port} quota 10kB`);
      const one = client(at);
      one.say('x'.repeat(6000));
      if (traits.resetsBoth) {
        await until(async () => (await engine.conversations()).length === 0);
        // Node takes a reset that comes with data for an end.
        await until(() => one.isClosed || one.hasEnded);
      } else {
        await until(async () => ((await engine.activity()).get('r1')?.bytesIn ?? 0) > 6000);
        await aWhile();
      }
      // Of the bytes with which it is used up, the kernel drops what is too much.
      expect(one.bytes).toBeLessThanOrEqual(traits.resetsBoth ? 6000 : 5999);
      const two = client(at);
      await until(() => two.isClosed);
      expect((await engine.activity()).get('r1')).toMatchObject({ conversations: 1, refused: 1 });
      expect((await engine.activity()).get('r1')?.lastRefusal).toMatch(/quota/);
    });

    test('bytes come no faster than the rule’s rate', async () => {
      const target = await serve();
      const { engine, pass, ...at } = await running(`in tcp @ -> 127.0.0.1:${target.port} rate 100kB/s`);
      const one = client(at);
      one.socket.end(noise(500_000));
      const peer = await target.accepted();
      await pass(2000);
      await aWhile();
      // A read is never cut short: the rule has gone ahead of its rate by one at most.
      expect((await engine.activity()).get('r1')?.bytesIn).toBeLessThan(200_000 + 300_000);
      for (let second = 0; second < 10 && !peer.hasEnded; second++) {
        await pass(1000);
        await aWhile();
      }
      await until(() => peer.bytes === 500_000);
    });

    test('allow and deny, with networks and exceptions', async () => {
      const target = await serve((peer) => peer.say('in'));
      const { engine, ...at } = await running(
        `in tcp @ -> 127.0.0.1:${target.port} allow 127.3.0.0/16 EXCEPT 127.3.0.9 deny 127.3.1.0/24`,
      );
      await client(at, { localAddress: '127.3.0.1' }).hears('in');
      for (const localAddress of ['127.3.0.9', '127.3.1.1', '127.4.0.1']) {
        const refused = client(at, { localAddress });
        await until(() => isTurnedAway(refused));
      }
      expect((await engine.activity()).get('r1')).toMatchObject({ conversations: 1, refused: 3 });
    });
  });

  describe(`${name}: UDP`, () => {
    test('datagrams keep their borders both ways, empty ones too', async () => {
      const target = await udpPeer('127.0.0.1', (data) => `<${data.toString('latin1')}>`);
      const { engine, ...at } = await running(`in udp @ -> 127.0.0.1:${target.port}`);
      const one = await udpPeer();
      for (const text of ['a', '', 'bc']) one.send(text, at);
      await until(() => one.heard.length === 3);
      expect(target.heard).toEqual(['a', '', 'bc']);
      expect(one.heard).toEqual(['<a>', '<>', '<bc>']);
      expect(one.from[0]).toMatchObject({ address: at.address, port: at.port });
      expect((await engine.activity()).get('r1')).toMatchObject({
        conversations: 1,
        open: 1,
        packetsIn: 3,
        packetsOut: 3,
        bytesIn: counted(3),
        bytesOut: counted(9),
      });
    });

    test('each client has a conversation of its own', async () => {
      const target = await udpPeer('127.0.0.1', (data) => data);
      const { engine, ...at } = await running(`in udp @ -> 127.0.0.1:${target.port}`);
      const clients = [await udpPeer('127.5.0.1'), await udpPeer('127.5.0.2'), await udpPeer('127.5.0.2')];
      for (const [index, one] of clients.entries()) one.send(`${index}`, at);
      await until(() => clients.every(({ heard }) => heard.length === 1));
      expect(clients.map(({ heard }) => heard)).toEqual([['0'], ['1'], ['2']]);
      expect(new Set(target.from.map(({ port }) => port)).size).toBe(3);
      expect(await engine.conversations()).toHaveLength(3);
    });

    test('a conversation that is silent for its time ends, and its client begins another', async () => {
      const target = await udpPeer('127.0.0.1', (data) => data);
      const { engine, pass, ...at } = await running(`in udp @ -> 127.0.0.1:${target.port} idle ${minute}s`);
      const one = await udpPeer();
      one.send('a', at);
      await until(() => one.heard.length === 1);
      await pass(minute * 1100);
      await until(async () => (await engine.conversations()).length === 0);
      one.send('b', at);
      await until(() => one.heard.length === 2);
      expect((await engine.activity()).get('r1')).toMatchObject({ conversations: 2, open: 1 });
    });

    testOf(traits.clonesToThisHost)('a copy goes to the clone, whose answers nobody hears', async () => {
      const target = await udpPeer('127.0.0.1', () => 'target');
      const clone = await udpPeer('127.0.0.1', () => 'clone');
      const at = await running(`in udp @ -> 127.0.0.1:${target.port} clone 127.0.0.1:${clone.port}`);
      const one = await udpPeer();
      one.send('a', at);
      one.send('b', at);
      await until(() => clone.heard.length === 2 && one.heard.length === 2);
      await aWhile();
      expect(one.heard).toEqual(['target', 'target']);
    });

    test('a client that is refused hears nothing', async () => {
      const { engine, events, ...at } = await running('in udp @ -> refuse');
      const one = await udpPeer();
      one.send('a', at);
      await until(async () => (await engine.activity()).get('r1')?.refused === 1);
      expect(events).toMatchObject(refusals([{}]));
      expect((await engine.activity()).get('r1')).toMatchObject({ open: 0 });
      expect(await engine.conversations()).toEqual([]);
      expect(one.heard).toEqual([]);
    });
  });

  describe(`${name}: apply`, () => {
    test('a rule that says the same keeps its conversations and its counts', async () => {
      const target = await serve(echo);
      const { engine, rules, ...at } = await running(`in tcp @ -> 127.0.0.1:${target.port}`);
      const one = client(at);
      one.say('a');
      await one.hears('a');
      const line = `in tcp @ -> 127.0.0.1:${target.port}`;
      expect(await engine.affected(rules(line))).toEqual([]);
      expect(await engine.apply(rules(line), CUT)).toEqual({ affected: 0, waiting: [] });
      one.say('b');
      await one.hears('ab');
      expect((await engine.activity()).get('r1')).toMatchObject({ bytesIn: counted(2), open: 1 });
    });

    test('conversations keep the rule that they began under; new ones have the new one', async () => {
      const [old, other] = [await serve(echo), await serve((peer) => peer.say('new'))];
      const { engine, rules, ...at } = await running(`in tcp @ -> 127.0.0.1:${old.port}`);
      const one = client(at);
      one.say('a');
      await one.hears('a');
      const next = rules(`in tcp @ -> 127.0.0.1:${other.port}`);
      expect(await engine.affected(next)).toHaveLength(1);
      expect(await engine.apply(next, DRAIN)).toMatchObject({ affected: 1 });
      await client(at).hears('new');
      one.say('b');
      await one.hears('ab');
      expect((await engine.activity()).get('r1')).toMatchObject({
        bytesIn: counted(2),
        open: 2,
        conversations: 2,
      });
      await engine.apply(rules(), DRAIN);
      one.say('c');
      await one.hears('abc');
      const late = client(at);
      await until(() => late.error === 'ECONNREFUSED');
    });

    test('where it is asked to, it cuts what has lost its rule', async () => {
      const [target, udp] = [await serve(echo), await udpPeer('127.0.0.1', (data) => data)];
      const { engine, rules, events, ...at } = await running(
        `in tcp @ -> 127.0.0.1:${target.port}`,
        `in udp @ -> 127.0.0.1:${udp.port}`,
      );
      const [one, two] = [client(at), await udpPeer()];
      one.say('a');
      two.send('a', at);
      await until(() => one.bytes === 1 && two.heard.length === 1);
      expect(await engine.apply(rules(), CUT)).toMatchObject({ affected: 2 });
      if (!traits.resetsBoth) one.say('b');
      await until(() => one.error === 'ECONNRESET');
      expect(await engine.conversations()).toEqual([]);
      expect(events.filter(({ type }) => type === 'closed')).toMatchObject([
        { reason: 'its rule is gone or changed' },
        { reason: 'its rule is gone or changed' },
      ]);
      await udpPeer(at.address, undefined, at.port);
    });

    test('UDP that has lost its rule goes on, and nobody new is let in', async () => {
      const target = await udpPeer('127.0.0.1', (data) => data);
      const { engine, rules, ...at } = await running(`in udp @ -> 127.0.0.1:${target.port}`);
      const [one, two] = [await udpPeer(), await udpPeer()];
      one.send('a', at);
      await until(() => one.heard.length === 1);
      await engine.apply(rules(), DRAIN);
      two.send('x', at);
      one.send('b', at);
      await until(() => one.heard.length === 2);
      expect(target.heard).toEqual(['a', 'b']);
      await engine.apply(rules(`in udp @ -> 127.0.0.1:${target.port}`), DRAIN);
      one.send('c', at);
      two.send('y', at);
      await until(() => {
        if (!traits.takesStreamsAtOnce && two.heard.length === 0) two.send('y', at);
        return one.heard.length === 3 && two.heard.length > 0;
      });
      const heard = target.heard.slice(2).toSorted();
      expect(traits.takesStreamsAtOnce ? heard : [...new Set(heard)]).toEqual(['c', 'y']);
    });

    testOf(traits.listens)('a port in use stops the whole table, and the one before goes on', async () => {
      const [target, squatter] = [await serve((peer) => peer.say('old')), await serve()];
      const { engine, ...at } = await running(`in tcp @ -> 127.0.0.1:${target.port}`);
      const free = { address: ownAddress(), port: await freePort() };
      const next = [
        named('new', `in tcp ${free.address}:${free.port} -> 127.0.0.1:1${clause}`),
        named('taken', `in tcp 127.0.0.1:${squatter.port} -> 127.0.0.1:1${clause}`),
      ];
      await expect(engine.apply(next, CUT)).rejects.toMatchObject({
        code: 'CONFLICT',
        message: expect.stringMatching(/another program listens on TCP .* for rule taken/),
      });
      await client(at).hears('old');
      const none = client(free);
      await until(() => none.error === 'ECONNREFUSED');
      expect([...(await engine.activity()).keys()]).toEqual(['r1']);
    });

    testOf(!traits.listens)(
      'what comes to a port in use is the rule’s, and the owner’s again without it',
      async () => {
        const [target, owner] = [
          await serve((peer) => peer.say('rule')),
          await serve((peer) => peer.say('owner')),
        ];
        const { engine } = start();
        await engine.apply(lines(`in tcp 127.0.0.1:${owner.port} -> 127.0.0.1:${target.port}`), DRAIN);
        await client(owner).hears('rule');
        await engine.apply([], DRAIN);
        await client(owner).hears('owner');
      },
    );

    test('a rule that it cannot carry is refused before anything is touched', async () => {
      const { engine, rules } = await running('in tcp @ -> refuse');
      const { clauses, field } = traits.tooMuch;
      const bad = rules('in tcp @ -> 127.0.0.1:1', `in tcp 127.0.0.1:9 ${clauses}`);
      const shortcoming = engine.shortcoming(bad[1] as (typeof bad)[number]);
      expect(shortcoming).toMatchObject({ field, reason: expect.any(String) });
      await expect(engine.apply(bad, DRAIN)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
      expect([...(await engine.activity()).keys()]).toEqual(['r1']);
      const disabled = bad.map((rule) => ({ ...rule, enabled: false }));
      await engine.apply(disabled, DRAIN);
    });

    test('tables that are asked for at once are taken one after the other', async () => {
      const target = await serve((peer) => peer.say('in'));
      const { engine, rules, ...at } = await running();
      const line = `in tcp @ -> 127.0.0.1:${target.port}`;
      await Promise.all([rules(line), rules(), rules(line)].map((one) => engine.apply(one, DRAIN)));
      await client(at).hears('in');
    });
  });

  describe(`${name}: its end`, () => {
    test('drain() takes nobody new, and waits for those that run', async () => {
      const target = await serve(echo);
      const { engine, pass, ...at } = await running(`in tcp @ -> 127.0.0.1:${target.port}`);
      const one = client(at);
      one.say('a');
      await one.hears('a');
      let isDrained = false;
      const draining = engine.drain(minute * 1000).then(() => (isDrained = true));
      await pass(minute * 100);
      const late = client(at);
      await until(() => late.error === 'ECONNREFUSED');
      one.say('b');
      await one.hears('ab');
      expect(isDrained).toBe(false);
      one.socket.end();
      await until(() => one.hasEnded);
      await until(async () => (await engine.conversations()).length === 0);
      await pass(100);
      await draining;
    });

    test('drain() has a limit', async () => {
      const target = await serve(echo);
      const { engine, pass, ...at } = await running(`in tcp @ -> 127.0.0.1:${target.port}`);
      client(at);
      await target.accepted();
      const draining = engine.drain(minute * 100);
      await pass(minute * 101);
      await draining;
      expect(await engine.conversations()).toHaveLength(1);
    });

    test('after its end nothing listens, and nothing runs', async () => {
      const [target, udp] = [await serve(echo), await udpPeer('127.0.0.1', (data) => data)];
      const { engine, ...at } = await running(
        `in tcp @ -> 127.0.0.1:${target.port}`,
        `in udp @ -> 127.0.0.1:${udp.port}`,
      );
      const [one, two] = [client(at), await udpPeer()];
      one.say('a');
      two.send('a', at);
      await until(() => one.bytes === 1 && two.heard.length === 1);
      await engine[Symbol.asyncDispose]();
      if (!traits.resetsBoth) one.say('b');
      await until(() => one.isClosed);
      const late = client(at);
      await until(() => late.error === 'ECONNREFUSED');
      await udpPeer(at.address, undefined, at.port);
      expect(await engine.conversations()).toEqual([]);
      await engine[Symbol.asyncDispose]();
    });

    test('an apply that is under way, or comes late, leaves nothing listening', async () => {
      const { engine, rules, ...at } = await running();
      const [soon, ending] = [
        engine
          .apply(rules('in tcp @ -> 127.0.0.1:1', 'in udp @ -> 127.0.0.1:1'), DRAIN)
          .catch(() => undefined),
        engine[Symbol.asyncDispose](),
      ];
      const late = engine.apply(rules('in tcp @ -> 127.0.0.1:1'), DRAIN);
      await expect(late).rejects.toMatchObject({ code: 'ABORTED' });
      await Promise.all([soon, ending]);
      const one = client(at);
      await until(() => one.error === 'ECONNREFUSED');
      await udpPeer(at.address, undefined, at.port);
    });
  });
}

interface Place {
  readonly address: string;
  readonly port: number;
  readonly rules: (...lines: readonly string[]) => ReturnType<typeof table>;
}

function hash(data: Uint8Array): string {
  return createHash('sha1').update(data).digest('hex');
}

function digest({ chunks }: Peer): string {
  return hash(Buffer.concat(chunks));
}

/** So many bytes and the headers around them, and not as many again. */
function withHeaders(bytes: number): unknown {
  const most = 2 * bytes + HANDSHAKE_BYTES;
  return {
    asymmetricMatch: (found: unknown) => typeof found === 'number' && found > bytes && found < most,
    toString: () => `${bytes} bytes and their headers`,
  };
}
