import { describe, expect, onTestFinished, test } from 'vitest';
import type { EngineEvent } from '../../../src/forwarder/engine.ts';
import type { Datagrams } from '../../../src/forwarder/relay/datagram.ts';
import { nodeDatagramHandles } from '../../../src/forwarder/relay/datagram-handles.ts';
import { nodeDatagramSockets } from '../../../src/forwarder/relay/datagram-sockets.ts';
import { Relay } from '../../../src/forwarder/relay/engine.ts';
import { nodeSockets } from '../../../src/forwarder/relay/sockets.ts';
import type { HostAddresses } from '../../../src/system/names.ts';
import { decodeProxyDatagram } from '../../../src/wire/proxy-protocol.ts';
import { TestClock } from '../../support/test-clock.ts';
import {
  aWhile,
  freePort,
  LOOPBACK,
  ownAddress,
  table,
  TestNames,
  udpPeer,
  type UdpPeer,
  until,
} from './support.ts';

const MAKERS: readonly (readonly [name: string, datagrams: Datagrams])[] = [
  ['node handles', nodeDatagramHandles() as Datagrams],
  ['node:dgram', nodeDatagramSockets],
];

interface UnderTest {
  readonly relay: Relay;
  readonly clock: TestClock;
  readonly names: TestNames;
  readonly events: EngineEvent[];
  apply(...lines: readonly string[]): Promise<unknown>;
  /** Why those that are closed have been. */
  reasons(): string[];
}

function relayOn(datagrams: Datagrams): UnderTest {
  const clock = new TestClock();
  const names = new TestNames();
  const relay = new Relay({
    clock,
    names,
    datagrams,
    streams: nodeSockets,
    ownAddresses: () => LOOPBACK,
    readHosts: () => ({ allow: '', deny: '' }),
    fileLimit: 4096,
    kernelCan: 'the kernel’s engine can',
  });
  const events: EngineEvent[] = [];
  relay.listen((event) => events.push(event));
  onTestFinished(() => relay[Symbol.asyncDispose]());
  return {
    relay,
    clock,
    names,
    events,
    apply: (...lines) => relay.apply(table(...lines), { conversations: 'drain' }),
    reasons: () => events.flatMap((event) => (event.type === 'closed' ? [event.reason] : [])),
  };
}

/** A place of its own for each test. */
async function aPlace(): Promise<{ readonly address: string; readonly port: number }> {
  const address = ownAddress();
  return { address, port: await freePort(address) };
}

async function hears(peer: UdpPeer, count: number): Promise<readonly string[]> {
  await until(() => peer.heard.length >= count, `${count} datagrams arrive; there are ${peer.heard.length}`);
  return peer.heard;
}

