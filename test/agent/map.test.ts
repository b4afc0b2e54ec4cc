import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { EmbeddedGateway } from '../../src/responder/gateway.ts';
import type { System } from '../../src/system/system.ts';
import { PCP_NONCE_BYTES } from '../../src/wire/pcp.ts';
import { gatewayFor } from '../support/gateway.ts';
import { agentOf, asksOf, sceneFor } from './support.ts';

const RIVAL = '127.0.0.9';

/** What a table is for people: `tcp 8080 -> 127.0.0.1:8080`. */
function rows(table: Awaited<ReturnType<typeof sceneFor>>['embedded']['table']): string[] {
  return table
    .map((row) => `${row.protocol} ${row.externalPort} -> ${row.internalClient}:${row.internalPort}`)
    .sort();
}

describe('map', () => {
  test.each(['tcp', 'udp'])('opens a %s port and reports what was granted', async (protocol) => {
    const { map, embedded, options } = await sceneFor({ externalAddress: '11.22.33.44' });
    const { mappings, failures } = await map(`4430:8443/${protocol}`);
    expect(failures).toEqual([]);
    expect(mappings).toMatchObject([
      {
        protocol,
        externalAddress: '11.22.33.44',
        externalPort: 4430,
        internalClient: '127.0.0.1',
        internalPort: 8443,
        lifetimeSeconds: options.lifetimeSeconds,
        gateway: '127.0.0.1',
        description: `natward 8443/${protocol}`,
        notes: [],
      },
    ]);
    expect(rows(embedded.table)).toEqual([`${protocol} 4430 -> 127.0.0.1:8443`]);
  });

  test.each(['pcp', 'natpmp', 'upnp'] as const)('speaks %s alone where it is told to', async (via) => {
    const { map, embedded } = await sceneFor();
    const { mappings } = await map('8080', { via });
    expect(mappings.map((mapping) => mapping.via)).toEqual([via]);
    const maps = { pcp: 'pcp map', natpmp: 'natpmp map tcp', upnp: 'soap AddPortMapping' };
    const others = Object.entries(maps).flatMap(([protocol, kind]) => (protocol === via ? [] : [kind]));
    for (const kind of others) expect(embedded.counters).not.toHaveProperty([kind]);
  });

  test('opens TCP and UDP under one external port number', async () => {
    const { map, embedded } = await sceneFor();
    await map('6881/tcp+udp');
    expect(rows(embedded.table)).toEqual(['tcp 6881 -> 127.0.0.1:6881', 'udp 6881 -> 127.0.0.1:6881']);
  });

  test('gives the second protocol the number that the gateway chose for the first one', async () => {
    const at = await gatewayFor();
    await (await agentOf(at, { client: RIVAL })).map('6881/tcp');
    const { mappings } = await (await agentOf(at)).map('6881/tcp+udp');
    expect(mappings).toHaveLength(2);
    expect(mappings[0]?.externalPort).not.toBe(6881);
    expect(mappings[1]?.externalPort).toBe(mappings[0]?.externalPort);
  });

  test('says of both protocols that the external port is another one than was asked for', async () => {
    const at = await gatewayFor();
    await (await agentOf(at, { client: RIVAL })).map('6881/tcp');
    const { mappings } = await (await agentOf(at)).map('6881/tcp+udp');
    const note = `external port 6881 was not to be had: the gateway gave ${mappings[0]?.externalPort}`;
    expect(mappings.map(({ notes }) => notes)).toEqual([[note], [note]]);
  });

  test('takes the first protocol back when the second one is refused', async () => {
    const at = await gatewayFor();
    await (await agentOf(at, { client: RIVAL })).map('8080/udp');
    const { map, remembered } = await agentOf(at);
    const { mappings, failures } = await map('8080/tcp+udp', { choice: 'exact' });
    expect(mappings).toEqual([]);
    expect(failures).toMatchObject([{ spec: '8080/tcp+udp', error: { code: 'CONFLICT' } }]);
    expect(rows(at.embedded.table)).toEqual([`udp 8080 -> ${RIVAL}:8080`]);
    expect(remembered().mappings).toEqual([]);
  });

  test('leaves the first protocol where it was held before, though the second one is refused', async () => {
    const at = await gatewayFor();
    await (await agentOf(at, { client: RIVAL })).map('8080/udp');
    const { map, remembered } = await agentOf(at);
    await map('8080/tcp');
    const { failures } = await map('8080/tcp+udp', { choice: 'exact' });
    expect(failures).toMatchObject([{ error: { code: 'CONFLICT' } }]);
    expect(rows(at.embedded.table)).toEqual(['tcp 8080 -> 127.0.0.1:8080', `udp 8080 -> ${RIVAL}:8080`]);
    expect(remembered().mappings).toMatchObject([{ protocol: 'tcp', externalPort: 8080 }]);
  });

  test('uses the description that it is given', async () => {
    const { map, embedded } = await sceneFor({ protocols: ['upnp'] });
    await map('8080', { description: 'web & <games>' });
    expect(embedded.table).toMatchObject([{ description: 'web & <games>' }]);
  });

  test('maps what is asked for twice in one command once', async () => {
    const { map, embedded, remembered } = await sceneFor();
    const { mappings, failures } = await map('8080 8080/tcp+udp 8078-8081 8080:8080');
    expect(failures).toEqual([]);
    expect(mappings).toHaveLength(5);
    expect(embedded.table).toHaveLength(5);
    expect(remembered().mappings).toHaveLength(5);
  });

  test('is refused another host by a gateway in secure mode, and not by one that trusts this one', async () => {
    const strict = await sceneFor();
    const { failures } = await strict.map('192.168.1.8:8080');
    expect(failures).toMatchObject([{ spec: '192.168.1.8:8080', error: { code: 'NOT_AUTHORIZED' } }]);
    expect(strict.embedded.table).toEqual([]);

    const trusting = await sceneFor({ trustedClients: ['127.0.0.1'] });
    await trusting.map('192.168.1.8:8080');
    expect(rows(trusting.embedded.table)).toEqual(['tcp 8080 -> 192.168.1.8:8080']);
  });
});

