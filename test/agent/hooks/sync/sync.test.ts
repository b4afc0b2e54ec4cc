/** Port sync: what each client is asked, and what is made of its answers. */

import { describe, expect, test } from 'vitest';
import type { AgentEvent } from '../../../../src/agent/events.ts';
import type { SyncClient, SyncHook } from '../../../../src/agent/hooks/hook.ts';
import type { Setback } from '../../../../src/agent/hooks/lanes.ts';
import { FollowedPorts, syncPort } from '../../../../src/agent/hooks/sync/sync.ts';
import { webRequest } from '../../../../src/system/web.ts';
import { type Answer, closedOrigin, settleUntil } from '../../../support/services.ts';
import { addressChanged, changed, granted, lost, reachWith, released, runnerOf } from '../support.ts';
import { delugeFor, PASSWORD, qbittorrentFor, type TestClient, transmissionFor, USER } from './clients.ts';

const CLIENTS = [
  ['qbittorrent', () => qbittorrentFor()],
  ['transmission', () => transmissionFor()],
  ['deluge', () => delugeFor()],
] as const;

function hookOf(client: SyncClient, url: string): SyncHook {
  return { kind: 'sync', client, url };
}

function set(client: SyncClient, url: string, port = 40_000, tries = 0): Promise<Setback | undefined> {
  return syncPort(reachWith(webRequest), hookOf(client, url), port, tries);
}

describe.each(CLIENTS)('%s', (name, start) => {
  test('is told the port, and asked whether it has it', async () => {
    const client = await start();
    expect(await set(name, client.withUser(USER, PASSWORD))).toBeUndefined();
    expect(client.port).toBe(40_000);
    expect(client.methods.at(-1)).toMatch(/preferences$|session-get|get_config/);
  });

  test('is found below a path', async () => {
    const client = await start();
    const paths = { qbittorrent: '/bt/', transmission: '/bt', deluge: '/bt/' };
    expect(await set(name, client.withUser(USER, PASSWORD) + paths[name])).toBeUndefined();
    expect(client.asked.every(({ path }) => path.startsWith('/bt/'))).toBe(true);
  });

  test('is not asked twice by a natward whose password is wrong', async () => {
    const client = await start();
    const setback = await set(name, client.withUser(USER, 'secret'));
    expect(setback).toMatchObject({ retryMs: null, isWorthTelling: true, error: { code: 'NOT_AUTHORIZED' } });
    expect(setback?.error.message).not.toContain('secret');
    expect(client.port).toBe(6881);
  });

  test('that says yes and keeps its port is told of', async () => {
    const client = await start();
    client.isStubborn = true;
    const setback = await set(name, client.withUser(USER, PASSWORD));
    expect(setback).toMatchObject({ retryMs: 1000, isWorthTelling: true, error: { code: 'REFUSED' } });
    expect(setback?.error.message).toMatch(/^it stays at (port 6881|a random port)$/);
  });

  test.each<[Answer, string, boolean]>([
    [{ status: 503 }, 'UNREACHABLE', false],
    [{ instead: 'reset' }, 'UNREACHABLE', false],
    [{ status: 404 }, 'NOT_FOUND', true],
    [{ status: 302, headers: { Location: '/login' } }, 'NOT_FOUND', true],
    [{ status: 401 }, 'NOT_AUTHORIZED', true],
    [{ status: 403 }, 'NOT_AUTHORIZED', true],
    [{ status: 418 }, 'REFUSED', true],
  ])('answers %j', async (fault, code, isWorthTelling) => {
    const client = await start();
    client.faults.push(fault);
    expect(await set(name, client.withUser(USER, PASSWORD))).toMatchObject({
      isWorthTelling,
      error: { code },
    });
  });

  test('is waited for, a minute at most between two tries and then five', async () => {
    const origin = (await closedOrigin()).replace('//', `//${USER}:pw@`);
    const setbacks = [];
    for (let tries = 0; tries < 11; tries++) setbacks.push(await set(name, origin, 40_000, tries));
    expect(setbacks.map((one) => (one?.retryMs ?? 0) / 1000)).toEqual([
      1, 2, 4, 8, 16, 32, 60, 60, 300, 300, 300,
    ]);
    expect(setbacks.map((one) => one?.isWorthTelling)).toEqual([...Array(8).fill(false), true, true, true]);
  });
});

