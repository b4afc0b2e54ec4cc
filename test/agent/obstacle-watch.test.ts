/** Other programs' tables that drop what rules carry, told as long as they do. */

import { expect, onTestFinished, test } from 'vitest';
import { watchObstacles } from '../../src/agent/obstacle-watch.ts';
import { NatwardError } from '../../src/errors.ts';
import type { Rule } from '../../src/forwarder/rule.ts';
import { parseRule } from '../../src/forwarder/text.ts';
import { TestClock } from '../support/test-clock.ts';
import { TestEngine } from './test-engine.ts';

const DRAIN = { conversations: 'drain' } as const;
const DROPS = 'Another program’s table inet filter, chain forward, drops it: policy drop. Accept it there.';
const MAY = 'Another program’s table inet filter, chain forward, may drop it: policy drop. Accept it there.';

class Firewalled extends TestEngine {
  asked: string[] = [];
  listingFailure: NatwardError | undefined;

  override async obstacles(rule: Rule): Promise<readonly string[]> {
    this.asked.push(rule.id);
    if (this.listingFailure !== undefined) throw this.listingFailure;
    return this.hindrances;
  }
}

function scene() {
  const engine = new Firewalled();
  engine.carriers = ['nftables'];
  const clock = new TestClock();
  const warned: string[] = [];
  const warn = (key: string, error: NatwardError | undefined) =>
    void warned.push(`${key}: ${error?.message ?? 'well'}`);
  const watched = watchObstacles(engine, { clock, warn });
  onTestFinished(() => watched[Symbol.asyncDispose]());
  const apply = async (...lines: string[]) => {
    const table = lines.map((line, at) => ({ ...parseRule(line), id: `r${at + 1}`, enabled: true }));
    await watched.apply(table, DRAIN);
    await clock.advance(0);
  };
  return { engine, clock, warned, watched, apply };
}

const WEB = 'in tcp 80 -> 192.168.1.8:8080';
const MAIL = 'in tcp 25 -> 192.168.1.9:25';

test('after a change, it says what drops the first of the rules, and how many more', async () => {
  const { engine, warned, apply } = scene();
  await apply(WEB, MAIL);
  expect(warned).toEqual([]);
  engine.hindrances = [MAY, DROPS];
  await apply(WEB, MAIL, 'in tcp 26 -> 192.168.1.9:26');
  expect(warned).toEqual([
    `firewall: the traffic of ${WEB} is dropped: ${DROPS} (2 more of the rules are dropped as well)`,
  ]);
});

test('it looks again once a minute, and tells what is new alone', async () => {
  const { engine, clock, warned, apply } = scene();
  await apply(WEB);
  engine.hindrances = [DROPS];
  await clock.advance(59_000);
  expect(warned).toEqual([]);
  await clock.advance(120_000);
  expect(engine.asked).toHaveLength(3);
  expect(warned).toEqual([`firewall: the traffic of ${WEB} is dropped: ${DROPS}`]);
  engine.hindrances = [];
  await clock.advance(60_000);
  expect(warned.at(-1)).toBe('firewall: well');
});

test('what may be dropped, for some, is an ordinary firewall and not told', async () => {
  const { engine, clock, warned, apply } = scene();
  engine.hindrances = [MAY];
  await apply(WEB);
  await clock.advance(60_000);
  expect(warned).toEqual([]);
});

test('a large table is looked at by its first rules, and only those that the kernel carries', async () => {
  const { engine, apply } = scene();
  await apply(...Array.from({ length: 100 }, (_, at) => `in tcp ${1000 + at} -> 192.168.1.8:80`));
  expect(engine.asked).toHaveLength(32);
  engine.asked = [];
  engine.carriers = ['relay'];
  await apply(WEB);
  expect(engine.asked).toEqual([]);
});

test('with the last rule the trouble is over, and nobody looks any more', async () => {
  const { engine, clock, warned, apply } = scene();
  engine.hindrances = [DROPS];
  await apply(WEB);
  await apply();
  expect(warned.at(-1)).toBe('firewall: well');
  expect(clock.pending).toBe(0);
  await apply(WEB);
  expect(warned.at(-1)).toMatch(/is dropped/);
});

test('a table that is refused changes nothing; one that cannot be listed is said', async () => {
  const { engine, warned, apply } = scene();
  engine.failure = new NatwardError('CONFLICT', 'no');
  await expect(apply(WEB)).rejects.toMatchObject({ code: 'CONFLICT' });
  expect(engine.asked).toEqual([]);
  engine.listingFailure = new NatwardError('FAILED', 'nft: it took too long');
  await apply(WEB);
  expect(warned).toEqual([
    'firewall: what other programs’ tables drop cannot be told: nft: it took too long',
  ]);
});

test('it ends with the engine, which is the engine that it was in all else', async () => {
  const { engine, clock, watched, apply } = scene();
  await apply(WEB);
  expect(watched.name).toBe('relay');
  await watched.drain(5);
  expect(engine.drained).toEqual([5]);
  await watched[Symbol.asyncDispose]();
  expect(engine.ends).toBe(1);
  expect(clock.pending).toBe(0);
});
