/** Where the kernel's rules lead, and as whom it arrives there, with real packets. */

import { beforeAll, describe, expect, test } from 'vitest';
import { ADDRESSES, describeKernel, FAR } from './support/topology.ts';

const { router, router6, server, server6, behind, behind6, client, client6 } = ADDRESSES;
const PROTOCOLS = ['tcp', 'udp'] as const;

describeKernel('kernel rules: targets', (scene) => {
  beforeAll(() => scene().startAgent());

  describe('another host', () => {
    test('sees this one as its peer, in either protocol and family', async () => {
      await scene().rules(
        `in tcp+udp ${router}:80 -> ${server}:8080`,
        `in tcp+udp [${router6}]:80 -> [${server6}]:8080`,
      );
      for (const protocol of PROTOCOLS) {
        await using _ = await scene().server.serve({ port: 8080, protocol });
        const answer = { name: 'server', toPort: 8080 };
        expect(await scene().client.ask(router, 80, { protocol })).toMatchObject({ ...answer, from: behind });
        expect(await scene().client.ask(router6, 80, { protocol })).toMatchObject({
          ...answer,
          from: behind6,
        });
      }
    });

    test('alone keeps the port', async () => {
      await scene().rules(`in tcp+udp 8080,8081 -> ${server}`);
      for (const protocol of PROTOCOLS) {
        await using _ = await scene().server.serve({ port: 8080, ports: [8080, 8081], protocol });
        for (const port of [8080, 8081]) {
          expect(await scene().client.ask(router, port, { protocol })).toMatchObject({ toPort: port });
        }
      }
    });

    test('by a name with addresses of both families is reached in both', async () => {
      await scene().names({ 'nas.example.org': [server, server6] });
      await scene().rules('in tcp+udp 80 -> nas.example.org:8080');
      for (const protocol of PROTOCOLS) {
        await using _ = await scene().server.serve({ port: 8080, protocol });
        expect(await scene().client.ask(router, 80, { protocol })).toMatchObject({ from: behind });
        expect(await scene().client.ask(router6, 80, { protocol })).toMatchObject({ from: behind6 });
      }
    });

    test('of IPv4 leaves IPv6 as it is', async () => {
      await scene().rules(`in tcp 80 -> ${server}:8080`);
      await using _ = await scene().router.serve({ port: 80 });
      expect(await scene().client.ask(router6, 80)).toMatchObject({ name: 'router', toPort: 80 });
    });

    test('that refuses is heard at once', async () => {
      await scene().rules(`in tcp+udp 80 -> ${server}:8080`, 'in tcp+udp 81 -> 127.0.0.1:8080');
      for (const protocol of PROTOCOLS) {
        expect(await scene().client.ask(router, 80, { protocol })).toBe('refused');
        expect(await scene().client.ask(router, 81, { protocol })).toBe('refused');
      }
    });

    test('gets datagrams that are longer than the link takes, and answers them', async () => {
      await scene().rules(`in udp 80 -> ${server}:8080`);
      await using _ = await scene().server.serve({ port: 8080, protocol: 'udp' });
      const text = 'x'.repeat(5000);
      expect(await scene().client.ask(router, 80, { protocol: 'udp', text })).toMatchObject({ text });
    });
  });

  describe('this host', () => {
    test('sees the client, in either protocol and family', async () => {
      await scene().rules('in tcp+udp 80 -> :8080');
      for (const protocol of PROTOCOLS) {
        await using _ = await scene().router.serve({ port: 8080, protocol });
        const answer = { name: 'router', toPort: 8080 };
        expect(await scene().client.ask(router, 80, { protocol })).toMatchObject({ ...answer, from: client });
        expect(await scene().client.ask(router6, 80, { protocol })).toMatchObject({
          ...answer,
          from: client6,
        });
      }
    });

    test.each(['127.0.0.1', 'localhost'])(
      'by %s: a server that listens there alone is reached from outside',
      async (host) => {
        await scene().rules(`in tcp+udp 80 -> ${host}:8080`);
        for (const protocol of PROTOCOLS) {
          await using _ = await scene().router.serve({ port: 8080, protocol, address: '127.0.0.1' });
          const outcome = await scene().client.ask(router, 80, { protocol });
          expect(outcome).toMatchObject({ name: 'router', from: client });
        }
      },
    );

    test('takes what it sends to others itself', async () => {
      await scene().rules(`out tcp+udp ${FAR[4]}:80 -> 127.0.0.1:8080`);
      for (const protocol of PROTOCOLS) {
        await using _ = await scene().router.serve({ port: 8080, protocol, address: '127.0.0.1' });
        expect(await scene().router.ask(FAR[4], 80, { protocol })).toMatchObject({ name: 'router' });
      }
    });
  });

  describe('what the router sends', () => {
    test('to its own address is taken as well, and to its loopback address not', async () => {
      await scene().rules(
        `in tcp+udp 80 -> ${server}:8080`,
        'in tcp+udp 81 -> :8081',
        'in tcp+udp 82 -> 127.0.0.1:8082',
      );
      for (const protocol of PROTOCOLS) {
        await using _ = await scene().server.serve({ port: 8080, protocol });
        await using __ = await scene().router.serve({ port: 8081, protocol });
        await using ___ = await scene().router.serve({ port: 8082, protocol, address: '127.0.0.1' });
        const ask = (port: number) => scene().router.ask(router, port, { protocol });
        expect(await ask(80)).toMatchObject({ name: 'server', toPort: 8080 });
        expect(await ask(81)).toMatchObject({ name: 'router', toPort: 8081 });
        expect(await ask(82)).toMatchObject({ name: 'router', toPort: 8082 });
        expect(await scene().router.ask('127.0.0.1', 81, { protocol })).toBe('refused');
      }
    });

    test('to a loopback address is taken where the rule names it', async () => {
      await scene().rules(
        `out tcp+udp 127.0.0.53:80 -> ${server}:8080`,
        `in tcp+udp 127.0.0.54:80 -> ${server}:8080`,
        'in tcp+udp 127.0.0.55:80 -> :8081',
      );
      for (const protocol of PROTOCOLS) {
        await using _ = await scene().server.serve({ port: 8080, protocol });
        await using __ = await scene().router.serve({ port: 8081, protocol, address: '127.0.0.55' });
        const ask = (to: string) => scene().router.ask(to, 80, { protocol });
        expect(await ask('127.0.0.53')).toMatchObject({ name: 'server' });
        expect(await ask('127.0.0.54')).toMatchObject({ name: 'server' });
        expect(await ask('127.0.0.55')).toMatchObject({ name: 'router' });
        expect(await ask('127.0.0.56')).toBe('refused');
      }
    });
  });

  describe('as', () => {
    // Of its own, since a conversation that is remembered keeps the rule that it began under.
    let fromPort = 40_000;
    const arriving = async (as: string): Promise<readonly unknown[]> => {
      fromPort++;
      await scene().rules(`in tcp+udp 80 -> ${server}:8080 as ${as}`);
      const outcomes: unknown[] = [];
      for (const protocol of PROTOCOLS) {
        await using _ = await scene().server.serve({ port: 8080, protocol });
        outcomes.push(await scene().client.ask(router, 80, { protocol, fromPort }));
      }
      return outcomes;
    };
    const twice = (sight: object): readonly object[] => PROTOCOLS.map(() => sight);

    test('an address: from there', async () => {
      await scene().router.sh('ip addr replace 10.62.0.77/32 dev s0');
      expect(await arriving('10.62.0.77')).toMatchObject(twice({ name: 'server', from: '10.62.0.77' }));
    });

    test('an address and a port: from that one', async () => {
      expect(await arriving(`${behind}:4444`)).toMatchObject(twice({ from: behind, fromPort: 4444 }));
    });

    test('a port alone: this host’s', async () => {
      expect(await arriving(':4445')).toMatchObject(twice({ from: behind, fromPort: 4445 }));
    });

    test('the same port: the client’s own', async () => {
      expect(await arriving(':same')).toMatchObject(twice({ from: behind, fromPort }));
    });

    test('the client: a server with a route back sees it as if nobody were between', async () => {
      expect(await arriving('client')).toMatchObject(twice({ from: client, fromPort }));
    });

    test('an IPv6 address and port, and an IPv6 client', async () => {
      await scene().rules(
        `in tcp [${router6}]:80 -> [${server6}]:8080 as [${behind6}]:4444`,
        `in tcp [${router6}]:81 -> [${server6}]:8080 as client`,
      );
      await using _ = await scene().server.serve({ port: 8080 });
      expect(await scene().client.ask(router6, 80)).toMatchObject({ from: behind6, fromPort: 4444 });
      expect(await scene().client.ask(router6, 81)).toMatchObject({ from: client6 });
    });
  });

  describe('traffic that no rule is for', () => {
    test('is not touched', async () => {
      await scene().rules(`in tcp+udp 80 -> ${server}:8080`);
      for (const protocol of PROTOCOLS) {
        await using _ = await scene().router.serve({ port: 9000, protocol });
        await using __ = await scene().server.serve({ port: 80, protocol });
        const ask = (port: number) => scene().client.ask(router, port, { protocol });
        expect(await ask(9000)).toMatchObject({ name: 'router', from: client });
        expect(await ask(81)).toBe('refused');
        expect(await scene().router.ask(server, 80, { protocol })).toMatchObject({
          toPort: 80,
          from: behind,
        });
      }
    });

    test('passes through where it did before, and nowhere else', async () => {
      await scene().rules(`in tcp 80 -> ${server}:8080`);
      await using _ = await scene().server.serve({ port: 80 });
      expect(await scene().client.ask(server, 80, { timeoutMs: 300 })).toBe('silence');
      await scene().stopAgent();
      await scene().router.sh('echo 1 >/proc/sys/net/ipv4/ip_forward');
      await scene().startAgent();
      await scene().rules(`in tcp 80 -> ${server}:8080`);
      expect(await scene().client.ask(server, 80)).toMatchObject({
        name: 'server',
        from: client,
        toPort: 80,
      });
    });
  });

  test('30,000 ports in one rule are moved by so much, each', async () => {
    const startMs = performance.now();
    await scene().rules(`in tcp+udp 10000-39999 -> ${server}:+20000`);
    console.log(`30,000 ports moved: ${Math.round(performance.now() - startMs)} ms until carried out`);
    for (const protocol of PROTOCOLS) {
      const ports = [30_000, 30_001, 43_210, 59_999];
      await using _ = await scene().server.serve({ port: 30_000, ports, protocol });
      for (const toPort of ports) {
        expect(await scene().client.ask(router, toPort - 20_000, { protocol })).toMatchObject({ toPort });
      }
      for (const port of [9999, 40_000]) {
        expect(await scene().client.ask(router, port, { protocol })).toBe('refused');
      }
    }
  });
});