describe('qbittorrent', () => {
  test('of 5.2 logs in with another status and another cookie', async () => {
    const client = await qbittorrentFor({ version: 5.2 });
    expect(await set('qbittorrent', client.withUser(USER, PASSWORD))).toBeUndefined();
    expect(client.port).toBe(40_000);
    expect(await set('qbittorrent', client.withUser(USER, 'no'))).toMatchObject({ retryMs: null });
  });

  test('that trusts this host needs no login', async () => {
    const client = await qbittorrentFor({ trustsHost: true });
    expect(await set('qbittorrent', client.origin)).toBeUndefined();
    expect(client.methods).toEqual(['app/setPreferences', 'app/preferences']);
  });

  test('that wants a login and gets none says so', async () => {
    const client = await qbittorrentFor();
    expect(await set('qbittorrent', client.origin)).toMatchObject({ error: { code: 'NOT_AUTHORIZED' } });
  });

  test('is told the port and nothing else: its own UPnP is left as it is', async () => {
    const client = await qbittorrentFor();
    await set('qbittorrent', client.withUser(USER, PASSWORD));
    const { body } = client.asked.find(({ path }) => path.endsWith('setPreferences')) ?? { body: '' };
    expect(JSON.parse(new URLSearchParams(body).get('json') ?? '')).toEqual({
      listen_port: 40_000,
      random_port: false,
    });
  });

  test('that answers with a page is another program', async () => {
    const client = await qbittorrentFor({ trustsHost: true });
    client.faults.push({}, { body: '<html>' });
    expect(await set('qbittorrent', client.origin)).toMatchObject({ error: { code: 'MALFORMED' } });
  });
});

describe('transmission', () => {
  test('tells its session when it is asked without, and whenever it has a new one', async () => {
    const client = await transmissionFor();
    await set('transmission', client.withUser(USER, PASSWORD));
    expect(client.methods).toEqual(['409', 'session-get', 'session-set', '409', 'session-get']);
    expect(new Set(client.asked.map(({ path }) => path))).toEqual(new Set(['/transmission/rpc']));
  });

  test('moves its UDP port as well: since 4.0 by itself', async () => {
    const client = await transmissionFor();
    await set('transmission', client.withUser(USER, PASSWORD));
    expect(client).toMatchObject({ port: 40_000, udpPort: 40_000, hasDht: true });
    expect(client.asked.filter(({ body }) => body.includes('"dht-enabled":'))).toEqual([]);
  });

  test('of 3.00 moves its UDP port when DHT is switched off and on: once', async () => {
    const client = await transmissionFor({ rpcVersion: 16 });
    await set('transmission', client.withUser(USER, PASSWORD));
    expect(client).toMatchObject({ port: 40_000, udpPort: 40_000, hasDht: true });
    await set('transmission', client.withUser(USER, PASSWORD));
    expect(client.asked.filter(({ body }) => body.includes('"dht-enabled":'))).toHaveLength(2);
  });

  test('of 3.00 whose DHT is off is left without it', async () => {
    const client = await transmissionFor({ rpcVersion: 16 });
    client.hasDht = false;
    expect(await set('transmission', client.withUser(USER, PASSWORD))).toBeUndefined();
    expect(client).toMatchObject({ port: 40_000, udpPort: 6881, hasDht: false });
  });

  test('of 3.00 that dies while its DHT is off is told of', async () => {
    const client = await transmissionFor({ rpcVersion: 16 });
    client.fault = () => (client.hasDht ? undefined : { instead: 'reset' });
    expect(await set('transmission', client.withUser(USER, PASSWORD))).toMatchObject({
      isWorthTelling: true,
      error: { code: 'FAILED', message: expect.stringContaining('its DHT was switched off') },
    });
  });

  test('is asked at the very path that is given', async () => {
    const client = await transmissionFor();
    await set('transmission', `${client.withUser(USER, PASSWORD)}/other/rpc`);
    expect(client.asked[0]?.path).toBe('/other/rpc');
  });

  test('that never accepts a session is not asked for ever', async () => {
    const client = await transmissionFor();
    client.faults.push(...Array.from({ length: 9 }, () => ({ status: 409 })));
    expect(await set('transmission', client.withUser(USER, PASSWORD))).toMatchObject({
      error: { code: 'REFUSED', message: 'it answers with HTTP 409' },
    });
    expect(client.asked).toHaveLength(2);
  });

  test('says why it does not want a port', async () => {
    const client = await transmissionFor();
    expect(await set('transmission', client.withUser(USER, PASSWORD), 65_001)).toMatchObject({
      error: { code: 'REFUSED', message: 'it says: no such port' },
    });
  });

  test('does not answer to every host name', async () => {
    const client = await transmissionFor();
    client.faults.push({ status: 421 }, { status: 421 }); // fetch tries once more by itself
    expect(await set('transmission', client.withUser(USER, PASSWORD))).toMatchObject({
      error: { code: 'NOT_AUTHORIZED', advice: expect.stringContaining('rpc-host-whitelist') },
    });
  });
});

