/** In which order and how fast addresses and targets are tried: against streams that connect when the test says so. */

import { describe, expect, test } from 'vitest';
import { Attempt, endpointsOf } from '../../../src/forwarder/relay/dial.ts';
import { NOBODY, type Dial, type Stream, type Streams } from '../../../src/forwarder/relay/stream.ts';
import { TargetNames } from '../../../src/forwarder/relay/target-names.ts';
import { parseTarget } from '../../../src/forwarder/target.ts';
import { formatEndpoint } from '../../../src/net/endpoint.ts';
import { TestClock } from '../../support/test-clock.ts';
import { TestNames } from './support.ts';

/** A stream that only has to be recognized. */
function streamTo(to: Dial['to']): Stream {
  const nothing = () => undefined;
  return {
    owner: NOBODY,
    remote: to,
    local: undefined,
    start: nothing,
    stop: nothing,
    write: () => 'sent',
    end: nothing,
    reset: nothing,
    close: nothing,
    rest: nothing,
  };
}

function attempt(targets: string, limitMs = 10_000, sleep?: () => Promise<void>) {
  const clock = new TestClock();
  if (sleep !== undefined) clock.sleep = sleep;
  const names = new TestNames();
  const beganMs = clock.steady();
  const dials = new Map<string, Dial>();
  /** What happened when, since the beginning. */
  const log: string[] = [];
  const say = (what: string) => log.push(`${clock.steady() - beganMs} ${what}`);
  const streams: Streams = {
    listen: () => {
      throw new Error('nobody listens');
    },
    connect(dial) {
      const to = formatEndpoint(dial.to);
      dials.set(to, dial);
      say(to);
      return () => {
        if (dials.delete(to)) say(`given up ${to}`);
      };
    },
  };
  const one = new Attempt(
    {
      targets: targets.split(' ').map(parseTarget),
      local: { address: '127.0.0.1', port: 80 },
      ports: [{ first: 80, last: 80 }],
      from: undefined,
      limitMs,
      done: (stream, endpoint, reason) =>
        say(stream === undefined ? `failed: ${reason}` : `done ${endpoint && formatEndpoint(endpoint)}`),
    },
    { streams, names: new TargetNames(names, clock), clock },
  );
  const take = (to: string): Dial => {
    const dial = dials.get(to);
    if (dial === undefined) throw new Error(`${to} is not dialed`);
    dials.delete(to);
    return dial;
  };
  return {
    one,
    clock,
    names,
    log,
    opens: (to: string) => take(to).done(streamTo({ address: '127.0.0.1', port: 1 }), undefined),
    fails: (to: string, code = 'ECONNREFUSED') => take(to).done(undefined, code),
  };
}

describe('Attempt', () => {
  test('addresses are begun a quarter of a second apart, the families by turns', async () => {
    const { one, clock, names, log, opens } = attempt('name:1');
    names.known.set('name', { addresses: ['::2', '::3', '127.0.0.4', '127.0.0.5'], ttlSeconds: 9 });
    one.begin();
    await clock.advance(600);
    opens('127.0.0.4:1');
    await clock.advance(5000);
    expect(log).toEqual([
      '0 [::2]:1',
      '250 127.0.0.4:1',
      '500 [::3]:1',
      '600 given up [::2]:1',
      '600 given up [::3]:1',
      '600 done 127.0.0.4:1',
    ]);
    expect(clock.pending).toBe(0);
  });

  test('where one fails at once the next one is begun at once', async () => {
    const { one, clock, names, log, fails, opens } = attempt('name:1');
    names.known.set('name', { addresses: ['127.0.0.4', '127.0.0.5'], ttlSeconds: 9 });
    one.begin();
    await clock.advance(10);
    fails('127.0.0.4:1');
    opens('127.0.0.5:1');
    await clock.advance(1000);
    expect(log).toEqual(['0 127.0.0.4:1', '10 127.0.0.5:1', '10 done 127.0.0.5:1']);
  });

  test('the next target is turned to when all addresses of the one before have failed', async () => {
    const { one, clock, names, log, fails } = attempt('name:1 127.0.0.9:2');
    names.known.set('name', { addresses: ['127.0.0.4', '127.0.0.5'], ttlSeconds: 9 });
    one.begin();
    await clock.advance(300);
    fails('127.0.0.5:1');
    await clock.advance(100);
    fails('127.0.0.4:1', 'EHOSTUNREACH');
    fails('127.0.0.9:2', 'ECONNRESET');
    await clock.advance(1000);
    expect(log).toEqual(['0 127.0.0.4:1', '250 127.0.0.5:1', '400 127.0.0.9:2', '400 failed: ECONNRESET']);
  });

  test('a target that takes too long is given up for the next, by whoever looks', async () => {
    const { one, clock, log, opens } = attempt('127.0.0.4:1 127.0.0.5:1', 2000);
    one.begin();
    one.look(clock.steady() + 1999);
    expect(log).toHaveLength(1);
    await clock.advance(2000);
    one.look(clock.steady());
    opens('127.0.0.5:1');
    expect(log.slice(1)).toEqual(['2000 given up 127.0.0.4:1', '2000 127.0.0.5:1', '2000 done 127.0.0.5:1']);
  });

  test('a name without an address is no target, and one that nobody tells of in time', async () => {
    const { one, clock, names, log } = attempt('none:1 never:1', 2000);
    names.known.set('never', new Promise(() => undefined));
    one.begin();
    await clock.advance(2500);
    expect(log).toEqual([]);
    one.look(clock.steady());
    expect(log).toEqual(['2500 failed: no answer within 2 s']);
  });

  test('says which name has no address', async () => {
    const { one, clock, log } = attempt('none:1');
    one.begin();
    await clock.advance(0);
    expect(log).toEqual(['0 failed: none has no address']);
  });

  test('after giveUp() nothing is dialed and nothing is told, whatever was on its way', async () => {
    const { one, clock, names, log } = attempt('name:1 127.0.0.9:2');
    let tell: (addresses: { addresses: string[]; ttlSeconds: number }) => void = () => undefined;
    names.known.set('name', new Promise((resolve) => (tell = resolve)));
    one.begin();
    await clock.advance(10);
    one.giveUp();
    tell({ addresses: ['127.0.0.4'], ttlSeconds: 1 });
    await clock.advance(5000);
    expect(log).toEqual([]);
  });

  test('giveUp() in the very moment of the next address dials no more', async () => {
    const wakes: (() => void)[] = [];
    const { one, clock, names, log } = attempt(
      'name:1',
      10_000,
      () => new Promise((wake) => wakes.push(wake)),
    );
    names.known.set('name', { addresses: ['127.0.0.4', '127.0.0.5'], ttlSeconds: 9 });
    one.begin();
    await clock.advance(0);
    for (const wake of wakes) wake();
    one.giveUp();
    await clock.advance(0);
    expect(log).toEqual(['0 127.0.0.4:1', '0 given up 127.0.0.4:1']);
  });
});

test('a target without a host is this host, in the family that the client came by', () => {
  const names = new TargetNames(new TestNames(), new TestClock());
  const at = (address: string) =>
    endpointsOf(parseTarget(':81'), { local: { address, port: 80 }, ports: [] }, names);
  expect(at('192.0.2.1')).toEqual([{ address: '127.0.0.1', port: 81 }]);
  expect(at('2001:db8::1')).toEqual([{ address: '::1', port: 81 }]);
});
