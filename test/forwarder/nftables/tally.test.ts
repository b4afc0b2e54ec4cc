import { expect, test } from 'vitest';
import { NO_ACTIVITY } from '../../../src/forwarder/engine.ts';
import type { Count } from '../../../src/forwarder/nftables/counters.ts';
import { Tally } from '../../../src/forwarder/nftables/tally.ts';

function count(packetsIn: number, other: Partial<Count> = {}): Count {
  return {
    packetsIn,
    bytesIn: 100 * packetsIn,
    packetsOut: 0,
    bytesOut: 0,
    begun: 1,
    refused: new Map(),
    ...other,
  };
}

const KNOWN_IDS = new Map([[1, 'web']]);
const IDS = (mark: number): string | undefined => KNOWN_IDS.get(mark);

test('a rule that nobody has counted has no activity', () => {
  expect(new Tally().of('web', [], 0)).toEqual(NO_ACTIVITY);
});

test('what is counted is told, with what is open', () => {
  const tally = new Tally();
  tally.see(new Map([[1, count(3)]]), IDS, 1000);
  expect(tally.of('web', [1], 2)).toEqual({
    ...NO_ACTIVITY,
    packetsIn: 3,
    bytesIn: 300,
    conversations: 1,
    open: 2,
    lastAtMs: 1000,
  });
});

test('when something last came is when counts last moved', () => {
  const tally = new Tally();
  for (const [packets, nowMs] of [
    [3, 1000],
    [3, 2000],
    [4, 3000],
    [4, 4000],
  ] as const) {
    tally.see(new Map([[1, count(packets)]]), IDS, nowMs);
  }
  expect(tally.of('web', [1], 0).lastAtMs).toBe(3000);
});

test('a refusal is something that came, with its reason', () => {
  const tally = new Tally();
  tally.see(new Map([[1, count(0, { begun: 0, refused: new Map([[3, 1]]) })]]), IDS, 1000);
  tally.see(
    new Map([
      [
        1,
        count(0, {
          begun: 0,
          refused: new Map([
            [3, 1],
            [7, 4],
          ]),
        }),
      ],
    ]),
    IDS,
    2000,
  );
  expect(tally.of('web', [1], 0)).toMatchObject({
    conversations: 0,
    refused: 5,
    lastAtMs: 2000,
    lastRefusal: 'the quota is used up',
  });
});

test('a rule that changed keeps what its marks before have counted, and is not counted twice', () => {
  const tally = new Tally();
  tally.see(new Map([[1, count(3)]]), IDS, 1000);
  tally.fold('web', [1]);
  tally.see(new Map([[2, count(5)]]), () => 'web', 2000);
  expect(tally.of('web', [2], 0)).toMatchObject({
    packetsIn: 8,
    bytesIn: 800,
    conversations: 2,
    lastAtMs: 2000,
  });
});

test('two marks of one rule are added up', () => {
  const tally = new Tally();
  tally.see(
    new Map([
      [1, count(3)],
      [2, count(4)],
    ]),
    () => 'web',
    1000,
  );
  expect(tally.of('web', [1, 2], 0).packetsIn).toBe(7);
});

test('of a rule that is gone nothing is kept', () => {
  const tally = new Tally();
  tally.see(new Map([[1, count(3)]]), IDS, 1000);
  tally.fold('web', [1]);
  tally.keepOnly((id) => id !== 'web');
  expect(tally.of('web', [], 0)).toEqual(NO_ACTIVITY);
});
