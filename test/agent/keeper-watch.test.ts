import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { describe, expect, onTestFinished, test } from 'vitest';
import { NatwardError } from '../../src/errors.ts';
import type { IpAddress } from '../../src/net/address.ts';
import type { MappingProtocol } from '../../src/net/protocol.ts';
import { startGateway } from '../../src/responder/gateway.ts';
import type { EmbeddedGateway } from '../../src/responder/gateway.ts';
import { encodeNatpmpResponse } from '../../src/wire/natpmp.ts';
import { encodePcpResponse } from '../../src/wire/pcp.ts';
import { encodeSsdp } from '../../src/wire/ssdp.ts';
import { tableOf } from '../mapping/support.ts';
import { freshOuterAddress } from '../support/gateway.ts';
import { freshInnerAddress, keeperFor, type KeeperScene, NEVER, networkOf, selectorOf } from './keeping.ts';

const HOUR_MS = 3_600_000;
/** A check's period, a tenth more, and what asking takes. */
const CHECK_MS = 12_000;
const PROTOCOLS: readonly MappingProtocol[] = ['pcp', 'natpmp', 'upnp'];
const ANNOUNCE = { address: '224.0.0.1', port: 5350 } as const;
const SSDP = { address: '239.255.255.250', port: 1900 } as const;

function mapped(scene: KeeperScene): string[] {
  return tableOf(scene)
    .map((row) => row.replace(`${scene.gateway.localAddress}:`, ':'))
    .sort();
}

/** A lease that was granted a while ago: the gateway's clock has gone on since. */
async function held(
  settings: Parameters<typeof keeperFor>[0] = {},
  surroundings: Parameters<typeof keeperFor>[1] = {},
  specs: readonly string[] = ['8443'],
): Promise<KeeperScene> {
  const scene = await keeperFor(settings, surroundings);
  await scene.keep(specs);
  await scene.pass(60_000);
  expect(new Set((await scene.leases()).map(({ state }) => state))).toEqual(new Set(['held']));
  scene.told();
  return scene;
}

describe('a gateway that starts again from nothing', () => {
  test.each(PROTOCOLS)(
    'over %s: is noticed within a check, and what was lost is held again',
    async (protocol) => {
      const scene = await held({ protocols: [protocol] }, {}, ['8443', '9000/udp']);
      await scene.embedded.wipe();
      await scene.pass(CHECK_MS);
      expect(mapped(scene)).toEqual(['tcp 8443 -> :8443', 'udp 9000 -> :9000']);
      const words = scene.told();
      expect(words).toContain('lost tcp 8443');
      expect(words).toContain('granted tcp 8443');
      expect(words.indexOf('lost tcp 8443')).toBeLessThan(words.indexOf('granted tcp 8443'));
    },
  );

  test('over all of them: every lease is lost, and granted once', async () => {
    const scene = await held({}, {}, ['8443', '9000/udp', '9001']);
    await scene.embedded.wipe();
    await scene.pass(30_000);
    expect(scene.told().sort()).toEqual(
      ['tcp 8443', 'udp 9000', 'tcp 9001'].flatMap((port) => [`granted ${port}`, `lost ${port}`]).sort(),
    );
    expect(scene.events.find(({ type }) => type === 'lost')).toMatchObject({
      lease: { state: 'lost', externalPort: null },
      reason: expect.stringContaining('started again'),
    });
  });

  test('quirk 26: epoch not reset: is noticed all the same where UPnP shows the table', async () => {
    const scene = await held({ quirks: { epochNotReset: true } }, {}, ['8443', '9000/udp', '9001']);
    await scene.embedded.wipe();
    await scene.pass(2 * CHECK_MS);
    expect(mapped(scene)).toEqual(['tcp 8443 -> :8443', 'tcp 9001 -> :9001', 'udp 9000 -> :9000']);
  });

  test('quirk 26: epoch not reset, and no table to look at: one lease a check is made again', async () => {
    const scene = await held({ protocols: ['pcp'], quirks: { epochNotReset: true } }, {}, ['8443-8446']);
    await scene.embedded.wipe();
    await scene.pass(4 * CHECK_MS);
    expect(mapped(scene)).toHaveLength(4);
  });

  test('quirk 17: with its control port elsewhere is found again', async () => {
    const scene = await held({ protocols: ['upnp'], quirks: { controlPortMoves: true } });
    await scene.embedded.wipe();
    await scene.pass(30_000);
    expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
    expect(await scene.leases()).toMatchObject([{ state: 'held', error: null }]);
  });

  test('while the agent is not there: the next one has its leases granted again', async () => {
    const scene = await held();
    await scene.embedded.wipe();
    const again = await scene.rerun();
    await again.pass(5000);
    expect(mapped(again)).toEqual(['tcp 8443 -> :8443']);
    expect(await again.leases()).toMatchObject([{ state: 'held' }]);
  });

  test('again and again keeps nobody from holding', async () => {
    const scene = await held();
    for (let reboot = 0; reboot < 10; reboot++) {
      await scene.embedded.wipe();
      await scene.pass(60_000);
      expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
    }
  });
});

