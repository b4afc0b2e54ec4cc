import assert from 'node:assert/strict';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { intentOf } from '../../src/agent/intent.ts';
import type { Intent, KeepRequest } from '../../src/agent/lease.ts';
import type { Holding } from '../../src/agent/lease-record.ts';
import {
  type Actual,
  type LeaseFacts,
  leasesOf,
  nextStep,
  reconcile,
  type Step,
} from '../../src/agent/reconcile.ts';
import { requestOf } from './keeping.ts';
import { remembered } from './remembered.ts';

function intent(spec: string, options: Partial<KeepRequest> = {}): Intent {
  return intentOf(requestOf(spec, options), 'user');
}

function holding(leaseKey: string, externalPort = 8080): Holding {
  return { leaseKey, interface: 'eth0', hardwareAddress: null, mapping: remembered({ externalPort }) };
}

function keysOf(one: Intent): string[] {
  return [...leasesOf(one)].map(({ key }) => key.slice(one.id.length));
}

/** What an actual is after its steps were carried out. Throws where one of them cannot be. */
function carriedOut(steps: readonly Step[], actual: Actual): Actual {
  const leases = new Map(actual.leases);
  const holdings = new Set(actual.holdings);
  for (const step of steps) {
    switch (step.kind) {
      case 'begin':
        assert.ok(!leases.has(step.wanted.key));
        leases.set(step.wanted.key, step.wanted.intent);
        for (const claimed of step.holdings) assert.ok(holdings.delete(claimed));
        break;
      case 'change':
        assert.ok(leases.has(step.wanted.key));
        leases.set(step.wanted.key, step.wanted.intent);
        break;
      case 'end':
        assert.ok(leases.delete(step.key));
        break;
      case 'release':
        assert.ok(holdings.delete(step.holding));
    }
  }
  return { leases, holdings: [...holdings] };
}

const spec = fc
  .tuple(
    fc.integer({ min: 1, max: 6 }),
    fc.integer({ min: 0, max: 3 }),
    fc.constantFrom('', '/udp', '/tcp+udp'),
    fc.boolean(),
  )
  .map(([first, more, protocol, any]) => `${any ? '*:' : ''}${first}-${first + more}${protocol}`);
const intents = fc
  .uniqueArray(fc.tuple(spec, fc.constantFrom<4 | 6 | undefined>(4, 6, undefined)), {
    selector: ([text, family]) => `${text} ${family}`,
    maxLength: 6,
  })
  .map((all) => all.map(([text, family]) => intent(text, { family })));

/** Some of what is wanted is kept already, by the same intent or an older one of its number; so is some other. */
const scenes = fc.tuple(intents, intents, fc.infiniteStream(fc.nat(5))).map(([wanted, others, random]) => {
  const dice = () => random.next().value as number;
  const leases = new Map<string, Intent>();
  const holdings: Holding[] = [];
  for (const one of [...wanted, ...others]) {
    for (const { key } of leasesOf(one)) {
      const choice = dice();
      if (choice < 2) leases.set(key, choice === 0 ? one : { ...one });
      for (let count = dice() - 3; count > 0; count--) holdings.push(holding(key, holdings.length + 1));
    }
  }
  return { wanted, actual: { leases, holdings } };
});

