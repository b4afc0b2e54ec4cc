/** Copies of what clients send, and that the conversation itself does not notice. */

import { beforeAll, describe, expect, test } from 'vitest';
import { until } from '../support/keeping.ts';
import type { Sight } from './support/station.ts';
import { describeKernel, MACS } from './support/topology.ts';

const FAMILIES = [
  { family: 'IPv4', router: '10.61.0.1', client: '10.61.0.2', server: '10.62.0.2' },
  { family: 'IPv6', router: 'fd61::1', client: 'fd61::2', server: 'fd62::2' },
] as const;
/** More than one frame takes. */
const LONG = Array.from({ length: 400 }, (_, at) => `${at} of many`).join(' ');

describeKernel('kernel rules: clone', (scene) => {
  beforeAll(async () => {
    await scene().startAgent();
    await scene().rules(
      'in udp 10.61.0.1:5000 -> 10.62.0.2:5100 clone 10.64.0.2:5200',
      'in udp [fd61::1]:5000 -> [fd62::2]:5100 clone [fd64::2]:5200',
      'in udp 10.61.0.1:5001 -> :5101 clone 10.64.0.2',
      'in udp [fd61::1]:5001 -> :5101 clone [fd64::2]',
      'in tcp 10.61.0.1:80 -> 10.62.0.2:8080 clone 10.64.0.2',
      'in tcp [fd61::1]:80 -> [fd62::2]:8080 clone [fd64::2]',
      'out udp 10.62.0.2:5300 -> monitor clone 10.64.0.2:5200',
      'out udp [fd62::2]:5300 -> monitor clone [fd64::2]:5200',
      // Nobody has these addresses.
      'in tcp 10.61.0.1:81 -> 10.62.0.2:8080 clone 10.64.0.77',
      'in tcp [fd61::1]:81 -> [fd62::2]:8080 clone [fd64::77]',
      'in udp 10.61.0.1:5009 -> 10.62.0.2:5100 clone 10.64.0.77:5200',
      'in udp [fd61::1]:5009 -> [fd62::2]:5100 clone [fd64::77]:5200',
    );
  });

  describe.each(FAMILIES)('$family', ({ family, router, client, server }) => {
    /** What arrived at the copies' host. */
    const copied = async (
      seen: () => Promise<readonly Sight[]>,
      count: number,
    ): Promise<readonly Sight[]> => {
      await until(`${count} copies`, async () => (await seen()).length >= count, 5_000);
      return seen();
    };

    test('datagrams are sent to another host and port as well, from their sender, whole', async () => {
      await using _ = await scene().server.serve({ port: 5100, protocol: 'udp' });
      await using copies = await scene().monitor.serve({ port: 5200, protocol: 'udp' });
      await using asked = await scene().client.open(router, 5000, { protocol: 'udp', text: 'one' });
      expect(asked.first).toMatchObject({ name: 'server', text: 'one' });
      expect(await asked.say(LONG)).toMatchObject({ name: 'server', text: LONG });
      expect(await copied(copies.seen, 2)).toMatchObject([
        { from: client, text: 'one' },
        { from: client, text: LONG },
      ]);
    });

    test('what this host sends is copied as well', async () => {
      await using _ = await scene().server.serve({ port: 5300, protocol: 'udp' });
      await using copies = await scene().monitor.serve({ port: 5200, protocol: 'udp' });
      expect(await scene().router.ask(server, 5300, { protocol: 'udp' })).toMatchObject({ name: 'server' });
      expect(await copied(copies.seen, 1)).toMatchObject([{ text: 'ask' }]);
    });

    test.each([
      { protocol: 'udp', port: 5001, at: 'router', serves: 5101, flags: 'UDP' },
      { protocol: 'tcp', port: 80, at: 'server', serves: 8080, flags: 'Flags \\[P' },
    ] as const)('without a port what the client sends is copied as it is: $protocol', async (one) => {
      const { protocol, port, at, serves, flags } = one;
      await using _ = await scene()[at].serve({ port: serves, protocol });
      await using sniffer = await scene().monitor.sniff('eth0', `${protocol} port ${port}`);
      await using asked = await scene().client.open(router, port, { protocol });
      expect(asked.first).toMatchObject({ name: at });
      expect(await asked.say('again')).toMatchObject({ name: at, text: 'again' });
      const packet = `${MACS.m0} > ${MACS.monitor}, .*: ${client}.\\d+ > ${router}.${port}: ${flags}.*`;
      await sniffer.seen(new RegExp(`${packet}\\n(.*\\n)*.*${packet}\\n`));
      // What comes back is not.
      expect(sniffer.packets.filter((line) => line.includes(` ${router}.${port} > `))).toEqual([]);
    });

    test.each([
      { protocol: 'tcp', port: 81, serves: 8080 },
      { protocol: 'udp', port: 5009, serves: 5100 },
    ] as const)('the conversation does not notice that the copies’ host is away: $protocol', async (one) => {
      const { protocol, port, serves } = one;
      await using _ = await scene().server.serve({ port: serves, protocol });
      await using asked = await scene().client.open(router, port, { protocol });
      expect(asked.first).toMatchObject({ name: 'server' });
      const startMs = performance.now();
      for (let count = 0; count < 200; count++) {
        expect(await asked.say(`${count}`)).toMatchObject({ text: `${count}` });
      }
      // A hundredth of a second for each would be a wait.
      expect(performance.now() - startMs).toBeLessThan(2_000);
    });

    test('the copies’ host comes back', async () => {
      await using _ = await scene().server.serve({ port: 5100, protocol: 'udp' });
      await using copies = await scene().monitor.serve({ port: 5200, protocol: 'udp' });
      await scene().monitor.sh('ip link set eth0 down');
      await using asked = await scene().client.open(router, 5000, { protocol: 'udp', text: 'away' });
      expect(asked.first).toMatchObject({ name: 'server', text: 'away' });
      await scene().monitor.sh(
        'ip link set eth0 up; ip addr replace fd64::2/64 dev eth0 nodad; ip route replace default via 10.64.0.1\n' +
          'ip route replace default via fd64::1',
      );
      await until(`copies over ${family}`, async () => {
        expect(await asked.say('back')).toMatchObject({ name: 'server' });
        return (await copies.seen()).some((sight) => sight.text === 'back' && sight.from === client);
      });
    });
  });
});