describe('a mapping that somebody else deletes', () => {
  test.each(PROTOCOLS)(
    'held over %s, on a gateway that shows its table: is lost, and made again',
    async (via) => {
      const scene = await held();
      await scene.drop('8443');
      await scene.keep(['8443'], { via });
      await scene.pass(60_000);
      scene.told();
      await scene.embedded.remove('tcp', 8443);
      await scene.pass(2 * CHECK_MS);
      expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
    },
  );

  test('is told of as lost and granted', async () => {
    const scene = await held();
    await scene.embedded.remove('tcp', 8443);
    await scene.pass(CHECK_MS);
    expect(scene.told()).toEqual(['lost tcp 8443', 'granted tcp 8443']);
  });

  test.each(['pcp', 'natpmp'] as const)(
    'with %s alone nobody can look: it is made again at the next check',
    async (protocol) => {
      const scene = await held({ protocols: [protocol] });
      await scene.embedded.remove('tcp', 8443);
      await scene.pass(CHECK_MS);
      expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
      expect(scene.told()).toEqual([]);
    },
  );

  test('one of many is found in as many checks as it takes to look at all', async () => {
    const scene = await held({}, {}, ['9000-9039']);
    await scene.embedded.remove('tcp', 9025);
    await scene.pass(11 * CHECK_MS);
    expect(mapped(scene)).toHaveLength(40);
  });

  test('one protocol of two is made again', async () => {
    const scene = await held({}, {}, ['8443/tcp+udp']);
    await scene.embedded.remove('udp', 8443);
    await scene.pass(CHECK_MS);
    expect(mapped(scene)).toEqual(['tcp 8443 -> :8443', 'udp 8443 -> :8443']);
  });

  test('a lease that is dropped while another one is looked at is not looked at again', async () => {
    let looked: () => void = () => undefined;
    const scene = await held(
      {},
      {
        system: (system) => ({
          ...system,
          http: (request) => {
            if (request.headers?.['SOAPAction']?.includes('GetSpecificPortMappingEntry') === true) looked();
            return system.http(request);
          },
        }),
      },
      ['8443', '9000'],
    );
    let dropping: Promise<unknown> | undefined;
    looked = () => {
      dropping ??= scene.keeper.drop([selectorOf('9000')], { signal: new AbortController().signal });
    };
    await scene.pass(2 * CHECK_MS);
    expect(dropping).toBeDefined();
    await scene.clock.settle(dropping as Promise<unknown>);
    await scene.drop('8443');
    await scene.pass(60_000);
    expect(scene.told().filter((word) => word.startsWith('lost'))).toEqual([]);
    expect((await scene.keeper.status()).gateways).toEqual([]);
  });

  test('on a gateway whose protocols have tables of their own: nothing is taken for lost', async () => {
    const scene = await held({ quirks: { separateTables: true } }, {}, ['8443', '9000', '9001']);
    await scene.pass(600_000);
    expect(scene.told()).toEqual([]);
    expect(scene.embedded.table).toHaveLength(3);
  });
});

describe('an external port that becomes somebody else’s', () => {
  test.each(PROTOCOLS)('over %s: the lease moves to another one, and says from where', async (via) => {
    const scene = await keeperFor();
    await scene.keep(['8443'], { via });
    await scene.pass(60_000);
    scene.told();
    await scene.embedded.give('tcp', 8443, { address: '127.0.0.200', port: 80 });
    await scene.pass(3 * CHECK_MS);
    const [lease] = await scene.leases();
    expect(lease?.state).toBe('held');
    expect(lease?.externalPort).not.toBe(8443);
    expect(mapped(scene)).toEqual(
      [`tcp ${lease?.externalPort} -> :8443`, 'tcp 8443 -> 127.0.0.200:80'].sort(),
    );
    expect(scene.events.findLast(({ type }) => type === 'changed')).toMatchObject({
      lease: { externalPort: lease?.externalPort },
      previous: { externalPort: 8443 },
    });
  });

  test('of a lease that wants this one or none: it is refused, and held when it is free again', async () => {
    const scene = await keeperFor();
    await scene.keep(['8443'], { choice: 'exact' });
    await scene.pass(60_000);
    scene.told();
    await scene.embedded.give('tcp', 8443, { address: '127.0.0.200', port: 80 });
    await scene.pass(60_000);
    expect(await scene.leases()).toMatchObject([{ state: 'refused', error: { code: 'CONFLICT' } }]);
    expect(scene.told()).toEqual(['lost tcp 8443', 'refused tcp 8443']);
    await scene.embedded.remove('tcp', 8443);
    await scene.pass(900_000);
    expect(scene.told()).toEqual(['granted tcp 8443']);
    expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
  });
});

