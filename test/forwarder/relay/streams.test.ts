/** The contract of stream.ts, for both makers of streams: what the relay's correctness stands on. */

import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Stream, StreamOwner, Streams } from '../../../src/forwarder/relay/stream.ts';
import { aWhile, client, freePort, noise, type Peer, serve, STREAMS, until } from './support.ts';

/** Writes down what it hears. */
class Owner implements StreamOwner {
  readonly heard: string[] = [];
  readonly chunks: Buffer[] = [];
  onReceived: (stream: Stream, chunk: Uint8Array) => void = () => undefined;

  received(stream: Stream, chunk: Uint8Array): void {
    this.chunks.push(Buffer.from(chunk));
    this.onReceived(stream, chunk);
  }

  ended(): void {
    this.heard.push('ended');
  }

  drained(): void {
    this.heard.push('drained');
  }

  failed(_: Stream, code: string): void {
    this.heard.push(code);
  }

  get data(): Buffer {
    return Buffer.concat(this.chunks);
  }
}

interface Pair {
  readonly stream: Stream;
  readonly owner: Owner;
  readonly peer: Peer;
}

/** A stream that was accepted, and its client. */
async function accepted(streams: Streams): Promise<Pair> {
  const taken: Stream[] = [];
  const port = await freePort();
  const listener = await streams.listen(
    { address: '127.0.0.1', port },
    (stream) => taken.push(stream),
    String,
  );
  const peer = client({ address: '127.0.0.1', port });
  await until(() => taken.length === 1 && peer.isConnected);
  listener.close();
  const [stream] = taken as [Stream];
  return { stream, owner: owned(stream), peer };
}

/** A stream that was dialed, and its server's end. */
async function dialed(streams: Streams, paused = false): Promise<Pair> {
  const server = await serve(undefined, { paused });
  const stream = await new Promise<Stream>((resolve, reject) => {
    streams.connect({
      to: server,
      from: undefined,
      done: (stream, code) => (stream === undefined ? reject(new Error(code)) : resolve(stream)),
    });
  });
  return { stream, owner: owned(stream), peer: await server.accepted() };
}

function owned(stream: Stream): Owner {
  const owner = new Owner();
  stream.owner = owner;
  onTestFinished(() => stream.close());
  return owner;
}

function sockets(): number {
  return readdirSync('/proc/self/fd').length;
}

/** Writes until the kernel takes no more. */
async function fill({ stream, owner }: Pair): Promise<number> {
  const chunk = noise(65_536);
  let bytes = 0;
  const drains = () => owner.heard.filter((word) => word === 'drained').length;
  for (;;) {
    const before = drains();
    bytes += chunk.length;
    if (stream.write(chunk) === 'sent') continue;
    await Promise.race([aWhile(), until(() => drains() > before)]);
    if (drains() === before) return bytes;
  }
}

