/** Name updates, before a real server that answers what the services of this world answer. */

import { describe, expect, test } from 'vitest';
import { addressOf, NameUpdate } from '../../../src/agent/hooks/dyndns.ts';
import type { DyndnsHook, HookedEvent } from '../../../src/agent/hooks/hook.ts';
import type { Setback } from '../../../src/agent/hooks/lanes.ts';
import { webRequest } from '../../../src/system/web.ts';
import {
  type Answer,
  closedOrigin,
  serviceFor,
  settleUntil,
  type TestService,
} from '../../support/services.ts';
import { TestClock } from '../../support/test-clock.ts';
import { addressChanged, changed, granted, lost, reachWith, runnerOf } from './support.ts';

const ADDRESS = '11.22.33.44';
const OTHER = '55.66.77.88';
const MINUTE_MS = 60_000;

function hookOf({ withUser }: TestService, path = '/nic/update'): DyndnsHook {
  return { kind: 'dyndns', url: withUser('me', 'p@ss') + path, hostname: 'home.example.org' };
}

/** Answers with each of these texts, the last one for ever. */
function saying(...texts: readonly (string | Answer)[]): (asked: unknown, count: number) => Answer {
  return (_, count) => {
    const text = texts[Math.min(count, texts.length) - 1] ?? '';
    return typeof text === 'string' ? { body: text } : text;
  };
}

async function sceneOf(...texts: readonly (string | Answer)[]) {
  const clock = new TestClock();
  const service = await serviceFor(saying(...texts));
  const update = new NameUpdate(hookOf(service), clock);
  const attempt = (address = ADDRESS, tries = 0): Promise<Setback | undefined> =>
    update.attempt(reachWith(webRequest), address, tries);
  return { clock, asked: service.asked, attempt };
}

describe('addressOf()', () => {
  const hook: DyndnsHook = { kind: 'dyndns', url: 'http://127.0.0.1/', hostname: 'home.example.org' };

  test.each<[string, HookedEvent, string | undefined]>([
    ['a granted lease', granted(), ADDRESS],
    ['a changed lease', changed({ externalAddress: OTHER }), OTHER],
    ['a new address', addressChanged(OTHER), OTHER],
    ['a lost lease', lost(), undefined],
    ['a lease whose address is not known', granted({ externalAddress: null }), undefined],
    ['a gateway that lost its address', addressChanged(null), undefined],
    ['a pinhole', granted({ family: 6, externalAddress: '2001:db8::1' }), undefined],
  ])('%s', (_, event, address) => {
    expect(addressOf(hook, event)).toBe(address);
  });

  test('listens to the events that it is set on', () => {
    expect(addressOf({ ...hook, on: ['granted'] }, addressChanged(OTHER))).toBeUndefined();
    expect(addressOf({ ...hook, on: ['granted'] }, granted())).toBe(ADDRESS);
  });
});