describe('a new external address', () => {
  test.each(PROTOCOLS)(
    'over %s: is told of, with the one before, and the leases say it',
    async (protocol) => {
      const scene = await held({ protocols: [protocol], externalAddress: '198.51.100.1' });
      expect(await scene.leases()).toMatchObject([{ externalAddress: '198.51.100.1' }]);
      scene.embedded.changeExternalAddress('198.51.100.2');
      await scene.pass(30_000);
      expect(await scene.leases()).toMatchObject([{ state: 'held', externalAddress: '198.51.100.2' }]);
      expect((await scene.keeper.status()).gateways).toMatchObject([{ externalAddress: '198.51.100.2' }]);
      expect(scene.events.filter(({ type }) => type === 'address-changed')).toMatchObject([
        { gateway: { externalAddress: '198.51.100.2' }, previous: '198.51.100.1' },
      ]);
      expect(scene.events.filter(({ type }) => type === 'changed')).toMatchObject([
        { lease: { externalAddress: '198.51.100.2' }, previous: { externalAddress: '198.51.100.1' } },
      ]);
    },
  );

  test.each(PROTOCOLS)('quirk 26: over %s, epoch not reset: the same', async (protocol) => {
    const quirks = { epochNotReset: true };
    const scene = await held({ protocols: [protocol], externalAddress: '198.51.100.1', quirks });
    scene.embedded.changeExternalAddress('198.51.100.2');
    await scene.pass(30_000);
    expect(await scene.leases()).toMatchObject([{ state: 'held', externalAddress: '198.51.100.2' }]);
    expect(scene.told().filter((word) => word === 'address-changed')).toHaveLength(1);
  });

  test('over all of them is told of once, and once for each lease', async () => {
    const scene = await held({ externalAddress: '198.51.100.1' }, {}, ['8443', '9000']);
    scene.embedded.changeExternalAddress('198.51.100.2');
    await scene.pass(60_000);
    const words = scene.told();
    expect(words.filter((word) => word === 'address-changed')).toHaveLength(1);
    expect(words.filter((word) => word.startsWith('changed')).sort()).toEqual([
      'changed tcp 8443 at 8443',
      'changed tcp 9000 at 9000',
    ]);
  });

  test('that goes for a while (0.0.0.0 while it dials) is not told of', async () => {
    const scene = await held({ externalAddress: '198.51.100.1' });
    scene.embedded.set({ externalAddressReported: '0.0.0.0' });
    await scene.pass(60_000);
    scene.embedded.set({ externalAddressReported: undefined });
    await scene.pass(60_000);
    expect(scene.told()).toEqual([]);
    expect(await scene.leases()).toMatchObject([{ state: 'held', externalAddress: '198.51.100.1' }]);
  });
});

describe('a control port that moves', () => {
  test('is found again, and the lease stays', async () => {
    const scene = await held({ protocols: ['upnp'] });
    await scene.embedded.moveControlPort();
    await scene.pass(30_000);
    expect(scene.told().filter((word) => !word.startsWith('gateway'))).toEqual([]);
    expect(await scene.leases()).toMatchObject([{ state: 'held', error: null }]);
    await scene.drop('8443');
    expect(scene.embedded.table).toEqual([]);
  });

  test('just before it is asked to renew: nothing is lost', async () => {
    const scene = await held({ protocols: ['upnp'] }, NEVER);
    for (let move = 0; move < 5; move++) {
      await scene.embedded.moveControlPort();
      await scene.pass(2 * HOUR_MS);
    }
    expect(scene.told().filter((word) => word.startsWith('lost'))).toEqual([]);
    expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
  });
});

