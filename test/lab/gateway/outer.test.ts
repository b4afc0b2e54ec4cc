/** What happens to the real gateway, as natward's clients are told of it. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { type InnerGateway, leads, leadsNowhere, startResponding, untilOuter } from '../support/inner.ts';
import { startKeep, until } from '../support/keeping.ts';
import { ADDRESSES, type Lab } from '../support/lab.ts';
import { describeLab, freshHome } from '../support/suite.ts';

const { inner1, inner2, rival } = ADDRESSES;

describeLab('the gateway beyond natward', { inner: true, rival: true }, (lab) => {
  let gateway: InnerGateway;
  beforeAll(async () => {
    await lab().startGateway();
    gateway = await startResponding(lab());
  });
  afterAll(() => gateway.stop());

  const natpmpc = async (...args: readonly string[]): Promise<string> => {
    const { stdout, stderr } = await lab().exec('inner1', ['natpmpc', ...args]);
    return stdout + stderr;
  };

  test('a port that another host has there is refused in the protocol’s own words', async () => {
    await lab().upnpc(['-a', rival, '80', '8080', 'tcp', '600'], { ns: 'rival' });
    expect(await gateway.upnpc('inner1', '-a', inner1, '80', '8080', 'tcp', '600')).toContain(
      'failed with code 718 (ConflictInMappingEntry)',
    );
    const exact = ['map', '8080:80', '--exact', '--via', 'pcp'];
    const refused = await lab().natward(exact, { ...freshHome(), ns: 'inner1' });
    expect(refused.stderr).toContain('PCP 11');

    const said = await natpmpc('-a', '8080', '80', 'tcp', '600');
    const port = Number(/Mapped public port (\d+)/.exec(said)?.[1]);
    expect(port).not.toBe(8080);
    await leads(lab(), { protocol: 'tcp', externalPort: port, internalPort: 80 });
    await natpmpc('-a', '0', '80', 'tcp', '0');
    await lab().upnpc(['-d', '8080', 'tcp'], { ns: 'rival' });
    await untilOuter(lab());
  });

  test('it restarts with an empty table: the mapping is back, and its client did nothing', async () => {
    await gateway.upnpc('inner1', '-a', inner1, '80', '8080', 'tcp', '600');
    await lab().gateway.restart({ wipeTable: true });
    await untilOuter(lab(), 'tcp 8080');
    await leads(lab(), { protocol: 'tcp', externalPort: 8080, internalPort: 80 });
    await gateway.upnpc('inner1', '-d', '8080', 'tcp');
    await untilOuter(lab());
  });

  test('its address changes: NAT-PMP and PCP announce it, and clients’ leases say so', async () => {
    const keeps = (['natpmp', 'pcp', 'upnp'] as const).map((via, index) =>
      startKeep(lab(), [String(8080 + index), '--via', via], { ...freshHome(), ns: 'inner1' }),
    );
    for (const keep of keeps) await keep.event('granted');
    const heard = announcements(lab());
    await heard.ready;
    await lab().gateway.restart({ wipeTable: true, externalAddress: '11.22.33.55' });
    // NAT-PMP: version 0, opcode 128, result 0; the time; the address.
    await heard.packet(/00800000[0-9a-f]{8}0b162137/);
    // PCP: version 2, ANNOUNCE as an answer, no lifetime.
    await heard.packet(/0280000000000000/);
    for (const keep of keeps) {
      const { lease } = await keep.event('changed');
      expect(lease.externalAddress, lease.via ?? '').toBe('11.22.33.55');
    }
    await leads(lab(), { protocol: 'tcp', externalPort: 8080 });
    for (const keep of keeps) await keep.end();
    await heard.stop();
    await untilOuter(lab());
  });

  test('it gives the port to another host: PCP’s client is told of the new one, UPnP’s of the end', async () => {
    const keep = startKeep(lab(), ['8080', '--via', 'pcp'], { ...freshHome(), ns: 'inner1' });
    await keep.event('granted');
    await gateway.upnpc('inner2', '-a', inner2, '81', '8081', 'tcp', '600');
    // It learns of the restart when it is too late.
    gateway.agent.process.signal('SIGSTOP');
    await lab().gateway.restart({ wipeTable: true });
    for (const port of ['8080', '8081']) {
      await lab().upnpc(['-a', rival, '80', port, 'tcp', '600'], { ns: 'rival' });
    }
    gateway.agent.process.signal('SIGCONT');

    const { lease } = await keep.event('changed');
    const { externalPort } = lease;
    expect(externalPort).not.toBe(8080);
    await leads(lab(), { protocol: 'tcp', externalPort: externalPort ?? 0, internalPort: 8080 });
    await until('the end of UPnP’s', async () => !(await gateway.upnpc('inner2', '-l')).includes('8081->'));
    await keep.end();
    for (const port of ['8080', '8081']) await lab().upnpc(['-d', port, 'tcp'], { ns: 'rival' });
    await untilOuter(lab());
  });

  test('it is down: each protocol says so, and what was mapped is back when it is', async () => {
    await gateway.upnpc('inner1', '-a', inner1, '80', '8080', 'tcp', '600');
    await leads(lab(), { protocol: 'tcp', externalPort: 8080, internalPort: 80 });
    const { told } = gateway.agent;
    await lab().gateway.stop('SIGKILL');
    await lab().wipeTable();
    await gateway.agent.event('gateway-down', told);

    const [status, added, natpmp, pcp] = await Promise.all([
      lab().exec('inner1', ['upnpc', '-i', '-u', gateway.descriptionUrl, '-s']),
      lab().exec('inner1', [
        'upnpc',
        '-i',
        '-u',
        gateway.descriptionUrl,
        '-a',
        inner1,
        '81',
        '8081',
        'tcp',
        '600',
      ]),
      natpmpc('-a', '8081', '81', 'tcp', '600'),
      lab().natward(['map', '8082:82', '--via', 'pcp', '--timeout', '9s'], { ...freshHome(), ns: 'inner1' }),
    ]);
    expect(status.stdout).toContain('Status : Disconnected');
    expect(added.stdout).toContain('failed with code 501');
    expect(natpmp).toContain('network failure');
    expect(pcp.stderr).toContain('PCP 7');
    await leadsNowhere(lab(), 'tcp', 8080);

    await lab().gateway.start();
    await untilOuter(lab(), 'tcp 8080');
    await leads(lab(), { protocol: 'tcp', externalPort: 8080, internalPort: 80 });
    await gateway.upnpc('inner1', '-d', '8080', 'tcp');
    await untilOuter(lab());
  });
});

/** What natward announces to the hosts of `inner0`, as packets in hexadecimal. */
function announcements(lab: Lab): {
  readonly ready: Promise<unknown>;
  packet(pattern: RegExp): Promise<void>;
  stop(): Promise<unknown>;
} {
  const filter = `udp dst port 5350 and src host ${ADDRESSES.inner0}`;
  const dump = lab.spawn('inner1', ['tcpdump', '-lnxi', 'eth0', ...filter.split(' ')]);
  const hex = () => dump.stdout.replaceAll(/\s0x[0-9a-f]+:|\s/g, '');
  return {
    ready: dump.waitFor(/listening on/),
    packet: (pattern) => until(`an announcement like ${pattern}`, async () => pattern.test(hex())),
    stop: () => dump.stop(),
  };
}