describe('reconcile', () => {
  test('its steps make the actual into what is wanted, whatever is there', () => {
    fc.assert(
      fc.property(scenes, ({ wanted, actual }) => {
        const after = carriedOut(reconcile(wanted, actual), actual);
        const keys = wanted.flatMap((one) => [...leasesOf(one)].map(({ key }) => [key, one] as const));
        expect(after.leases).toEqual(new Map(keys));
        for (const [key, one] of keys) expect(after.leases.get(key)).toBe(one);
      }),
    );
  });

  test('what is as it is wanted needs no steps', () => {
    fc.assert(
      fc.property(scenes, ({ wanted, actual }) => {
        const after = carriedOut(reconcile(wanted, actual), actual);
        expect(reconcile(wanted, after)).toEqual([]);
      }),
    );
  });

  test('what is held for nobody is released or claimed, each once', () => {
    fc.assert(
      fc.property(scenes, ({ wanted, actual }) => {
        expect(carriedOut(reconcile(wanted, actual), actual).holdings).toEqual([]);
      }),
    );
  });

  test('what is wanted anew claims what was held for it before', () => {
    const one = intent('8080');
    const [first, second] = [holding(`${one.id}/8080`, 1), holding(`${one.id}/8080`, 2)];
    const steps = reconcile([one], { leases: new Map(), holdings: [first, holding('x/1'), second] });
    expect(steps).toMatchObject([
      { kind: 'begin', wanted: { key: `${one.id}/8080`, intent: one }, holdings: [first, second] },
      { kind: 'release', holding: { leaseKey: 'x/1' } },
    ]);
  });

  test('the same intent, read again, is a change; the same object is none', () => {
    const one = intent('8080');
    const actual = { leases: new Map([[`${one.id}/8080`, one]]), holdings: [] };
    expect(reconcile([one], actual)).toEqual([]);
    expect(reconcile([{ ...one }], actual)).toMatchObject([{ kind: 'change', wanted: { intent: one } }]);
  });

  test('what nobody wants any more is ended', () => {
    const one = intent('8080-8081');
    const keys = [...leasesOf(one)].map(({ key }) => key);
    const leases = new Map(keys.map((key) => [key, one]));
    expect(reconcile([], { leases, holdings: [] })).toEqual(keys.map((key) => ({ kind: 'end', key })));
  });

  test('of nothing and nothing is nothing', () => {
    expect(reconcile([], { leases: new Map(), holdings: [] })).toEqual([]);
  });

  test('forty thousand ports are no matter of seconds', () => {
    const all = [intent('1-20000'), intent('1-20000', { gateway: '192.168.1.1' })];
    const startMs = performance.now();
    const steps = reconcile(all, { leases: new Map(), holdings: [] });
    expect(steps).toHaveLength(40_000);
    expect(performance.now() - startMs).toBeLessThan(3000);
  });
});

describe('leasesOf', () => {
  test('is one lease for each port, whatever its protocols', () => {
    expect(keysOf(intent('8080/tcp+udp'))).toEqual(['/8080']);
    expect([...leasesOf(intent('8080/tcp+udp'))][0]?.port.protocols).toEqual(['tcp', 'udp']);
    expect(keysOf(intent('6000-6002/udp'))).toEqual(['/6000', '/6001', '/6002']);
  });

  test('is a mapping and a pinhole where no family was asked for', () => {
    expect(keysOf(intent('8080', { family: undefined }))).toEqual(['/8080', '/8080/ipv6']);
    expect(keysOf(intent('8080', { family: 4 }))).toEqual(['/8080']);
    expect(keysOf(intent('8080', { family: 6 }))).toEqual(['/8080/ipv6']);
  });

  test('is of the family of its host, or of the gateway that was named', () => {
    const family = undefined;
    expect(keysOf(intent('80', { family, host: '192.168.1.8' }))).toEqual(['/80']);
    expect(keysOf(intent('80', { family, host: '2001:db8::8' }))).toEqual(['/80/ipv6']);
    expect(keysOf(intent('80', { family, gateway: '192.168.1.1' }))).toEqual(['/80']);
    expect(keysOf(intent('80', { family, gateway: 'fe80::1' }))).toEqual(['/80/ipv6']);
  });

  test('asks for the external port of the same place in its range, or for any', () => {
    const ports = (one: Intent) =>
      [...leasesOf(one)].map(({ port }) => [port.externalPort, port.internalPort]);
    expect(ports(intent('9000-9001:6000-6001'))).toEqual([
      [9000, 6000],
      [9001, 6001],
    ]);
    expect(ports(intent('*:6000'))).toEqual([[0, 6000]]);
  });

  test('over IPv6 nothing is translated: the outer port is the inner one', () => {
    const [mapping, pinhole] = [...leasesOf(intent('443:8443', { family: undefined }))];
    expect([mapping?.port.externalPort, mapping?.family]).toEqual([443, 4]);
    expect([pinhole?.port.externalPort, pinhole?.port.internalPort, pinhole?.family]).toEqual([
      8443, 8443, 6,
    ]);
  });

  test('keys are as long as the ledger takes them', () => {
    fc.assert(
      fc.property(intents, (all) => {
        for (const one of all)
          for (const { key } of leasesOf(one)) expect(key.length).toBeLessThanOrEqual(64);
      }),
    );
  });
});

