import { describe, expect, test } from 'vitest';
import type { Gateway, UpnpDevice } from '../../src/discovery/gateway.ts';
import { search } from '../../src/discovery/search.ts';
import type { IpAddress } from '../../src/net/address.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import type { System } from '../../src/system/system.ts';
import { gatewayAt, gatewayFor, systemFor, type TestGateway } from '../support/gateway.ts';
import { TestClock } from '../support/test-clock.ts';
import { decodeSsdp, encodeSsdp } from '../../src/wire/ssdp.ts';
import { descriptionWith, openPeer, openWebServer, type Peer, searchAnswer } from './support.ts';

interface Found {
  readonly device: UpnpDevice;
  readonly atMs: number;
}

interface Outcome {
  readonly found: readonly Found[];
  readonly dropped: number;
  readonly rejected: readonly Error[];
  readonly endMs: number;
}

/** Searches to the end, or until something is found where `until` says so. */
async function searched(
  { gateway, system, clock }: Pick<TestGateway, 'gateway' | 'system' | 'clock'>,
  { until = 'the end' }: { readonly until?: 'the end' | 'found' } = {},
): Promise<Outcome> {
  const startMs = clock.now();
  const found: Found[] = [];
  const stop = new AbortController();
  const report = (device: UpnpDevice) => {
    found.push({ device, atMs: clock.now() - startMs });
    if (until === 'found') stop.abort();
  };
  const searching = search(system, gateway, report, stop.signal);
  const { dropped, rejected } = await clock.settle(searching);
  return { found, dropped, rejected, endMs: clock.now() - startMs };
}

async function searchedAt(settings: Partial<GatewaySettings>): Promise<Outcome & TestGateway> {
  const at = await gatewayFor(settings);
  return { ...at, ...(await searched(at)) };
}

/** A gateway's SSDP port on which a test answers. */
async function scripted(answer: Parameters<typeof openPeer>[0]) {
  const peer = await openPeer(answer);
  const clock = new TestClock();
  const gateway = gatewayAt('127.0.0.1', { pcp: 9, ssdp: peer.endpoint.port });
  return { peer, clock, gateway, system: systemFor(gateway, clock) };
}

/** Answers the first search alone. */
function once(answer: (...call: Parameters<NonNullable<Parameters<typeof openPeer>[0]>>) => void) {
  return (...call: Parameters<typeof answer>) => {
    if (call[2].heard.length === 1) answer(...call);
  };
}

/** Each datagram that was sent, and when. */
function recording(system: System, clock: TestClock) {
  const sent: { atMs: number; to: string; text: string }[] = [];
  const startMs = clock.now();
  const recorder: System = {
    ...system,
    async openUdp(options) {
      const socket = await system.openUdp(options);
      return {
        local: socket.local,
        send(data, to) {
          const text = Buffer.from(data).toString('utf8');
          sent.push({ atMs: clock.now() - startMs, to: to?.address ?? 'the gateway', text });
          socket.send(data, to);
        },
        [Symbol.asyncDispose]: () => socket[Symbol.asyncDispose](),
      };
    },
  };
  return { sent, recorder };
}

