/** A host with Docker's firewall, which drops what comes in for a container that has not published the port. */

import { existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type InnerGateway, leads, startResponding, untilOuter } from '../support/inner.ts';
import { ADDRESSES } from '../support/lab.ts';
import { describeLab } from '../support/suite.ts';

const DOCKER = new URL('../../../fixtures/nftables/foreign/docker.iptables', import.meta.url);

const lacksIptables = !existsSync('/usr/sbin/iptables-nft-restore');

describeLab('a container behind natward', { inner: true }, (lab) => {
  let gateway: InnerGateway | undefined;
  beforeAll(async () => {
    if (lacksIptables) return;
    await lab().startGateway();
    const firewall = readFileSync(DOCKER, 'utf8').replaceAll('docker0', 'inner0');
    await lab().must('lan', ['iptables-nft-restore'], { input: firewall });
    gateway = await startResponding(lab(), { engine: 'auto' });
  });
  afterAll(() => gateway?.stop());

  test.skipIf(lacksIptables).each(['tcp', 'udp'] as const)(
    'is reached over %s, whatever that drops: the relay carries it',
    async (protocol) => {
      const said = await gateway?.upnpc('inner1', '-a', ADDRESSES.inner1, '90', '8090', protocol, '600');
      expect(said).toContain('is redirected');
      await leads(lab(), { protocol, externalPort: 8090, internalPort: 90 });
      await gateway?.upnpc('inner1', '-d', '8090', protocol);
      await untilOuter(lab());
    },
  );
});