describe.each(MAKERS)('UDP over %s', (_, datagrams) => {
  test('goes there and back, each client with a conversation of its own, borders kept', async () => {
    const { relay, apply } = relayOn(datagrams);
    const at = await aPlace();
    const server = await udpPeer('127.0.0.1', (data) => `<${data.toString()}>`);
    await apply(`in udp ${at.address}:${at.port} -> 127.0.0.1:${server.port}`);
    const clients = await Promise.all([udpPeer(), udpPeer(), udpPeer()]);
    for (const text of ['a', '', 'b']) for (const client of clients) client.send(text, at);
    for (const client of clients) expect(await hears(client, 3)).toEqual(['<a>', '<>', '<b>']);
    expect(new Set(server.from.map(({ port }) => port)).size).toBe(3);
    for (const { from } of clients) expect(from[0]).toMatchObject(at);
    expect((await relay.conversations()).map(({ client }) => client)).toEqual(
      clients.map(({ port }) => ({ address: '127.0.0.1', port })),
    );
    expect((await relay.activity()).get('r1')).toMatchObject({
      bytesIn: 6,
      bytesOut: 24,
      packetsIn: 9,
      packetsOut: 9,
      open: 3,
    });
  });

  test('carries empty datagrams both ways', async () => {
    const { apply } = relayOn(datagrams);
    const at = await aPlace();
    const server = await udpPeer('127.0.0.1', () => '');
    await apply(`in udp ${at.address}:${at.port} -> 127.0.0.1:${server.port}`);
    const client = await udpPeer();
    client.send('', at);
    expect(await hears(client, 1)).toEqual(['']);
    expect(server.heard).toEqual(['']);
  });

  test('tells clients of one port at two addresses apart', async () => {
    const { apply } = relayOn(datagrams);
    const at = await aPlace();
    const server = await udpPeer('127.0.0.1', (data) => data);
    await apply(`in udp ${at.address}:${at.port} -> 127.0.0.1:${server.port}`);
    const one = await udpPeer(ownAddress());
    const other = await udpPeer(ownAddress(), undefined, one.port);
    for (let turn = 0; turn < 3; turn++) {
      one.send(`one ${turn}`, at);
      other.send(`other ${turn}`, at);
    }
    expect(await hears(one, 3)).toEqual(['one 0', 'one 1', 'one 2']);
    expect(await hears(other, 3)).toEqual(['other 0', 'other 1', 'other 2']);
  });

  test('carries the largest datagram, and loses one that a header makes too long, alone', async () => {
    const { relay, apply } = relayOn(datagrams);
    const [plain, headed] = [await aPlace(), await aPlace()];
    const server = await udpPeer('127.0.0.1', (data) => data);
    await apply(
      `in udp ${plain.address}:${plain.port} -> 127.0.0.1:${server.port}`,
      `in udp ${headed.address}:${headed.port} -> 127.0.0.1:${server.port} proxy v2`,
    );
    const client = await udpPeer();
    const largest = Buffer.alloc(65_507, 'x');
    client.send(largest, plain);
    expect((await hears(client, 1))[0] === largest.toString()).toBe(true);
    client.send(largest, headed);
    client.send('short', headed);
    expect((await hears(client, 2))[1]).toContain('short');
    await aWhile();
    expect(server.heard).toHaveLength(2);
    expect(await relay.conversations()).toHaveLength(2);
  });

  test('ends a conversation that the target refuses, and begins anew with the next datagram', async () => {
    const { relay, apply, events, reasons } = relayOn(datagrams);
    const at = await aPlace();
    const port = await freePort();
    await apply(`in udp ${at.address}:${at.port} -> 127.0.0.1:${port}`);
    const client = await udpPeer();
    client.send('anybody?', at);
    await until(() => reasons().length === 1);
    expect(reasons()).toEqual(['the target refused: ECONNREFUSED']);
    expect(await relay.conversations()).toEqual([]);
    expect((await relay.activity()).get('r1')).toMatchObject({
      open: 0,
      refused: 1,
      lastRefusal: 'the target refused: ECONNREFUSED',
    });
    const server = await udpPeer('127.0.0.1', (data) => data, port);
    client.send('now?', at);
    expect(await hears(client, 1)).toEqual(['now?']);
    expect(server.heard).toEqual(['now?']);
    expect(events.filter(({ type }) => type === 'opened')).toHaveLength(2);
  });

  test('ends what is silent for as long as its rule says, and nothing earlier', async () => {
    const { relay, apply, clock, reasons } = relayOn(datagrams);
    const at = await aPlace();
    const server = await udpPeer('127.0.0.1', (data) => data);
    await apply(`in udp ${at.address}:${at.port} -> 127.0.0.1:${server.port} idle 10s`);
    const client = await udpPeer();
    client.send('one', at);
    await hears(client, 1);
    await clock.advance(8000);
    // The target's datagrams count as well.
    server.send('still here', { address: '127.0.0.1', port: server.from[0]?.port as number });
    await hears(client, 2);
    await clock.advance(8000);
    expect(await relay.conversations()).toHaveLength(1);
    client.send('and I', at);
    await hears(client, 3);
    await clock.advance(8000);
    expect(await relay.conversations()).toHaveLength(1);
    await clock.advance(4000);
    expect(reasons()).toEqual(['silent for 10 s']);
    expect((await relay.activity()).get('r1')).toMatchObject({ open: 0 });
  });

  test('loses what is faster than the rule’s rate', async () => {
    const { apply, clock } = relayOn(datagrams);
    const at = await aPlace();
    const server = await udpPeer();
    await apply(`in udp ${at.address}:${at.port} -> 127.0.0.1:${server.port} rate 10000B/s`);
    const client = await udpPeer();
    // A burst of 16,384 bytes is let through.
    for (let count = 0; count < 40; count++) client.send(Buffer.alloc(1000, 'x'), at);
    await hears(server, 16);
    await aWhile();
    expect(server.heard.length).toBe(16);
    await clock.advance(60_000);
    client.send('later', at);
    expect((await hears(server, 17))[16]).toBe('later');
  });

  test('ends when the quota of its rule is used up', async () => {
    const { apply, events, reasons } = relayOn(datagrams);
    const at = await aPlace();
    const server = await udpPeer('127.0.0.1', (data) => data);
    await apply(`in udp ${at.address}:${at.port} -> 127.0.0.1:${server.port} quota 25B`);
    const client = await udpPeer();
    client.send('0123456789', at);
    await hears(client, 1);
    client.send('0123456789', at);
    await until(() => reasons().length === 1);
    expect(reasons()).toEqual(['the quota of its rule is used up']);
    expect(server.heard).toHaveLength(1);
    client.send('0123456789', at);
    await until(() => events.some(({ type }) => type === 'refused'));
    expect(server.heard).toHaveLength(1);
  });

  test('copies what the client sends, and lets nobody hear what the copy’s receiver answers', async () => {
    const { apply, reasons } = relayOn(datagrams);
    const [at, deaf] = [await aPlace(), await aPlace()];
    const server = await udpPeer('127.0.0.1', (data) => `server ${data.toString()}`);
    const copies = await udpPeer('127.0.0.1', (data) => `copies ${data.toString()}`);
    const nobody = await freePort();
    await apply(
      `in udp ${at.address}:${at.port} -> 127.0.0.1:${server.port} clone 127.0.0.1:${copies.port}`,
      `in udp ${deaf.address}:${deaf.port} -> 127.0.0.1:${server.port} clone 127.0.0.1:${nobody}`,
    );
    const client = await udpPeer();
    for (const text of ['a', '', 'b']) client.send(text, at);
    expect(await hears(copies, 3)).toEqual(['a', '', 'b']);
    expect(await hears(client, 3)).toEqual(['server a', 'server ', 'server b']);
    const other = await udpPeer();
    for (const [index, text] of ['x', 'y', 'z'].entries()) {
      other.send(text, deaf);
      await hears(other, index + 1);
    }
    expect(other.heard).toEqual(['server x', 'server y', 'server z']);
    await aWhile();
    expect(client.heard).toHaveLength(3);
    expect(reasons()).toEqual([]);
  });

  test('tells the target who the client is, in each datagram', async () => {
    const { apply } = relayOn(datagrams);
    const at = await aPlace();
    const copies = await udpPeer();
    const server = await udpPeer('127.0.0.1', () => 'plain');
    await apply(
      `in udp ${at.address}:${at.port} -> 127.0.0.1:${server.port} proxy v2 clone 127.0.0.1:${copies.port}`,
    );
    const client = await udpPeer();
    for (const text of ['one', '', 'three']) client.send(text, at);
    await hears(server, 3);
    const read = server.heard.map((text) => {
      const datagram = Buffer.from(text, 'latin1');
      const { header, length } = decodeProxyDatagram(datagram);
      return { header, payload: datagram.subarray(length).toString() };
    });
    expect(read.map(({ payload }) => payload)).toEqual(['one', '', 'three']);
    for (const { header } of read) {
      expect(header).toMatchObject({
        protocol: 'udp',
        source: { address: '127.0.0.1', port: client.port },
        destination: at,
      });
    }
    expect(await hears(client, 3)).toEqual(['plain', 'plain', 'plain']);
    expect(await hears(copies, 3)).toEqual(['one', '', 'three']);
  });

  test('keeps the first 16 datagrams, in their order, while the target’s name is asked for', async () => {
    const { apply, names } = relayOn(datagrams);
    const at = await aPlace();
    const server = await udpPeer('127.0.0.1', (data) => data);
    let answer: (found: HostAddresses) => void = () => undefined;
    names.known.set('nas.example', new Promise((resolve) => (answer = resolve)));
    await apply(`in udp ${at.address}:${at.port} -> nas.example:${server.port}`);
    const client = await udpPeer();
    for (let count = 0; count < 20; count++) client.send(`${count}`, at);
    // The last of them has come when another client's has.
    const witness = await udpPeer();
    witness.send('me too', at);
    await until(() => names.asked.length > 0);
    await aWhile();
    answer({ addresses: ['127.0.0.1'], ttlSeconds: 60 });
    expect(await hears(client, 16)).toEqual(Array.from({ length: 16 }, (__, count) => `${count}`));
    await hears(witness, 1);
    client.send('after', at);
    expect((await hears(client, 17))[16]).toBe('after');
  });

  test('keeps no more bytes of them than the largest datagram has', async () => {
    const { apply, names } = relayOn(datagrams);
    const at = await aPlace();
    const server = await udpPeer();
    let answer: (found: HostAddresses) => void = () => undefined;
    names.known.set('nas.example', new Promise((resolve) => (answer = resolve)));
    await apply(`in udp ${at.address}:${at.port} -> nas.example:${server.port}`);
    const client = await udpPeer();
    for (let count = 0; count < 4; count++) client.send(Buffer.alloc(30_000, 'x'), at);
    client.send('small', at);
    await until(() => names.asked.length > 0);
    await aWhile();
    answer({ addresses: ['127.0.0.1'], ttlSeconds: 60 });
    await hears(server, 3);
    await aWhile();
    expect(server.heard.map(({ length }) => length)).toEqual([30_000, 30_000, 5]);
  });

  test('says of a target without an address that it cannot be reached', async () => {
    const { apply, relay, reasons } = relayOn(datagrams);
    const at = await aPlace();
    await apply(`in udp ${at.address}:${at.port} -> nowhere.example:9`);
    const client = await udpPeer();
    client.send('hello?', at);
    await until(() => reasons().length === 1);
    expect(reasons()[0]).toContain('has no address');
    expect((await relay.activity()).get('r1')).toMatchObject({ open: 0, refused: 1 });
  });

  test('goes on under a rule that is gone, and takes nobody new until it is back', async () => {
    const { relay, apply } = relayOn(datagrams);
    const at = await aPlace();
    const server = await udpPeer('127.0.0.1', (data) => data);
    const line = `in udp ${at.address}:${at.port} -> 127.0.0.1:${server.port}`;
    await apply(line);
    const [old, fresh] = [await udpPeer(), await udpPeer()];
    old.send('before', at);
    await hears(old, 1);
    await apply();
    old.send('after', at);
    fresh.send('hello', at);
    expect(await hears(old, 2)).toEqual(['before', 'after']);
    await aWhile();
    expect(fresh.heard).toEqual([]);
    await apply(line);
    fresh.send('hello again', at);
    expect(await hears(fresh, 1)).toEqual(['hello again']);
    old.send('and on', at);
    expect((await hears(old, 3))[2]).toBe('and on');
    expect(await relay.conversations()).toHaveLength(2);
  });

  test('leaves the port free when the last conversation of a rule that is gone is over', async () => {
    const { apply, clock, reasons } = relayOn(datagrams);
    const at = await aPlace();
    const server = await udpPeer('127.0.0.1', (data) => data);
    await apply(`in udp ${at.address}:${at.port} -> 127.0.0.1:${server.port} idle 5s`);
    const client = await udpPeer();
    client.send('one', at);
    await hears(client, 1);
    await apply();
    const line = `in udp ${at.address}:${at.port} -> 127.0.0.1:${server.port}`;
    const { relay: other } = relayOn(datagrams);
    await expect(other.apply(table(line), { conversations: 'drain' })).rejects.toThrow(/another program/);
    await clock.advance(6000);
    expect(reasons()).toEqual(['silent for 5 s']);
    // A handle is closed in the loop's next turn.
    await aWhile();
    await other.apply(table(line), { conversations: 'drain' });
  });

  test('ends with the relay', async () => {
    const { relay, apply, reasons } = relayOn(datagrams);
    const at = await aPlace();
    const server = await udpPeer('127.0.0.1', (data) => data);
    await apply(`in udp ${at.address}:${at.port} -> 127.0.0.1:${server.port}`);
    const client = await udpPeer();
    client.send('one', at);
    await hears(client, 1);
    await relay[Symbol.asyncDispose]();
    expect(reasons()).toEqual(['its socket is closed']);
    expect(await relay.conversations()).toEqual([]);
    client.send('two', at);
    await aWhile();
    expect(server.heard).toEqual(['one']);
  });

  test('crosses from IPv4 to IPv6 and back', async () => {
    const { apply } = relayOn(datagrams);
    const [four, six] = [await aPlace(), { address: '::1', port: await freePort('::1') }];
    const server4 = await udpPeer('127.0.0.1', (data) => data);
    const server6 = await udpPeer('::1', (data) => data);
    await apply(
      `in udp ${four.address}:${four.port} -> [::1]:${server6.port}`,
      `in udp [::1]:${six.port} -> 127.0.0.1:${server4.port}`,
    );
    const [client4, client6] = [await udpPeer(), await udpPeer('::1')];
    client4.send('to six', four);
    client6.send('to four', six);
    expect(await hears(client4, 1)).toEqual(['to six']);
    expect(await hears(client6, 1)).toEqual(['to four']);
    expect(server6.from[0]?.address).toBe('::1');
    expect(server4.from[0]?.address).toBe('127.0.0.1');
  });

  test('on every address shows a client of IPv4 as one', async () => {
    const { relay, apply } = relayOn(datagrams);
    const server = await udpPeer('127.0.0.1', (data) => data);
    const port = await freePort();
    await apply(`in udp ${port} -> 127.0.0.1:${server.port}`);
    const [client, client6] = [await udpPeer(), await udpPeer('::1')];
    client.send('four', { address: '127.0.0.1', port });
    client6.send('six', { address: '::1', port });
    expect(await hears(client, 1)).toEqual(['four']);
    expect(await hears(client6, 1)).toEqual(['six']);
    expect((await relay.conversations()).map((one) => one.client.address).sort()).toEqual([
      '127.0.0.1',
      '::1',
    ]);
  });

  test('comes from the address and port that its rule says', async () => {
    const { apply } = relayOn(datagrams);
    const [at, same] = [await aPlace(), await aPlace()];
    const [source, sameSource] = [await aPlace(), ownAddress()];
    const server = await udpPeer('127.0.0.1', (data) => data);
    await apply(
      `in udp ${at.address}:${at.port} -> 127.0.0.1:${server.port} as ${source.address}:${source.port}`,
      `in udp ${same.address}:${same.port} -> 127.0.0.1:${server.port} as ${sameSource}:same`,
    );
    const client = await udpPeer();
    client.send('one', at);
    await hears(client, 1);
    client.send('two', same);
    await hears(client, 2);
    expect(server.from[0]).toMatchObject(source);
    expect(server.from[1]).toMatchObject({ address: sameSource, port: client.port });
  });

  test('says so where that address and port are taken', async () => {
    const { relay, apply, reasons } = relayOn(datagrams);
    const at = await aPlace();
    const taken = await udpPeer(ownAddress());
    const source = `${taken.socket.address().address}:${taken.port}`;
    await apply(`in udp ${at.address}:${at.port} -> 127.0.0.1:9 as ${source}`);
    const client = await udpPeer();
    client.send('one', at);
    await until(() => reasons().length === 1);
    expect(reasons()).toEqual(['the target cannot be reached: EADDRINUSE']);
    expect((await relay.activity()).get('r1')).toMatchObject({ open: 0, refused: 1 });
  });
});