describe('a search', () => {
  test('hands on the gateway as soon as it answers, and nobody waits for MX', async () => {
    const at = await gatewayFor();
    const { found, endMs } = await searched(at, { until: 'found' });
    expect(found).toMatchObject([{ atMs: 0, device: { location: at.embedded.location, host: '127.0.0.1' } }]);
    expect(endMs).toBe(0);
    expect(at.embedded.counters['http GET /rootDesc.xml']).toBe(1);
  });

  test('fetches each description once, however many answers name it', async () => {
    const { found, embedded, endMs } = await searchedAt({});
    expect(found.length).toBe(1);
    expect(embedded.counters['http GET /rootDesc.xml']).toBe(1);
    expect(endMs).toBe(2000);
  });

  test('goes to the group and to the gateway itself, one search first, and then in waves', async () => {
    const at = await gatewayFor({ quirks: { silentOn: ['ssdp search'] } });
    const { sent, recorder } = recording(at.system, at.clock);
    const { endMs } = await searched({ ...at, system: recorder });
    const count = (to: string) => {
      const times = new Map<number, number>();
      for (const { atMs } of sent.filter((one) => one.to === to)) times.set(atMs, (times.get(atMs) ?? 0) + 1);
      return [...times];
    };
    expect(count('the gateway')).toEqual([
      [0, 1],
      [40, 5],
      [250, 6],
      [800, 6],
    ]);
    expect(count('239.255.255.250')).toEqual([
      [10, 6],
      [260, 6],
      [810, 6],
    ]);
    expect(endMs).toBe(2000);
    expect(at.embedded.counters['ssdp search']).toBe(36);
  });

  test('asks for MX 1 in the group, and without MX at the gateway', async () => {
    const at = await gatewayFor();
    const { sent, recorder } = recording(at.system, at.clock);
    await searched({ ...at, system: recorder });
    const waits = (to: string) =>
      new Set(
        sent
          .filter((one) => one.to === to)
          .map(({ text }) => {
            const message = decodeSsdp(Buffer.from(text));
            return message.kind === 'search' ? message.maxWaitSeconds : undefined;
          }),
      );
    expect([...waits('239.255.255.250')]).toEqual([1]);
    expect([...waits('the gateway')]).toEqual([0]);
  });

  test('is over after one MX where the gateway refuses with ICMP, and sends no more there', async () => {
    const at = await gatewayFor({ protocols: ['pcp'] });
    const { sent, recorder } = recording(at.system, at.clock);
    const { found, endMs } = await searched({ ...at, system: recorder });
    expect(found).toEqual([]);
    expect(endMs).toBe(1000);
    expect(sent.filter((one) => one.to === 'the gateway').length).toBe(1);
  });

  test('needs no multicast: where the interface has none, the gateway itself is asked', async () => {
    const at = await gatewayFor();
    const system: System = {
      ...at.system,
      openUdp: (options) =>
        options.multicast === undefined
          ? at.system.openUdp(options)
          : Promise.reject(new Error('no multicast here')),
    };
    expect((await searched({ ...at, system })).found.length).toBe(1);
  });

  test('ends at once where it was aborted before', async () => {
    const at = await gatewayFor();
    const searching = search(at.system, at.gateway, () => undefined, AbortSignal.abort());
    expect(await at.clock.settle(searching)).toEqual({ dropped: 0, rejected: [] });
    expect(at.clock.pending).toBe(0);
    expect(at.embedded.counters).toEqual({});
  });

  test('works over IPv6', async () => {
    const at = await gatewayFor({ address: '::1' });
    expect((await searched(at, { until: 'found' })).found[0]?.device.host).toBe('::1');
  });
});

describe('quirks of search answers', () => {
  test('quirk 13: a gateway that answers ssdp:all with its WFADevice alone (Sagemcom) is found', async () => {
    expect((await searchedAt({ quirks: { answersAllWithWfaDeviceOnly: true } })).found.length).toBe(1);
  });

  test('quirk 14: a gateway that answers multicast only (Eero) is found', async () => {
    expect((await searchedAt({ quirks: { answersMulticastOnly: true } })).found.length).toBe(1);
  });

  test('quirk 15: replies from another UDP port (ER605, HomeHub) are taken', async () => {
    const { found } = await searchedAt({ quirks: { repliesFromAnotherPort: true } });
    expect(found).toMatchObject([{ atMs: 0 }]);
  });

  test.each(['no-last-line', 'mixed-case', 'lf-only'] as const)(
    'quirk 22: headers in an odd form (%s) are read',
    async (ssdpHeaders) => {
      expect((await searchedAt({ quirks: { ssdpHeaders } })).found.length).toBe(1);
    },
  );

  test('quirk 28: a gateway that breaks on searches in both families (FRITZ!Box) is asked in one', async () => {
    const at = await gatewayFor({ otherAddress: '::1', quirks: { breaksOnBothFamilies: true } });
    expect((await searched(at)).found.length).toBe(1);
    const { found } = await searched({
      ...at,
      gateway: gatewayAt('::1', at.gateway.ports),
      system: systemFor(gatewayAt('::1', at.gateway.ports), at.clock),
    });
    expect(found.length).toBe(1);
  });

  test('quirk 17: a control port that moved is found again by the next search', async () => {
    const at = await gatewayFor();
    const before = (await searched(at)).found[0]?.device.location;
    await at.embedded.moveControlPort();
    const after = (await searched(at)).found[0]?.device.location;
    expect(after).toBe(at.embedded.location);
    expect(after).not.toBe(before);
  });
});