describe('nextStep', () => {
  const LINE = { name: 'this conversation' };
  const OLD = { name: 'the one before' };
  const NOW = 1_000_000;
  const held: LeaseFacts = {
    state: 'held',
    line: LINE,
    renewAtMs: NOW + 1000,
    retryAtMs: 0,
    expiresAtMs: NOW + 2000,
  };

  test.each<[string, Partial<LeaseFacts>, unknown, ReturnType<typeof nextStep>]>([
    ['asked for and not answered is asked', { state: 'asking' }, LINE, { kind: 'ask', why: 'new' }],
    ['lost is asked for', { state: 'lost' }, LINE, { kind: 'ask', why: 'new' }],
    ['refused is asked for', { state: 'refused' }, LINE, { kind: 'ask', why: 'new' }],
    [
      'without a gateway is asked for when there is one',
      { state: 'no-gateway' },
      LINE,
      { kind: 'ask', why: 'new' },
    ],
    [
      'refused a moment ago waits',
      { state: 'refused', retryAtMs: NOW + 30 },
      LINE,
      { kind: 'wait', untilMs: NOW + 30 },
    ],
    [
      'refused, and its time has come',
      { state: 'refused', retryAtMs: NOW },
      LINE,
      { kind: 'ask', why: 'new' },
    ],
    ['held waits for its renewal', {}, LINE, { kind: 'wait', untilMs: NOW + 1000 }],
    ['held is renewed when it is time', { renewAtMs: NOW }, LINE, { kind: 'ask', why: 'renewal' }],
    [
      'held and not to be renewed before its end waits for its end',
      { renewAtMs: NOW + 5000 },
      LINE,
      { kind: 'wait', untilMs: NOW + 2000 },
    ],
    [
      'held without an end waits for its renewal',
      { expiresAtMs: undefined },
      LINE,
      { kind: 'wait', untilMs: NOW + 1000 },
    ],
    [
      'held since the conversation before is asked for again',
      { line: OLD },
      LINE,
      { kind: 'ask', why: 'again' },
    ],
    ['held and doubted is asked for again', { line: undefined }, LINE, { kind: 'ask', why: 'again' }],
    [
      'held and doubted, and asked for a moment ago, waits',
      { line: undefined, retryAtMs: NOW + 30 },
      LINE,
      { kind: 'wait', untilMs: NOW + 30 },
    ],
    [
      'held and doubted waits no longer than it lasts',
      { line: undefined, retryAtMs: NOW + 9000 },
      LINE,
      { kind: 'wait', untilMs: NOW + 2000 },
    ],
    ['held, and nobody to ask, waits for its end', {}, undefined, { kind: 'wait', untilMs: NOW + 2000 }],
    [
      'held without an end, and nobody to ask, waits for a gateway',
      { expiresAtMs: undefined },
      undefined,
      { kind: 'wait', untilMs: Number.POSITIVE_INFINITY },
    ],
    [
      'lost, and nobody to ask, waits for a gateway',
      { state: 'lost', retryAtMs: NOW - 5 },
      undefined,
      { kind: 'wait', untilMs: Number.POSITIVE_INFINITY },
    ],
  ])('a lease that is %s', (_what, change, line, step) => {
    expect(nextStep({ ...held, ...change }, line, NOW)).toEqual(step);
  });

  test('never waits for a time that is over', () => {
    const time = fc.integer({ min: -5000, max: 5000 }).map((ms) => NOW + ms);
    const facts = fc.record({
      state: fc.constantFrom('asking', 'held', 'lost', 'refused', 'no-gateway'),
      line: fc.constantFrom(LINE, OLD, undefined),
      renewAtMs: time,
      retryAtMs: time,
      // What has ended is lost before anybody asks what to do.
      expiresAtMs: fc.option(
        fc.integer({ min: 1, max: 5000 }).map((ms) => NOW + ms),
        { nil: undefined },
      ),
    });
    fc.assert(
      fc.property(facts, fc.constantFrom(LINE, undefined), (lease, line) => {
        const step = nextStep(lease, line, NOW);
        return step.kind === 'ask' ? line !== undefined : step.untilMs > NOW;
      }),
    );
  });
});