for (const [name, streams] of STREAMS) {
  describe(`streams on ${name}`, () => {
    test('a stream says nothing until it is started, and stops where it is told to', async () => {
      const { stream, owner, peer } = await accepted(streams);
      peer.say('one');
      await aWhile();
      expect(owner.data.length).toBe(0);
      owner.onReceived = () => stream.stop();
      stream.start();
      await until(() => owner.data.length === 3);
      peer.say('two');
      peer.socket.end();
      await aWhile();
      expect([owner.data.toString(), owner.heard]).toEqual(['one', []]);
      stream.start();
      await until(() => owner.data.length === 6);
      stream.start();
      await until(() => owner.heard.includes('ended'));
    });

    test('both ends know both addresses', async () => {
      const { stream, peer } = await accepted(streams);
      expect(stream.remote).toEqual({ address: '127.0.0.1', port: peer.socket.localPort });
      expect(stream.local).toEqual({ address: '127.0.0.1', port: peer.socket.remotePort });
    });

    test('FIN comes after all that was written, also what was pending', async () => {
      const pair = await dialed(streams, true);
      const bytes = await fill(pair);
      pair.stream.end();
      await aWhile();
      expect(pair.peer.hasEnded).toBe(false);
      pair.peer.socket.resume();
      await until(() => pair.peer.hasEnded);
      expect(pair.peer.bytes).toBe(bytes);
      expect(pair.owner.heard.at(-1)).toBe('drained');
    });

    test('after its FIN a stream still hears', async () => {
      const { stream, owner, peer } = await dialed(streams);
      stream.start();
      stream.end();
      await until(() => peer.hasEnded);
      peer.socket.end('answer');
      await until(() => owner.heard.includes('ended'));
      expect(owner.data.toString()).toBe('answer');
    });

    test('RST is an error by its name, once, and nothing is heard after it', async () => {
      const { stream, owner, peer } = await accepted(streams);
      stream.start();
      peer.socket.resetAndDestroy();
      await until(() => owner.heard.length > 0);
      expect(stream.write(Buffer.from('late'))).toBe('sent');
      stream.end();
      stream.stop();
      stream.start();
      stream.rest();
      stream.reset();
      stream.close();
      await aWhile();
      expect(owner.heard).toEqual(['ECONNRESET']);
    });

    test('a write to one that has reset is an error, and not within the call', async () => {
      const { stream, owner, peer } = await accepted(streams);
      peer.socket.resetAndDestroy();
      await until(() => peer.isClosed);
      await aWhile();
      stream.write(Buffer.from('a'));
      expect(owner.heard).toEqual([]);
      await until(() => owner.heard.length > 0);
      expect(owner.heard).toEqual([expect.stringMatching(/^(EPIPE|ECONNRESET)$/)]);
    });

    test.each(['reset', 'close'] as const)(
      '%s() ends one whose peer never reads, and its socket',
      async (how) => {
        const pair = await dialed(streams, true);
        await fill(pair);
        const before = sockets();
        pair.stream[how]();
        pair.stream[how]();
        await until(() => sockets() < before, 'its file is given back');
        expect(pair.owner.heard).not.toContain('ECANCELED');
      },
    );

    test('close() of one that has nothing pending is FIN, and all arrives', async () => {
      const { stream, peer } = await dialed(streams);
      stream.write(Buffer.from('all'));
      await aWhile();
      stream.close();
      await until(() => peer.hasEnded);
      expect([peer.text, peer.error]).toEqual(['all', undefined]);
    });

    test('reset() right behind its FIN is RST, and gives the socket back', async () => {
      const before = sockets();
      const { stream, owner, peer } = await accepted(streams);
      stream.start();
      stream.end();
      stream.reset();
      await until(() => peer.isClosed || peer.hasEnded);
      peer.say('anybody there');
      await until(() => peer.error !== undefined, 'the peer hears of it');
      await until(() => sockets() <= before, 'its file is given back');
      expect(owner.heard).toEqual([]);
    });

    test('reset() long after its FIN is RST', async () => {
      const { stream, peer } = await accepted(streams);
      stream.start();
      stream.end();
      await until(() => peer.hasEnded);
      stream.reset();
      // Node does not look at one that has ended until it writes.
      peer.say('anybody there');
      await until(() => peer.error !== undefined);
    });

    test('a port in use is an error by its name', async () => {
      const { port } = await serve();
      const listening = (async () =>
        streams.listen({ address: '127.0.0.1', port }, () => undefined, String))();
      await expect(listening).rejects.toMatchObject({ code: 'EADDRINUSE' });
    });

    test('a target that refuses is an error by its name', async () => {
      const to = { address: '127.0.0.1', port: await freePort() };
      const code = await new Promise((resolve) => {
        streams.connect({ to, from: undefined, done: (_, code) => resolve(code) });
      });
      expect(code).toBe('ECONNREFUSED');
    });

    test('a source that is not this host’s is an error by its name, and not within the call', async () => {
      const { port } = await serve();
      const codes: (string | undefined)[] = [];
      streams.connect({
        to: { address: '127.0.0.1', port },
        from: { address: '192.0.2.77', port: undefined },
        done: (_, code) => codes.push(code),
      });
      expect(codes).toEqual([]);
      await until(() => codes.length === 1);
      expect(codes).toEqual(['EADDRNOTAVAIL']);
    });

    test('one that was given up is never heard of', async () => {
      const server = await serve();
      const done: unknown[] = [];
      const stop = streams.connect({ to: server, from: undefined, done: (stream) => done.push(stream) });
      stop();
      stop();
      await aWhile();
      expect(done).toEqual([]);
    });

    test('what comes in a hurry and what comes slowly is the same as was sent', async () => {
      const { stream, owner, peer } = await accepted(streams);
      const all = noise(3 * 2 ** 20);
      stream.start();
      for (let at = 0; at < 70_000; at += 700) peer.say(all.subarray(at, at + 700));
      peer.socket.end(all.subarray(70_000));
      await until(() => owner.heard.includes('ended'));
      expect(owner.data.equals(all)).toBe(true);
    });
  });
}

describe.runIf(process.platform === 'linux')('a client that may vanish', () => {
  test.each(STREAMS)('is asked after a while whether it is there: %s', async (_, streams) => {
    const { stream } = await accepted(streams);
    const port = stream.local?.port.toString(16).toUpperCase().padStart(4, '0');
    const lines = readFileSync('/proc/net/tcp', 'latin1').split('\n');
    // proc(5): a timer of kind 2 keeps the connection alive.
    const [, , , state, , timer] =
      lines
        .map((line) => line.trim().split(/\s+/))
        .find((fields) => fields[1]?.endsWith(`:${port}`) && fields[3] === '01') ?? [];
    expect(state).toBe('01');
    expect(timer).toMatch(/^02:/);
  });
});

describe('streams on node handles', () => {
  const streams = (STREAMS[0] as (typeof STREAMS)[number])[1];

  test('RST right behind data is no FIN', async () => {
    for (const isShut of [false, true]) {
      const { stream, owner, peer } = await dialed(streams);
      if (isShut) stream.end();
      if (isShut) await until(() => peer.hasEnded);
      peer.say('half of i');
      peer.socket.resetAndDestroy();
      await aWhile();
      stream.start();
      await until(() => owner.heard.length > 0);
      expect([owner.data.toString(), owner.heard]).toEqual(['half of i', ['ECONNRESET']]);
    }
  });

  test('what is pending on one stream is not overwritten by what another reads', async () => {
    // A full first buffer that is pending elsewhere: the stream that read it is given another one.
    const far = await dialed(streams, true);
    const filled = await fill(far);
    const near = await accepted(streams);
    near.owner.onReceived = (stream) => stream.stop();
    near.stream.start();
    const [secret, other] = [noise(4096), Buffer.alloc(4096, 'x')];
    let pending: Uint8Array | undefined;
    near.owner.onReceived = (stream, chunk) => {
      stream.stop();
      pending = chunk;
    };
    near.peer.say(secret);
    await until(() => pending !== undefined);
    const third = await accepted(streams);
    third.stream.start();
    third.peer.say(other);
    await until(() => third.owner.data.length === 4096);
    expect(Buffer.from(pending as Uint8Array).equals(secret)).toBe(true);
    near.stream.rest();
    const fourth = await accepted(streams);
    fourth.stream.start();
    fourth.peer.say(other);
    await until(() => fourth.owner.data.length === 4096);
    expect(Buffer.from(pending as Uint8Array).equals(secret)).toBe(true);
    expect(filled).toBeGreaterThan(0);
  });
});
