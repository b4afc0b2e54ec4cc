/** upnpc behind natward: every action that it knows. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  ENGINES,
  type InnerGateway,
  leads,
  leadsNowhere,
  outerRule,
  startResponding,
  untilOuter,
} from '../support/inner.ts';
import { ADDRESSES } from '../support/lab.ts';
import { describeLab } from '../support/suite.ts';

const { inner1, inner2, external } = ADDRESSES;

describeLab('upnpc behind natward', { inner: true }, (lab) => {
  describe.each(ENGINES)('%s', (engine) => {
    let gateway: InnerGateway;
    beforeAll(async () => {
      await lab().startGateway();
      gateway = await startResponding(lab(), { engine });
    });
    afterEach(async () => {
      await gateway.upnpc('inner1', '-N', '1024', '65535', 'tcp');
      await gateway.upnpc('inner1', '-N', '1024', '65535', 'udp');
      await untilOuter(lab());
    });
    afterAll(() => gateway.stop());

    test.each(['tcp', 'udp'] as const)('-a maps %s, -l lists it, -d takes it back', async (protocol) => {
      const name = protocol.toUpperCase();
      const said = await gateway.upnpc('inner1', '-e', 'a game', '-a', inner1, '80', '8080', protocol, '600');
      expect(said).toContain(`external ${external}:8080 ${name} is redirected to internal ${inner1}:80`);
      expect(await lab().natRules()).toEqual([outerRule(protocol, 8080)]);
      const row = new RegExp(`0 ${name} +8080->${inner1}:80 +'a game' '' (600|59\\d)`);
      for (const list of ['-l', '-L']) {
        expect(await gateway.upnpc('inner1', list), list).toMatch(row);
      }
      await leads(lab(), { protocol, externalPort: 8080, internalPort: 80 });

      expect(await gateway.upnpc('inner1', '-d', '8080', protocol)).toContain('returned : 0');
      await untilOuter(lab());
      await leadsNowhere(lab(), protocol, 8080);
      expect(await gateway.upnpc('inner1', '-d', '8080', protocol)).toContain('code : 714');
    });

    test('-r maps to itself, once more as a renewal', async () => {
      for (const _ of ['at first', 'as a renewal']) {
        await gateway.upnpc('inner1', '-r', '6881', 'tcp', '6881', 'udp');
        expect(await lab().natRules()).toEqual([outerRule('tcp', 6881), outerRule('udp', 6881)]);
      }
      await leads(lab(), { protocol: 'udp', externalPort: 6881 });
    });

    test('-n has another port where the wanted one is another host’s, and -a is refused', async () => {
      await gateway.upnpc('inner2', '-a', inner2, '80', '8080', 'tcp', '600');
      const refused = await gateway.upnpc('inner1', '-a', inner1, '80', '8080', 'tcp', '600');
      expect(refused).toContain('failed with code 718 (ConflictInMappingEntry)');

      const said = await gateway.upnpc('inner1', '-n', inner1, '80', '8080', 'tcp', '600');
      const port = Number(new RegExp(`external ${external}:(\\d+) TCP is redirected`).exec(said)?.[1]);
      expect(port).not.toBe(8080);
      await untilOuter(lab(), 'tcp 8080', `tcp ${port}`);
      await Promise.all([
        leads(lab(), { protocol: 'tcp', externalPort: 8080, to: 'inner2', internalPort: 80 }),
        leads(lab(), { protocol: 'tcp', externalPort: port, to: 'inner1', internalPort: 80 }),
      ]);
      expect(await gateway.upnpc('inner2', '-d', '8080', 'tcp')).toContain('returned : 0');
    });
  });

  test('without a URL it finds the gateway, which is connected', async () => {
    await lab().startGateway();
    const gateway = await startResponding(lab());
    const { stdout } = await lab().exec('inner1', ['upnpc', '-i', '-s']);
    expect(stdout).toContain(`Found valid IGD : http://${ADDRESSES.inner0}:`);
    expect(stdout).toContain('Status : Connected');
    expect(stdout).toContain(`ExternalIPAddress = ${external}`);
    await gateway.stop();
  });

  test('the agent ends: what a client has is given back, and once', async () => {
    await lab().startGateway();
    const gateway = await startResponding(lab());
    for (const port of ['8080', '8081', '8082'])
      await gateway.upnpc('inner1', '-a', inner1, '80', port, 'tcp', '600');
    await untilOuter(lab(), 'tcp 8080', 'tcp 8081', 'tcp 8082');
    const { code, stderr } = await gateway.agent.end('SIGTERM');
    expect(code).toBe(0);
    expect(stderr).not.toContain('not released');
    expect(gateway.agent.eventsOf('released')).toHaveLength(3);
    await untilOuter(lab());
  });
});