describe('what is no answer', () => {
  test.each(['truncated', 'wrong-opcode', 'request-echo', 'wrong-nonce'] as const)(
    'is dropped and counted (%s), and the gateway is found',
    async (junk) => {
      const { found, dropped } = await searchedAt({ quirks: { junkFirst: [junk] } });
      expect(found).toMatchObject([{ atMs: 0, device: { host: '127.0.0.1' } }]);
      expect(dropped).toBeGreaterThan(0);
    },
  );

  test.each(['wrong-source', 'oversized'] as const)(
    'or names another host (%s), is not followed, and the gateway is found',
    async (junk) => {
      const { found } = await searchedAt({ quirks: { junkFirst: [junk] } });
      expect(found).toMatchObject([{ atMs: 0, device: { host: '127.0.0.1' } }]);
    },
  );

  test('an answer for upnp:rootdevice counts from the gateway', async () => {
    const web = await openWebServer('127.0.0.1', () => descriptionWith('/control'));
    const at = await scripted(
      once(
        (_packet, from, peer) =>
          void peer.send(searchAnswer(`http://127.0.0.1:${web.port}/`, 'upnp:rootdevice'), from),
      ),
    );
    expect((await searched(at)).found.length).toBe(1);
  });

  test('an answer for upnp:rootdevice from any other host (a television) is dropped', async () => {
    const television = await openPeer(undefined, '127.0.0.33');
    const web = await openWebServer('127.0.0.33', () => descriptionWith('/control'));
    const at = await scripted(
      once(
        (_packet, from) =>
          void television.send(searchAnswer(`http://127.0.0.33:${web.port}/`, 'upnp:rootdevice'), from),
      ),
    );
    expect(await searched(at)).toMatchObject({ found: [], dropped: 1 });
    expect(web.asked).toEqual([]);
  });
});

describe('other routers', () => {
  const OTHER: IpAddress = '127.0.0.44';

  /** The gateway answers after `delayMs`, another router at once. */
  async function withOther(delayMs: number | undefined) {
    const other = await openPeer(undefined, OTHER);
    const [otherWeb, ownWeb] = [
      await openWebServer(OTHER, () => descriptionWith('/control')),
      await openWebServer('127.0.0.1', () => descriptionWith('/control')),
    ];
    const answer = async (from: Parameters<Peer['send']>[1], peer: Peer) => {
      await other.send(searchAnswer(`http://${OTHER}:${otherWeb.port}/`), from);
      if (delayMs === undefined) return;
      await at.clock.sleep(delayMs);
      await peer.send(searchAnswer(`http://127.0.0.1:${ownWeb.port}/`), from);
    };
    const at = await scripted(once((_packet, from, peer) => void answer(from, peer)));
    return at;
  }

  test('wait 300 ms for the gateway itself', async () => {
    const { found } = await searched(await withOther(undefined));
    expect(found).toMatchObject([{ atMs: 300, device: { host: OTHER } }]);
  });

  test('come after a gateway that needs less than that', async () => {
    const { found } = await searched(await withOther(200));
    expect(found.map(({ device, atMs }) => [device.host, atMs])).toEqual([
      ['127.0.0.1', 200],
      [OTHER, 300],
    ]);
  });

  test('are not heard where the person has named the gateway', async () => {
    const at = await withOther(undefined);
    const { found, dropped } = await searched({ ...at, gateway: { ...at.gateway, chosenBy: 'named' } });
    expect({ found, dropped }).toEqual({ found: [], dropped: 1 });
  });

  test('are not handed on where the gateway was enough', async () => {
    const { found } = await searched(await withOther(200), { until: 'found' });
    expect(found.map(({ device }) => device.host)).toEqual(['127.0.0.1']);
  });
});

