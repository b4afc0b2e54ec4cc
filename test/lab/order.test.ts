/**
 * One mapping, whoever answers first and whatever gets lost: the probes race, the grants do not. Judged by
 * the kernel's rules and by upnpc's rows.
 */

import { expect, test } from 'vitest';
import type { MappingProtocol } from '../../src/net/protocol.ts';
import { ADDRESSES, createLab, type Fault, type GatewayOptions, type Lab } from './support/lab.ts';
import { countGrants, loseGrants } from './support/packets.ts';
import {
  describeLab,
  freshHome,
  listed,
  type MapDocument,
  rowsOf,
  rule,
  run,
  runJson,
} from './support/suite.ts';

type Order = readonly [MappingProtocol, MappingProtocol, MappingProtocol];

const ORDERS: readonly Order[] = [
  ['pcp', 'natpmp', 'upnp'],
  ['pcp', 'upnp', 'natpmp'],
  ['natpmp', 'pcp', 'upnp'],
  ['natpmp', 'upnp', 'pcp'],
  ['upnp', 'pcp', 'natpmp'],
  ['upnp', 'natpmp', 'pcp'],
];

/**
 * How many packets are lost before a protocol's probe is answered, so that it comes well after the one before
 * it. PCP and NAT-PMP probe at 0, 100, 300, 700 and 1300 ms; a search of six targets goes out twice, at 0, 250
 * and 800 ms.
 */
function lostProbes([first, second, third]: Order): Fault[] {
  const fault = (protocol: MappingProtocol, searches: number, probes: number): Fault =>
    protocol === 'upnp'
      ? { protocol: 'ssdp', firstPackets: 12 * searches }
      : { protocol, firstPackets: probes };
  return [fault(second, 1, first === 'upnp' ? 3 : 2), fault(third, 2, 4)];
}

interface Loss {
  readonly name: string;
  /** Of the grants of the first, the second and the third to answer. */
  readonly lost: readonly ('requests' | 'replies')[];
}

const LOSSES: readonly Loss[] = [
  { name: 'the first grants', lost: [] },
  {
    name: 'the first answers its probe and its mapping requests are lost: the second grants',
    lost: ['requests'],
  },
  { name: 'the first grants and its replies are lost: the second grants the same', lost: ['replies'] },
  {
    name: 'the first two grant and their replies are lost: the third grants the same',
    lost: ['replies', 'replies'],
  },
];

const CASES = ORDERS.flatMap((order) =>
  LOSSES.map(({ name, lost }) => [`${order.join(', ')}: ${name}`, order, lost] as const),
);

async function answerInOrder(lab: Lab, order: Order, options: GatewayOptions = {}): Promise<void> {
  await lab.startGateway(options);
  for (const fault of lostProbes(order)) await lab.block(fault);
}

/** Exactly one mapping, known to natward as its own, and none after `unmap`. */
async function expectOneMapping(lab: Lab, home: { readonly home: string }): Promise<void> {
  await lab.unblock();
  expect(await lab.natRules()).toEqual([rule('tcp', 8080)]);
  expect(await rowsOf(lab)).toEqual([rule('tcp', 8080)]);
  expect(await listed(lab, home)).toEqual([{ ...rule('tcp', 8080), own: true }]);
  await run(lab, ['unmap', '8080'], home);
  expect(await lab.natRules()).toEqual([]);
  expect(await rowsOf(lab)).toEqual([]);
  expect(await listed(lab, home)).toEqual([]);
}

describeLab('order of answers', { rival: true }, (lab) => {
  // Each in a lab of its own: what takes time here is waiting.
  test.concurrent.each(CASES)('%s', async (_, order, lost) => {
    const home = freshHome();
    await using own = await createLab();
    await answerInOrder(own, order);
    for (const [place, lose] of lost.entries()) {
      await loseGrants(own, order[place] as MappingProtocol, lose);
    }
    const { mappings } = await runJson<MapDocument>(own, ['map', '8080'], home);
    expect(mappings).toMatchObject([{ via: order[lost.length], externalPort: 8080 }]);
    await expectOneMapping(own, home);
  });

  test.each(['pcp', 'natpmp'] as const)(
    '%s: only its first reply is lost, and it is asked again',
    async (via) => {
      const home = freshHome();
      await lab().startGateway();
      await loseGrants(lab(), via, 'replies', { firstPackets: 1 });
      const { mappings } = await runJson<MapDocument>(lab(), ['map', '8080', '--via', via], home);
      expect(mappings).toMatchObject([{ via, externalPort: 8080 }]);
      await expectOneMapping(lab(), home);
    },
  );

  test('every reply to a grant is lost: exit 3, and the same command later takes the mapping over', async () => {
    const home = freshHome();
    await lab().startGateway();
    for (const protocol of ['pcp', 'natpmp', 'upnp'] as const) await loseGrants(lab(), protocol, 'replies');
    await run(lab(), ['map', '8080'], { ...home, code: 3 });
    expect(await lab().natRules()).toEqual([rule('tcp', 8080)]);
    await lab().unblock();
    await run(lab(), ['map', '8080'], home);
    await expectOneMapping(lab(), home);
  });

  // The first copy of the request is lost, so that there is a moment to stop the gateway in.
  test.each([
    // Until the second is asked: UPnP may still have a description to read, so its turn is told by time.
    ['pcp', 'natpmp', { until: 'natpmp', packets: 0 }],
    ['natpmp', 'upnp', { until: 'natpmp', packets: 3 }],
  ] as const)(
    '%s is asked, %s as well, and a gateway that was busy grants to both',
    async (first, _second, { until, packets }) => {
      const home = freshHome();
      await lab().startGateway(first === 'natpmp' ? { pcp: false } : {});
      await loseGrants(lab(), first, 'requests', { firstPackets: 1 });
      const asked = await countGrants(lab(), first);
      const lastSeen = await countGrants(lab(), until);
      const mapping = lab().spawnNatward(['map', '8080', '--json'], home);
      const quickly = { interval: 10, timeout: 5_000 };
      await expect.poll(asked, quickly).toBe(1);
      lab().gateway.pause();
      await expect.poll(lastSeen, quickly).toBeGreaterThan(packets);
      lab().gateway.resume();
      expect(await mapping.exited).toMatchObject({ code: 0 });
      await expectOneMapping(lab(), home);
    },
  );

  test.each([
    { next: 'natpmp', igdV1: false },
    { next: 'upnp', igdV1: false },
    { next: 'upnp', igdV1: true },
  ] as const)(
    'the port is another host’s and the reply that grants another one is lost: $next (IGD:1: $igdV1) grants the same one',
    async ({ next, igdV1 }) => {
      const home = freshHome();
      const silent = next === 'upnp' ? 'natpmp' : 'upnp';
      await answerInOrder(lab(), ['pcp', next, silent], { igdV1 });
      await lab().upnpc(['-a', ADDRESSES.rival, '80', '8080', 'tcp', '600'], { ns: 'rival' });
      await loseGrants(lab(), 'pcp', 'replies');
      await loseGrants(lab(), silent, 'requests');
      const { mappings } = await runJson<MapDocument>(lab(), ['map', '8080'], home);
      await lab().unblock();
      expect(mappings).toMatchObject([{ via: next }]);
      expect((await lab().natRules()).filter((one) => one.internalClient === ADDRESSES.lan)).toEqual([
        rule('tcp', mappings[0]?.externalPort ?? 0, { internalPort: 8080 }),
      ]);
      await run(lab(), ['unmap', '8080'], home);
      expect(await rowsOf(lab())).toMatchObject([{ internalClient: ADDRESSES.rival }]);
    },
  );
});
