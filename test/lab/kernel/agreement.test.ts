/**
 * Random tables and random first packets of real clients: the kernel, the relay and decide() name the same rule for
 * each. What decides is compared by how much came for which rule; fast-check makes what differs small.
 */

import * as fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { decide, type FirstPacket, type Surroundings } from '../../../src/forwarder/decide.ts';
import type { Rule } from '../../../src/forwarder/rule.ts';
import { formatRule } from '../../../src/forwarder/text.ts';
import { isNatwardError } from '../../../src/errors.ts';
import { rule } from '../../forwarder/arbitraries.ts';
import { labUnavailable } from '../support/lab.ts';
import type { CarrierAnswer, CarrierRequest } from './support-agreement/carrier.ts';
import type { SenderAnswer, SenderRequest } from './support-agreement/sender.ts';
import type { Worker } from './support-agreement/worker.ts';
import { CLIENTS, ROUTER, ROUTER_INSIDE, SERVED, SERVER, World } from './support-agreement/world.ts';

const TABLES = 100;
/** On the average. */
const PACKETS = 20;
const LIMIT_MS = 300_000;
/** So long what was sent may take to be counted. */
const COUNT_MS = 10_000;

const around: Surroundings = {
  addressesOf: () => [],
  ownAddresses: ['127.0.0.1', ...ROUTER, ROUTER_INSIDE],
  weekday: 1,
  minuteOfDay: 0,
};