describe('deluge', () => {
  test('is connected to its daemon first', async () => {
    const client = await delugeFor();
    await set('deluge', client.withUser('', PASSWORD));
    expect(client.connectedTo).toBe('id-1');
    expect(client.methods).toEqual([
      'auth.login',
      'web.connected',
      'web.get_hosts',
      'web.connect',
      'web.connected',
      'core.set_config',
      'core.get_config_values',
    ]);
  });

  test('that is connected is left so', async () => {
    const client = await delugeFor({ isConnected: true });
    await set('deluge', client.withUser('', PASSWORD));
    expect(client.methods).not.toContain('web.connect');
  });

  test.each([
    [
      'the daemon of its own machine',
      [
        ['far', '10.0.0.9', 1],
        ['near', 'localhost', 2, 'x', 'y'],
      ],
      'near',
    ],
    ['the only one', [['far', '10.0.0.9', 1]], 'far'],
  ])('of several daemons takes %s', async (_, hosts, id) => {
    const client = await delugeFor({ hosts });
    expect(await set('deluge', client.withUser('', PASSWORD))).toBeUndefined();
    expect(client.connectedTo).toBe(id);
  });

  test.each([
    [[]],
    [
      [
        ['a', '10.0.0.8', 1],
        ['b', '10.0.0.9', 1],
      ],
    ],
  ])('does not guess which daemon is meant: %j', async (hosts) => {
    const client = await delugeFor({ hosts });
    expect(await set('deluge', client.withUser('', PASSWORD))).toMatchObject({
      error: { code: 'NOT_FOUND', advice: expect.any(String) },
    });
  });

  test('whose daemon does not answer is tried again', async () => {
    const client = await delugeFor({ canConnect: false });
    expect(await set('deluge', client.withUser('', PASSWORD))).toMatchObject({
      retryMs: 1000,
      isWorthTelling: false,
      error: { code: 'UNREACHABLE', message: 'its daemon at 127.0.0.1:58846 does not answer' },
    });
  });

  test('that answers with something else is another program', async () => {
    const client = await delugeFor();
    client.faults.push({ body: '[]' });
    expect(await set('deluge', client.withUser('', PASSWORD))).toMatchObject({
      error: { code: 'MALFORMED' },
    });
  });
});

describe('the port that is followed', () => {
  const udp = { id: '3fa94c01/udp/8080', protocol: 'udp' } as const;
  const ipv6 = { id: '3fa94c01/tcp/8080/ipv6', family: 6 } as const;
  const other = { id: '77777777/tcp/22', intentId: '77777777', spec: '22/tcp', externalPort: 22 } as const;

  function portAfter(events: readonly AgentEvent[], hook: Partial<SyncHook> = {}): number | undefined {
    const ports = new FollowedPorts({ ...hookOf('deluge', 'http://:p@127.0.0.1'), ...hook });
    for (const event of events) ports.note(event);
    return ports.port;
  }

  test.each<[string, readonly AgentEvent[], number | undefined]>([
    ['nothing', [], undefined],
    ['what is granted', [granted()], 40_000],
    ['what it changes to', [granted(), changed({ externalPort: 50_000 })], 50_000],
    ['TCP where UDP has another', [granted(), granted({ ...udp, externalPort: 41_000 })], 40_000],
    ['UDP where there is no TCP', [granted({ ...udp, externalPort: 41_000 })], 41_000],
    ['UDP where TCP was lost', [granted(), granted({ ...udp, externalPort: 41_000 }), lost()], 41_000],
    ['IPv4 where a pinhole has another', [granted({ ...ipv6, externalPort: 8080 }), granted()], 40_000],
    ['nothing once all is lost', [granted(), lost()], undefined],
    ['nothing once it is released', [granted(), released()], undefined],
    ['nothing that has no port', [granted({ externalPort: null })], undefined],
    ['no address', [addressChanged('1.2.3.4')], undefined],
    [
      'the first of a range',
      [
        granted({ id: 'b', externalPort: 7001 }),
        granted({ id: 'a', externalPort: 7000 }),
        changed({ id: 'b', externalPort: 7001 }),
      ],
      7000,
    ],
    ['the intent that was heard of last', [granted(), granted(other)], 22],
    ['the one that is left', [granted(), granted(other), released(other)], 40_000],
  ])('%s', (_, events, port) => {
    expect(portAfter(events)).toBe(port);
  });

  test('is of the events that the hook is set on', () => {
    const events = [granted(), changed({ externalPort: 50_000 })];
    expect(portAfter(events, { on: ['granted'] })).toBe(40_000);
    expect(portAfter(events, { on: ['changed'] })).toBe(50_000);
  });
});

