/** Rules of the kernel that wait for an interface or a name, say so, and are carried out when it is there. */

import { afterEach, beforeAll, describe, expect, test } from 'vitest';
import { until } from '../support/keeping.ts';
import type { Outcome } from './support/station.ts';
import { ADDRESSES, describeKernel, FAR } from './support/topology.ts';

const { router, server, spare } = ADDRESSES;
const served = { port: 9001, ports: [9001, 9002] } as const;
/** "Within a few seconds", on a machine that has much to do. */
const SOON_MS = 15_000;

describeKernel('kernel rules: waiting', (scene) => {
  beforeAll(() => scene().startAgent());

  const waiting = async (): Promise<readonly (string | null)[]> =>
    (await scene().list()).map((rule) => rule.waiting);
  const portOf = (outcome: Outcome): unknown => (typeof outcome === 'string' ? outcome : outcome.toPort);

  describe('for an interface', () => {
    const plug = async (): Promise<void> => {
      const monitor = `netns ${scene().monitor.namespace}`;
      await scene().router.sh(`ip link add late0 type veth peer name eth1 ${monitor}
        ip addr add 10.65.0.1/24 dev late0; ip link set late0 up`);
      await scene().monitor.sh('ip addr add 10.65.0.2/24 dev eth1; ip link set eth1 up');
    };
    const unplug = (): Promise<string> => scene().router.sh('ip link delete late0 2>/dev/null || true');
    afterEach(unplug);

    test('by which it comes in: it waits and says so, and works when it is there', async () => {
      await scene().apply('in tcp 80 on late0 -> :9001', 'in tcp 80 -> :9002');
      await using _ = await scene().router.serve(served);
      const [reason, none] = await waiting();
      expect(reason).toBe('there is no interface late0 yet; it is waited for');
      expect(none).toBeNull();
      expect(await scene().client.ask(router, 80)).toMatchObject({ toPort: 9002 });
      await plug();
      const startMs = performance.now();
      const isTaken = async () => portOf(await scene().monitor.ask('10.65.0.1', 80)) === 9001;
      await until('it is taken', isTaken, SOON_MS);
      console.log(`a new interface was taken up after ${Math.round(performance.now() - startMs)} ms`);
      await until('it says so', async () => (await waiting())[0] === null, SOON_MS);
      expect(await scene().client.ask(router, 80)).toMatchObject({ toPort: 9002 });
    });

    test('of several: those that are there work meanwhile', async () => {
      await scene().apply('in tcp 80 on c0,late0 -> :9001');
      await using _ = await scene().router.serve(served);
      expect(await waiting()).toEqual(['there is no interface late0 yet; it is waited for']);
      expect(await scene().client.ask(router, 80)).toMatchObject({ toPort: 9001 });
    });

    test('by which it is to leave, with a gateway that comes later, and again when it was gone', async () => {
      const far = '10.66.0.9';
      await scene().monitor.sh(`ip addr replace ${far}/32 dev lo`);
      await scene().apply(`out tcp ${far}:9001 -> via late0`);
      expect(await waiting()).toEqual(['there is no interface late0 yet; it is waited for']);
      await using _ = await scene().monitor.serve(served);
      for (const isDelayed of [true, false]) {
        expect(await scene().router.ask(far, 9001, { timeoutMs: 300 })).toBe('silence');
        await plug();
        // What is not its own address on that link it does not answer for: the way to it is by its gateway.
        await scene().monitor.sh('echo 1 >/proc/sys/net/ipv4/conf/eth1/arp_ignore');
        const leaves = async () =>
          (await scene().router.sh('ip route show table all proto 110')).includes('late0');
        if (isDelayed) await until('it leaves by late0', leaves, SOON_MS);
        await scene().router.sh('ip route add default via 10.65.0.2 dev late0 metric 5000');
        let outcome: Outcome = 'silence';
        const isThere = async () => {
          outcome = await scene().router.ask(far, 9001, { timeoutMs: 300 });
          return typeof outcome !== 'string';
        };
        await until('it arrives', isThere, SOON_MS);
        expect(outcome).toMatchObject({ name: 'monitor', from: '10.65.0.1' });
        await unplug();
      }
    });
  });

  describe('for a name', () => {
    const name = 'nas.example.org';

    test('of the target, that nobody knows yet, and that then moves when DNS says so', async () => {
      await scene().names({});
      await scene().apply(`in tcp 80 -> ${name}:9001`);
      await using _ = await scene().server.serve(served);
      await using __ = await scene().router.serve({ port: 80 });
      expect(await waiting()).toEqual([`${name} has no address; it is looked up again`]);
      await scene().names({ [name]: [server] });
      const isThere = async () => portOf(await scene().client.ask(router, 80)) === 9001;
      await until('it is carried out', isThere, SOON_MS);
      expect(await scene().client.ask(router, 80)).toMatchObject({ to: server });
      await using before = await scene().client.open(router, 80);
      await scene().names({ [name]: [spare] });
      const moved = async () => {
        const outcome = await scene().client.ask(router, 80);
        return typeof outcome !== 'string' && outcome.to === spare;
      };
      await until('the new address is used', moved, SOON_MS);
      expect(await before.say('on')).toMatchObject({ to: server, text: 'on' });
      // While nobody answers the old one serves.
      await scene().names({});
      await using sniffer = await scene().router.sniff('lo', 'udp src port 53');
      await sniffer.seen(/NXDomain/, SOON_MS);
      expect(await scene().client.ask(router, 80)).toMatchObject({ to: spare });
    });

    test('that it is sent to: meanwhile the next rule decides', async () => {
      await scene().names({});
      await scene().apply('in tcp new.example.org,10.62.0.1:80 -> :9001', 'in tcp 80 -> :9002');
      await using _ = await scene().router.serve(served);
      expect(await waiting()).toEqual(['new.example.org has no address; it is looked up again', null]);
      expect(await scene().client.ask(router, 80)).toMatchObject({ toPort: 9002 });
      expect(await scene().client.ask('10.62.0.1', 80)).toMatchObject({ toPort: 9001 });
    });

    test('that stands for 5,000 addresses: the table holds, one of them is the target', async () => {
      const many = Array.from({ length: 5000 }, (_, at) => `198.18.${at >> 8}.${at & 255} many.example.org`);
      scene().hosts(`${server} many.example.org\n${many.join('\n')}\n`);
      const startMs = performance.now();
      await scene().rules('in tcp 80 -> many.example.org:9001', 'out tcp many.example.org:80 -> :9002');
      console.log(`5,000 addresses: ${Math.round(performance.now() - startMs)} ms until carried out`);
      await using _ = await scene().server.serve(served);
      expect(await scene().client.ask(router, 80)).toMatchObject({ name: 'server', toPort: 9001 });
      expect(await scene().router.ask(server, 80)).toMatchObject({ name: 'server', toPort: 9002 });
      scene().hosts();
    });

    test('that stands for this host’s loopback address: it says so and goes nowhere', async () => {
      await scene().names({ [name]: ['127.0.0.1', '::1'] });
      await scene().apply(`in tcp 80 -> ${name}:9001`, `out tcp ${FAR[4]}:80 -> ${name}:9001`);
      await using _ = await scene().router.serve({ port: 9001, address: '127.0.0.1' });
      for (const reason of await waiting()) expect(reason).toContain('loopback address of this host');
      expect(await scene().client.ask(router, 80)).toBe('refused');
    });
  });
});
