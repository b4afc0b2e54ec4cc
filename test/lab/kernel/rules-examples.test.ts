/** The five examples of the reference, carried out by the kernel with real packets. */

import { beforeAll, expect, test } from 'vitest';
import { ADDRESSES, describeKernel, FAR, MACS } from './support/topology.ts';

describeKernel('kernel rules: the reference’s examples', (scene) => {
  beforeAll(() => scene().startAgent());

  test('1: all incoming TCP 80 goes to local port 8080', async () => {
    await scene().rules('in tcp 80 -> :8080');
    await using _ = await scene().router.serve({ port: 8080 });
    for (const to of [ADDRESSES.router, ADDRESSES.behind, ADDRESSES.router6]) {
      expect(await scene().client.ask(to, 80)).toMatchObject({ name: 'router', to, toPort: 8080 });
    }
    expect(await scene().client.ask(ADDRESSES.router, 80)).toMatchObject({ from: ADDRESSES.client });
  });

  test('2: outgoing to verigio.com TCP 25 goes to verigio.com TCP 8025', async () => {
    scene().hosts(`${ADDRESSES.server} verigio.com\n${ADDRESSES.server6} verigio.com\n`);
    await scene().rules('out tcp verigio.com:25 -> :8025');
    await using _ = await scene().server.serve({ port: 25, ports: [25, 8025] });
    for (const to of [ADDRESSES.server, ADDRESSES.server6]) {
      expect(await scene().router.ask(to, 25)).toMatchObject({ name: 'server', to, toPort: 8025 });
    }
    expect(await scene().router.ask(ADDRESSES.spare, 25)).toMatchObject({ toPort: 25 });
    scene().hosts();
  });

  test('3: web traffic is watched in both directions, unchanged', async () => {
    await scene().rules({ rule: 'out tcp :80,443 -> monitor', id: 'web' });
    await using _ = await scene().server.serve({ port: 80, ports: [80, 443] });
    for (const port of [80, 443]) {
      expect(await scene().router.ask(ADDRESSES.server, port, { text: 'x'.repeat(1000) })).toMatchObject({
        name: 'server',
        from: ADDRESSES.behind,
        to: ADDRESSES.server,
        toPort: port,
      });
    }
    const [web] = await scene().list();
    expect(web?.activity).toMatchObject({ conversations: 2, refused: 0 });
    expect(web?.activity.bytesIn).toBeGreaterThan(2000);
    expect(web?.activity.bytesOut).toBeGreaterThan(2000);
  });

  test('4: traffic for one host leaves through a chosen adapter, with a chosen address and both MACs', async () => {
    const to = FAR[4];
    await using _ = await scene().server.serve({ port: 7000 });
    await using __ = await scene().uplink.serve({ port: 7000 });
    await scene().rules();
    expect(await scene().router.ask(to, 7000)).toMatchObject({ name: 'server' });
    const mac = '02:00:00:00:99:99';
    await scene().rules(`out tcp ${to}:* -> as 10.63.0.1 via t0 source-mac ${mac} target-mac ${MACS.uplink}`);
    await using frames = await scene().uplink.sniff('eth0', 'tcp port 7000');
    expect(await scene().router.ask(to, 7000)).toMatchObject({ name: 'uplink', from: '10.63.0.1', to });
    await frames.seen(
      new RegExp(`${mac} > ${MACS.uplink}.* 10\\.63\\.0\\.1\\.\\d+ > ${to}\\.7000: Flags \\[S\\]`),
    );
  });

  test.each(['', ' reflect mirror'])(
    '5: all incoming TCP 80 goes to another server, which sees this host as the peer%s',
    async (reflection) => {
      await scene().rules(`in tcp 80 -> ${ADDRESSES.server}:8080${reflection}`);
      await using _ = await scene().server.serve({ port: 8080 });
      expect(await scene().client.ask(ADDRESSES.router, 80)).toMatchObject({
        name: 'server',
        from: ADDRESSES.behind,
        to: ADDRESSES.server,
        toPort: 8080,
      });
    },
  );
});