describe('a gateway that says nothing for a while', () => {
  test('and is there again before the lease ends: goes and comes, and the lease is held throughout', async () => {
    const scene = await held({ protocols: ['pcp', 'natpmp'] });
    scene.embedded.set({ silent: true });
    await scene.pass(120_000);
    expect(scene.told()).toEqual(['gateway-down']);
    expect(await scene.leases()).toMatchObject([{ state: 'held' }]);
    expect((await scene.keeper.status()).gateways).toMatchObject([{ state: 'down' }]);
    scene.embedded.set({ silent: false });
    await scene.pass(30_000);
    expect(scene.told()).toEqual(['gateway-up']);
    expect((await scene.keeper.status()).gateways).toMatchObject([{ state: 'up' }]);
    expect(await scene.leases()).toMatchObject([{ state: 'held', error: null }]);
  });

  test('and is there again after the lease has ended: it is lost at its end, and granted when it can be', async () => {
    const scene = await keeperFor({ protocols: ['pcp'] });
    await scene.keep(['8443'], { lifetimeSeconds: 180 });
    await scene.pass(30_000);
    const endsAt = (await scene.leases())[0]?.expiresAt as string;
    scene.told();
    scene.embedded.set({ silent: true });
    await scene.pass(240_000);
    expect(scene.told()).toEqual(['gateway-down', 'lost tcp 8443']);
    const lost = scene.events.findLast(({ type }) => type === 'lost');
    expect(Date.parse(lost?.at as string) - Date.parse(endsAt)).toBeGreaterThanOrEqual(0);
    expect(Date.parse(lost?.at as string) - Date.parse(endsAt)).toBeLessThan(5000);
    scene.embedded.set({ silent: false });
    await scene.pass(30_000);
    expect(scene.told()).toEqual(['gateway-up', 'granted tcp 8443']);
  });

  test('is searched for ever more rarely, at least as often as it would be asked', async () => {
    const scene = await held({ protocols: ['pcp'] });
    scene.embedded.set({ silent: true });
    await scene.pass(60_000);
    const from = scene.asked.length;
    await scene.pass(120_000);
    // A search each ten seconds and the time that it takes, five packets each.
    const probes = scene.asked.slice(from).filter(({ what }) => what === 'pcp announce').length;
    expect(probes).toBeGreaterThan(5 * 7);
    expect(probes).toBeLessThan(5 * 13);
  });

  test('and was one of two ways out: the other one is taken', async () => {
    // Two that speak UPnP in one network answer for each other.
    const scene = await held({ protocols: ['pcp'] });
    const other = await anotherGateway(scene, ['pcp']);
    const { address, localAddress } = scene.gateway;
    const [first, second] = [networkOf(localAddress, address), networkOf(other.address, other.address)];
    scene.machine.network = {
      defaultRoutes: [...first.defaultRoutes, ...second.defaultRoutes],
      addresses: [...first.addresses, ...second.addresses],
    };
    await scene.pass(30_000);
    expect(scene.told()).toEqual(['gateway-up']);
    scene.embedded.set({ silent: true });
    await scene.pass(60_000);
    expect(await scene.leases()).toMatchObject([{ state: 'held', gateway: other.address }]);
    expect(other.gateway.table).toHaveLength(1);
  });
});

