/** Traffic that goes back to where it came from, in each of the ways of `reflect`, with real packets. */

import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Processes } from '../support/processes.ts';
import { Place } from './support/place.ts';
import { describeKernel, MACS, type Scene } from './support/topology.ts';

const FAMILIES = [
  { family: 'IPv4', router: '10.61.0.1', client: '10.61.0.2', other: '10.62.0.2', own: '10.62.0.1' },
  { family: 'IPv6', router: 'fd61::1', client: 'fd61::2', other: 'fd62::2', own: 'fd62::1' },
] as const;
const PROTOCOLS = ['tcp', 'udp'] as const;
const EACH = FAMILIES.flatMap((one) => PROTOCOLS.map((protocol) => ({ ...one, protocol })));

/**
 * A host at the client's end of the router's cable that reaches the client by the router alone, and the other way. It
 * believes redirects, as hosts do.
 */
class Neighbour implements AsyncDisposable {
  static readonly addresses = { IPv4: '10.61.0.4', IPv6: 'fd61::4' } as const;
  readonly place: Place;
  readonly #processes: Processes;

  private constructor(place: Place, processes: Processes) {
    this.place = place;
    this.#processes = processes;
  }

  static async open({ client, directory }: Scene): Promise<Neighbour> {
    const processes = new Processes();
    const socket = join(directory, 'neighbour.sock');
    const station = ['--import', 'tsx', join(import.meta.dirname, 'support/station.ts'), socket];
    const addressing = [
      'echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad',
      'echo "pid $$"',
      'until ip link show mv0 >/dev/null 2>&1; do sleep 0.02; done',
      'ip link set lo up',
      'ip link set mv0 up',
      `ip addr add ${Neighbour.addresses.IPv4}/24 dev mv0`,
      `ip addr add ${Neighbour.addresses.IPv6}/64 dev mv0 nodad`,
      // Without the router it would find nobody there: a macvlan does not talk to what it stands on.
      'ip route add 10.61.0.2/32 via 10.61.0.1',
      'ip route add fd61::2/128 via fd61::1',
      'exec "$@"',
    ];
    const command = [
      'unshare',
      '-n',
      'sh',
      '-euc',
      addressing.join('\n'),
      'sh',
      process.execPath,
      ...station,
    ];
    const process_ = processes.start(client.command(command));
    const [, pid] = await process_.waitFor(/^pid (\d+)$/m);
    await client.sh(`ip link add link eth0 name mv0 type macvlan mode bridge; ip link set mv0 netns ${pid}`);
    await process_.waitFor(/^ready$/m, 20_000);
    return new Neighbour(new Place('neighbour', '', processes, socket), processes);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.place.leave();
    await this.#processes.stopAll();
  }
}

describeKernel('kernel rules: reflect', (scene) => {
  let neighbour: Neighbour;
  beforeAll(async () => {
    await scene().startAgent();
    neighbour = await Neighbour.open(scene());
    await scene().rules(
      'in tcp+udp 81 -> reflect mirror',
      'in tcp+udp 82 -> :8082 reflect mirror',
      'in tcp+udp 10.61.0.1:80 -> 10.62.0.2:8080 reflect mirror',
      'in tcp+udp [fd61::1]:80 -> [fd62::2]:8080 reflect mirror',
      'in udp 87 on c0 -> reflect plain',
      `in tcp+udp 10.61.0.1:88 on c0 -> ${Neighbour.addresses.IPv4}:8088 reflect route`,
      `in tcp+udp [fd61::1]:88 on c0 -> [${Neighbour.addresses.IPv6}]:8088 reflect route`,
      'out tcp+udp 25 -> :8025 reflect plain',
      'out tcp+udp 26 -> reflect mirror',
      'out tcp+udp 27 -> :8027 reflect mirror',
    );
  });
  afterAll(() => neighbour[Symbol.asyncDispose]());

  describe('mirror, of what comes in', () => {
    test.each(EACH)('the sender talks to itself: $protocol, $family', async ({ protocol, router }) => {
      await using _ = await scene().client.serve({ port: 81, ports: [81, 8082], protocol });
      for (const port of [81, 82]) {
        const answer = await scene().client.ask(router, port, { protocol });
        expect(answer).toMatchObject({ name: 'client', from: router });
      }
    });

    // Example 5 of the reference.
    test.each(EACH)(
      'to another server, which sees this host as its peer: $protocol, $family',
      async (one) => {
        const { protocol, router, own } = one;
        await using _ = await scene().server.serve({ port: 8080, protocol });
        const answer = await scene().client.ask(router, 80, { protocol });
        expect(answer).toMatchObject({ name: 'server', from: own });
      },
    );
  });

  test.each(FAMILIES)('plain: the frame comes back from the adapter as it was sent: $family', async (one) => {
    const { family, router, client } = one;
    const left = family === 'IPv4' ? 'ip[8] = 63' : 'ip6[7] = 63';
    await using sniffer = await scene().client.sniff('eth0', `udp port 87 and ${left}`);
    const options = { protocol: 'udp', fromPort: 8787, timeoutMs: 100 } as const;
    expect(await scene().client.ask(router, 87, options)).toBe('silence');
    await sniffer.seen(new RegExp(`${MACS.c0} > ${MACS.client}, .*: ${client}.8787 > ${router}.87: UDP`));
    // It comes back once.
    expect(sniffer.packets).toHaveLength(1);
  });

  test.each(EACH)(
    'route: it leaves by the side that it came from, from its own sender: $protocol, $family',
    async (one) => {
      const { family, protocol, router, client } = one;
      await using _ = await neighbour.place.serve({ port: 8088, protocol });
      const link = `${protocol} and host ${Neighbour.addresses[family]} and port 8088`;
      await using sniffer = await scene().router.sniff('c0', link);
      await using conversation = await scene().client.open(router, 88, { protocol });
      expect(conversation.first).toMatchObject({ name: 'neighbour', from: client });
      // A router that told the neighbour of the short way would lose what follows.
      for (const text of ['two', 'three', 'four']) {
        expect(await conversation.say(text)).toMatchObject({ name: 'neighbour', from: client, text });
      }
      await sniffer.seen(
        new RegExp(`${MACS.c0} > .*: ${client}.\\d+ > ${Neighbour.addresses[family]}.8088: `),
      );
    },
  );

  describe('of what this host sends', () => {
    test.each(EACH)('plain: it arrives here: $protocol, $family', async ({ protocol, other, own }) => {
      await using _ = await scene().router.serve({ port: 8025, protocol });
      const answer = await scene().router.ask(other, 25, { protocol });
      expect(answer).toMatchObject({ name: 'router', from: own });
    });

    test.each(EACH)(
      'mirror: it arrives here as from whom it was sent to: $protocol, $family',
      async (one) => {
        const { protocol, other } = one;
        await using _ = await scene().router.serve({ port: 26, ports: [26, 8027], protocol });
        for (const port of [26, 27]) {
          const answer = await scene().router.ask(other, port, { protocol });
          expect(answer).toMatchObject({ name: 'router', from: other });
        }
      },
    );
  });
});
