import * as fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Discovery } from '../../src/discovery/discover.ts';
import { type ErrorCode, NatwardError } from '../../src/errors.ts';
import type { Mapping, MappingRequest, PortMapper } from '../../src/mapping/mapping.ts';
import { createMapper, Race } from '../../src/mapping/race.ts';
import { MAPPING_PROTOCOLS, type MappingProtocol } from '../../src/net/protocol.ts';
import type { Quirks } from '../../src/responder/quirks/quirks.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import { realSystem } from '../../src/system/system.ts';
import { gatewayFor, type TestGateway } from '../support/gateway.ts';
import { TestClock } from '../support/test-clock.ts';
import { mapperOf, occupy, requestFor, tableOf } from './support.ts';

const NEVER = new AbortController().signal;
const GRANT = { pcp: 'pcp map', natpmp: 'natpmp map', upnp: 'soap AddPortMapping' } as const;
/** The layer of the gateway that a protocol's grants go over. */
const LAYER = { pcp: 'pcp', natpmp: 'natpmp', upnp: 'http' } as const;
const ORDERS: readonly (readonly MappingProtocol[])[] = [
  ['pcp', 'natpmp', 'upnp'],
  ['pcp', 'upnp', 'natpmp'],
  ['natpmp', 'pcp', 'upnp'],
  ['natpmp', 'upnp', 'pcp'],
  ['upnp', 'pcp', 'natpmp'],
  ['upnp', 'natpmp', 'pcp'],
];

type Outcome = { readonly mapping: Mapping } | { readonly code: ErrorCode; readonly error: NatwardError };

/** Runs the race to its very end, late grants included. */
async function finish(clock: TestClock, race: Race, mapping: Promise<Mapping>): Promise<Outcome> {
  const outcome = await clock.settle(
    mapping.then(
      (granted): Outcome => ({ mapping: granted }),
      (error: NatwardError): Outcome => ({ code: error.code, error }),
    ),
  );
  await clock.settle(race.settled());
  // Whatever is still on its way arrives.
  await clock.advance(10_000);
  return outcome;
}

/** A race at a gateway whose protocols have answered in `order`; it has `quirks` from then on. */
async function raceAt(
  at: TestGateway,
  order: readonly MappingProtocol[],
  quirks: Quirks = {},
  wanted: Partial<MappingRequest> = {},
): Promise<Outcome> {
  const race = new Race(at.system);
  for (const protocol of order) race.add(await mapperOf(at, protocol));
  race.close();
  at.embedded.set(quirks);
  return finish(at.clock, race, race.map(requestFor(wanted), NEVER));
}

async function raced(
  order: readonly MappingProtocol[],
  quirks: Quirks = {},
  {
    settings = {},
    wanted = {},
  }: { settings?: Partial<GatewaySettings>; wanted?: Partial<MappingRequest> } = {},
) {
  const at = await gatewayFor(settings);
  const outcome = await raceAt(at, order, quirks, wanted);
  return { outcome, table: tableOf(at), counters: at.embedded.counters };
}

const ONE = ['tcp 8080 -> 127.0.0.1:8080'];

