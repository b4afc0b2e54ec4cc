/** What rules of the relay make of a TCP conversation: copies, the PROXY protocol, names, hours, limits of time. */

import { describe, expect, onTestFinished, test } from 'vitest';
import { NatwardError } from '../../../src/errors.ts';
import { encodeProxyHeader } from '../../../src/wire/proxy-protocol.ts';
import {
  aWhile,
  client,
  echo,
  freePort,
  noise,
  ownAddress,
  type Peer,
  relayOn,
  serve,
  STREAMS,
  type UnderTest,
  until,
} from './support.ts';

interface Running extends UnderTest {
  readonly at: { readonly address: string; readonly port: number };
  readonly target: Awaited<ReturnType<typeof serve>>;
}

const FROM_PROXY = { source: { address: '203.0.113.7', port: 4242 }, protocol: 'tcp' } as const;

for (const [name, streams] of STREAMS) {
  /** One rule, with a target that answers as `each` says. */
  async function rule(clauses: string, each: (peer: Peer) => void = echo, before = ''): Promise<Running> {
    const at = { address: ownAddress(), port: await freePort() };
    const target = await serve(each);
    const under = relayOn(streams);
    await under.apply(`in tcp ${at.address}:${at.port} ${before} -> 127.0.0.1:${target.port} ${clauses}`);
    return { ...under, at, target };
  }

  describe(`clones on ${name}`, () => {
    test('the clone gets all that the client sends, in order, and the client hears the target alone', async () => {
      const clone = await serve((peer) => peer.say('noise of the clone'));
      const { at } = await rule(`clone 127.0.0.1:${clone.port}`);
      const one = client(at);
      const sent = noise(300_000);
      one.socket.end(sent);
      const copy = await clone.accepted();
      await until(() => one.hasEnded && copy.hasEnded);
      expect(Buffer.concat(one.chunks).equals(sent)).toBe(true);
      expect(Buffer.concat(copy.chunks).equals(sent)).toBe(true);
    });

    test('a conversation that is over at once still reaches a clone that is slow to accept', async () => {
      const clone = await serve(undefined, { paused: true });
      const { at, relay, names, clock, apply, target } = await rule('');
      const late = deferred<{ addresses: readonly string[]; ttlSeconds: number }>();
      names.known.set('clone', late.promise);
      await apply(`in tcp ${at.address}:${at.port} -> 127.0.0.1:${target.port} clone clone:${clone.port}`);
      const one = client(at);
      const sent = noise(200_000);
      one.socket.end(sent);
      await until(async () => one.hasEnded && (await relay.conversations()).length === 0);
      expect(clone.peers).toHaveLength(0);
      late.resolve({ addresses: ['127.0.0.1'], ttlSeconds: 9 });
      const copy = await clone.accepted();
      await clock.advance(2000);
      copy.socket.resume();
      await until(() => copy.hasEnded);
      expect(Buffer.concat(copy.chunks).equals(sent)).toBe(true);
    });

    test('a clone that refuses, dies or never reads is nothing to the conversation', async () => {
      const deaf = await serve(undefined, { paused: true });
      const dying = await serve((peer) => peer.socket.resetAndDestroy());
      for (const port of [await freePort(), deaf.port, dying.port]) {
        const { at } = await rule(`clone 127.0.0.1:${port}`);
        const one = client(at);
        const sent = noise(8 * 2 ** 20);
        one.socket.end(sent);
        await until(() => one.hasEnded);
        expect(one.bytes).toBe(sent.length);
      }
    });

    test('a clone that does not finish is left after its time', async () => {
      const clone = await serve();
      const { at, clock } = await rule(`clone 127.0.0.1:${clone.port}`);
      const one = client(at);
      one.socket.end('a');
      const copy = await clone.accepted();
      await until(() => one.hasEnded && copy.hasEnded);
      copy.say('I am not done');
      await clock.advance(11_000);
      // Only who writes to it hears of it.
      await until(() => {
        copy.say('hello?');
        return copy.error !== undefined;
      }, 'the clone is left');
    });
  });

  describe(`the PROXY protocol on ${name}`, () => {
    test.each(['v1', 'v2'] as const)('%s tells the target who the client is', async (version) => {
      const { at, target } = await rule(`proxy ${version}`, () => undefined);
      const one = client(at);
      one.socket.end('data');
      const peer = await target.accepted();
      await until(() => peer.hasEnded);
      const header = encodeProxyHeader(version, {
        protocol: 'tcp',
        source: { address: '127.0.0.1', port: one.socket.localPort as number },
        destination: at,
      });
      expect(peer.text).toBe(`${Buffer.from(header).toString('latin1')}data`);
    });

    test('the header goes ahead of a target that speaks first, without a byte of the client', async () => {
      const { at, target } = await rule('proxy v1', (peer) => peer.say('220 hello'));
      await client(at).hears('220 hello');
      await (await target.accepted()).hears('PROXY TCP4 127.0.0.1');
    });

    test.each(['v1', 'v2'] as const)('a trusted peer says by %s who the client is', async (version) => {
      const clone = await serve();
      const { at, target, relay } = await rule(
        `clone 127.0.0.1:${clone.port} proxy v2 accept-proxy 127.6.0.0/16 allow 203.0.113.0/24`,
        () => undefined,
      );
      const destination = { address: '198.51.100.1', port: 443 };
      const header = encodeProxyHeader(version, { ...FROM_PROXY, destination });
      const one = client(at, { localAddress: '127.6.0.1' });
      // With the first bytes of the conversation in the same segment, and in pieces.
      one.say(header.subarray(0, 5));
      await aWhile();
      one.say(Buffer.concat([header.subarray(5), Buffer.from('first ')]));
      const peer = await target.accepted();
      one.socket.end('second');
      await until(() => peer.hasEnded);
      const told = encodeProxyHeader('v2', { ...FROM_PROXY, destination: { ...destination, port: at.port } });
      expect(peer.text).toBe(`${Buffer.from(told).toString('latin1')}first second`);
      expect(await relay.conversations()).toMatchObject([{ client: FROM_PROXY.source, bytesIn: 12 }]);
      const copy = await clone.accepted();
      await until(() => copy.hasEnded);
      expect(copy.text).toBe('first second');
    });

    test('what a stranger says in a header is the target’s to read, and the list is about the stranger', async () => {
      const { at, target, relay } = await rule(
        'accept-proxy 127.6.0.0/16 deny 203.0.113.0/24',
        () => undefined,
      );
      const one = client(at);
      one.say('PROXY TCP4 203.0.113.7 198.51.100.1 4242 443\r\n');
      await (await target.accepted()).hears('PROXY TCP4 203.0.113.7');
      expect(await relay.conversations()).toMatchObject([{ client: { address: '127.0.0.1' } }]);
    });

    test('a client that a trusted peer names is denied by its own address', async () => {
      const { at, events, target } = await rule('accept-proxy 127.6.0.0/16 deny 203.0.113.0/24');
      const one = client(at, { localAddress: '127.6.0.1' });
      one.say('PROXY TCP4 203.0.113.7 198.51.100.1 4242 443\r\n');
      await until(() => one.error === 'ECONNRESET');
      expect(events).toMatchObject([{ type: 'refused', client: FROM_PROXY.source }]);
      expect(target.peers).toEqual([]);
    });

    test('a health check is about the connection itself', async () => {
      const { at, relay } = await rule('accept-proxy 127.6.0.0/16');
      const one = client(at, { localAddress: '127.6.0.1' });
      one.say(encodeProxyHeader('v2', 'local'));
      one.say('ping');
      await one.hears('ping');
      expect(await relay.conversations()).toMatchObject([{ client: { address: '127.6.0.1' } }]);
    });

    test('a trusted peer that says nothing, nonsense or half of it is turned away', async () => {
      const { at, events, clock } = await rule('accept-proxy 127.6.0.0/16');
      const [silent, wrong, half] = [0, 1, 2].map(() => client(at, { localAddress: '127.6.0.1' })) as [
        Peer,
        Peer,
        Peer,
      ];
      wrong.say('GET / HTTP/1.1\r\n');
      half.socket.end('PROXY TCP4 ');
      await until(() => wrong.error === 'ECONNRESET' && events.length === 2);
      await until(() => half.isClosed || half.hasEnded);
      await clock.advance(4900);
      expect(silent.isClosed).toBe(false);
      await clock.advance(1000);
      await until(() => silent.error === 'ECONNRESET');
      const reasons = events.map((event) => (event.type === 'refused' ? event.reason : event.type));
      expect(reasons.toSorted()).toEqual([
        expect.stringMatching(/^it did not say in time who the client is/),
        expect.stringMatching(/^it ended before it had said who the client is/),
        expect.stringMatching(/^no header of the PROXY protocol: /),
      ]);
    });

    test('one that is being greeted when its rule goes is let in by nobody', async () => {
      const { at, relay, target } = await rule('accept-proxy 127.6.0.0/16');
      const one = client(at, { localAddress: '127.6.0.1' });
      await until(() => one.isConnected);
      await aWhile();
      await relay.apply([], { conversations: 'drain' });
      one.say('PROXY TCP4 203.0.113.7 198.51.100.1 4242 443\r\n');
      await until(() => one.error === 'ECONNRESET');
      expect(target.peers).toEqual([]);
    });
  });

  describe(`names on ${name}`, () => {
    test('a target by name is asked for again when its time is over', async () => {
      const first = await serve((peer) => peer.say('first'));
      const second = await serve((peer) => peer.say('second'), { address: '127.0.0.2', port: first.port });
      const under = relayOn(streams);
      const at = { address: ownAddress(), port: await freePort() };
      under.names.known.set('nas', { addresses: ['127.0.0.1'], ttlSeconds: 5 });
      await under.apply(`in tcp ${at.address}:${at.port} -> nas:${second.port}`);
      await client(at).hears('first');
      under.names.known.set('nas', { addresses: ['127.0.0.2'], ttlSeconds: 5 });
      await client(at).hears('first');
      await under.clock.advance(5000);
      await client(at).hears('second');
      expect(under.names.asked).toEqual(['nas', 'nas']);
    });

    test('a name with a dead address leads to the one that lives', async () => {
      const target = await serve((peer) => peer.say('here'), { address: '::1' });
      const under = relayOn(streams);
      const at = { address: ownAddress(), port: await freePort() };
      under.names.known.set('nas', { addresses: ['127.0.0.77', '::1'], ttlSeconds: 5 });
      await under.apply(`in tcp ${at.address}:${at.port} -> nas:${target.port}`);
      await client(at).hears('here');
      expect((await under.relay.conversations())[0]?.target).toEqual({ address: '::1', port: target.port });
    });

    test('the next target is turned to where the first has no name, and where it refuses', async () => {
      const target = await serve((peer) => peer.say('third'));
      const under = relayOn(streams);
      const at = { address: ownAddress(), port: await freePort() };
      const dead = await freePort();
      await under.apply(
        `in tcp ${at.address}:${at.port} -> none:80 else 127.0.0.1:${dead},127.0.0.1:${target.port}`,
      );
      await client(at).hears('third');
    });

    test('clients are let in by name, and one that goes meanwhile leaves nothing behind', async () => {
      const { at, names, relay, events } = await rule('allow .example.org');
      names.back.set('127.7.0.1', ['www.example.org']);
      const one = client(at, { localAddress: '127.7.0.1' });
      one.say('hello');
      await one.hears('hello');
      const stranger = client(at, { localAddress: '127.7.0.2' });
      await until(() => stranger.error === 'ECONNRESET');
      const late = deferred<readonly string[]>();
      names.back.set('127.7.0.3', late.promise);
      const gone = client(at, { localAddress: '127.7.0.3' });
      await until(() => names.asked.includes('127.7.0.3'));
      gone.socket.resetAndDestroy();
      late.resolve(['gone.example.org']);
      one.socket.destroy();
      await until(async () => (await relay.activity()).get('r1')?.open === 0 && events.length === 5);
      expect(await relay.conversations()).toEqual([]);
    });

    test('while the names of a client are asked for its rule goes: it is not let in', async () => {
      const { at, names, relay, target } = await rule('allow .example.org');
      const late = deferred<readonly string[]>();
      names.back.set('127.7.0.1', late.promise);
      const one = client(at, { localAddress: '127.7.0.1' });
      await until(() => names.asked.includes('127.7.0.1'));
      await relay.apply([], { conversations: 'drain' });
      late.resolve(['www.example.org']);
      await until(() => one.error === 'ECONNRESET');
      expect(target.peers).toEqual([]);
    });
  });

  describe(`time on ${name}`, () => {
    test('a rule is in force in its hours alone', async () => {
      const hour = new Date(Date.UTC(2026, 0, 1)).getHours();
      const [from, to] = [hour, hour + 1].map((one) => `${String(one).padStart(2, '0')}:00`);
      const { at, clock } = await rule('', echo, `when daily ${from}-${to}`);
      const one = client(at);
      one.say('a');
      await one.hears('a');
      await clock.advance(3_600_000);
      one.say('b');
      await one.hears('ab');
      const late = client(at);
      await until(() => late.error === 'ECONNRESET');
    });

    test('the files of hosts_access are read again when they change', async () => {
      const { at, host, clock, relay } = await rule('hosts web');
      host.hosts = { allow: '', deny: 'web: 127.0.0.1\n' };
      const one = client(at);
      await until(() => one.error === 'ECONNRESET');
      expect((await relay.activity()).get('r1')?.lastRefusal).toMatch(/hosts\.deny:1 denies it/);
      host.hosts = { allow: 'web: ALL\n', deny: 'ALL: ALL\n' };
      await clock.advance(2000);
      const two = client(at);
      two.say('a');
      await two.hears('a');
    });

    test('files of hosts_access that the system does not give let nobody in', async () => {
      const { at, host, relay } = await rule('hosts web');
      Object.defineProperty(host, 'hosts', {
        get() {
          throw new NatwardError('FAILED', 'cannot read /etc/hosts.allow: EACCES');
        },
      });
      const one = client(at);
      await until(() => one.error === 'ECONNRESET');
      expect((await relay.activity()).get('r1')?.lastRefusal).toMatch(/cannot read \/etc\/hosts\.allow/);
    });

    test('files of hosts_access that nobody can read let nobody in', async () => {
      const { at, host, relay } = await rule('hosts web');
      host.hosts = { allow: 'web ALL\n', deny: '' };
      const one = client(at);
      await until(() => one.error === 'ECONNRESET');
      expect((await relay.activity()).get('r1')).toMatchObject({ conversations: 0, refused: 1 });
    });

    test('what is half closed has ten minutes of silence, and less where its rule says so', async () => {
      const { at, clock, relay, target } = await rule('', () => undefined);
      const one = client(at);
      one.socket.end();
      const peer = await target.accepted();
      await until(() => peer.hasEnded);
      await clock.advance(599_000);
      expect(await relay.conversations()).toHaveLength(1);
      await clock.advance(2000);
      expect(await relay.conversations()).toHaveLength(0);
    });

    test('what its rate holds up is not silent, and its wait ends with it', async () => {
      const { at, clock, relay, target } = await rule('rate 1kB/s idle 5s', () => undefined);
      const one = client(at);
      one.say(noise(60_000));
      await until(async () => ((await relay.conversations())[0]?.bytesIn ?? 0) > 20_000);
      const peer = await target.accepted();
      await clock.advance(15_000);
      expect(await relay.conversations()).toHaveLength(1);
      const { pending } = clock;
      peer.socket.resetAndDestroy();
      await until(async () => (await relay.conversations()).length === 0);
      await aWhile();
      expect(clock.pending).toBeLessThan(pending);
    });

    test('a target that does not answer in time resets the client', async () => {
      const { at, clock, names, apply, relay } = await rule('');
      names.known.set('never', new Promise(() => undefined));
      await apply(`in tcp ${at.address}:${at.port} -> never:80 connect 3s`);
      const one = client(at);
      await until(() => names.asked.includes('never'));
      await clock.advance(4000);
      await until(() => one.error === 'ECONNRESET');
      expect((await relay.activity()).get('r1')?.lastRefusal).toMatch(/no answer within 3 s/);
    });
  });

  test(`many conversations at once on ${name} are kept apart, the slow and the quick`, async () => {
    const { at, relay } = await rule('');
    const sizes = Array.from({ length: 60 }, (_, index) => [1, 4096, 70_000, 1_000_000][index % 4] as number);
    const conversations = sizes.map(async (size, index) => {
      const sent = noise(size).map((byte) => byte ^ index);
      const one = client(at);
      one.socket.end(sent);
      for (let stops = 0; stops < index % 7; stops++) {
        one.socket.pause();
        await aWhile();
        one.socket.resume();
        await new Promise((resolve) => setImmediate(resolve));
      }
      await until(() => one.hasEnded);
      return Buffer.concat(one.chunks).equals(sent);
    });
    expect(new Set(await Promise.all(conversations))).toEqual(new Set([true]));
    await until(async () => (await relay.conversations()).length === 0);
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    expect((await relay.activity()).get('r1')).toMatchObject({ bytesIn: bytes, bytesOut: bytes, open: 0 });
  });

  test(`monitor on ${name} leads to the same port of this host, and counts`, async () => {
    const target = await serve(echo);
    const at = { address: ownAddress(), port: target.port };
    const under = relayOn(streams, {
      own: [
        { interface: 'lo', family: 4, address: '127.0.0.1', prefixLength: 8, internal: true },
        { interface: 'web0', family: 4, address: at.address, prefixLength: 24, internal: false },
      ],
    });
    await under.apply(`in tcp ${at.address}:${at.port} -> monitor`);
    const one = client(at);
    one.say('watched');
    await one.hears('watched');
    expect((await under.relay.activity()).get('r1')).toMatchObject({ bytesIn: 7, bytesOut: 7 });
  });
}

function deferred<T>(): { readonly promise: Promise<T>; readonly resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((done) => (resolve = done));
  onTestFinished(() => resolve(undefined as T));
  return { promise, resolve };
}