describe('a hostile network', () => {
  const FOREIGN = '127.0.0.66';

  test('that leads elsewhere is not followed: nothing is fetched there', async () => {
    const foreign = await openWebServer(FOREIGN, () => descriptionWith('/control'));
    const { found, rejected } = await searchedAt({
      quirks: { location: `http://${FOREIGN}:${foreign.port}/desc.xml` },
    });
    expect(found).toEqual([]);
    expect(rejected).toMatchObject([{ code: 'HOSTILE' }]);
    expect(foreign.asked).toEqual([]);
  });

  test('has no more than 4 descriptions of a device fetched', async () => {
    const web = await openWebServer('127.0.0.1', () => 'nothing');
    const at = await scripted(
      once((_packet, from, peer) => {
        for (let number = 0; number < 20; number++) {
          void peer.send(searchAnswer(`http://127.0.0.1:${web.port}/${number}`), from);
        }
      }),
    );
    expect((await searched(at)).rejected.length).toBe(4);
    expect(web.asked.length).toBe(4);
  });

  /** Many devices, each with 4 descriptions that nobody can follow, and then the gateway. */
  async function crowd(devices: number) {
    const web = await openWebServer('127.0.0.1', () => descriptionWith('/control'));
    const peers: Peer[] = [];
    for (let number = 0; number < devices; number++)
      peers.push(await openPeer(undefined, `127.0.1.${number + 1}`));
    const answer = async (from: Parameters<Peer['send']>[1], peer: Peer) => {
      for (const other of peers) {
        for (let number = 0; number < 5; number++) {
          await other.send(searchAnswer(`http://192.0.2.1/${other.endpoint.address}/${number}`), from);
        }
      }
      await at.clock.sleep(50);
      await peer.send(searchAnswer(`http://127.0.0.1:${web.port}/`), from);
    };
    const at = await scripted(once((_packet, from, peer) => void answer(from, peer)));
    return searched(at);
  }

  test('has no more than 64 descriptions looked at, and does not crowd the gateway out', async () => {
    const { found, rejected } = await crowd(20);
    expect(rejected.length).toBe(64);
    expect(found).toMatchObject([{ device: { host: '127.0.0.1' } }]);
  });

  test('that never ends a description is not waited for: 700 ms after the search it is over', async () => {
    const { found, rejected, endMs } = await searchedAt({ quirks: { slowBody: true } });
    expect(found).toEqual([]);
    expect(rejected.length).toBe(1);
    expect(endMs).toBe(2700);
  });

  test('that sends what is no SSDP is counted', async () => {
    const at = await scripted(
      once((_packet, from, peer) => {
        void peer.send(new Uint8Array(9000), from);
        void peer.send(new Uint8Array(0), from);
        void peer.send(encodeSsdp({ kind: 'search', searchTarget: 'x', host: 'y', maxWaitSeconds: 1 }), from);
      }),
    );
    expect(await searched(at)).toMatchObject({ found: [], dropped: 3, rejected: [] });
  });
});

describe('the gateway value', () => {
  test('decides where a search goes', async () => {
    const at = await gatewayFor();
    const elsewhere: Gateway = gatewayAt('127.0.0.99', at.gateway.ports);
    const { found } = await searched({ ...at, gateway: { ...elsewhere, localAddress: '127.0.0.1' } });
    // The group was asked too: the embedded gateway answered, as another router.
    expect(found).toMatchObject([{ atMs: 310, device: { host: '127.0.0.1' } }]);
  });
});