describe('an update', () => {
  test('names host and address, user and client', async () => {
    const { attempt, asked } = await sceneOf(`good ${ADDRESS}`);
    expect(await attempt()).toBeUndefined();
    expect(asked).toMatchObject([
      {
        method: 'GET',
        path: `/nic/update?hostname=home.example.org&myip=${ADDRESS}`,
        headers: {
          'user-agent': 'natward/1.2.3',
          authorization: `Basic ${Buffer.from('me:p@ss').toString('base64')}`,
        },
      },
    ]);
  });

  test('keeps what the URL asks for beside', async () => {
    const service = await serviceFor(saying('good'));
    const update = new NameUpdate(hookOf(service, '/u?system=custom&myip=x'), new TestClock());
    await update.attempt(reachWith(webRequest), ADDRESS, 0);
    expect(service.asked[0]?.path).toBe(`/u?system=custom&myip=${ADDRESS}&hostname=home.example.org`);
  });

  test.each([`good ${ADDRESS}`, 'good', `nochg ${ADDRESS}`, `good ${ADDRESS}\r\n`])(
    '%j is success, and the same address is not told twice',
    async (text) => {
      const { attempt, asked } = await sceneOf(text);
      expect(await attempt()).toBeUndefined();
      expect(await attempt()).toBeUndefined();
      expect(asked).toHaveLength(1);
      expect(await attempt(OTHER)).toBeUndefined();
      expect(asked).toHaveLength(2);
    },
  );

  test.each<string | Answer>([
    'badauth',
    'badagent',
    'badsys',
    '!donator',
    '!yours',
    'notfqdn',
    'nohost',
    'numhost',
    'abuse',
    'good 127.0.0.1',
    { status: 401, body: 'badauth' },
    { status: 401, body: '<html>' },
    { status: 403 },
  ])('after %j nothing is ever sent again, not even another address', async (answer) => {
    const { attempt, asked } = await sceneOf(answer, 'good');
    const setback = { retryMs: null, isWorthTelling: true, error: { code: 'NOT_AUTHORIZED' } };
    expect(await attempt()).toMatchObject(setback);
    expect(await attempt(OTHER)).toMatchObject(setback);
    expect(asked).toHaveLength(1);
  });

  test.each<string | Answer>([
    '911',
    'dnserr',
    { status: 500, body: '911' },
    '<html>Log in to the hotel</html>',
    '',
    { status: 302, headers: { Location: 'http://hotel.example/' } },
    { status: 404 },
  ])('after %j half an hour passes, whatever changes meanwhile', async (answer) => {
    const { attempt, asked, clock } = await sceneOf(answer, 'good');
    expect(await attempt()).toMatchObject({ retryMs: 30 * MINUTE_MS, isWorthTelling: true });
    await clock.advance(10 * MINUTE_MS);
    expect(await attempt(OTHER)).toMatchObject({ retryMs: 20 * MINUTE_MS, isWorthTelling: false });
    expect(asked).toHaveLength(1);
    await clock.advance(20 * MINUTE_MS);
    expect(await attempt(OTHER)).toBeUndefined();
    expect(asked).toHaveLength(2);
  });

  test('a service that cannot be reached is tried for ever, more and more slowly', async () => {
    const hook: DyndnsHook = { kind: 'dyndns', url: await closedOrigin(), hostname: 'home.example.org' };
    const update = new NameUpdate(hook, new TestClock());
    const setbacks = [];
    for (let tries = 0; tries < 9; tries++) {
      setbacks.push(await update.attempt(reachWith(webRequest), ADDRESS, tries));
    }
    expect(setbacks.map((one) => (one?.retryMs ?? 0) / 1000)).toEqual([
      30, 60, 120, 240, 480, 960, 1800, 1800, 1800,
    ]);
    expect(setbacks.map((one) => one?.isWorthTelling)).toEqual([false, false, false, ...Array(6).fill(true)]);
  });

  test.each(['192.168.1.2', '10.0.0.1', '100.64.3.4', '127.0.0.1', '169.254.1.1'])(
    '%s is not for the internet, and not told',
    async (address) => {
      const { attempt, asked } = await sceneOf('good');
      expect(await attempt(address)).toMatchObject({
        retryMs: null,
        isWorthTelling: true,
        error: { message: expect.stringContaining(address) },
      });
      expect(asked).toEqual([]);
    },
  );
});

describe('a name at a runner', () => {
  test('follows the address: once when it is first known, and whenever it is another', async () => {
    const service = await serviceFor(saying('good'));
    const { runner, clock, warnings } = runnerOf([hookOf(service)]);
    const told = () =>
      service.asked.map(({ path }) => new URL(path, service.origin).searchParams.get('myip'));
    runner.handle(granted({ externalAddress: null }));
    for (const protocol of ['tcp', 'udp'] as const) runner.handle(granted({ protocol }));
    await settleUntil(clock, () => told().length === 1);
    runner.handle(addressChanged(ADDRESS));
    runner.handle(addressChanged(OTHER));
    await settleUntil(clock, () => told().length === 2);
    runner.handle(lost({ externalAddress: ADDRESS }));
    runner.handle(granted({ externalAddress: OTHER }));
    await clock.settle(runner.close());
    expect(told()).toEqual([ADDRESS, OTHER]);
    expect(warnings).toEqual([]);
  });

  test('waits half an hour for a service with troubles, and then tells the newest address', async () => {
    const service = await serviceFor(saying('911', 'good'));
    const { runner, clock, warnings } = runnerOf([hookOf(service)]);
    const startMs = clock.now();
    runner.handle(granted());
    await settleUntil(clock, () => warnings.length === 1);
    runner.handle(addressChanged(OTHER));
    await settleUntil(clock, () => service.asked.length === 2);
    expect(clock.now() - startMs).toBe(30 * MINUTE_MS);
    expect(service.asked[1]?.path).toContain(OTHER);
    expect(warnings).toEqual([
      {
        message: `the name home.example.org at ${service.origin} (to be ${ADDRESS}): the service has troubles of its own`,
        advice: null,
      },
    ]);
  });

  test('says again of each address that what was refused is still refused', async () => {
    const service = await serviceFor(saying('nohost'));
    const { runner, clock, warnings } = runnerOf([hookOf(service)]);
    runner.handle(granted());
    runner.handle(granted());
    await settleUntil(clock, () => warnings.length === 1);
    runner.handle(granted());
    runner.handle(addressChanged(OTHER));
    await settleUntil(clock, () => warnings.length === 2);
    expect(service.asked).toHaveLength(1);
    expect(warnings.map(({ message }) => message)).toEqual([
      expect.stringMatching(/to be 11\.22\.33\.44\): it knows no such name in this account \(nohost\)/),
      expect.stringMatching(/to be 55\.66\.77\.88\): it knows no such name/),
    ]);
    expect(JSON.stringify(warnings)).not.toContain('p@ss');
  });
});