describe('a gateway that is not all there', () => {
  test('whose daemon is gone (ICMP port unreachable): goes at once, and is found again when it is back', async () => {
    const scene = await held({ protocols: ['pcp'] });
    const { ports, address } = scene.gateway;
    await scene.embedded.close();
    await scene.pass(30_000);
    expect(scene.told()).toEqual(['gateway-down']);
    const again = await startGateway(
      { address, outerAddress: freshOuterAddress(), carriesTraffic: false, ports, protocols: ['pcp'] },
      scene.clock,
    );
    onTestFinished(() => again.close());
    await scene.pass(30_000);
    expect(again.table).toMatchObject([{ externalPort: 8443 }]);
    expect(await scene.leases()).toMatchObject([{ state: 'held' }]);
  });

  test('that loses one packet of three: the lease is held, and the gateway is not taken for gone', async () => {
    let sent = 0;
    const scene = await held(
      { protocols: ['pcp', 'natpmp'] },
      {
        system: (system) => ({
          ...system,
          openUdp: async (options) => {
            const socket = await system.openUdp(options);
            return {
              local: socket.local,
              send: (data, to) => {
                // Not in step with anything that is sent again.
                if ((++sent * 7) % 19 >= 6) socket.send(data, to);
              },
              [Symbol.asyncDispose]: () => socket[Symbol.asyncDispose](),
            };
          },
        }),
      },
    );
    await scene.pass(HOUR_MS);
    const words = new Set(scene.told());
    words.delete('gateway-up');
    words.delete('renewed tcp 8443');
    expect([...words]).toEqual([]);
    expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
  });

  test('that no longer speaks the protocol of before: the lease goes on over another one, on its port', async () => {
    const scene = await held();
    expect(await scene.leases()).toMatchObject([{ via: 'pcp' }]);
    scene.embedded.set({ silentOn: ['pcp announce', 'pcp map', 'natpmp address', 'natpmp map'] });
    await scene.pass(HOUR_MS / 2);
    expect(await scene.leases()).toMatchObject([{ state: 'held', via: 'upnp', externalPort: 8443 }]);
    expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
  });

  test('quirk 26: NAT-PMP error 3 while PCP works: the lease is held over PCP', async () => {
    const scene = await held({ quirks: { natpmpNetworkFailure: true } });
    await scene.pass(HOUR_MS / 4);
    expect(await scene.leases()).toMatchObject([{ state: 'held', via: 'pcp' }]);
    expect(scene.told()).toEqual([]);
  });

  test('that was asked for a protocol that it does not speak is none', async () => {
    const scene = await keeperFor({ protocols: ['upnp'] });
    expect(await scene.keep(['8443'], { via: 'pcp' })).toMatchObject([
      { state: 'no-gateway', error: { code: 'NO_GATEWAY', message: expect.stringContaining('PCP') } },
    ]);
  });

  test('that refused, and has started again with other settings, is asked again at once', async () => {
    const scene = await keeperFor({ quirks: { forbiddenByUser: true } });
    await scene.keep(['8443']);
    await scene.pass(HOUR_MS / 4);
    scene.embedded.set({ forbiddenByUser: false });
    await scene.embedded.wipe();
    await scene.pass(CHECK_MS);
    expect(await scene.leases()).toMatchObject([{ state: 'held' }]);
  });
});

describe('a clock that jumps', () => {
  test('the machine has slept for less than the lease lasts: it is asked for again at once, and nothing was lost', async () => {
    const scene = await held({ protocols: ['pcp'] }, { checkMs: HOUR_MS });
    const from = scene.embedded.counters['pcp map'] ?? 0;
    scene.clock.sleepThrough(HOUR_MS);
    await scene.pass(5000);
    expect(scene.embedded.counters['pcp map'] ?? 0).toBeGreaterThan(from);
    expect(scene.told().filter((word) => word !== 'gateway-up')).toEqual([]);
    const [row] = scene.embedded.table;
    expect((row?.expiresAtMs ?? 0) - scene.clock.now()).toBeGreaterThan(7_190_000);
  });

  test('the machine has slept for longer: the lease is lost, and granted', async () => {
    const scene = await held();
    scene.clock.sleepThrough(10 * HOUR_MS);
    await scene.pass(10_000);
    expect(scene.told().filter((word) => word !== 'gateway-up')).toEqual([
      'lost tcp 8443',
      'granted tcp 8443',
    ]);
    expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
  });

  test.each(PROTOCOLS)(
    'over %s: the machine has slept, and the gateway has started again meanwhile',
    async (protocol) => {
      const scene = await held({ protocols: [protocol] });
      scene.clock.sleepThrough(HOUR_MS);
      await scene.embedded.wipe();
      await scene.pass(20_000);
      expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
    },
  );

  const SET_BY_MS = [-HOUR_MS, -60_000, 60_000, HOUR_MS];

  test.each(PROTOCOLS.flatMap((protocol) => SET_BY_MS.map((byMs) => [protocol, byMs] as const)))(
    'over %s: it was set by %i ms: nothing is taken for lost, and the lease is held for hours',
    async (protocol, byMs) => {
      const scene = await held({ protocols: [protocol] }, { checkMs: 180_000, networkLookMs: 20_000 });
      scene.machine.setClock(byMs);
      for (let passed = 0; passed < 2.5 * HOUR_MS; passed += 900_000) {
        await scene.pass(900_000);
        expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
      }
      const words = new Set(scene.told());
      words.delete('gateway-up');
      words.delete('renewed tcp 8443');
      expect([...words]).toEqual([]);
    },
  );

  test('it was set back: when the lease ends and is renewed is told by the new time', async () => {
    const scene = await held({ protocols: ['pcp'] }, { checkMs: HOUR_MS });
    const before = (await scene.leases())[0];
    scene.machine.setClock(-HOUR_MS);
    await scene.pass(5000);
    const after = (await scene.leases())[0];
    for (const time of ['expiresAt', 'renewsAt'] as const) {
      expect(Date.parse(after?.[time] ?? '')).toBe(Date.parse(before?.[time] ?? '') - HOUR_MS);
    }
  });

  test('a little, as NTP does it, troubles nobody', async () => {
    const scene = await held();
    for (let step = 0; step < 20; step++) {
      scene.machine.setClock(step % 2 === 0 ? 900 : -900);
      await scene.pass(5000);
    }
    expect(scene.told()).toEqual([]);
  });
});

