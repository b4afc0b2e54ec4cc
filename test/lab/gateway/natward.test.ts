/** natward behind natward, over each protocol: a Node program in a container and the agent of its host. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { MappingProtocol } from '../../../src/net/protocol.ts';
import {
  type Engine,
  type InnerGateway,
  leads,
  outerRule,
  startResponding,
  untilOuter,
} from '../support/inner.ts';
import { startKeep } from '../support/keeping.ts';
import { ADDRESSES } from '../support/lab.ts';
import { describeLab, freshHome, type MapDocument, run, runJson } from '../support/suite.ts';

const WAYS: readonly { via: MappingProtocol; engine: Engine; conflict: string }[] = [
  { via: 'pcp', engine: 'nftables', conflict: 'PCP 11' },
  // It has no way to insist: what is offered instead is given back.
  { via: 'natpmp', engine: 'relay', conflict: 'instead' },
  { via: 'upnp', engine: 'relay', conflict: 'UPnP 718' },
];

describeLab('natward behind natward', { inner: true }, (lab) => {
  let gateway: InnerGateway;
  beforeAll(() => lab().startGateway());
  afterAll(() => gateway.stop());

  describe.each(WAYS)('over $via, carried by $engine', ({ via, engine, conflict }) => {
    beforeAll(async () => {
      if (gateway?.engine === engine) return;
      await gateway?.stop();
      gateway = await startResponding(lab(), { engine });
    });

    test('map, list and unmap', async () => {
      const inside = { ...freshHome(), ns: 'inner1' } as const;
      const { mappings } = await runJson<MapDocument>(
        lab(),
        ['map', '8080:80/tcp+udp', '--via', via],
        inside,
      );
      const told = {
        externalAddress: ADDRESSES.external,
        externalPort: 8080,
        internalClient: ADDRESSES.inner1,
        internalPort: 80,
        via,
        gateway: ADDRESSES.inner0,
      };
      expect(mappings).toMatchObject([
        { protocol: 'tcp', ...told },
        { protocol: 'udp', ...told },
      ]);
      expect(await lab().natRules()).toEqual([outerRule('tcp', 8080), outerRule('udp', 8080)]);
      await Promise.all([
        leads(lab(), { protocol: 'tcp', externalPort: 8080, internalPort: 80 }),
        leads(lab(), { protocol: 'udp', externalPort: 8080, internalPort: 80 }),
      ]);
      expect((await run(lab(), ['list'], inside)).stdout).toContain(`${ADDRESSES.inner1}:80`);
      await run(lab(), ['unmap', '8080/tcp+udp'], inside);
      await untilOuter(lab());
    });

    test('a port that is another host’s is refused where no other will do', async () => {
      const theirs = { ...freshHome(), ns: 'inner2' } as const;
      await run(lab(), ['map', '8080', '--via', via], theirs);
      const asked = ['map', '8080', '--exact', '--via', via];
      const refused = await lab().natward(asked, { ...freshHome(), ns: 'inner1' });
      expect(refused.code).not.toBe(0);
      expect(refused.stderr).toContain(conflict);
      await untilOuter(lab(), 'tcp 8080');
      await run(lab(), ['unmap', '8080'], theirs);
      await untilOuter(lab());
    });
  });

  test('keep renews, and Ctrl-C gives it back', async () => {
    const inside = { ...freshHome(), ns: 'inner1' } as const;
    const keep = startKeep(lab(), ['8080', '--via', 'natpmp', '--lifetime', '9s'], inside);
    await keep.event('granted');
    await keep.event('renewed');
    await untilOuter(lab(), 'tcp 8080');
    expect((await keep.end()).code).toBe(0);
    await untilOuter(lab());
  });

  test('gateway shows all three protocols, and the address that is the outer gateway’s', async () => {
    const { stdout } = await run(lab(), ['gateway'], { ...freshHome(), ns: 'inner1' });
    for (const said of [ADDRESSES.inner0, ADDRESSES.external, 'PCP', 'NAT-PMP', 'UPnP']) {
      expect(stdout).toContain(said);
    }
  });
});
