/** The same campaigns over real sockets of the loopback interface, where the kernel has its part as well. */

import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { connect } from 'node:net';
import { setImmediate } from 'node:timers/promises';
import { expect, onTestFinished, test } from 'vitest';
import type { IpAddress } from '../../../src/net/address.ts';
import { Faces } from '../../../src/responder/faces.ts';
import type { GatewayPorts } from '../../../src/responder/settings.ts';
import type { Shot } from './campaign.ts';
import { CAMPAIGNS } from './campaigns.ts';
import { CLIENTS, GATEWAY, Ground } from './ground.ts';
import { changeFaults, stateFaults, tablesOf } from './judge.ts';
import { Random } from './random.ts';

const SOURCES = [...CLIENTS.filter((client) => !client.includes(':')), '127.1.0.40', '127.2.0.5'];
const AT_ONCE = 8;
const PATIENCE_MS = 5000;
const SEED = 20_261_122;

interface Served {
  readonly ground: Ground;
  readonly ports: GatewayPorts;
  /** Packets and connections that have come. */
  readonly arrived: () => number;
}

async function served(): Promise<Served> {
  const ground = new Ground(new Random(SEED));
  let arrived = 0;
  const guard = {
    admits(source: IpAddress) {
      arrived++;
      return ground.site.guard.admits(source);
    },
  };
  const settings = { ...ground.site.settings, addresses: [GATEWAY] };
  const faces = new Faces({ ...ground.site, settings, guard });
  onTestFinished(async () => {
    await faces.close();
    await ground.close();
  });
  await faces.open({ pcp: 0, ssdp: 0, http: 0 });
  return { ground, ports: faces.ports, arrived: () => arrived };
}

/** Fires bursts, each judged when the outer gateway has answered all that came of it. */
async function fireAll(
  name: string,
  count: number,
  { ground }: Served,
  fire: (shots: readonly Shot[]) => Promise<void>,
): Promise<void> {
  const campaign = CAMPAIGNS[name]?.();
  const random = new Random(SEED);
  for (let done = 0; done < count; done += AT_ONCE) {
    const shots = Array.from({ length: AT_ONCE }, () =>
      campaign?.shot(random, { address: random.pick(SOURCES), port: 1024 }),
    ).filter((shot) => shot !== undefined);
    const before = tablesOf(ground);
    await fire(shots);
    await ground.settle();
    const claims = shots.map(({ claim }) => claim);
    expect(changeFaults(before, tablesOf(ground), claims), `${name}, seed ${SEED}, after ${done}`).toEqual(
      [],
    );
    await ground.settle();
    expect(stateFaults(ground), `${name}, seed ${SEED}, after ${done}`).toEqual([]);
    ground.clock.advance(100);
  }
}

async function until(isSo: () => boolean): Promise<void> {
  const endMs = performance.now() + PATIENCE_MS;
  while (!isSo() && performance.now() < endMs) await setImmediate();
  expect(isSo()).toBe(true);
}

test.for([
  ['pcp', 4000, 'pcp'],
  ['natpmp', 4000, 'pcp'],
  ['ssdp', 2000, 'ssdp'],
] as const)('%s over UDP, %i packets', { timeout: 60_000 }, async ([name, count, port]) => {
  const here = await served();
  const sockets = new Map<IpAddress, Socket>();
  for (const address of SOURCES) {
    const socket = createSocket('udp4');
    socket.bind(0, address);
    await once(socket, 'listening');
    sockets.set(address, socket);
  }
  onTestFinished(() => sockets.forEach((socket) => socket.close()));
  await fireAll(name, count, here, async (shots) => {
    // Nothing else says that an SSDP packet has come that is no search.
    const wanted = here.arrived() + (name === 'ssdp' ? 0 : shots.length);
    for (const { bytes, source } of shots) {
      await new Promise((sent) => sockets.get(source.address)?.send(bytes, here.ports[port], GATEWAY, sent));
    }
    await until(() => here.arrived() >= wanted);
  });
});

test.for([
  ['soap', 1000],
  ['gena', 500],
] as const)('%s over TCP, %i requests', { timeout: 60_000 }, async ([name, count]) => {
  const here = await served();
  const isOver = (shot: Shot) =>
    new Promise<void>((over) => {
      const socket = connect({ host: GATEWAY, port: here.ports.http, localAddress: shot.source.address });
      socket.on('error', () => over()).on('close', () => over());
      // It has its answer, or is never to have one.
      socket.on('data', () => socket.destroy()).setTimeout(200, () => socket.destroy());
      socket.write(shot.bytes);
      if (shot.waits !== true) socket.end();
    });
  await fireAll(name, count, here, async (shots) => {
    const open = new Set(shots);
    for (const shot of shots) void isOver(shot).then(() => open.delete(shot));
    while (open.size > 0) await here.ground.settle();
  });
});
