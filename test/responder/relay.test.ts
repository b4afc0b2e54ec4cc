import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  addMapping,
  codeOf,
  Ear,
  exchangeTcp,
  INNER,
  natpmpMap,
  pcpMap,
  soap,
  outerValues,
} from './support/client.ts';
import { StillClock } from './support/clock.ts';
import { gatewayFor } from './support/gateway.ts';

/** A TCP server that closes with the test. */
async function serve(onConnection: (socket: Socket) => void): Promise<number> {
  const server: Server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    onConnection(socket);
  });
  server.listen(0, INNER);
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const bound = server.address();
  return typeof bound === 'object' ? (bound?.port ?? 0) : 0;
}

/** Says back what it hears, and a last word once it has heard the end. */
function echo(socket: Socket): void {
  socket.on('data', (chunk) => socket.write(chunk));
  socket.on('end', () => socket.end(' and goodbye'));
}

function texts(ear: Ear): string[] {
  return ear.heard.map(({ packet }) => Buffer.from(packet).toString());
}

describe('the relay', () => {
  test('carries TCP both ways, each half open until its own end', async () => {
    const gateway = await gatewayFor();
    const port = await serve(echo);
    await pcpMap(gateway, port, 18_080);
    expect(await exchangeTcp({ address: gateway.outer, port: 18_080 }, 'hello')).toBe('hello and goodbye');
  });

  test('carries ten megabytes unchanged to a slow reader', async () => {
    const gateway = await gatewayFor();
    const bytes = 10 * 1024 * 1024;
    let received = 0;
    const port = await serve((socket) => {
      socket.on('data', (chunk) => {
        received += chunk.length;
        socket.pause();
        setImmediate(() => socket.resume());
      });
      socket.on('end', () => socket.end(String(received)));
    });
    await natpmpMap(gateway, port, 18_080);
    const text = 'x'.repeat(bytes);
    expect(await exchangeTcp({ address: gateway.outer, port: 18_080 }, text)).toBe(String(bytes));
  });

  test('a reset on one side is a reset on the other', async () => {
    const gateway = await gatewayFor();
    const port = await serve((socket) => socket.once('data', () => socket.resetAndDestroy()));
    await natpmpMap(gateway, port, 18_080);
    await expect(exchangeTcp({ address: gateway.outer, port: 18_080 }, 'hello')).rejects.toThrow(
      'ECONNRESET',
    );
    const nobody = await serve(() => undefined);
    await natpmpMap(gateway, nobody - 1, 18_081);
    await expect(exchangeTcp({ address: gateway.outer, port: 18_081 }, 'hello')).rejects.toThrow(
      'ECONNRESET',
    );
  });

  test('carries UDP, each peer in a conversation of its own', async () => {
    const gateway = await gatewayFor();
    await using inside = await Ear.open();
    await natpmpMap(gateway, inside.port, 18_080, { protocol: 'udp' });
    inside.socket.on('message', (packet, from) =>
      inside.socket.send(`${packet.toString()}!`, from.port, from.address),
    );
    await using one = await Ear.open('127.0.0.8');
    await using other = await Ear.open('127.0.0.9');
    const to = { address: gateway.outer, port: 18_080 };
    one.send(Buffer.from('one'), to);
    other.send(Buffer.from('other'), to);
    await Promise.all([one.wait(), other.wait()]);
    expect([texts(one), texts(other)]).toEqual([['one!'], ['other!']]);
    expect(one.heard[0]?.from).toMatchObject({ address: gateway.outer, port: 18_080 });
    expect(new Set(inside.heard.map(({ from }) => from.port)).size).toBe(2);
    one.send(Buffer.from('again'), to);
    await one.wait(2);
    expect(inside.heard[2]?.from.port).toBe(
      inside.heard.find(({ packet }) => Buffer.from(packet).toString() === 'one')?.from.port,
    );
  });

  test('a UDP conversation ends after its silence', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({ relay: { idleMs: 30_000 } }, clock);
    await using inside = await Ear.open();
    await natpmpMap(gateway, inside.port, 18_080, { protocol: 'udp' });
    await using peer = await Ear.open();
    const say = async (count: number) => {
      peer.send(Buffer.from('x'), { address: gateway.outer, port: 18_080 });
      return (await inside.wait(count))?.from.port;
    };
    const first = await say(1);
    await clock.advance(29_000);
    expect(await say(2)).toBe(first);
    await clock.advance(29_000);
    expect(await say(3)).toBe(first);
    await clock.advance(30_000);
    expect(await say(4)).not.toBe(first);
  });

  test('connections and conversations are bounded', async () => {
    const gateway = await gatewayFor({ relay: { maxConnections: 2, maxConversations: 2 } });
    const port = await serve(echo);
    await pcpMap(gateway, port, 18_080);
    const to = { host: gateway.outer, port: 18_080 };
    const held = [connect(to), connect(to)];
    for (const socket of held) {
      socket.write('x');
      await once(socket, 'data');
    }
    const third = { address: gateway.outer, port: 18_080 };
    await expect(exchangeTcp(third, 'hello')).rejects.toThrow('ECONNRESET');
    for (const socket of held) socket.destroy();
    await sleep(50);
    expect(await exchangeTcp(third, 'hello')).toContain('hello');

    await using inside = await Ear.open();
    await natpmpMap(gateway, inside.port, 18_081, { protocol: 'udp' });
    for (let count = 0; count < 5; count++) {
      await using peer = await Ear.open();
      peer.send(Buffer.from('x'), { address: gateway.outer, port: 18_081 });
      await sleep(10);
    }
    expect(new Set(inside.heard.map(({ from }) => from.port)).size).toBe(2);
  });

  test('admits only the remote host of UPnP and the filter of PCP', async () => {
    const gateway = await gatewayFor();
    const port = await serve(echo);
    await addMapping(gateway, 18_080, port, { NewRemoteHost: '127.0.0.8' });
    const filters = [{ prefixLength: 96 + 32, remotePort: 0, remoteAddress: '127.0.0.9' }];
    const port2 = await serve(echo);
    await pcpMap(gateway, port2, 18_081, { options: { filters } });
    const reach = (external: number, from: string) =>
      exchangeTcp({ address: gateway.outer, port: external }, 'x', from).then(
        () => true,
        () => false,
      );
    expect(await reach(18_080, '127.0.0.8')).toBe(true);
    expect(await reach(18_080, '127.0.0.9')).toBe(false);
    expect(await reach(18_081, '127.0.0.8')).toBe(false);
    expect(await reach(18_081, '127.0.0.9')).toBe(true);
    expect(codeOf(await soap(gateway, 'GetSpecificPortMappingEntry', outerValues(18_080)))).toBe(714);
  });

  test('a mapping that is not enabled is kept, and carries nothing', async () => {
    const gateway = await gatewayFor();
    const port = await serve(echo);
    await addMapping(gateway, 18_080, port, { NewEnabled: '0' });
    const to = { address: gateway.outer, port: 18_080 };
    await expect(exchangeTcp(to, 'x')).rejects.toThrow('ECONNREFUSED');
    await addMapping(gateway, 18_080, port);
    expect(await exchangeTcp(to, 'x')).toContain('x');
    await addMapping(gateway, 18_080, port, { NewEnabled: '0' });
    await expect(exchangeTcp(to, 'x')).rejects.toThrow('ECONNREFUSED');
    expect(gateway.table).toHaveLength(1);
  });

  test('a mapping that is made again with another inner port leads there', async () => {
    const gateway = await gatewayFor();
    const first = await serve((socket) => socket.end('first'));
    const second = await serve((socket) => socket.end('second'));
    await addMapping(gateway, 18_080, first);
    await addMapping(gateway, 18_080, second);
    expect(await exchangeTcp({ address: gateway.outer, port: 18_080 }, '')).toBe('second');
  });

  test('ending a mapping closes its port and its connections', async () => {
    const gateway = await gatewayFor();
    const port = await serve(echo);
    await pcpMap(gateway, port, 18_080);
    const open = connect({ host: gateway.outer, port: 18_080 });
    open.on('error', () => undefined);
    open.write('x');
    await once(open, 'data');
    const closed = new Promise((done) => open.once('close', done));
    await pcpMap(gateway, port, 0, { lifetimeSeconds: 0 });
    await closed;
    await expect(exchangeTcp({ address: gateway.outer, port: 18_080 }, 'x')).rejects.toThrow('ECONNREFUSED');
  });

  test('a mapping that leads to the relay itself carries nothing round', async () => {
    const gateway = await gatewayFor({ secureMode: false });
    await addMapping(gateway, 18_080, 18_080, { NewInternalClient: gateway.outer });
    await expect(exchangeTcp({ address: gateway.outer, port: 18_080 }, 'x')).rejects.toThrow('ECONNRESET');
  });

  test('a port on which another program listens is taken', async () => {
    const gateway = await gatewayFor();
    const other = createServer().listen(18_080, gateway.outer);
    onTestFinished(() => void other.close());
    await once(other, 'listening');
    expect(codeOf(await addMapping(gateway, 18_080, 8080))).toBe(718);
    expect(await natpmpMap(gateway, 8080, 18_080)).toMatchObject({ result: 0 });
    expect(gateway.table).toHaveLength(1);
  });
});