describe.each(ORDERS)('where the answers come in the order %s, %s, %s', (...order) => {
  const [first, second, third] = order as [MappingProtocol, MappingProtocol, MappingProtocol];

  test.each([{}, { separateTables: true }])(
    'the first one maps, and nobody else is asked (%o)',
    async (quirks) => {
      const { outcome, table, counters } = await raced(order, quirks);
      expect(outcome).toMatchObject({ mapping: { via: first, externalPort: 8080 } });
      expect(table).toEqual(ONE);
      expect(counters).toMatchObject({ [GRANT[first]]: 1 });
      expect(counters[GRANT[second]] ?? counters[GRANT[third]]).toBeUndefined();
    },
  );

  test.each([{}, { separateTables: true }])(
    'and are so late that the mapping is asked while discovery goes on, it is mapped once (%o)',
    async (quirks) => {
      const lateMs = (protocol: MappingProtocol) => order.indexOf(protocol) * 120;
      const delayMs = { pcp: lateMs('pcp'), natpmp: lateMs('natpmp'), ssdp: lateMs('upnp') };
      const at = await gatewayFor({ quirks: { ...quirks, delayMs } });
      const race = new Race(at.system);
      const joining: Promise<void>[] = [];
      const discovery = new Discovery(at.system, {
        gateway: at.gateway,
        protocols: new Set(MAPPING_PROTOCOLS),
        knownDevice: undefined,
        knownLocation: () => undefined,
        onOffer: (offer) => joining.push(createMapper(offer, at.system).then((mapper) => race.add(mapper))),
        signal: NEVER,
      });
      onTestFinished(() => discovery[Symbol.asyncDispose]());
      void discovery.done.then(() => Promise.all(joining)).then(() => race.close());
      const outcome = await finish(at.clock, race, race.map(requestFor(), NEVER));
      expect(outcome).toMatchObject({ mapping: { via: first } });
      expect(tableOf(at)).toEqual(ONE);
    },
  );

  test.each([{}, { separateTables: true }])(
    'and the first one is silent on the grant, the second one maps (%o)',
    async (quirks) => {
      const { outcome, table } = await raced(order, { ...quirks, silentOn: [GRANT[first]] });
      expect(outcome).toMatchObject({ mapping: { via: second } });
      expect(table).toEqual(ONE);
    },
  );

  test('and two are silent on the grant, the third one maps', async () => {
    const { outcome, table } = await raced(order, { silentOn: [GRANT[first], GRANT[second]] });
    expect(outcome).toMatchObject({ mapping: { via: third } });
    expect(table).toEqual(ONE);
  });

  test('and all are silent on the grant, it is TIMEOUT, and nothing is mapped', async () => {
    const { outcome, table } = await raced(order, { silentOn: Object.values(GRANT) });
    expect(outcome).toMatchObject({ code: 'TIMEOUT' });
    expect(table).toEqual([]);
  });

  test('and the first one grants and its answers are lost, it is mapped once', async () => {
    const { outcome, table } = await raced(order, { loseAnswers: { [GRANT[first]]: 99 } });
    expect(outcome).toMatchObject({ mapping: { via: second } });
    expect(table).toEqual(ONE);
  });

  test.each([1100, 1500, 2100, 2900, 4000])(
    'and the grant of the first one comes %i ms late, it is mapped once, and stays',
    async (ms) => {
      const { outcome, table } = await raced(order, { delayMs: { [LAYER[first]]: ms } });
      expect(outcome).toMatchObject({ mapping: { externalPort: 8080 } });
      expect(table).toEqual(ONE);
    },
  );

  test('and all grants are late, it is mapped once', async () => {
    const { table } = await raced(order, { delayMs: { pcp: 1800, natpmp: 1500, http: 2200 } });
    expect(table).toEqual(ONE);
  });

  test('and all refuse, it is refused, and nothing is mapped', async () => {
    const { outcome, table } = await raced(order, { forbiddenByUser: true });
    expect(outcome).toMatchObject({ code: 'NOT_AUTHORIZED' });
    expect(table).toEqual([]);
  });

  test('and the port is taken, --exact is CONFLICT whoever was asked, and nothing is left', async () => {
    const at = await gatewayFor();
    await occupy(at, 8080);
    const outcome = await raceAt(at, order, {}, { choice: 'exact' });
    expect(outcome).toMatchObject({
      code: 'CONFLICT',
      error: { advice: expect.stringContaining('--exact') },
    });
    expect(tableOf(at)).toEqual(['tcp 8080 -> 127.0.0.200:8080']);
  });

  test('and the port is taken, another one is mapped, once', async () => {
    const at = await gatewayFor();
    await occupy(at, 8080);
    const outcome = await raceAt(at, order);
    expect(tableOf(at).length).toBe(2);
    expect(outcome).toMatchObject({ mapping: { externalPort: at.embedded.table[1]?.externalPort } });
  });

  test('quirk 26: and NAT-PMP has ports of 8 bits, it is mapped once', async () => {
    const { outcome, table } = await raced(order, { natpmpTruncatesPorts: true });
    expect(outcome).toMatchObject({ mapping: { externalPort: 8080 } });
    expect(table).toEqual(ONE);
  });

  test('quirk 12: and UPnP says yes and maps nothing, so do the others', async () => {
    const { outcome } = await raced(order, { saysYesMapsNothing: true });
    // Only UPnP can look: where it is first, its NOT_MAPPED sends the request on to who cannot.
    expect(outcome).toMatchObject({ mapping: { via: first === 'upnp' ? second : first } });
  });
});

