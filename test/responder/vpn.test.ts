import { createServer } from 'node:net';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { VpnHabits } from '../../src/responder/quirks/vpn.ts';
import type { NatpmpResponse } from '../../src/wire/natpmp.ts';
import { Ear, exchangeTcp, INNER, natpmp, natpmpMap, pcpMap } from './support/client.ts';
import { StillClock } from './support/clock.ts';
import { gatewayFor } from './support/gateway.ts';

const PROTON = { quirks: { vpnHabits: { internalPortInAnswer: 'zero' } } } as const;

function portIn(answer: NatpmpResponse | undefined): number {
  if (answer?.opcode !== 'map' || answer.result !== 0) throw new Error('nothing was granted');
  return answer.externalPort;
}

describe('vpnHabits', () => {
  test('grants a minute at most, on a port of its own choice', async () => {
    const gateway = await gatewayFor(PROTON);
    const long = await natpmpMap(gateway, 1, 18_080, { lifetimeSeconds: 7200 });
    expect(long).toMatchObject({ result: 0, lifetimeSeconds: 60, protocol: 'tcp' });
    expect(portIn(long)).not.toBe(18_080);
    expect(await natpmpMap(gateway, 1, 0, { lifetimeSeconds: 45 })).toMatchObject({ lifetimeSeconds: 45 });
  });

  test.each<[VpnHabits['internalPortInAnswer'], number]>([
    ['zero', 0],
    ['one', 1],
    ['echo', 7],
  ])('an answer names %s as the internal port', async (internalPortInAnswer, internalPort) => {
    const gateway = await gatewayFor({ quirks: { vpnHabits: { internalPortInAnswer } } });
    expect(await natpmpMap(gateway, 7, 0)).toMatchObject({ result: 0, internalPort });
    const ended = { result: 0, internalPort, externalPort: 0, lifetimeSeconds: 0 };
    expect(await natpmpMap(gateway, 7, 0, { lifetimeSeconds: 0 })).toMatchObject(ended);
  });

  test('internal port 0 is accepted', async () => {
    const gateway = await gatewayFor(PROTON);
    expect(await natpmpMap(gateway, 0, 0)).toMatchObject({ result: 0, lifetimeSeconds: 60 });
  });

  test('a client has one port, for TCP and UDP, and keeps it while it renews', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor(PROTON, clock);
    const port = portIn(await natpmpMap(gateway, 1, 0, { protocol: 'udp' }));
    for (let renewal = 0; renewal < 5; renewal++) {
      for (const protocol of ['udp', 'tcp'] as const) {
        expect(portIn(await natpmpMap(gateway, 1, 0, { protocol }))).toBe(port);
      }
      await clock.advance(45_000);
    }
    expect(gateway.table).toHaveLength(2);
    expect(portIn(await natpmpMap(gateway, 99, 18_080))).toBe(port);
    expect(portIn(await natpmpMap(gateway, 1, 0, { from: '127.0.0.5' }))).not.toBe(port);
    await clock.advance(60_000);
    expect(gateway.table).toEqual([]);
    expect(portIn(await natpmpMap(gateway, 1, 0))).not.toBe(port);
  });

  test('TCP and UDP that are asked for at once get one port', async () => {
    const gateway = await gatewayFor(PROTON);
    const asked = Array.from({ length: 10 }, (_, at) =>
      natpmpMap(gateway, 1, 0, { protocol: at % 2 === 0 ? 'tcp' : 'udp' }),
    );
    expect(new Set((await Promise.all(asked)).map(portIn)).size).toBe(1);
    expect(gateway.table).toHaveLength(2);
  });

  test('after a wipe the port is another one', async () => {
    const gateway = await gatewayFor(PROTON);
    const port = portIn(await natpmpMap(gateway, 1, 0));
    await gateway.wipe();
    expect(portIn(await natpmpMap(gateway, 1, port))).not.toBe(port);
  });

  test('lifetime 0 ends that protocol alone, and the other one holds the port', async () => {
    const gateway = await gatewayFor(PROTON);
    const port = portIn(await natpmpMap(gateway, 1, 0));
    await natpmpMap(gateway, 1, 0, { protocol: 'udp' });
    expect(await natpmpMap(gateway, 1, 0, { lifetimeSeconds: 0 })).toMatchObject({ result: 0 });
    expect(gateway.table).toMatchObject([{ protocol: 'udp', externalPort: port }]);
    expect(portIn(await natpmpMap(gateway, 1, 0))).toBe(port);
  });

  test('traffic goes to the port of the same number inside, whatever internal port was named', async () => {
    const gateway = await gatewayFor(PROTON);
    const port = portIn(await natpmpMap(gateway, 1, 0));
    await natpmpMap(gateway, 1, 0, { protocol: 'udp' });
    const server = createServer((socket) => socket.end('inside'));
    server.listen(port, INNER);
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    expect(await exchangeTcp({ address: gateway.outer, port }, 'x')).toBe('inside');
    const udp = createSocket('udp4');
    udp.on('message', (_, from) => udp.send('inside', from.port, from.address));
    udp.bind(port, INNER);
    await once(udp, 'listening');
    onTestFinished(() => void udp.close());
    await using peer = await Ear.open('127.0.0.9');
    peer.send(Buffer.from('x'), { address: gateway.outer, port });
    expect(Buffer.from((await peer.wait())?.packet ?? []).toString()).toBe('inside');
  });

  test('the table may be full, ports may be denied, and PCP is served as ever', async () => {
    const full = await gatewayFor({ ...PROTON, maxMappings: 32 });
    for (let host = 1; host <= 32; host++) await natpmpMap(full, 1, 0, { from: `127.0.1.${host}` });
    expect(await natpmpMap(full, 1, 0)).toMatchObject({ result: 4, internalPort: 0 });
    const denying = await gatewayFor({ ...PROTON, deniedExternalPorts: [{ first: 1, last: 65_535 }] });
    expect(await natpmpMap(denying, 1, 0)).toMatchObject({ result: 4 });
    const gateway = await gatewayFor({ ...PROTON, externalAddress: '203.0.113.7' });
    expect(await natpmp(gateway, { opcode: 'address' })).toMatchObject({ externalAddress: '203.0.113.7' });
    expect(await pcpMap(gateway, 8080, 18_080)).toMatchObject({ map: { externalPort: 18_080 } });
  });
});
