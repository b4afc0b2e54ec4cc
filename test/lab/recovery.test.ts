/**
 * What is kept comes back: whatever the gateway, the network or this host did meanwhile. Each test prints how long
 * it took until the gateway's kernel had it again.
 */

import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type Keeping,
  keepArguments,
  PORT_OF,
  RULE_OF,
  settled,
  startKeep,
  stopwatch,
  until,
  untilEach,
  untilRules,
  WAYS,
  type Way,
} from './support/keeping.ts';
import { ADDRESSES, type Lab, type Place } from './support/lab.ts';
import { describeLab, rowsOf, rule } from './support/suite.ts';

/** A gateway that speaks one protocol alone. */
const ALONE = {
  pcp: { natpmp: false, upnp: false },
  natpmp: { pcp: false, upnp: false },
  upnp: { pcp: false, natpmp: false },
} as const;

/** Searches are as far apart as they get by then. */
const LONG_MS = 20_000;

const OTHER_EXTERNAL = '11.22.33.55';
const OTHER_LAN = '192.168.77.20';

type Keeps = Readonly<Record<Way, Keeping>>;

describeLab('recovery', { rival: true, secondGateway: true }, (lab) => {
  let keeps: Keeping[] = [];

  beforeEach(() => {
    keeps = [];
  });
  afterEach(async () => {
    for (const keep of keeps) keep.process.signal('SIGCONT');
    await Promise.all(keeps.map((keep) => keep.end('SIGKILL')));
  });

  /** A keep in a terminal that has got what it wants. */
  const keeping = async (...args: string[]): Promise<Keeping> => {
    const keep = startKeep(lab(), args);
    keeps.push(keep);
    await keep.event('granted');
    return keep;
  };

  /** One beside the other, each in its own way. */
  const keepEachWay = async (): Promise<Keeps> => {
    const started = await Promise.all(WAYS.map((way) => keeping(...keepArguments(way))));
    await untilRules(lab(), Object.values(RULE_OF));
    await settled();
    const byWay = WAYS.map((way, at) => [way, started[at] as Keeping] as const);
    return Object.fromEntries(byWay) as Keeps;
  };

  const rivalMaps = (port: number): ReturnType<Lab['upnpc']> =>
    lab().upnpc(['-a', ADDRESSES.rival, '80', String(port), 'tcp', '600'], { ns: 'rival' });

  /** A shell in a place, for what takes several commands at once. */
  const shell = (ns: Place, ...lines: string[]) =>
    lab().must(ns, ['sh', '-eu'], { input: `${lines.join('\n')}\n` });

  describe('the gateway starts again with an empty table', () => {
    test.each([
      { via: 'pcp', lost: 1 },
      { via: 'natpmp', lost: 1 },
      // It has no clock that tells: it is asked again for what may still be there.
      { via: 'upnp', lost: 0 },
    ] as const)('it speaks $via alone and announces itself', async ({ via, lost }) => {
      const gateway = await lab().startGateway(ALONE[via]);
      const keep = await keeping('8080');
      await settled();
      await gateway.stop();
      await lab().wipeTable();
      const watch = stopwatch('restart, announced', 'announced');
      await gateway.start();
      await untilEach(lab(), { [`${via} alone`]: rule('tcp', 8080) }, watch);
      await until('it is told', async () => keep.eventsOf('lost').length === lost);
      expect(keep.eventsOf('changed')).toEqual([]);
    });

    test('nothing is announced: each protocol notices by asking', async () => {
      const gateway = await lab().startGateway();
      await keepEachWay();
      await lab().block({ protocol: 'announcements' });
      await gateway.stop();
      await lab().wipeTable();
      const watch = stopwatch('restart, silent', 'silent');
      await gateway.start();
      await untilEach(lab(), RULE_OF, watch);
      expect(await lab().natRules()).toHaveLength(WAYS.length);
    });

    test('UPnP’s control port has moved, the table is as it was: what is kept is still ours to release', async () => {
      const gateway = await lab().startGateway(ALONE.upnp);
      const keep = await keeping('8080');
      const port = gateway.httpPort();
      const { told } = keep;
      const watch = stopwatch('control port moved', 'announced');
      await gateway.restart();
      expect(gateway.httpPort()).not.toBe(port);
      await keep.event('gateway-up', told);
      watch('upnp: found again');
      expect(keep.eventsOf('lost')).toEqual([]);
      await keep.end();
      expect(await lab().natRules()).toEqual([]);
    });
  });

  describe('somebody meddles with the gateway’s table', () => {
    test('a mapping is deleted behind our back: it is made again', async () => {
      await lab().startGateway();
      await keepEachWay();
      const watch = stopwatch('deleted', 'silent');
      for (const way of WAYS) await lab().upnpc(['-d', String(PORT_OF[way]), 'tcp']);
      expect(await lab().natRules()).toEqual([]);
      await untilEach(lab(), RULE_OF, watch);
    });

    test.each([true, false])(
      'another host has taken the port while we slept (secure mode: %s): another one is kept, and all are told',
      async (secureMode) => {
        const gateway = await lab().startGateway({ secureMode });
        const kept = await keepEachWay();
        for (const { process } of keeps) process.signal('SIGSTOP');
        await gateway.restart({ wipeTable: true });
        for (const way of WAYS) await rivalMaps(PORT_OF[way]);
        const theirs = await rowsOf(lab());
        expect(theirs).toHaveLength(WAYS.length);
        const watch = stopwatch('port taken while asleep', 'announced');
        for (const { process } of keeps) process.signal('SIGCONT');
        await Promise.all(
          WAYS.map(async (way) => {
            const { lease, previous } = await kept[way].event('changed');
            watch(way);
            expect(previous.externalPort).toBe(PORT_OF[way]);
            expect(lease).toMatchObject({ state: 'held', internalPort: PORT_OF[way] });
            expect(lease.externalPort).not.toBe(PORT_OF[way]);
            expect(lease.notes.join()).toContain(`external port ${PORT_OF[way]} was not to be had`);
          }),
        );
        const rows = await rowsOf(lab());
        expect(rows).toHaveLength(2 * WAYS.length);
        expect(rows).toEqual(expect.arrayContaining(theirs));
        await Promise.all(keeps.map((keep) => keep.end()));
        expect(await rowsOf(lab())).toEqual(theirs);
      },
    );
  });

  describe('the external address changes', () => {
    test.each(['announced', 'silent'] as const)('%s: the leases say so', async (how) => {
      const gateway = await lab().startGateway({ leaseFile: true });
      const kept = await keepEachWay();
      if (how === 'silent') await lab().block({ protocol: 'announcements' });
      await gateway.stop();
      const watch = stopwatch(`another external address, ${how}`, how);
      await gateway.restart({ externalAddress: OTHER_EXTERNAL });
      await Promise.all(
        WAYS.map(async (way) => {
          const { lease, previous } = await kept[way].event('changed');
          watch(way);
          expect(previous.externalAddress).toBe(ADDRESSES.external);
          expect(lease).toMatchObject({ externalAddress: OTHER_EXTERNAL, externalPort: PORT_OF[way] });
          const { gateway: told } = await kept[way].event('address-changed');
          expect(told.externalAddress).toBe(OTHER_EXTERNAL);
        }),
      );
      expect(await lab().natRules()).toEqual(Object.values(RULE_OF));
    });
  });

  describe('this host’s place in the network changes', () => {
    const moveTo = async (address: string, interface_: string): Promise<void> => {
      await lab().must('lan', ['ip', 'route', 'replace', 'default', 'via', address, 'dev', interface_]);
    };

    test('the default route moves to another gateway, and back', async () => {
      await lab().startGateway();
      const second = await lab().startSecondGateway();
      const kept = await keepEachWay();
      try {
        const there = Object.fromEntries(
          WAYS.map((way) => [way, rule('tcp', PORT_OF[way], { internalClient: ADDRESSES.lan2 })]),
        );
        const watch = stopwatch('the default route moved', 'announced');
        await moveTo(ADDRESSES.gateway2, 'eth1');
        await untilEach(lab(), there, watch, { ns: 'gw2' });
        for (const way of WAYS) {
          const { lease, previous } = await kept[way].event('changed');
          expect(previous.internalClient).toBe(ADDRESSES.lan);
          expect(lease).toMatchObject({ internalClient: ADDRESSES.lan2, gateway: ADDRESSES.gateway2 });
        }
        // It is still next to this host.
        await untilRules(lab(), []);
        watch('all is given back where it was before');
      } finally {
        await moveTo(ADDRESSES.gateway, 'eth0');
      }
      const watch = stopwatch('the default route moved back', 'announced');
      await Promise.all(
        WAYS.map(async (way) => {
          await until('back', async () => kept[way].eventsOf('changed').length > 1);
          watch(way);
        }),
      );
      await untilRules(lab(), Object.values(RULE_OF));
      await untilRules(lab(), [], { ns: 'gw2' });
      for (const keep of keeps) expect(keep.eventsOf('lost')).toEqual([]);
      await Promise.all(keeps.map((keep) => keep.end()));
      expect(await lab().natRules()).toEqual([]);
      await second.stop();
    });

    test('the link goes down and comes up, and the gateway has forgotten meanwhile', async () => {
      const gateway = await lab().startGateway();
      const kept = await keepEachWay();
      await lab().must('lan', ['ip', 'link', 'set', 'eth0', 'down']);
      await Promise.all(WAYS.map((way) => kept[way].event('gateway-down')));
      await gateway.restart({ wipeTable: true });
      const watch = stopwatch('the link came up', 'announced');
      await shell('lan', 'ip link set eth0 up', `ip route add default via ${ADDRESSES.gateway}`);
      await untilEach(lab(), RULE_OF, watch);
      // Announcements are heard as before.
      await settled();
      await gateway.stop();
      await lab().wipeTable();
      const again = stopwatch('restart after the link came up, announced', 'announced');
      await gateway.start();
      await untilEach(lab(), RULE_OF, again);
    });

    test.each([true, false])('the host has another address (secure mode: %s)', async (secureMode) => {
      await lab().startGateway({ secureMode });
      const kept = await keepEachWay();
      const move = (from: string, to: string) =>
        shell(
          'lan',
          `ip addr del ${from}/24 dev eth0`,
          `ip addr add ${to}/24 dev eth0`,
          `ip route add default via ${ADDRESSES.gateway}`,
        );
      const watch = stopwatch(`another address of this host, secure mode ${secureMode}`, 'announced');
      await move(ADDRESSES.lan, OTHER_LAN);
      try {
        await Promise.all(
          WAYS.map(async (way) => {
            const { lease, previous } = await kept[way].event('changed');
            watch(way);
            expect(previous.internalClient).toBe(ADDRESSES.lan);
            expect(lease).toMatchObject({ internalClient: OTHER_LAN, internalPort: PORT_OF[way] });
          }),
        );
        // Only UPnP can delete what leads to another address, and only where the gateway does not mind.
        const isStale = (way: Way) => secureMode || way === 'pcp' || way === 'natpmp';
        const stale = WAYS.filter(isStale).map((way) => RULE_OF[way]);
        await until('the stale ones are gone', async () => {
          const rules = await lab().natRules();
          return (
            rules.filter(({ internalClient }) => internalClient === ADDRESSES.lan).length === stale.length
          );
        });
        expect(await lab().natRules()).toHaveLength(WAYS.length + stale.length);
        await Promise.all(keeps.map((keep) => keep.end()));
        expect(await lab().natRules()).toEqual(stale);
      } finally {
        await move(OTHER_LAN, ADDRESSES.lan);
      }
    });
  });

  describe('nobody is there for a while', () => {
    test('the host sleeps until its leases have ended', async () => {
      await lab().startGateway(ALONE.upnp);
      const keep = await keeping('8080', '--lifetime', '6s');
      keep.process.signal('SIGSTOP');
      await untilRules(lab(), []);
      const { told } = keep;
      const watch = stopwatch('the host slept', 'announced');
      keep.process.signal('SIGCONT');
      await untilEach(lab(), { upnp: rule('tcp', 8080) }, watch);
      expect((await keep.event('renewed', told)).lease.externalPort).toBe(8080);
    });

    test('the gateway is gone for long, and is back', async () => {
      const gateway = await lab().startGateway();
      const kept = await keepEachWay();
      await gateway.stop();
      await lab().wipeTable();
      await Promise.all(WAYS.map((way) => kept[way].event('gateway-down')));
      await delay(LONG_MS);
      const watch = stopwatch('gone for long, announced', 'announced');
      await gateway.start();
      await untilEach(lab(), RULE_OF, watch);
    });

    test('the gateway hangs and goes on without a word: it is found by asking, and nothing is lost', async () => {
      const gateway = await lab().startGateway();
      const kept = await keepEachWay();
      gateway.pause();
      await Promise.all(WAYS.map((way) => kept[way].event('gateway-down')));
      const told = WAYS.map((way) => kept[way].told);
      const watch = stopwatch('the gateway hung', 'silent');
      gateway.resume();
      await Promise.all(
        WAYS.map(async (way, at) => {
          await kept[way].event('gateway-up', told[at]);
          watch(`${way}: found again`);
        }),
      );
      // What is asked for again at once may be taken out of the table and put back.
      await untilRules(lab(), Object.values(RULE_OF));
      for (const way of WAYS) expect(kept[way].eventsOf('changed')).toEqual([]);
    });
  });
});