describe('a sync at a runner', () => {
  const udp = { id: '3fa94c01/udp/8080', protocol: 'udp' } as const;

  async function sceneOf(client: TestClient, name: SyncClient = 'transmission') {
    const scene = runnerOf([hookOf(name, client.withUser(USER, PASSWORD))]);
    const times = (name: string) => client.methods.filter((method) => method === name).length;
    const timesSet = () => times('session-set');
    const isVerified = () => times('session-get') === 2;
    return { ...scene, timesSet, isVerified };
  }

  test('sets the port once for TCP and UDP, and not again while it holds', async () => {
    const client = await transmissionFor();
    const { runner, clock, timesSet, isVerified, warnings } = await sceneOf(client);
    runner.handle(granted());
    runner.handle(granted(udp));
    await settleUntil(clock, isVerified);
    runner.handle(lost());
    runner.handle(granted());
    runner.handle(changed({ externalAddress: '55.66.77.88' }));
    await clock.settle(runner.close());
    expect(timesSet()).toBe(1);
    expect(client.port).toBe(40_000);
    expect(warnings).toEqual([]);
  });

  test('sets the port that a lease has after it was lost', async () => {
    const client = await transmissionFor();
    const { runner, clock } = await sceneOf(client);
    runner.handle(granted());
    await settleUntil(clock, () => client.port === 40_000);
    runner.handle(lost());
    runner.handle(granted({ externalPort: 50_000 }));
    await settleUntil(clock, () => client.port === 50_000);
  });

  test('waits for a client that is not up yet, and then tells it the newest port', async () => {
    const client = await transmissionFor();
    const { runner, clock, timesSet, warnings } = await sceneOf(client);
    const startMs = clock.now();
    client.faults.push({ instead: 'reset' }, { status: 502 }, { status: 502 }, { status: 502 });
    runner.handle(granted({ externalPort: 41_000 }));
    await settleUntil(clock, () => client.asked.length === 3);
    for (const externalPort of [42_000, 43_000, 44_000]) runner.handle(changed({ externalPort }));
    await settleUntil(clock, () => client.port === 44_000);
    expect(timesSet()).toBe(1);
    expect(clock.now() - startMs).toBeLessThan(10_000);
    expect(warnings).toEqual([]);
  });

  test('warns once of a client that does not come up, and finds it later', async () => {
    const client = await transmissionFor();
    const { runner, clock, warnings } = await sceneOf(client);
    client.faults.push(...Array.from({ length: 12 }, () => ({ status: 503 })));
    runner.handle(granted());
    await settleUntil(clock, () => client.port === 40_000);
    expect(warnings).toEqual([
      {
        message: `Transmission at ${client.origin} (to listen on port 40000): it answers with HTTP 503`,
        advice: null,
      },
    ]);
  });

  test('asks a client that does not know it again at the next event, and not before', async () => {
    const client = await transmissionFor();
    const scene = runnerOf([hookOf('transmission', client.withUser(USER, 'wrong'))]);
    const { runner, clock, warnings } = scene;
    runner.handle(granted());
    await settleUntil(clock, () => warnings.length === 1);
    await clock.advance(24 * 3_600_000);
    expect(client.asked).toHaveLength(1);
    runner.handle(granted(udp));
    await settleUntil(clock, () => client.asked.length === 2);
    await clock.settle(runner.close());
    expect(warnings).toHaveLength(1);
    expect(JSON.stringify(warnings)).not.toMatch(/wrong|me:/);
  });

  test('stops asking once nobody wants the port', async () => {
    const client = await transmissionFor();
    const { runner, clock, warnings } = await sceneOf(client);
    client.faults.push(...Array.from({ length: 9 }, () => ({ status: 503 })));
    runner.handle(granted());
    await settleUntil(clock, () => client.asked.length === 2);
    runner.handle(released());
    await clock.advance(3_600_000);
    expect(client.asked).toHaveLength(2);
    expect(warnings).toEqual([]);
  });

  test('tells the port again to a client that may have missed the way back', async () => {
    const client = await transmissionFor();
    const { runner, clock, isVerified, warnings } = await sceneOf(client);
    runner.handle(granted());
    await settleUntil(clock, isVerified);
    client.isStubborn = true;
    runner.handle(changed({ externalPort: 50_000 }));
    await settleUntil(clock, () => warnings.length === 1);
    client.isStubborn = false;
    client.port = 50_000; // late
    runner.handle(changed({ externalPort: 40_000 }));
    await settleUntil(clock, () => client.port === 40_000);
  });

  test('says that two specs pull at one client', async () => {
    const client = await transmissionFor();
    const { runner, clock, warnings } = await sceneOf(client);
    const other = { id: '77777777/tcp/22', intentId: '77777777', spec: '22/tcp', externalPort: 2222 };
    runner.handle(granted());
    runner.handle(granted(other));
    runner.handle(changed({ ...other, externalPort: 2223 }));
    await clock.settle(runner.close());
    expect(warnings).toEqual([
      {
        message: `Transmission at ${client.origin}: it is told the ports of 8080/tcp and 22/tcp, and follows whichever changed last`,
        advice: 'Set the sync on one of them alone.',
      },
    ]);
  });
});