describe('map, the second time', () => {
  test.each(['pcp', 'natpmp', 'upnp'] as const)('refreshes what %s holds already', async (via) => {
    const { map, embedded, clock, remembered } = await sceneFor();
    await map('8080', { via });
    const before = embedded.table[0];
    await clock.advance(60_000);
    await map('8080', { via });
    expect(embedded.table).toHaveLength(1);
    expect(embedded.table[0]?.externalPort).toBe(8080);
    expect(embedded.table[0]?.nonce).toEqual(before?.nonce);
    expect(embedded.table[0]?.expiresAtMs).toBeGreaterThanOrEqual((before?.expiresAtMs ?? 0) + 60_000);
    expect(remembered().mappings).toHaveLength(1);
  });

  test('makes no second mapping where another protocol is asked this time', async () => {
    const { map, embedded, remembered } = await sceneFor();
    await map('8080', { via: 'upnp' });
    await map('8080', { via: 'pcp' });
    expect(embedded.table).toHaveLength(1);
    expect(remembered().mappings).toHaveLength(1);
  });

  test('keeps the external port that it got after a conflict, and says so again', async () => {
    const at = await gatewayFor();
    await (await agentOf(at, { client: RIVAL })).map('8080');
    const { map, remembered } = await agentOf(at);
    const first = (await map('8080')).mappings[0];
    const second = (await map('8080')).mappings[0];
    expect(first?.externalPort).not.toBe(8080);
    expect(second?.externalPort).toBe(first?.externalPort);
    expect(second?.notes).toEqual(first?.notes);
    expect(at.embedded.table).toHaveLength(2);
    expect(remembered().mappings).toHaveLength(1);
  });

  test.each(['pcp', 'natpmp', 'upnp'] as const)('keeps the port that %s chose for *', async (via) => {
    const { map, embedded } = await sceneFor();
    const first = (await map('*:6881', { via })).mappings[0];
    const second = (await map('*:6881', { via })).mappings[0];
    expect(second?.externalPort).toBe(first?.externalPort);
    expect(embedded.table).toHaveLength(1);
  });
});

describe('map --exact', () => {
  test.each(['pcp', 'natpmp', 'upnp'] as const)(
    'takes the port that was asked for from %s, or none',
    async (via) => {
      const at = await gatewayFor();
      await (await agentOf(at, { client: RIVAL })).map('8080');
      const { map, remembered } = await agentOf(at);
      const { mappings, failures } = await map('8080', { choice: 'exact', via });
      expect(mappings).toEqual([]);
      expect(failures).toMatchObject([{ spec: '8080', error: { code: 'CONFLICT' } }]);
      expect(failures[0]?.error.advice).toContain('--exact');
      expect(rows(at.embedded.table)).toEqual([`tcp 8080 -> ${RIVAL}:8080`]);
      expect(remembered().mappings).toEqual([]);
    },
  );
});

test('map --exact of * takes what the gateway gives', async () => {
  const { map } = await sceneFor();
  const { mappings, failures } = await map('*:8080', { choice: 'exact' });
  expect(failures).toEqual([]);
  expect(mappings).toMatchObject([{ internalPort: 8080 }]);
});