interface Another {
  readonly address: IpAddress;
  readonly gateway: EmbeddedGateway;
}

/** A second gateway on the same clock, at another address. */
async function anotherGateway(
  scene: KeeperScene,
  protocols: readonly MappingProtocol[] = PROTOCOLS,
): Promise<Another> {
  const address = freshInnerAddress();
  const { ports } = scene.gateway;
  const gateway = await startGateway(
    { address, outerAddress: freshOuterAddress(), carriesTraffic: false, ports, protocols },
    scene.clock,
  );
  onTestFinished(() => gateway.close());
  return { address, gateway };
}

describe('a network that changes', () => {
  test('to another one with another gateway: the lease is there, with another address, and is said to have changed', async () => {
    const scene = await held();
    const other = await anotherGateway(scene);
    scene.machine.network = networkOf(other.address, other.address, { name: 'wlan0' });
    await scene.pass(10_000);
    const [lease] = await scene.leases();
    expect(lease).toMatchObject({ state: 'held', gateway: other.address, internalClient: other.address });
    expect(other.gateway.table).toHaveLength(1);
    expect(scene.told()).toEqual(['gateway-up', 'address-changed', 'changed tcp 8443 at 8443']);
    // What was held elsewhere cannot be given back from here: it is remembered for when it can.
    expect(
      scene.memory
        .load()
        .holdings.map(({ mapping }) => mapping.gateway)
        .sort(),
    ).toEqual([other.address, scene.gateway.address].sort());
  });

  test('and back: what is there of before is claimed, and what was made meanwhile is not forgotten', async () => {
    const scene = await held();
    const home = scene.machine.network;
    const nonce = scene.embedded.table[0]?.nonce;
    const other = await anotherGateway(scene);
    scene.machine.network = networkOf(other.address, other.address, { name: 'wlan0' });
    await scene.pass(10_000);
    scene.machine.network = home;
    await scene.pass(60_000);
    expect(await scene.leases()).toMatchObject([{ state: 'held', gateway: scene.gateway.address }]);
    expect(scene.embedded.table).toMatchObject([{ externalPort: 8443, nonce }]);
    expect(scene.memory.load().holdings).toHaveLength(2);
  });

  test('to and fro, many times: what is held is remembered once for each gateway', async () => {
    const scene = await held({ protocols: ['pcp'] });
    const home = scene.machine.network;
    const other = await anotherGateway(scene, ['pcp']);
    const away = networkOf(other.address, other.address, { name: 'wlan0' });
    for (let time = 0; time < 20; time++) {
      scene.machine.network = time % 2 === 0 ? away : home;
      await scene.pass(5000);
    }
    expect(scene.memory.load().holdings).toHaveLength(2);
    expect([scene.embedded.table.length, other.gateway.table.length]).toEqual([1, 1]);
  });

  test('and drop() meanwhile: what was made at home is given back at home', async () => {
    const scene = await held({ protocols: ['pcp'] });
    const home = scene.machine.network;
    const other = await anotherGateway(scene, ['pcp']);
    scene.machine.network = networkOf(other.address, other.address, { name: 'wlan0' });
    await scene.pass(10_000);
    await scene.drop('8443');
    expect(other.gateway.table).toEqual([]);
    expect(scene.embedded.table).toHaveLength(1);
    scene.machine.network = home;
    await scene.pass(30_000);
    expect(scene.embedded.table).toEqual([]);
    expect(scene.memory.load().holdings).toEqual([]);
  });

  test('to another address of this host: the lease leads to it, and what led to the old one is gone', async () => {
    const scene = await held();
    const { address } = scene.gateway;
    const next = freshInnerAddress();
    scene.machine.network = networkOf(next, address);
    await scene.pass(60_000);
    expect(await scene.leases()).toMatchObject([{ state: 'held', internalClient: next }]);
    expect(tableOf(scene).filter((row) => row.includes(next))).toHaveLength(1);
    expect(scene.events.findLast(({ type }) => type === 'changed')).toMatchObject({
      previous: { internalClient: scene.gateway.localAddress },
    });
  });

  test('to none: the gateway goes, the lease is held until its end, and asked for again when there is one', async () => {
    const scene = await held({ protocols: ['pcp'] }, {}, ['8443']);
    const home = scene.machine.network;
    scene.machine.network = { defaultRoutes: [], addresses: [] };
    await scene.pass(30_000);
    expect(scene.told()).toEqual(['gateway-down']);
    expect(await scene.leases()).toMatchObject([{ state: 'held' }]);
    await scene.pass(3 * HOUR_MS);
    expect(scene.told()).toEqual(['lost tcp 8443']);
    expect(await scene.leases()).toMatchObject([{ state: 'lost', error: { code: 'NO_ROUTE' } }]);
    scene.machine.network = home;
    await scene.pass(10_000);
    expect(scene.told()).toEqual(['gateway-up', 'granted tcp 8443']);
  });

  test('and whose table cannot be read for a while: all stays as it is', async () => {
    const scene = await held();
    const home = scene.machine.network;
    scene.machine.network = new NatwardError('FAILED', 'no routing table');
    await scene.pass(60_000);
    expect(scene.told()).toEqual(['warning']);
    expect(await scene.leases()).toMatchObject([{ state: 'held' }]);
    scene.machine.network = home;
    await scene.pass(10_000);
    expect((await scene.keeper.status()).warnings).toEqual([]);
  });

  test('in what has nothing to do with the gateway: nothing is asked again', async () => {
    const scene = await held({ protocols: ['pcp'] }, { checkMs: HOUR_MS });
    const from = scene.asked.length;
    const { address, localAddress } = scene.gateway;
    const network = networkOf(localAddress, address);
    scene.machine.network = {
      defaultRoutes: network.defaultRoutes.map((route) => ({ ...route, metric: 600 })),
      addresses: [
        ...network.addresses,
        { interface: 'docker0', address: '172.17.0.1', family: 4, prefixLength: 16, internal: false },
      ],
    };
    await scene.pass(60_000);
    expect(scene.asked.length).toBe(from);
    expect(scene.told()).toEqual([]);
  });
});