describe('a late grant with another external port', () => {
  test('is given back', async () => {
    const at = await gatewayFor({ quirks: { separateTables: true } });
    // In PCP's own table the port is somebody else's: PCP grants another one, too late.
    const stranger = await mapperOf(
      { ...at, gateway: { ...at.gateway, localAddress: '127.0.0.200' } },
      'pcp',
    );
    const other = requestFor({ internalClient: '127.0.0.200', nonce: new Uint8Array(12).fill(3) });
    await at.clock.settle(stranger.map(other));
    const outcome = await raceAt(at, ['pcp', 'natpmp'], { delayMs: { pcp: 1500 } });
    expect(outcome).toMatchObject({ mapping: { via: 'natpmp', externalPort: 8080 } });
    expect(tableOf(at)).toEqual(['tcp 8080 -> 127.0.0.200:8080', 'tcp 8080 -> 127.0.0.1:8080']);
  });
});

describe('a late grant with another external port, at a gateway with one table', () => {
  test('is given back without the one that stays: PCP releases both by their inner end', async () => {
    const at = await gatewayFor({ igdVersion: 1 });
    await occupy(at, 8080);
    const outcome = await raceAt(at, ['pcp', 'upnp'], { delayMs: { pcp: 1100 } });
    expect(outcome).toMatchObject({ mapping: { via: 'upnp' } });
    const own = at.embedded.table.filter(({ internalClient }) => internalClient === '127.0.0.1');
    expect(own).toMatchObject([{ externalPort: 'mapping' in outcome ? outcome.mapping.externalPort : 0 }]);
  });

  test('is given back where the gateway takes long over every answer', async () => {
    const at = await gatewayFor({ igdVersion: 1 });
    await occupy(at, 8080);
    const outcome = await raceAt(at, ['upnp', 'pcp'], { delayMs: { pcp: 1100, http: 2600 } });
    expect(outcome).toMatchObject({ mapping: { via: 'pcp' } });
    const own = at.embedded.table.filter(({ internalClient }) => internalClient === '127.0.0.1');
    expect(own).toMatchObject([{ externalPort: 'mapping' in outcome ? outcome.mapping.externalPort : 0 }]);
  });
});

describe('the race under any behaviour of the gateway', () => {
  const delay = fc.constantFrom(0, 0, 300, 1100, 1900, 2600);
  const behaviour = fc.record({
    order: fc.constantFrom(...ORDERS),
    delayMs: fc.record({ pcp: delay, natpmp: delay, http: delay }),
    silentOn: fc
      .subarray([['pcp map'], ['natpmp map'], ['soap AddPortMapping', 'soap AddAnyPortMapping']])
      .map((kinds) => kinds.flat()),
    loseAnswers: fc.record({
      'pcp map': fc.nat(2),
      'natpmp map': fc.nat(2),
      'soap AddPortMapping': fc.nat(1),
    }),
    taken: fc.boolean(),
    exact: fc.boolean(),
    igdVersion: fc.constantFrom(1 as const, 2 as const),
    suggestedExternalPort: fc.constantFrom(0, 8080, 18_080),
    natpmpTruncatesPorts: fc.boolean(),
  });

  /** The external ports of this host's mappings when all is over, and the port that was handed on. */
  async function portsAfter(given: typeof behaviour extends fc.Arbitrary<infer T> ? T : never) {
    const { order, taken, exact, suggestedExternalPort, igdVersion, ...quirks } = given;
    const at = await gatewayFor({ igdVersion });
    if (taken) await occupy(at, 8080);
    // An answer that never comes, or cannot be read, tells nobody which other port was granted: that one ends
    // by its lifetime.
    const lost = taken ? { loseAnswers: {}, natpmpTruncatesPorts: false } : {};
    const choice = exact && suggestedExternalPort !== 0 ? 'exact' : 'any';
    const outcome = await raceAt(at, order, { ...quirks, ...lost }, { suggestedExternalPort, choice });
    const own = at.embedded.table.filter(({ internalPort }) => internalPort === 8080);
    const ports = own.filter(({ internalClient }) => internalClient === '127.0.0.1');
    await at.embedded.close();
    const granted = 'mapping' in outcome ? outcome.mapping.externalPort : undefined;
    return {
      granted,
      mapped: ports.map(({ externalPort }) => externalPort),
      wanted: choice === 'exact' ? suggestedExternalPort : undefined,
    };
  }

  test('one mapping is left where it succeeds, and no more than one where it fails', async () => {
    await fc.assert(
      fc.asyncProperty(behaviour, async (given) => {
        const { granted, mapped, wanted } = await portsAfter(given);
        if (granted === undefined) return mapped.length <= 1;
        return mapped.length === 1 && mapped[0] === granted && (wanted === undefined || wanted === granted);
      }),
      { numRuns: 50 },
    );
  }, 60_000);
});

