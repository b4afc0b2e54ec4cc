/** IPv6: nothing is translated, a pinhole lets bytes in. Judged by the chain that miniupnpd fills, and by bytes. */

import { beforeEach, describe, expect, test } from 'vitest';
import { ADDRESSES } from './support/lab.ts';
import { describeLab, freshHome, listed, type MapDocument, rule, run, runJson } from './support/suite.ts';

const HERE = `[${ADDRESSES.lan6}]:8443`;
const OUTSIDE = { to: ADDRESSES.lan6, timeoutMs: 500 };

describeLab('pinholes', { ipv6: true }, (lab) => {
  /** The rules in chain miniupnpd, which nft prints with raw payloads. */
  const pinholes = async (): Promise<string[]> => {
    const chain = await lab().must('gw', ['nft', 'list', 'chain', 'inet', 'filter', 'miniupnpd']);
    const rules = chain.split('\n').filter((line) => line.includes('0x20010db8000100000000000000000010'));
    return rules.map((line) => {
      const protocol = line.includes('@nh,48,8 0x11') ? 'udp' : 'tcp';
      return `${protocol} ${/dport (\d+)/.exec(line)?.[1]}`;
    });
  };

  const pinhole = { ...rule('tcp', 8443, { internalClient: ADDRESSES.lan6 }), own: true };

  describe.each([
    // A refresh makes miniupnpd 2.3.1 forget the nonce of a pinhole: who refreshed it may not close it.
    { via: 'pcp', name: 'PCP', afterRefresh: { code: 4, left: ['tcp 8443'] } },
    { via: 'upnp', name: 'UPnP', afterRefresh: { code: 0, left: [] } },
  ])('over $name', ({ via, name, afterRefresh }) => {
    let home: { readonly home: string };
    beforeEach(async () => {
      home = freshHome();
      await lab().startGateway();
    });

    test('map opens one, bytes come in, and unmap closes it', async () => {
      const server = await lab().serve({ port: 8443, address: '::', reply: 'six' });
      expect(await lab().connectFromWan(8443, 'tcp', OUTSIDE)).toBeUndefined();
      const { stdout } = await run(lab(), ['map', HERE, '--via', via], home);
      expect(stdout).toBe(`tcp ${HERE} -> ${HERE} for 2h via ${name} on ${ADDRESSES.gateway6}\n`);
      expect(await pinholes()).toEqual(['tcp 8443']);
      expect(await lab().connectFromWan(8443, 'tcp', OUTSIDE)).toBe('six');
      expect(await listed(lab(), home)).toEqual([pinhole]);
      await run(lab(), ['unmap', HERE], home);
      expect(await pinholes()).toEqual([]);
      expect(await listed(lab(), home)).toEqual([]);
      expect(await lab().connectFromWan(8443, 'tcp', OUTSIDE)).toBeUndefined();
      await server.stop();
    });

    test('the same command twice keeps the one', async () => {
      await run(lab(), ['map', HERE, '--via', via], home);
      await run(lab(), ['map', HERE, '--via', via, '--lifetime', '30m'], home);
      expect(await pinholes()).toEqual(['tcp 8443']);
      const { stderr } = await run(lab(), ['unmap', HERE], { ...home, code: afterRefresh.code });
      expect(await pinholes()).toEqual(afterRefresh.left);
      expect(stderr.includes('PCP 2 NOT_AUTHORIZED')).toBe(afterRefresh.code !== 0);
    });

    test('TCP and UDP, beside an IPv4 mapping: each at its own gateway, and all are taken back', async () => {
      const specs = [`${HERE}/tcp+udp`, '8080'];
      const { mappings } = await runJson<MapDocument>(lab(), ['map', ...specs, '--via', via], home);
      expect(new Set(mappings.map(({ gateway }) => gateway))).toEqual(
        new Set([ADDRESSES.gateway, ADDRESSES.gateway6]),
      );
      expect((await pinholes()).sort()).toEqual(['tcp 8443', 'udp 8443']);
      expect(await lab().natRules()).toEqual([rule('tcp', 8080)]);
      expect(await listed(lab(), home)).toHaveLength(3);
      await run(lab(), ['unmap', ...specs], home);
      expect(await pinholes()).toEqual([]);
      expect(await lab().natRules()).toEqual([]);
    });
  });

  test('a pinhole keeps its port: another external one is refused over UPnP', async () => {
    await lab().startGateway();
    const { stderr } = await run(lab(), ['map', `9443:${HERE}`, '--via', 'upnp'], {
      ...freshHome(),
      code: 4,
    });
    expect(stderr).toContain('8443 cannot be seen as 9443');
    expect(await pinholes()).toEqual([]);
  });

  test('gateway shows both families', async () => {
    await lab().startGateway();
    const { gateways } = await runJson<{ gateways: { address: string; protocols: string[] }[] }>(
      lab(),
      ['gateway'],
      freshHome(),
    );
    expect(gateways).toMatchObject([
      { address: ADDRESSES.gateway, protocols: ['pcp', 'natpmp', 'upnp'] },
      { address: ADDRESSES.gateway6, protocols: ['pcp', 'upnp'] },
    ]);
  });

  test('a gateway of IPv4 only: the IPv4 port is mapped and printed, the pinhole is a failure, exit 5', async () => {
    const home = freshHome();
    await lab().startGateway();
    await lab().must('lan', ['ip', '-6', 'route', 'del', 'default']);
    try {
      await lab().must('gw', [
        'nft',
        'add rule inet natward_lab requests iifname int0 meta nfproto ipv6 udp dport { 1900, 5351 } drop',
      ]);
      const document = await runJson<MapDocument>(lab(), ['map', HERE, '8080'], { ...home, code: 5 });
      expect(document.mappings).toMatchObject([{ externalPort: 8080 }]);
      expect(document.failures).toMatchObject([{ spec: HERE }]);
      expect(await listed(lab(), home)).toEqual([{ ...rule('tcp', 8080), own: true }]);
    } finally {
      await lab().must('lan', ['ip', '-6', 'route', 'add', 'default', 'via', ADDRESSES.gateway6]);
    }
  });
});