const port = fc.integer({ min: 8001, max: 8008 });
const ports = fc.oneof(
  { weight: 3, arbitrary: port.map(String) },
  fc.tuple(port, port).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`),
  fc.tuple(port, port).map(([a, b]) => `${a},${b}`),
  port.map((one) => `8000-8009,~${one}`),
  // A range, for the kernel's dispatch, is what has more than 64.
  fc.constantFrom('8001-8080', '8000-8100,~8003-8004'),
);
const clause = (word: string, ...lists: readonly string[]) =>
  fc.oneof(
    { weight: 4, arbitrary: fc.constant('') },
    fc.constantFrom(...lists).map((list) => ` ${word} ${list}`),
  );
const verdict = fc.oneof(fc.constantFrom('monitor', 'refuse'), {
  weight: 2,
  arbitrary: fc.constantFrom(...SERVED).map((one) => `${SERVER}:${one}`),
});
const line = fc
  .tuple(
    fc.constantFrom('tcp', 'tcp', 'udp', 'tcp+udp'),
    fc.oneof(
      { weight: 4, arbitrary: fc.constant('') },
      fc.constantFrom(`${ROUTER[0]}:`, `${ROUTER[1]}:`, '10.7.1.0/24:', `${SERVER}:`, '0.0.0.0/0:'),
    ),
    ports,
    clause(
      'from',
      '10.7.1.2',
      '10.7.1.2/31',
      'ALL EXCEPT 10.7.1.4',
      '10.7.1.0/24 EXCEPT 10.7.1.2, 10.7.1.5',
      '10.0.0.0/8',
    ),
    clause('port', '20000-29999', '30000-39999', '*,~30000-39999'),
    clause('on', 'c0', 's0', 'c0,s0'),
    verdict,
    clause('deny', '10.7.1.3', '10.7.1.4/31'),
  )
  .map(([protocol, address, to, from, sourcePort, on, becomes, deny]) => {
    return `in ${protocol} ${address}${to}${from}${sourcePort}${on} -> ${becomes}${becomes.includes(':') ? deny : ''}`;
  })
  .filter(isRule);
const table = fc.array(
  fc.record({ line, enabled: fc.oneof({ weight: 6, arbitrary: fc.constant(true) }, fc.constant(false)) }),
  { minLength: 1, maxLength: 7 },
);

function isRule(text: string): boolean {
  try {
    return rule(text, 'a').direction === 'in';
  } catch (error) {
    if (isNatwardError(error)) return false;
    throw error;
  }
}

/** The source port is one that nobody has had: a conversation that was ended is not asked again. */
const packet = fc.record({
  protocol: fc.constantFrom('tcp' as const, 'udp' as const),
  client: fc.constantFrom(...CLIENTS),
  isHigh: fc.boolean(),
  to: fc.constantFrom(...ROUTER, ...ROUTER, SERVER),
  port: fc.integer({ min: 8001, max: 8010 }),
});
type Drawn = typeof packet extends fc.Arbitrary<infer T> ? T : never;
const drawnPackets = fc.array(packet, { minLength: 1, maxLength: 2 * PACKETS, size: 'max' });

interface Engine {
  readonly carrier: Worker;
  readonly sender: Worker;
}

type Counts = Readonly<Record<string, number>>;

function expected(rules: readonly Rule[], packets: readonly FirstPacket[]): Counts {
  const counts = new Map(rules.map(({ id }) => [id, 0]));
  for (const one of packets) {
    const id = decide(rules, one, around)?.id;
    if (id !== undefined) counts.set(id, (counts.get(id) ?? 0) + 1);
  }
  return Object.fromEntries(counts);
}

/** Answers why not, where the engine takes no such table. */
async function apply({ carrier }: Engine, rules: readonly Rule[]): Promise<string | undefined> {
  const request: CarrierRequest = {
    rules: rules.map((one) => ({ id: one.id, enabled: one.enabled, line: formatRule(one) })),
  };
  return (await carrier.ask<CarrierAnswer>(request)).error;
}

/** What came for which rule of the engine's table. */
async function counted(
  { carrier, sender }: Engine,
  rules: readonly Rule[],
  packets: readonly FirstPacket[],
): Promise<Counts> {
  const sent: SenderRequest = packets.map(({ protocol, source, destination }) => {
    return { protocol, source, destination };
  });
  expect(await sender.ask<SenderAnswer>(sent)).toEqual({ silent: 0 });
  const look = async (): Promise<Counts> => {
    const { counts = {} } = await carrier.ask<CarrierAnswer>({ ask: 'activity' });
    return Object.fromEntries(rules.map(({ id }) => [id, counts[id] ?? 0]));
  };
  const wanted = JSON.stringify(expected(rules, packets));
  const endMs = performance.now() + COUNT_MS;
  let counts = await look();
  while (JSON.stringify(counts) !== wanted && performance.now() < endMs) counts = await look();
  return counts;
}

const unavailable = labUnavailable();

describe.skipIf(unavailable)(`lab: engines that agree${unavailable ? ` (${unavailable})` : ''}`, () => {
  const worlds: World[] = [];
  const engines = {} as { kernel: Engine; relay: Engine };
  let used = 0;
  let tables = 0;

  beforeAll(async () => {
    for (const name of ['kernel', 'relay'] as const) {
      const world = await World.create();
      worlds.push(world);
      const carrier = world.work('router', 'carrier.ts', name);
      engines[name] = { carrier, sender: world.work('client', 'sender.ts') };
    }
  });
  afterAll(() => Promise.all(worlds.map((world) => world[Symbol.asyncDispose]())));

  function packetOf({ protocol, client, isHigh, to, port: toPort }: Drawn): FirstPacket {
    used = (used + 1) % 10_000;
    const source = { address: client, port: (isHigh ? 30_000 : 20_000) + used };
    return { direction: 'in', protocol, source, destination: { address: to, port: toPort }, adapter: 'c0' };
  }

  async function byKernel(rules: readonly Rule[], packets: readonly FirstPacket[]): Promise<void> {
    expect(await apply(engines.kernel, rules)).toBeUndefined();
    const counts = await counted(engines.kernel, rules, packets);
    expect({ rules: rules.map(formatRule), counts }).toEqual({
      rules: rules.map(formatRule),
      counts: expected(rules, packets),
    });
  }

  /** Reports whether it can carry the table, or what of it is TCP. */
  async function byRelay(rules: readonly Rule[], packets: readonly FirstPacket[]): Promise<boolean> {
    // What passes through is not the relay's to see.
    let here = packets.filter(({ destination }) => destination.address !== SERVER);
    // What it monitors comes to this host once more, at the loopback address, and finds the next rule.
    let mine = rules.map((one): Rule => (one.verdict === 'monitor' ? { ...one, verdict: 'refuse' } : one));
    // A datagram does not tell the relay which address it was sent to.
    if ((await apply(engines.relay, mine))?.includes('UDP') === true) {
      here = here.filter(({ protocol }) => protocol === 'tcp');
      mine = mine.flatMap((one): Rule[] =>
        one.protocols.includes('tcp') ? [{ ...one, protocols: ['tcp'] }] : [],
      );
    }
    if ((await apply(engines.relay, mine)) !== undefined) return false;
    const counts = await counted(engines.relay, mine, here);
    expect({ rules: mine.map(formatRule), counts }).toEqual({
      rules: mine.map(formatRule),
      counts: expected(mine, here),
    });
    return true;
  }

  test('the kernel, the relay and decide() choose the same rule', { timeout: 2 * LIMIT_MS }, async () => {
    let [matched, relayed] = [0, 0];
    await fc.assert(
      fc.asyncProperty(table, drawnPackets, async (drawn, firsts) => {
        tables++;
        const rules = drawn.map((one, at) => rule(one.line, `t${tables}.${at + 1}`, one.enabled));
        const packets = firsts.map(packetOf);
        // Both come to their end, whatever the other says: the next table is theirs as well.
        const ends = await Promise.allSettled([byKernel(rules, packets), byRelay(rules, packets)]);
        for (const end of ends) if (end.status === 'rejected') throw end.reason;
        matched += Object.values(expected(rules, packets)).reduce((a, b) => a + b, 0);
        if (ends[1].status === 'fulfilled' && ends[1].value) relayed++;
      }),
      { numRuns: TABLES, interruptAfterTimeLimit: LIMIT_MS, markInterruptAsFailure: true },
    );
    expect(matched).toBeGreaterThan(TABLES * 4);
    expect(relayed).toBeGreaterThan(TABLES / 2);
  });
});
