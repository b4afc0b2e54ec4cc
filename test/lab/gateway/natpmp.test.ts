/** natpmpc behind natward: what it is told is the outer gateway's, and the bytes arrive. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  ENGINES,
  type InnerGateway,
  type InnerPlace,
  leads,
  leadsNowhere,
  outerRule,
  startResponding,
  untilOuter,
} from '../support/inner.ts';
import { ADDRESSES } from '../support/lab.ts';
import { describeLab } from '../support/suite.ts';

describeLab('natpmpc behind natward', { inner: true }, (lab) => {
  describe.each(ENGINES)('%s', (engine) => {
    let gateway: InnerGateway;
    beforeAll(async () => {
      await lab().startGateway();
      gateway = await startResponding(lab(), { engine });
    });
    afterAll(() => gateway.stop());

    /** It asks its default gateway. */
    const natpmpc = async (ns: InnerPlace, ...args: readonly string[]): Promise<string> => {
      const { stdout, stderr } = await lab().exec(ns, ['natpmpc', ...args]);
      return stdout + stderr;
    };

    test('the public address is the outer gateway’s', async () => {
      expect(await natpmpc('inner1')).toContain(`Public IP address : ${ADDRESSES.external}`);
    });

    test.each(['tcp', 'udp'] as const)('maps %s, and maps it again, and takes it back', async (protocol) => {
      const mapped = `Mapped public port 8080 protocol ${protocol.toUpperCase()} to local port 80 liftime 600`;
      for (const _ of ['at first', 'as a renewal']) {
        expect(await natpmpc('inner1', '-a', '8080', '80', protocol, '600')).toContain(mapped);
        expect(await lab().natRules()).toEqual([outerRule(protocol, 8080)]);
      }
      await leads(lab(), { protocol, externalPort: 8080, internalPort: 80 });

      await natpmpc('inner1', '-a', '0', '80', protocol, '0');
      await untilOuter(lab());
      await leadsNowhere(lab(), protocol, 8080);
    });

    test('two hosts that ask for the same port have two, and both lead in at once', async () => {
      const portOf = async (ns: InnerPlace): Promise<number> =>
        Number(/Mapped public port (\d+)/.exec(await natpmpc(ns, '-a', '8080', '8080', 'tcp', '600'))?.[1]);
      const [first, second] = [await portOf('inner1'), await portOf('inner2')];
      expect(first).toBe(8080);
      expect(second).not.toBe(8080);
      await untilOuter(lab(), `tcp ${first}`, `tcp ${second}`);
      await Promise.all([
        leads(lab(), { protocol: 'tcp', externalPort: first, to: 'inner1', internalPort: 8080 }),
        leads(lab(), { protocol: 'tcp', externalPort: second, to: 'inner2', internalPort: 8080 }),
      ]);
      for (const ns of ['inner1', 'inner2'] as const) await natpmpc(ns, '-a', '0', '0', 'tcp', '0');
      await untilOuter(lab());
    });
  });
});