describe('map of a range', () => {
  test('opens every port of it', async () => {
    const { map, embedded, remembered } = await sceneFor();
    const progress: string[] = [];
    const { mappings, failures } = await map('20000-20039:30000-30039/udp', {
      onProgress: (done, total) => progress.push(`${done}/${total}`),
    });
    expect(failures).toEqual([]);
    expect(mappings).toHaveLength(40);
    expect(rows(embedded.table)).toEqual(
      Array.from({ length: 40 }, (_, at) => `udp ${20_000 + at} -> 127.0.0.1:${30_000 + at}`),
    );
    expect(remembered().mappings).toHaveLength(40);
    expect(progress[0]).toBe('1/40');
    expect(progress.at(-1)).toBe('40/40');
  });

  test.each([
    ['pcp', 4],
    ['natpmp', 1],
  ] as const)('has at most so many requests under way over %s: %i', async (via, window) => {
    const at = await gatewayFor();
    const flight = new Flight();
    const { map } = await agentOf(at, { system: (system) => flight.watch(system) });
    const { mappings } = await map('20000-20029', { via });
    expect(mappings).toHaveLength(30);
    expect(flight.most).toBeLessThanOrEqual(window);
  });

  test('names each port that was refused and opens the others', async () => {
    const { map, embedded } = await sceneFor({
      protocols: ['upnp'],
      deniedExternalPorts: [{ first: 1, last: 1023 }],
    });
    const { mappings, failures } = await map('1022-1025', { choice: 'exact' });
    expect(failures.map(({ spec }) => spec)).toEqual(['1022:1022/tcp', '1023:1023/tcp']);
    expect(failures.every(({ error }) => error.code === 'NOT_AUTHORIZED')).toBe(true);
    expect(mappings.map(({ externalPort }) => externalPort)).toEqual([1024, 1025]);
    expect(embedded.table).toHaveLength(2);
  });

  test('asks for no further port when the gateway has fallen silent', async () => {
    const { map, embedded } = await sceneFor({ protocols: ['pcp'], quirks: { silentOn: ['pcp map'] } });
    const { mappings, failures } = await map('20000-20049');
    expect(mappings).toEqual([]);
    expect(failures).toHaveLength(50);
    expect(new Set(failures.map(({ error }) => error.code))).toEqual(new Set(['TIMEOUT']));
    expect(embedded.counters['pcp map']).toBeLessThanOrEqual(4); // One request, repeated.
  });

  test('stops where it is interrupted, and reports what it had', async () => {
    const { map, embedded, remembered } = await sceneFor();
    const interrupt = new AbortController();
    const { mappings, failures } = await map('20000-20049', {
      signal: interrupt.signal,
      onProgress: (done) => done === 10 && interrupt.abort(),
    });
    expect(mappings.length).toBeGreaterThanOrEqual(10);
    expect(mappings.length).toBeLessThan(20);
    expect(failures.at(-1)?.error.code).toBe('ABORTED');
    expect(remembered().mappings).toHaveLength(mappings.length);
    expect(embedded.table.length).toBeLessThan(20);
  });
});

describe('map over UPnP for the second time in a process', () => {
  test('neither searches for the gateway nor reads its description again', async () => {
    const { map, embedded } = await sceneFor({ protocols: ['upnp'] });
    await map('8080');
    const { mappings } = await map('8081');
    expect(mappings).toMatchObject([{ externalPort: 8081, via: 'upnp' }]);
    expect(embedded.counters['http GET /rootDesc.xml']).toBe(1);
    expect(embedded.table.map(({ externalPort }) => externalPort)).toEqual([8080, 8081]);
  });

  test('finds it again where its control port has moved', async () => {
    const { map, embedded } = await sceneFor({ protocols: ['upnp'] });
    await map('8080');
    await embedded.moveControlPort();
    const { mappings, failures } = await map('8081');
    expect(failures).toEqual([]);
    expect(mappings).toMatchObject([{ externalPort: 8081, via: 'upnp' }]);
  });
});

describe('map for one remote peer', () => {
  test.each(['pcp', 'upnp'] as const)('over %s is remembered, and taken back as what it is', async (via) => {
    const remotePeer = { address: '127.0.0.9', prefixLength: 32, port: 0 };
    const { map, agent, options, clock, embedded, remembered } = await sceneFor();
    await map('8080', { via, remotePeer });
    expect(remembered().mappings).toMatchObject([{ remotePeer }]);
    expect(embedded.table).toMatchObject([{ remotePeers: [remotePeer] }]);
    const { released } = await clock.settle(agent.unmap(asksOf('8080'), { ...options, others: 'refuse' }));
    expect(released).toHaveLength(1);
    expect(embedded.table).toEqual([]);
  });
});

