/** IPv6 behind natward: a client has an address of its own, and the real gateway opens its firewall for that. */

import { afterAll, beforeAll, expect, test } from 'vitest';
import { type InnerGateway, startResponding } from '../support/inner.ts';
import { until } from '../support/keeping.ts';
import { ADDRESSES } from '../support/lab.ts';
import { describeLab, freshHome, run } from '../support/suite.ts';

const { inner16, inner26, inner06 } = ADDRESSES;

describeLab('pinholes behind natward', { inner: true, ipv6: true }, (lab) => {
  let gateway: InnerGateway;
  beforeAll(async () => {
    // natward asks for its clients: PCP has an option for that.
    await lab().startGateway({ extraLines: ['pcp_allow_thirdparty=yes'] });
    gateway = await startResponding(lab());
  });
  afterAll(() => gateway.stop());

  const reaches = async (port: number): Promise<boolean> =>
    (await lab().connectFromWan(port, 'tcp', { to: inner16, timeoutMs: 400 })) === 'inner1';

  test('PCP opens one to the innermost host, and closes it', async () => {
    const server = await lab().serve({ ns: 'inner1', port: 8080, address: inner16, reply: 'inner1' });
    expect(await reaches(8080)).toBe(false);
    const inside = { ...freshHome(), ns: 'inner1' } as const;
    const keep = lab().spawnNatward(['keep', '8080', '-6', '--via', 'pcp', '--json'], inside);
    await keep.waitFor(/"granted"/, 10_000);
    await until('bytes', () => reaches(8080));
    await keep.stop('SIGINT');
    await until('silence', async () => !(await reaches(8080)));
    await server.stop();
  });

  test('upnpc opens one, is told of it, and may open none for another host', async () => {
    const server = await lab().serve({ ns: 'inner1', port: 8081, address: inner16, reply: 'inner1' });
    const url = `http://[${inner06}]:${new URL(gateway.descriptionUrl).port}/rootDesc.xml`;
    const pinhole = (client: string) =>
      lab().exec('inner1', ['upnpc', '-6', '-u', url, '-A', 'empty', '0', client, '8081', 'tcp', '600']);
    expect((await pinhole(inner26)).stdout).toContain('606');
    expect((await pinhole(inner16)).stdout).toMatch(/AddPinhole: .* \/ Pinhole ID = \d+/);
    await until('bytes', () => reaches(8081));
    await server.stop();
  });

  test('the firewall is said to be there, and open to requests', async () => {
    const { stdout } = await run(lab(), ['gateway'], { ...freshHome(), ns: 'inner1' });
    expect(stdout).toContain(inner06);
  });
});
