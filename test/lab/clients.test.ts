/** What other programs mapped is read, left alone, and taken away only by force. */

import { createRequire } from 'node:module';
import { beforeEach, describe, expect, test } from 'vitest';
import { ADDRESSES, type GatewayOptions, type Lab } from './support/lab.ts';
import { describeLab, freshHome, listed, rowsOf, rule, run } from './support/suite.ts';

const PORT = 7001;
const { resolve } = createRequire(import.meta.url);

// nat-api knows neither end nor failure but by its answer.
const NAT_API = `
  const { default: NatAPI } = await import(process.argv[1]);
  const client = new NatAPI({ enablePMP: process.argv[2] === 'natpmp', autoUpdate: false });
  const port = ${PORT};
  process.exit((await client.map({ publicPort: port, privatePort: port, protocol: 'TCP' })) ? 0 : 1);
`;
const NAT_UPNP = `
  const { default: natUpnp } = await import(process.argv[1]);
  natUpnp.createClient().portMapping({ public: ${PORT}, private: ${PORT}, ttl: 3600 }, (error) => {
    console.error(error);
    process.exit(error ? 1 : 0);
  });
`;

function script(source: string, ...args: readonly string[]): string[] {
  return [process.execPath, '--input-type=module', '-e', source, ...args];
}

interface Client {
  readonly name: string;
  readonly gateway: GatewayOptions;
  readonly command: (lab: Lab) => readonly string[];
}

const CLIENTS: readonly Client[] = [
  {
    name: 'upnpc -a',
    gateway: {},
    command: (lab) =>
      `upnpc -u ${lab.gateway.descriptionUrl()} -a ${ADDRESSES.lan} ${PORT} ${PORT} tcp 3600`.split(' '),
  },
  {
    name: 'natpmpc -a',
    gateway: {},
    command: () => ['natpmpc', '-a', String(PORT), String(PORT), 'tcp', '3600'],
  },
  {
    name: '@silentbot1/nat-api over NAT-PMP',
    gateway: {},
    command: () => script(NAT_API, resolve('@silentbot1/nat-api'), 'natpmp'),
  },
  {
    name: '@silentbot1/nat-api over UPnP',
    gateway: {},
    command: () => script(NAT_API, resolve('@silentbot1/nat-api'), 'upnp'),
  },
  {
    // It knows WANIPConnection:1 alone.
    name: 'nat-upnp',
    gateway: { igdV1: true },
    command: () => script(NAT_UPNP, resolve('nat-upnp')),
  },
];

describeLab('other clients', { rival: true }, (lab) => {
  describe.each(CLIENTS)('what $name mapped', ({ gateway, command }) => {
    let home: { readonly home: string };
    beforeEach(async () => {
      home = freshHome();
      await lab().startGateway(gateway);
      await lab().must('lan', command(lab()));
    });

    test('list shows it, and not as natward’s own', async () => {
      expect(await lab().natRules()).toEqual([rule('tcp', PORT)]);
      expect(await listed(lab(), home)).toEqual([{ ...rule('tcp', PORT), own: false }]);
    });

    test('unmap leaves it alone, says whose it is and how to insist, and --force takes it away', async () => {
      const refused = await run(lab(), ['unmap', String(PORT)], { ...home, code: 1 });
      expect(refused.stdout).toBe('');
      expect(refused.stderr).toContain(`goes to ${ADDRESSES.lan}:${PORT}`);
      expect(refused.stderr).toContain(`natward unmap --force ${PORT}`);
      expect(await rowsOf(lab())).toEqual([rule('tcp', PORT)]);

      await run(lab(), ['unmap', String(PORT), '--force'], home);
      expect(await lab().natRules()).toEqual([]);
      expect(await rowsOf(lab())).toEqual([]);
    });

    test('natward maps beside it, and takes back only its own', async () => {
      await run(lab(), ['map', '8080'], home);
      await run(lab(), ['unmap', '8080'], home);
      expect(await rowsOf(lab())).toEqual([rule('tcp', PORT)]);
    });
  });

  test('nothing to take away is said to be nothing, with force as well', async () => {
    await lab().startGateway();
    for (const flags of [[], ['--force']]) {
      const { stdout, stderr } = await run(lab(), ['unmap', '8080', ...flags], { ...freshHome(), code: 1 });
      expect(stdout).toBe('');
      expect(stderr).toContain('no mapping of TCP 8080 is known on 192.168.77.1');
    }
  });

  test('what another host mapped is shown, and the gateway lets nobody else take it away', async () => {
    await lab().startGateway();
    await lab().upnpc(['-a', ADDRESSES.rival, '80', '8080', 'tcp', '600'], { ns: 'rival' });
    const theirs = rule('tcp', 8080, { internalClient: ADDRESSES.rival, internalPort: 80 });
    expect(await listed(lab(), freshHome())).toEqual([{ ...theirs, own: false }]);
    await run(lab(), ['unmap', '8080'], { ...freshHome(), code: 1 });
    const { stderr } = await run(lab(), ['unmap', '8080', '--force'], { ...freshHome(), code: 4 });
    expect(stderr).toContain('UPnP 606');
    expect(await rowsOf(lab())).toEqual([theirs]);
  });

  test('natward is read by natpmpc: the same port is the mapping that is there', async () => {
    await lab().startGateway();
    await run(lab(), ['map', '8080', '--via', 'natpmp'], freshHome());
    const said = await lab().must('lan', ['natpmpc', '-a', '8080', '8080', 'tcp', '3600']);
    expect(said).toContain('Mapped public port 8080 protocol TCP to local port 8080');
    expect(await lab().natRules()).toEqual([rule('tcp', 8080)]);
  });
});