describe('an announcement', () => {
  /** Sends like somebody at `address` would. */
  async function senderAt(
    address: IpAddress,
  ): Promise<(packet: Uint8Array, to: typeof SSDP | typeof ANNOUNCE) => void> {
    const socket = createSocket('udp4');
    socket.bind(0, address);
    await once(socket, 'listening');
    socket.setMulticastInterface(address);
    onTestFinished(() => void socket.close());
    return (packet, to) => socket.send(packet, to.port, to.address);
  }

  const SLOWLY = { checkMs: HOUR_MS, networkLookMs: 10_000 } as const;

  test.each([
    ['natpmp', 'natpmp'],
    ['pcp', 'pcp'],
    ['upnp', 'ssdp alive'],
  ] as const)(
    'of a restart over %s: is asked about at once, and what was lost is held again within seconds',
    async (protocol, kind) => {
      const scene = await held({ protocols: [protocol] }, SLOWLY);
      // Of UPnP's BOOTID the first one has to have been heard.
      await scene.embedded.announce(kind);
      await scene.pass(2000);
      await scene.embedded.wipe();
      await scene.embedded.announce(kind);
      await scene.pass(5000);
      expect(mapped(scene)).toEqual(['tcp 8443 -> :8443']);
      expect(scene.told()).toEqual(['lost tcp 8443', 'granted tcp 8443']);
    },
  );

  test('of a new external address is asked about at once', async () => {
    const scene = await held({ protocols: ['natpmp'], externalAddress: '198.51.100.1' }, SLOWLY);
    scene.embedded.changeExternalAddress('198.51.100.2');
    await scene.embedded.announce('natpmp');
    await scene.pass(5000);
    expect(scene.told().filter((word) => !word.startsWith('gateway'))).toContain('address-changed');
    expect(await scene.leases()).toMatchObject([{ externalAddress: '198.51.100.2' }]);
  });

  test('that a gateway is there, while it was searched for, ends the search', async () => {
    const scene = await held({ protocols: ['pcp', 'natpmp'] }, { checkMs: HOUR_MS });
    scene.embedded.set({ silent: true });
    await scene.pass(3 * HOUR_MS);
    scene.told();
    scene.embedded.set({ silent: false });
    await scene.embedded.announce('natpmp');
    await scene.pass(5000);
    expect(scene.told()).toContain('gateway-up');
  });

  test('that agrees with what is known is no reason to ask', async () => {
    const scene = await held({}, SLOWLY);
    const from = scene.asked.length;
    for (let time = 0; time < 20; time++) {
      for (const kind of ['natpmp', 'pcp', 'ssdp alive'] as const) await scene.embedded.announce(kind);
      await scene.pass(1000);
    }
    expect(scene.asked.slice(from)).toEqual([]);
  });

  test.each(['natpmp', 'pcp', 'upnp-alive', 'upnp-byebye', 'upnp-update'] as const)(
    'that is forged (%s), a hundred times a second: two checks a second at the most, and nothing is lost',
    async (kind) => {
      const scene = await held({}, SLOWLY);
      const send = await senderAt(scene.gateway.address);
      const about = { notificationType: 'upnp:rootdevice', usn: 'uuid:forged::upnp:rootdevice' };
      const forged = (count: number): [Uint8Array, typeof SSDP | typeof ANNOUNCE] => {
        const location = `http://${scene.gateway.address}:${1024 + count}/rootDesc.xml`;
        const alive = { ...about, location, bootId: count, server: 'x', maxAgeSeconds: 1800 };
        switch (kind) {
          case 'natpmp':
            return [
              encodeNatpmpResponse({
                opcode: 'address',
                result: 0,
                epochSeconds: 0,
                externalAddress: '6.6.6.6',
              }),
              ANNOUNCE,
            ];
          case 'pcp':
            return [
              encodePcpResponse({ opcode: 'announce', result: 0, lifetimeSeconds: 0, epochSeconds: 0 }),
              ANNOUNCE,
            ];
          case 'upnp-alive':
            return [encodeSsdp({ kind: 'alive', ...alive }), SSDP];
          case 'upnp-byebye':
            return [encodeSsdp({ kind: 'byebye', ...about, bootId: count }), SSDP];
          case 'upnp-update':
            return [encodeSsdp({ kind: 'update', ...alive, nextBootId: count + 1 }), SSDP];
        }
      };
      const from = scene.asked.length;
      const SECONDS = 8;
      for (let tick = 0; tick < SECONDS * 10; tick++) {
        for (let count = 0; count < 10; count++) send(...forged(10 * tick + count));
        await scene.pass(100);
      }
      const checks = scene.asked.slice(from).filter(({ what }) => what === 'natpmp address');
      expect(checks.length).toBeGreaterThan(0);
      expect(checks.length).toBeLessThanOrEqual(2 * SECONDS + 1);
      expect(scene.told()).toEqual([]);
      expect(await scene.leases()).toMatchObject([{ state: 'held' }]);
    },
  );

  test('from a stranger, of what is not the gateway’s, is not even asked about', async () => {
    const scene = await held({}, SLOWLY);
    const send = await senderAt('127.0.0.99');
    const from = scene.asked.length;
    const about = { notificationType: 'upnp:rootdevice', usn: 'uuid:tv::upnp:rootdevice', bootId: 1 };
    const location = 'http://127.0.0.99:8080/tv.xml';
    for (let time = 0; time < 10; time++) {
      send(
        encodeNatpmpResponse({ opcode: 'address', result: 0, epochSeconds: 0, externalAddress: '6.6.6.6' }),
        ANNOUNCE,
      );
      send(
        encodePcpResponse({ opcode: 'announce', result: 0, lifetimeSeconds: 0, epochSeconds: 0 }),
        ANNOUNCE,
      );
      send(encodeSsdp({ kind: 'alive', ...about, location, server: 'tv', maxAgeSeconds: 1800 }), SSDP);
      send(encodeSsdp({ kind: 'byebye', ...about }), SSDP);
      await scene.pass(1000);
    }
    expect(scene.asked.slice(from)).toEqual([]);
  });

  test('cannot be heard where the port is taken: that is told of, and the gateway asked as ever', async () => {
    const scene = await keeperFor(
      {},
      {
        system: (system) => ({
          ...system,
          openUdp: async (options) => {
            if (options.multicast?.join.length) throw new NatwardError('FAILED', 'the port is taken');
            return system.openUdp(options);
          },
        }),
      },
    );
    await scene.keep(['8443']);
    await scene.pass(60_000);
    expect(scene.told()).toEqual(['warning', 'gateway-up', 'granted tcp 8443']);
    await scene.embedded.wipe();
    await scene.pass(CHECK_MS);
    expect(scene.told()).toEqual(['lost tcp 8443', 'granted tcp 8443']);
  });
});
