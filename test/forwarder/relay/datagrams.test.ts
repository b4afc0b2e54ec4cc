import { afterEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import type {
  DatagramDial,
  DatagramListener,
  DatagramOwner,
  Datagrams,
  DatagramSocket,
  Sender,
} from '../../../src/forwarder/relay/datagram.ts';
import { nodeDatagramHandles } from '../../../src/forwarder/relay/datagram-handles.ts';
import { nodeDatagramSockets } from '../../../src/forwarder/relay/datagram-sockets.ts';
import { ListenError } from '../../../src/forwarder/relay/stream.ts';
import { aWhile, freePort, ownAddress, udpPeer, until } from './support.ts';

const MAKERS: readonly (readonly [name: string, datagrams: Datagrams])[] = [
  ['node handles', nodeDatagramHandles() as Datagrams],
  ['node:dgram', nodeDatagramSockets],
];

/** The largest that IPv4 carries. */
const LARGEST = 65_507;

class Ear implements DatagramOwner {
  readonly heard: string[] = [];
  readonly from: Sender[] = [];
  readonly errors: string[] = [];

  received(datagram: Uint8Array, from: Sender): void {
    this.heard.push(Buffer.from(datagram).toString('latin1'));
    this.from.push(from);
  }

  failed(code: string): void {
    this.errors.push(code);
  }
}

function bytes(text: string): Uint8Array {
  return Buffer.from(text, 'latin1');
}

describe.each(MAKERS)('datagrams of %s', (_, datagrams) => {
  async function listen(address: string, port = 0): Promise<{ socket: DatagramListener; ear: Ear }> {
    const socket = await datagrams.listen({ address, port });
    onTestFinished(() => socket.close());
    const ear = new Ear();
    socket.owner = ear;
    return { socket, ear };
  }

  function connect(
    to: DatagramDial['to'],
    from?: DatagramDial['from'],
  ): Promise<{ socket: DatagramSocket; ear: Ear }> {
    return new Promise((resolve, reject) => {
      datagrams.connect({
        to,
        from,
        done: (socket, code) => {
          if (socket === undefined) {
            reject(new Error(code));
            return;
          }
          onTestFinished(() => socket.close());
          const ear = new Ear();
          socket.owner = ear;
          resolve({ socket, ear });
        },
      });
    });
  }

  test('keep their borders, empty ones as well, both ways', async () => {
    const near = await listen('127.0.0.1');
    const far = await connect(near.socket.endpoint);
    for (const text of ['one', '', 'two', '']) far.socket.send(bytes(text), undefined);
    await until(() => near.ear.heard.length === 4);
    expect(near.ear.heard).toEqual(['one', '', 'two', '']);
    const [sender] = near.ear.from;
    for (const text of ['', 'three']) near.socket.sendTo(bytes(text), sender as Sender);
    await until(() => far.ear.heard.length === 2);
    expect(far.ear.heard).toEqual(['', 'three']);
  });

  test('are one with the header that goes before them', async () => {
    const near = await listen('127.0.0.1');
    const far = await connect(near.socket.endpoint);
    far.socket.send(bytes('body'), bytes('head '));
    far.socket.send(bytes(''), bytes('head '));
    far.socket.send(bytes('bare'), undefined);
    await until(() => near.ear.heard.length === 3);
    expect(near.ear.heard).toEqual(['head body', 'head ', 'bare']);
  });

  test('may be as large as IPv4 lets them, and one that is larger is lost alone', async () => {
    const near = await listen('127.0.0.1');
    const far = await connect(near.socket.endpoint);
    const largest = Buffer.alloc(LARGEST, 'x');
    far.socket.send(Buffer.alloc(LARGEST + 1), undefined);
    far.socket.send(largest, undefined);
    await until(() => near.ear.heard.length === 1 && far.ear.errors.length === 1);
    expect(far.ear.errors).toEqual(['EMSGSIZE']);
    expect(near.ear.heard[0] === largest.toString('latin1')).toBe(true);
    near.socket.sendTo(Buffer.alloc(LARGEST + 1), near.ear.from[0] as Sender);
    near.socket.sendTo(largest, near.ear.from[0] as Sender);
    await until(() => far.ear.heard.length === 1);
    expect(far.ear.heard[0]?.length).toBe(LARGEST);
    expect(near.ear.errors).toEqual([]);
  });

  test('stay what they are while later ones come', async () => {
    const near = await listen('127.0.0.1');
    const kept: Uint8Array[] = [];
    near.socket.owner = { received: (datagram) => kept.push(datagram), failed: () => undefined };
    const far = await connect(near.socket.endpoint);
    const sent = Array.from({ length: 50 }, (__, index) => `datagram ${index}`);
    for (const text of sent) far.socket.send(bytes(text), undefined);
    await until(() => kept.length === sent.length);
    expect(kept.map((datagram) => Buffer.from(datagram).toString())).toEqual(sent);
  });

  test('tell that nobody is there, as often as ICMP does', async () => {
    const port = await freePort();
    const far = await connect({ address: '127.0.0.1', port });
    far.socket.send(bytes('anybody?'), undefined);
    await until(() => far.ear.errors.length === 1);
    far.socket.send(bytes('anybody now?'), undefined);
    await until(() => far.ear.errors.length === 2);
    expect(far.ear.errors).toEqual(['ECONNREFUSED', 'ECONNREFUSED']);
  });

  test('tell that nobody is there also where a send comes to know of it first', async () => {
    const port = await freePort();
    const far = await connect({ address: '127.0.0.1', port });
    // Loopback's ICMP is there before the next send, which then reports it.
    far.socket.send(bytes('one'), undefined);
    far.socket.send(bytes('two'), undefined);
    expect(far.ear.errors).toEqual([]);
    await until(() => far.ear.errors.length > 0);
    expect(far.ear.errors[0]).toBe('ECONNREFUSED');
  });

  test('to a receiver that is gone are no error of a socket that has others', async () => {
    const near = await listen('127.0.0.1');
    near.socket.sendTo(bytes('gone?'), { address: '127.0.0.1', port: await freePort() });
    const other = await udpPeer();
    near.socket.sendTo(bytes('here'), { address: '127.0.0.1', port: other.port });
    await until(() => other.heard.length === 1);
    expect(near.ear.errors).toEqual([]);
  });

  test('of IPv4 come to a socket of every address, under the name that answers need', async () => {
    const near = await listen('::');
    const far = await connect({ address: '127.0.0.1', port: near.socket.endpoint.port });
    const far6 = await connect({ address: '::1', port: near.socket.endpoint.port });
    far.socket.send(bytes('four'), undefined);
    far6.socket.send(bytes('six'), undefined);
    await until(() => near.ear.heard.length === 2);
    expect(near.ear.from.map(({ address }) => address).sort()).toEqual(['::1', '::ffff:127.0.0.1']);
    near.ear.from.forEach((sender, at) =>
      near.socket.sendTo(bytes(`to ${near.ear.heard[at] as string}`), sender),
    );
    await until(() => far.ear.heard.length === 1 && far6.ear.heard.length === 1);
    expect([far.ear.heard, far6.ear.heard]).toEqual([['to four'], ['to six']]);
  });

  test('of one IPv6 address leave the port of IPv4 alone', async () => {
    const six = await listen('::1');
    const four = await listen('127.0.0.1', six.socket.endpoint.port);
    expect(four.socket.endpoint).toEqual({ address: '127.0.0.1', port: six.socket.endpoint.port });
  });

  test.each([
    ['a port that is taken', '127.0.0.1', 'EADDRINUSE'],
    ['an address that this host does not have', '192.0.2.1', 'EADDRNOTAVAIL'],
    ['no address of the loopback network', '2001:db8::1', 'EADDRNOTAVAIL'],
  ])('cannot be listened for on %s, by the system’s word', async (__, address, code) => {
    const taken = await listen('127.0.0.1');
    const listening = (async () => datagrams.listen({ address, port: taken.socket.endpoint.port }))();
    await expect(listening).rejects.toThrow(new ListenError(code));
  });

  test('come from where the dial says', async () => {
    const near = await listen('127.0.0.1');
    const address = ownAddress();
    const port = await freePort(address);
    const far = await connect(near.socket.endpoint, { address, port });
    far.socket.send(bytes('hello'), undefined);
    const any = await connect(near.socket.endpoint, { address: undefined, port: undefined });
    any.socket.send(bytes('hello'), undefined);
    await until(() => near.ear.from.length === 2);
    expect(near.ear.from[0]).toMatchObject({ address, port });
    expect(near.ear.from[1]).toMatchObject({ address: '127.0.0.1' });
  });

  test('cannot come from what is taken, nor from the other family, by the system’s word', async () => {
    const taken = await listen('127.0.0.1');
    const to = { address: '127.0.0.1', port: 9 };
    const { port } = taken.socket.endpoint;
    await expect(connect(to, { address: '127.0.0.1', port })).rejects.toThrow('EADDRINUSE');
    await expect(connect(to, { address: '192.0.2.1', port: undefined })).rejects.toThrow('EADDRNOTAVAIL');
    await expect(connect(to, { address: '::1', port: undefined })).rejects.toThrow(/^E[A-Z]+$/);
  });

  test('are heard by nobody after their socket is closed', async () => {
    const near = await listen('127.0.0.1');
    const far = await connect(near.socket.endpoint);
    far.socket.send(bytes('one'), undefined);
    await until(() => near.ear.heard.length === 1);
    // Closed while more is there to be read.
    near.socket.owner = {
      received(datagram, from) {
        near.ear.received(datagram, from);
        near.socket.close();
      },
      failed: () => undefined,
    };
    for (const text of ['two', 'three', 'four']) far.socket.send(bytes(text), undefined);
    await until(() => near.ear.heard.length > 1);
    far.socket.close();
    far.socket.close();
    far.socket.send(bytes('five'), undefined);
    near.socket.sendTo(bytes('six'), near.ear.from[0] as Sender);
    await aWhile();
    expect(near.ear.heard).toEqual(['one', 'two']);
    expect(far.ear.errors).toEqual([]);
  });
});

describe('Node’s UDP handles', () => {
  afterEach(() => vi.unstubAllGlobals());

  test.each([
    ['there are none', undefined],
    [
      'they may not be had',
      () => {
        throw new Error('ERR_ACCESS_DENIED');
      },
    ],
    ['there is nothing', () => ({})],
    ['a class is gone', () => ({ UDP: Object, constants: { UV_UDP_IPV6ONLY: 1 } })],
    ['a method is gone', () => ({ UDP: Object, SendWrap: Object, constants: { UV_UDP_IPV6ONLY: 1 } })],
  ])('are done without where %s', (_, binding) => {
    vi.stubGlobal('process', { ...process, binding });
    expect(nodeDatagramHandles()).toBeUndefined();
  });
});