describe('Race', () => {
  /** A mapper that does what the test says, and remembers. */
  function mapperThat(
    protocol: MappingProtocol,
    map: (clock: TestClock, signal?: AbortSignal) => Promise<number>,
    clock: TestClock,
  ): PortMapper & { readonly asked: string[] } {
    const asked: string[] = [];
    return {
      asked,
      protocol,
      gateway: '192.168.1.1',
      window: 1,
      list: undefined,
      holds: undefined,
      async map(request, signal) {
        asked.push('map');
        const externalPort = await map(clock, signal);
        return {
          ...request,
          externalPort,
          externalAddress: undefined,
          expiresAtMs: undefined,
          via: protocol,
          gateway: '192.168.1.1',
          notes: [],
          pinholeId: undefined,
        };
      },
      verify: async (_request, mapping) => mapping,
      unmap: async ({ externalPort }) => void asked.push(`unmap ${externalPort}`),
      externalAddress: async () => undefined,
    };
  }

  function fails(code: ErrorCode, afterMs = 0): (clock: TestClock) => Promise<number> {
    return async (clock) => {
      await clock.sleep(afterMs);
      throw new NatwardError(code, code);
    };
  }

  function grants(externalPort: number, afterMs = 0): Parameters<typeof mapperThat>[1] {
    return async (clock, signal) => {
      await clock.sleep(afterMs, signal);
      return externalPort;
    };
  }

  function newRace() {
    const clock = new TestClock();
    return { clock, race: new Race({ ...realSystem, clock }) };
  }

  async function refusedWith(...codes: [ErrorCode, ErrorCode, ErrorCode]) {
    const { clock, race } = newRace();
    MAPPING_PROTOCOLS.forEach((protocol, at) =>
      race.add(mapperThat(protocol, fails(codes[at] as ErrorCode), clock)),
    );
    race.close();
    const outcome = await finish(clock, race, race.map(requestFor(), NEVER));
    return 'code' in outcome ? outcome.code : 'granted';
  }

  test.each<[ErrorCode, ErrorCode, ErrorCode, ErrorCode]>([
    ['TIMEOUT', 'UNREACHABLE', 'NOT_AUTHORIZED', 'NOT_AUTHORIZED'],
    ['CONFLICT', 'TIMEOUT', 'UNSUPPORTED', 'CONFLICT'],
    ['UNSUPPORTED', 'NETWORK_DOWN', 'TIMEOUT', 'NETWORK_DOWN'],
    ['TIMEOUT', 'NO_RESOURCES', 'CONFLICT', 'CONFLICT'],
    ['UNREACHABLE', 'TIMEOUT', 'MALFORMED', 'MALFORMED'],
    ['UNREACHABLE', 'TIMEOUT', 'UNREACHABLE', 'TIMEOUT'],
    ['NOT_MAPPED', 'NO_RESOURCES', 'REFUSED', 'NO_RESOURCES'],
  ])('of %s, %s and %s shows the most telling: %s', async (pcp, natpmp, upnp, shown) => {
    expect(await refusedWith(pcp, natpmp, upnp)).toBe(shown);
  });

  test('with nobody to ask is NO_GATEWAY', async () => {
    const { clock, race } = newRace();
    const mapping = race.map(requestFor(), NEVER);
    race.close();
    expect(await finish(clock, race, mapping)).toMatchObject({ code: 'NO_GATEWAY' });
  });

  test('waits for the first protocol to answer its probe', async () => {
    const { clock, race } = newRace();
    const mapping = race.map(requestFor(), NEVER);
    void clock.sleep(500).then(() => race.add(mapperThat('upnp', grants(8080), clock)));
    expect(await finish(clock, race, mapping)).toMatchObject({ mapping: { via: 'upnp' } });
  });

  test('asks the one that holds the mapping first, whoever answered first', async () => {
    const { clock, race } = newRace();
    const [pcp, upnp] = [mapperThat('pcp', grants(8080), clock), mapperThat('upnp', grants(8080), clock)];
    race.add(pcp);
    race.add(upnp);
    const outcome = await finish(clock, race, race.map(requestFor(), NEVER, 'upnp'));
    expect(outcome).toMatchObject({ mapping: { via: 'upnp' } });
    expect(pcp.asked).toEqual([]);
  });

  test('asks a protocol that answers its probe late, once the ones before it refused', async () => {
    const { clock, race } = newRace();
    race.add(mapperThat('pcp', fails('NOT_AUTHORIZED'), clock));
    void clock.sleep(800).then(() => {
      race.add(mapperThat('natpmp', grants(8080), clock));
      race.close();
    });
    const outcome = await finish(clock, race, race.map(requestFor(), NEVER));
    expect(outcome).toMatchObject({ mapping: { via: 'natpmp' } });
  });

  test('gives a late grant back where it has another port, and leaves it where it has the same', async () => {
    const { clock, race } = newRace();
    const [same, other] = [
      mapperThat('pcp', grants(8080, 2500), clock),
      mapperThat('natpmp', grants(9999, 2000), clock),
    ];
    for (const mapper of [same, other, mapperThat('upnp', grants(8080), clock)]) race.add(mapper);
    race.close();
    const outcome = await finish(clock, race, race.map(requestFor(), NEVER));
    expect(outcome).toMatchObject({ mapping: { via: 'upnp' } });
    expect([same.asked, other.asked]).toEqual([['map'], ['map', 'unmap 9999']]);
  });

  test('keeps what the silent one grants after all, before anybody else has', async () => {
    const { clock, race } = newRace();
    const [slow, slower] = [
      mapperThat('pcp', grants(8080, 1200), clock),
      mapperThat('natpmp', grants(8080, 5000), clock),
    ];
    race.add(slow);
    race.add(slower);
    race.close();
    const outcome = await finish(clock, race, race.map(requestFor(), NEVER));
    expect(outcome).toMatchObject({ mapping: { via: 'pcp' } });
    expect(slower.asked).toEqual(['map']);
  });

  test('--exact takes back what was not asked for, and goes on', async () => {
    const { clock, race } = newRace();
    const wrong = mapperThat('natpmp', grants(9999), clock);
    race.add(wrong);
    race.add(mapperThat('upnp', grants(8080), clock));
    race.close();
    const outcome = await finish(clock, race, race.map(requestFor({ choice: 'exact' }), NEVER));
    expect(outcome).toMatchObject({ mapping: { via: 'upnp', externalPort: 8080 } });
    expect(wrong.asked).toEqual(['map', 'unmap 9999']);
  });

  test('--exact does not take back what was there before', async () => {
    const { clock, race } = newRace();
    const keeps = mapperThat('natpmp', grants(9999), clock);
    race.add(keeps);
    race.close();
    const held = {
      internalClient: '127.0.0.1',
      externalPort: 9999,
      lifetimeSeconds: 60,
      pinholeId: undefined,
    };
    const outcome = await finish(clock, race, race.map(requestFor({ choice: 'exact', held }), NEVER));
    expect(outcome).toMatchObject({ code: 'CONFLICT' });
    expect(keeps.asked).toEqual(['map']);
  });

  test.each([0, 500, 1500])('ends with ABORTED when it is stopped after %i ms', async (ms) => {
    const { clock, race } = newRace();
    race.add(mapperThat('pcp', grants(8080, 20_000), clock));
    race.add(mapperThat('natpmp', grants(8080, 20_000), clock));
    const stop = new AbortController();
    if (ms === 0) stop.abort();
    else void clock.sleep(ms).then(() => stop.abort());
    const outcome = await clock.settle(
      race.map(requestFor(), stop.signal).catch((error: NatwardError) => error.code),
    );
    expect(outcome).toBe('ABORTED');
  });

  test('an error that is none of ours is FAILED, and the next one is asked', async () => {
    const { clock, race } = newRace();
    const broken = () => Promise.reject(new TypeError('a bug'));
    race.add(mapperThat('pcp', broken, clock));
    race.close();
    expect(await finish(clock, race, race.map(requestFor(), NEVER))).toMatchObject({ code: 'FAILED' });
  });
});