describe('map that is interrupted', () => {
  test.each(['pcp', 'natpmp', 'upnp'] as const)(
    'still hears the answer over %s to what it has asked for, and remembers it',
    async (via) => {
      const { agent, options, clock, embedded, remembered } = await sceneFor();
      embedded.set({ delayMs: { [via === 'upnp' ? 'http' : via]: 300 } });
      const interrupt = new AbortController();
      const asked = agent.map(asksOf('8080 8081'), { ...options, via, signal: interrupt.signal });
      await clock.settle(untilMapped(embedded));
      interrupt.abort();
      const { mappings, failures } = await clock.settle(asked);
      await clock.settle(agent[Symbol.asyncDispose]());
      expect(mappings).toMatchObject([{ externalPort: 8080 }]);
      expect(failures).toMatchObject([{ spec: '8081', error: { code: 'ABORTED' } }]);
      expect(embedded.table).toHaveLength(1);
      expect(remembered().mappings).toHaveLength(1);
    },
  );

  test('does not wait longer than a moment for an answer', async () => {
    const { agent, options, clock, embedded } = await sceneFor({ quirks: { silentOn: ['pcp map'] } });
    const interrupt = new AbortController();
    const asked = agent.map(asksOf('8080'), { ...options, via: 'pcp', signal: interrupt.signal });
    while (embedded.counters['pcp map'] === undefined) await clock.advance(1);
    const startMs = clock.now();
    interrupt.abort();
    const { failures } = await clock.settle(asked);
    expect(failures).toMatchObject([{ error: { code: 'ABORTED' } }]);
    expect(clock.now() - startMs).toBeLessThanOrEqual(1500);
  });
});

describe('map without an answer', () => {
  test('gives up when nothing has happened for the time allowed', async () => {
    const { map, clock } = await sceneFor({ protocols: ['pcp'], quirks: { silentOn: ['pcp map'] } });
    const startMs = clock.now();
    const { failures } = await map('8080', { timeoutMs: 1000 });
    expect(failures).toMatchObject([{ error: { code: 'TIMEOUT', message: 'nothing came back for 1 s' } }]);
    expect(clock.now() - startMs).toBeLessThanOrEqual(1500);
  });

  test('is NO_GATEWAY where the gateway’s host refuses everything', async () => {
    const { map, embedded } = await sceneFor();
    await embedded.close();
    await expect(map('8080', { via: 'pcp' })).rejects.toMatchObject({
      code: 'NO_GATEWAY',
      message: expect.stringContaining('ICMP port unreachable'),
    });
  });

  test('is NO_ROUTE for an IPv6 host where the machine has no IPv6', async () => {
    const { agent, options, clock, embedded } = await sceneFor();
    const asked = agent.map(asksOf('[2001:db8::8]:8443'), options);
    await expect(clock.settle(asked)).rejects.toMatchObject({ code: 'NO_ROUTE' });
    expect(embedded.counters).toEqual({});
  });
});

/** Resolves when the gateway has done what it has not answered yet. */
async function untilMapped(embedded: EmbeddedGateway): Promise<void> {
  while (embedded.table.length === 0) await pause(1);
}

/** Counts the requests to a mapping port that have had no answer yet. */
class Flight {
  most = 0;
  readonly #under = new Set<string>();

  watch(system: System): System {
    return {
      ...system,
      openUdp: async (options) => {
        const socket = await system.openUdp({
          ...options,
          onDatagram: (data, source) => {
            this.#under.delete(internalPortOf(data));
            options.onDatagram(data, source);
          },
        });
        return {
          ...socket,
          send: (data, to) => {
            if (isMap(data)) this.#under.add(internalPortOf(data));
            this.most = Math.max(this.most, this.#under.size);
            socket.send(data, to);
          },
          [Symbol.asyncDispose]: () => socket[Symbol.asyncDispose](),
        };
      },
    };
  }
}

function isMap(packet: Uint8Array): boolean {
  return packet[0] === 0 ? packet[1] === 1 || packet[1] === 2 : packet[0] === 2 && packet[1] === 1;
}

/** RFC 6886, section 3.3; RFC 6887, section 11.1: answers are laid out differently from requests over NAT-PMP. */
function internalPortOf(packet: Uint8Array): string {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const at = packet[0] === 2 ? 24 + PCP_NONCE_BYTES + 4 : (packet[1] ?? 0) >= 128 ? 8 : 4;
  return view.byteLength >= at + 2 ? String(view.getUint16(at)) : '';
}
