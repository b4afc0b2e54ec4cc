/** Which traffic the kernel's rules are for, by every word of a selector, with real packets. */

import { beforeAll, describe, expect, test } from 'vitest';
import { until } from '../support/keeping.ts';
import { ADDRESSES, describeKernel, FAR, MACS } from './support/topology.ts';

const { router, router6, server, server6, behind, client, guest, guest6, spare } = ADDRESSES;
/** Where the rules of these tests lead, so that the port tells which it was. */
const PORTS = [9001, 9002, 9003];
const served = { port: 9001, ports: PORTS } as const;

describeKernel('kernel rules: selectors', (scene) => {
  beforeAll(() => scene().startAgent());

  /** The port of this host that the traffic came to; else what became of it. */
  const arrival = async (to: string, port: number, options: object = {}): Promise<unknown> => {
    const outcome = await scene().client.ask(to, port, options);
    return typeof outcome === 'string' ? outcome : outcome.toPort;
  };
  const departure = async (to: string, port: number, options: object = {}): Promise<unknown> => {
    const outcome = await scene().router.ask(to, port, options);
    return typeof outcome === 'string' ? outcome : outcome.toPort;
  };

  describe('protocols', () => {
    test('tcp, udp and both of them', async () => {
      await scene().rules('in tcp 80 -> :9001', 'in udp 80 -> :9002', 'in tcp+udp 81 -> :9003');
      await using _ = await scene().router.serve(served);
      await using __ = await scene().router.serve({ ...served, protocol: 'udp' });
      for (const to of [router, router6]) {
        expect(await arrival(to, 80)).toBe(9001);
        expect(await arrival(to, 80, { protocol: 'udp' })).toBe(9002);
        expect(await arrival(to, 81)).toBe(9003);
        expect(await arrival(to, 81, { protocol: 'udp' })).toBe(9003);
      }
    });
  });

  describe('ports', () => {
    test('ranges with exclusions: inside, at the borders, outside', async () => {
      await scene().rules('in tcp 2000-2010,~2004-2006,3000 -> :9001');
      await using _ = await scene().router.serve(served);
      for (const port of [2000, 2003, 2007, 2010, 3000]) expect(await arrival(router, port)).toBe(9001);
      for (const port of [1999, 2004, 2005, 2006, 2011, 2999, 3001]) {
        expect(await arrival(router, port)).toBe('refused');
      }
    });

    test('long ranges with exclusions, and other rules within them', async () => {
      await scene().rules(
        'in tcp 4444 -> :9002',
        'in tcp 4000-5000,~4500-4501 -> :9001',
        'in tcp 4501 -> :9003',
      );
      await using _ = await scene().router.serve(served);
      for (const port of [4000, 4443, 4445, 4499, 4502, 5000]) expect(await arrival(router, port)).toBe(9001);
      expect(await arrival(router, 4444)).toBe(9002);
      expect(await arrival(router, 4501)).toBe(9003);
      for (const port of [3999, 4500, 5001]) expect(await arrival(router, port)).toBe('refused');
    });

    test('every port, at both ends', async () => {
      await scene().rules('in tcp 4444 -> :9002', 'in tcp * -> :9001');
      await using _ = await scene().router.serve(served);
      for (const port of [1, 80, 9002, 65_535]) expect(await arrival(router, port)).toBe(9001);
      expect(await arrival(router, 4444)).toBe(9002);
    });

    test('one to one, in order, without those that are excluded', async () => {
      await scene().rules(`in tcp+udp 2000-2005,~2003 -> ${server}:7000-7004`);
      for (const protocol of ['tcp', 'udp'] as const) {
        await using _ = await scene().server.serve({
          port: 7000,
          ports: [7000, 7001, 7002, 7003, 7004],
          protocol,
        });
        expect(await arrival(router, 2000, { protocol })).toBe(7000);
        expect(await arrival(router, 2002, { protocol })).toBe(7002);
        expect(await arrival(router, 2003, { protocol })).toBe('refused');
        expect(await arrival(router, 2004, { protocol })).toBe(7003);
        expect(await arrival(router, 2005, { protocol })).toBe(7004);
      }
    });

    test('moved by so much, up and down, to this host and to another', async () => {
      await scene().rules(
        'in tcp 2000-2010 -> :+1000',
        `in tcp 5000-5010 -> ${server}:-1000`,
        `in tcp 6000-6010 -> ${server}:+0`,
      );
      await using _ = await scene().router.serve({ port: 3000, ports: [3000, 3010] });
      await using __ = await scene().server.serve({ port: 4000, ports: [4000, 4010, 6005] });
      for (const port of [2000, 2010]) expect(await arrival(router, port)).toBe(port + 1000);
      for (const port of [5000, 5010]) expect(await arrival(router, port)).toBe(port - 1000);
      expect(await arrival(router, 6005)).toBe(6005);
    });

    test('of the sender, with exclusions', async () => {
      await scene().rules('in tcp+udp 80 port 40100-40200,~40150 -> :9001', 'in tcp+udp 80 -> :9002');
      for (const protocol of ['tcp', 'udp'] as const) {
        await using _ = await scene().router.serve({ ...served, protocol });
        for (const fromPort of [40_100, 40_149, 40_151, 40_200]) {
          expect(await arrival(router, 80, { fromPort, protocol })).toBe(9001);
        }
        for (const fromPort of [40_099, 40_150, 40_201]) {
          expect(await arrival(router, 80, { fromPort, protocol })).toBe(9002);
        }
      }
    });
  });

  describe('where it is sent to', () => {
    test('an address of this host', async () => {
      await scene().rules(
        `in tcp ${router}:80 -> :9001`,
        `in tcp [${router6}]:80 -> :9002`,
        'in tcp 80 -> :9003',
      );
      await using _ = await scene().router.serve(served);
      expect(await arrival(router, 80)).toBe(9001);
      expect(await arrival(router6, 80)).toBe(9002);
      expect(await arrival(behind, 80)).toBe(9003);
    });

    test('networks, also of others: what passes through', async () => {
      await scene().rules(
        `in tcp 10.62.0.0/31:80 -> :9001`,
        `in tcp 10.62.0.0/24:80 -> ${spare}:9002`,
        `in tcp [fd62::]/64:80 -> [${server6}]:9003`,
      );
      await using _ = await scene().router.serve(served);
      await using __ = await scene().server.serve(served);
      expect(await arrival(behind, 80)).toBe(9001);
      expect(await arrival(server, 80)).toBe(9002);
      expect(await arrival('fd62::1234', 80)).toBe(9003);
      expect(await arrival(router, 80)).toBe('refused');
    });

    test('a name, all of its addresses, followed when DNS changes them', async () => {
      await scene().names({ 'web.example.org': [router, router6] });
      await scene().rules('in tcp web.example.org:80 -> :9001', 'in tcp 80 -> :9002');
      await using _ = await scene().router.serve(served);
      expect(await arrival(router, 80)).toBe(9001);
      expect(await arrival(router6, 80)).toBe(9001);
      expect(await arrival(behind, 80)).toBe(9002);
      await scene().names({ 'web.example.org': [behind] });
      await until('the new address is known', async () => (await arrival(behind, 80)) === 9001, 10_000);
      expect(await arrival(router, 80)).toBe(9002);
      expect(await arrival(router6, 80)).toBe(9002);
    });
  });

  describe('who sends it', () => {
    test('lists of addresses and networks with EXCEPT', async () => {
      await scene().rules(
        `in tcp 80 from 10.61.0.0/255.255.255.0,[fd61::]/64 EXCEPT ${guest},${guest6} -> :9001`,
        'in tcp 80 from ALL EXCEPT 10. -> :9002',
        'in tcp 80 -> :9003',
      );
      await using _ = await scene().router.serve(served);
      expect(await arrival(router, 80)).toBe(9001);
      expect(await arrival(router6, 80)).toBe(9001);
      expect(await arrival(router6, 80, { from: guest6 })).toBe(9002);
      expect(await arrival(router, 80, { from: guest })).toBe(9003);
    });

    test('the neighbour that sent the frame', async () => {
      await scene().rules(
        `in tcp 80 mac ${MACS.server} -> :9001`,
        `in tcp 80 mac ${MACS.uplink},${MACS.client} -> :9002`,
        'in tcp 80 -> :9003',
      );
      await using _ = await scene().router.serve(served);
      expect(await arrival(router, 80)).toBe(9002);
      expect(await scene().server.ask(behind, 80)).toMatchObject({ toPort: 9001 });
      expect(await scene().monitor.ask('10.64.0.1', 80)).toMatchObject({ toPort: 9003 });
    });

    test('the interface by which it comes in', async () => {
      await scene().rules('in tcp 80 on c0,t0 -> :9001', 'in tcp 80 on s0 -> :9002');
      await using _ = await scene().router.serve(served);
      expect(await arrival(router, 80)).toBe(9001);
      expect(await scene().uplink.ask('10.63.0.1', 80)).toMatchObject({ toPort: 9001 });
      expect(await scene().server.ask(behind, 80)).toMatchObject({ toPort: 9002 });
      expect(await scene().monitor.ask('10.64.0.1', 80)).toBe('refused');
    });
  });

  describe('what this host sends', () => {
    test('by port, with exclusions, in both protocols and families', async () => {
      await scene().rules('out tcp+udp 2000-2010,~2005 -> :9001');
      for (const protocol of ['tcp', 'udp'] as const) {
        await using _ = await scene().server.serve({ port: 9001, ports: [9001, 2005, 2011], protocol });
        for (const to of [server, server6]) {
          for (const port of [2000, 2004, 2006, 2010])
            expect(await departure(to, port, { protocol })).toBe(9001);
          for (const port of [2005, 2011]) expect(await departure(to, port, { protocol })).toBe(port);
        }
      }
    });

    test('by address, network and name', async () => {
      await scene().names({ 'far.example.org': [FAR[4], FAR[6]] });
      await scene().rules(
        `out tcp ${spare}:80 -> :9001`,
        'out tcp 10.62.0.0/24:80 -> :9002',
        'out tcp far.example.org:80 -> :9003',
      );
      await using _ = await scene().server.serve({ port: 80, ports: [80, ...PORTS] });
      expect(await departure(spare, 80)).toBe(9001);
      expect(await departure(server, 80)).toBe(9002);
      expect(await departure(FAR[4], 80)).toBe(9003);
      expect(await departure(FAR[6], 80)).toBe(9003);
      expect(await departure(server6, 80)).toBe(80);
    });

    test('by the interface by which it leaves', async () => {
      await scene().rules('out tcp 80 on t0 -> :9001', 'out tcp 80 on s0 -> :9002');
      await using _ = await scene().server.serve(served);
      await using __ = await scene().uplink.serve(served);
      expect(await departure(server, 80)).toBe(9002);
      expect(await departure('10.63.0.2', 80)).toBe(9001);
      await using ___ = await scene().monitor.serve({ port: 80 });
      expect(await departure('10.64.0.2', 80)).toBe(80);
    });

    test('to another host, which sees this one', async () => {
      await scene().rules(`out tcp+udp 10.64.0.2:53 -> ${server}:9001`);
      for (const protocol of ['tcp', 'udp'] as const) {
        await using _ = await scene().server.serve({ ...served, protocol });
        expect(await scene().router.ask('10.64.0.2', 53, { protocol })).toMatchObject({
          from: behind,
          toPort: 9001,
        });
      }
    });

    test('and what others send is not it', async () => {
      await scene().rules('out tcp 80 -> :9001');
      await using _ = await scene().router.serve({ port: 80 });
      expect(await arrival(router, 80)).toBe(80);
    });
  });

  describe('days and hours', () => {
    test('within its hours, and else the next rule', async () => {
      const day = (days: number): string =>
        ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'][(new Date().getDay() + days) % 7] as string;
      const clock = (minutes: number): string => {
        const time = new Date(Date.now() + minutes * 60_000);
        return [time.getHours(), time.getMinutes()].map((part) => String(part).padStart(2, '0')).join(':');
      };
      await scene().rules(
        `in tcp 80 when ${day(3)} 00:00-24:00 -> :9001`,
        `in tcp 80 when daily ${clock(5)}-${clock(10)} -> :9001`,
        `in tcp 80 when daily ${clock(-1)}-${clock(3)} -> :9002`,
        'in tcp 80 -> :9003',
        `in tcp 81 when ${day(3)} 00:00-24:00 -> :9001`,
        'in tcp 81 -> :9003',
      );
      await using _ = await scene().router.serve(served);
      expect(await arrival(router, 80)).toBe(9002);
      expect(await arrival(router, 81)).toBe(9003);
    });
  });

  describe('order', () => {
    test('the first that matches decides; a move, and a rule that is off, decide about what begins then', async () => {
      const first = { rule: 'in tcp+udp 80 -> :9001', id: 'first' };
      const second = { rule: `in tcp+udp 80 from ${client} -> :9002`, id: 'second' };
      for (const protocol of ['tcp', 'udp'] as const) {
        await scene().rules(first, second);
        await using _ = await scene().router.serve({ ...served, protocol });
        await using before = await scene().client.open(router, 80, { protocol });
        expect(before.first).toMatchObject({ toPort: 9001 });
        await scene().run(['rule', 'move', 'second', '--before', 'first']);
        await using moved = await scene().client.open(router, 80, { protocol });
        expect(moved.first).toMatchObject({ toPort: 9002 });
        expect(await arrival(router, 80, { from: guest, protocol })).toBe(9001);
        await scene().run(['rule', 'disable', 'second']);
        expect(await arrival(router, 80, { protocol })).toBe(9001);
        await scene().run(['rule', 'enable', 'second']);
        expect(await arrival(router, 80, { protocol })).toBe(9002);
        await scene().run(['rule', 'remove', 'second']);
        expect(await arrival(router, 80, { protocol })).toBe(9001);
        expect(await before.say('still there')).toMatchObject({ toPort: 9001, text: 'still there' });
        expect(await moved.say('still there')).toMatchObject({ toPort: 9002, text: 'still there' });
      }
    });

    test('one that is more exact does not come before one that stands above it', async () => {
      await scene().rules('in tcp 70-90 -> :9001', `in tcp ${router}:80 -> :9002`, 'in tcp 80,91 -> :9003');
      await using _ = await scene().router.serve(served);
      expect(await arrival(router, 80)).toBe(9001);
      expect(await arrival(router, 91)).toBe(9003);
    });
  });
});
