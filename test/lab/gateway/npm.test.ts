/** The npm packages behind natward: the ones that people have today. */

import { writeFileSync, mkdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { type InnerGateway, leads, outerRule, startResponding, untilOuter } from '../support/inner.ts';
import { ADDRESSES } from '../support/lab.ts';
import { describeLab, freshHome } from '../support/suite.ts';

const { resolve } = createRequire(import.meta.url);

// Each maps, says its address where it can, waits for a line, and takes back what it mapped.
const NAT_API = `
  const { default: NatAPI } = await import(process.argv[1]);
  const client = new NatAPI({ enablePMP: process.argv[2] === 'natpmp', autoUpdate: false });
  const port = { publicPort: 7001, privatePort: 7002, protocol: 'TCP', description: 'nat-api' };
  if (!(await client.map(port))) throw new Error('map() answered false');
  console.log('mapped', await client.externalIp());
  process.once('SIGUSR1', async () => process.exit((await client.unmap(port)) ? 0 : 1));
  setInterval(() => {}, 1000);
`;
const NAT_UPNP = `
  const { default: natUpnp } = await import(process.argv[1]);
  const { promisify } = await import('node:util');
  const client = natUpnp.createClient();
  const port = { public: 7001, private: 7002, ttl: 3600 };
  await promisify(client.portMapping.bind(client))(port);
  console.log('mapped', await promisify(client.externalIp.bind(client))());
  process.once('SIGUSR1', async () => {
    await promisify(client.portUnmapping.bind(client))({ public: 7001 });
    process.exit(0);
  });
  setInterval(() => {}, 1000);
`;

interface Client {
  readonly name: string;
  readonly igdVersion: 1 | 2;
  readonly command: readonly string[];
}

const CLIENTS: readonly Client[] = [
  {
    name: '@silentbot1/nat-api over NAT-PMP',
    igdVersion: 2,
    command: script(NAT_API, resolve('@silentbot1/nat-api'), 'natpmp'),
  },
  {
    name: '@silentbot1/nat-api over UPnP',
    igdVersion: 2,
    command: script(NAT_API, resolve('@silentbot1/nat-api'), 'upnp'),
  },
  // It knows WANIPConnection:1 alone.
  { name: 'nat-upnp', igdVersion: 1, command: script(NAT_UPNP, resolve('nat-upnp')) },
];

function script(source: string, ...args: readonly string[]): string[] {
  return [process.execPath, '--input-type=module', '-e', source, ...args];
}

describeLab('npm packages behind natward', { inner: true }, (lab) => {
  let gateway: InnerGateway;
  beforeAll(() => lab().startGateway());
  afterEach(() => gateway.stop());

  test.each(CLIENTS)('$name maps, is told the address, and unmaps', async ({ igdVersion, command }) => {
    const home = freshHome();
    mkdirSync(lab().homeOf(home), { recursive: true });
    const section = `[[respond]]\ninterface = "inner0"\nigdVersion = ${igdVersion}\n`;
    writeFileSync(join(lab().homeOf(home), 'config.toml'), section);
    gateway = await startResponding(lab(), { home, args: [] });

    const client = lab().spawn('inner1', command);
    await client.waitFor(/^mapped .*$/m, 10_000);
    expect(client.stdout).toContain(`mapped ${ADDRESSES.external}`);
    expect(await lab().natRules()).toEqual([outerRule('tcp', 7001)]);
    await leads(lab(), { protocol: 'tcp', externalPort: 7001, internalPort: 7002 });

    client.signal('SIGUSR1');
    expect(await client.exited).toMatchObject({ code: 0 });
    await untilOuter(lab());
  });
});
