import { describe, expect, onTestFinished, test } from 'vitest';
import type { LeaseRecord } from '../../src/agent/lease-record.ts';
import { Rounds } from '../../src/agent/rounds.ts';
import { NatwardError } from '../../src/errors.ts';
import type { NetworkState } from '../../src/system/routes.ts';
import { realSystem } from '../../src/system/system.ts';
import { TestClock } from '../support/test-clock.ts';

const LOOK_MS = 10_000;
const NETWORK: NetworkState = { defaultRoutes: [], addresses: [] };

interface RoundsScene {
  readonly rounds: Rounds;
  readonly clock: TestClock;
  readonly told: string[];
  /** How the machine tells its network from now on. */
  says(network: () => Promise<NetworkState>): void;
}

async function roundsFor(): Promise<RoundsScene> {
  const clock = new TestClock();
  const startMs = clock.now();
  const told: string[] = [];
  const tell = (what: string) => told.push(`${(clock.steady() - startMs) / 1000} s: ${what}`);
  let network = async (): Promise<NetworkState> => NETWORK;
  const system = { ...realSystem, clock, networkLookMs: LOOK_MS, network: () => network() };
  const rounds = new Rounds(system, {
    due: ({ key }) => tell(`due ${key}`),
    network: () => tell('network'),
    networkUnknown: ({ message }) => tell(message),
    setForward: () => tell('set forward'),
    setBack: (byMs) => tell(`set back by ${byMs} ms`),
  });
  onTestFinished(() => rounds[Symbol.asyncDispose]());
  await clock.advance(0);
  told.length = 0;
  return { rounds, clock, told, says: (next) => (network = next) };
}

function lease(key: string): LeaseRecord {
  return { key } as LeaseRecord;
}

describe('a lease', () => {
  test('is due at its time, the earliest first, whatever was asked for first', async () => {
    const { rounds, clock, told } = await roundsFor();
    const nowMs = clock.now();
    rounds.set(lease('late'), nowMs + 3000);
    rounds.set(lease('early'), nowMs + 2000);
    await clock.advance(5000);
    expect(told).toEqual(['2 s: due early', '3 s: due late']);
  });

  test('is due at the time that was said last, and not where it was taken out', async () => {
    const { rounds, clock, told } = await roundsFor();
    const nowMs = clock.now();
    const [moved, out] = [lease('moved'), lease('out')];
    for (const one of [moved, out]) rounds.set(one, nowMs + 2000);
    rounds.set(moved, nowMs + 4000);
    rounds.delete(out);
    await clock.advance(5000);
    expect(told).toEqual(['4 s: due moved']);
  });
});

describe('the network', () => {
  test('is looked at now and then, and soon where somebody waits for it', async () => {
    const { rounds, clock, told } = await roundsFor();
    await clock.advance(LOOK_MS + 1000);
    rounds.lookSoon();
    await clock.advance(0);
    expect(told).toEqual(['10 s: network', '11 s: network']);
  });

  test('is not looked at for every lease that is due', async () => {
    const { rounds, clock, told } = await roundsFor();
    for (let at = 1; at <= 9; at++) rounds.set(lease(`${at}`), clock.now() + at * 1000);
    await clock.advance(9500);
    expect(told.filter((what) => what.endsWith('network'))).toEqual([]);
  });

  test('that nobody can tell is said so, and looked at again', async () => {
    const { clock, told, says } = await roundsFor();
    says(async () => {
      throw new NatwardError('FAILED', 'no routing table');
    });
    await clock.advance(LOOK_MS);
    says(async () => NETWORK);
    await clock.advance(LOOK_MS);
    expect(told).toEqual(['10 s: no routing table', '20 s: network']);
  });

  test('that does not answer for long is noticed: what hangs is not alive', async () => {
    const { rounds, clock, says } = await roundsFor();
    let answer: (network: NetworkState) => void = () => undefined;
    says(() => new Promise((resolve) => (answer = resolve)));
    await clock.advance(LOOK_MS + 40_000);
    expect(rounds.isAlive).toBe(true);
    await clock.advance(10_000);
    expect(rounds.isAlive).toBe(false);
    says(async () => NETWORK);
    answer(NETWORK);
    await clock.advance(0);
    expect(rounds.isAlive).toBe(true);
  });
});

describe('the clock', () => {
  test('that was set back moves what is due with it', async () => {
    const { rounds, clock, told } = await roundsFor();
    rounds.set(lease('one'), clock.now() + 15_000);
    clock.sleepThrough(-3_600_000);
    await clock.advance(15_000);
    expect(told).toEqual(['10 s: set back by -3600000 ms', '10 s: network', '15 s: due one']);
  });

  test('that has gone on without us is told of, and what was due meanwhile is due', async () => {
    const { rounds, clock, told } = await roundsFor();
    rounds.set(lease('one'), clock.now() + 60_000);
    clock.sleepThrough(3_600_000);
    rounds.lookSoon();
    await clock.advance(0);
    expect(told).toEqual(['0 s: set forward', '0 s: network', '0 s: due one']);
  });

  test('that is set a little troubles nobody', async () => {
    const { rounds, clock, told } = await roundsFor();
    clock.sleepThrough(4000);
    rounds.lookAtClock();
    clock.sleepThrough(-4000);
    rounds.lookAtClock();
    expect(told).toEqual([]);
  });

  test('is looked at before each grant: what is granted now is not moved with what was granted before', async () => {
    const { rounds, clock, told } = await roundsFor();
    clock.sleepThrough(-60_000);
    rounds.lookAtClock();
    rounds.set(lease('new'), clock.now() + 2000);
    await clock.advance(5000);
    expect(told).toEqual(['0 s: set back by -60000 ms', '2 s: due new']);
  });
});

test('the end of it ends its timer', async () => {
  const { rounds, clock } = await roundsFor();
  expect(clock.pending).toBe(1);
  await rounds[Symbol.asyncDispose]();
  expect(clock.pending).toBe(0);
});
