/** The lab itself, judged by clients that know nothing of natward. */

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ADDRESSES, createLab, type Lab, labUnavailable } from './support/lab.ts';

const unavailable = labUnavailable();

// Version 0 and 2, "what is the external address" and ANNOUNCE.
const NATPMP_REQUEST = Buffer.from([0, 0]);
const PCP_REQUEST = Buffer.from([2, ...Array.from({ length: 7 }, () => 0), ...mappedAddress(ADDRESSES.lan)]);

function mappedAddress(ipv4: string): number[] {
  return [...Array.from({ length: 10 }, () => 0), 0xff, 0xff, ...ipv4.split('.').map(Number)];
}

// "HTTP/1.1 200 OK"
const HTTP_OK = 'H'.charCodeAt(0);

function search(target: string): Buffer {
  return Buffer.from(
    `M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nMX: 1\r\nST: ${target}\r\n\r\n`,
  );
}

// A process that ended has no command line, even where nobody has collected it yet.
function alive(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`).length > 0;
  } catch {
    return false;
  }
}

const map = (client: string, external: string): string[] => ['-a', client, '80', external, 'tcp', '600'];

describe.skipIf(unavailable)(`the lab${unavailable ? ` (${unavailable})` : ''}`, () => {
  let lab: Lab;
  beforeAll(async () => {
    lab = await createLab({ rival: true });
  });
  afterAll(() => lab[Symbol.asyncDispose]());

  const gatewaySays = (bytes: Uint8Array, port = 5351): ReturnType<Lab['ask']> =>
    lab.ask(port, 'udp', bytes, { ns: 'lan', to: ADDRESSES.gateway, timeoutMs: 400 });

  test('what upnpc maps is redirected, and bytes of a peer in wan arrive', async () => {
    await lab.startGateway();
    expect(await lab.connectFromWan(8080)).toBeUndefined();
    expect((await lab.upnpc(map(ADDRESSES.lan, '8080'))).code).toBe(0);
    const server = await lab.serve({ port: 80, reply: 'from the lan' });
    expect(await lab.connectFromWan(8080, 'tcp', { send: 'from outside' })).toBe('from the lan');
    await expect
      .poll(() => server.received)
      .toEqual([{ from: ADDRESSES.wan, port: expect.any(Number), text: 'from outside' }]);
    await server.stop();
    expect(await lab.natRules()).toEqual([
      { protocol: 'tcp', externalPort: 8080, internalClient: ADDRESSES.lan, internalPort: 80 },
    ]);
    const [entry] = await lab.upnpcList();
    expect(entry).toMatchObject({ externalPort: 8080, internalPort: 80, description: 'libminiupnpc' });
    expect(entry?.leaseSeconds).toBeGreaterThan(500);
  });

  test('upnpc finds the gateway by searching', async () => {
    await lab.startGateway({ natpmp: false, pcp: false });
    expect((await lab.exec('lan', ['upnpc', '-s'])).stdout).toContain(lab.gateway.descriptionUrl());
  });

  test('what natpmpc maps is redirected, and datagrams of a peer in wan arrive', async () => {
    await lab.startGateway();
    expect((await lab.exec('lan', ['natpmpc', '-a', '9000', '90', 'udp', '3600'])).code).toBe(0);
    const server = await lab.serve({ port: 90, protocol: 'udp', reply: 'pong' });
    expect(await lab.connectFromWan(9000, 'udp')).toBe('pong');
    await server.stop();
    expect(await lab.natRules()).toEqual([
      { protocol: 'udp', externalPort: 9000, internalClient: ADDRESSES.lan, internalPort: 90 },
    ]);
    expect(await lab.upnpcList()).toMatchObject([{ protocol: 'udp', externalPort: 9000 }]);
  });

  test.each([
    { alone: 'PCP', off: { natpmp: false, upnp: false }, spoken: ['silence', 2, 'refused'] },
    { alone: 'NAT-PMP', off: { pcp: false, upnp: false }, spoken: [0, 'silence', 'refused'] },
    { alone: 'UPnP', off: { pcp: false, natpmp: false }, spoken: ['refused', 'refused', HTTP_OK] },
  ])('speaks $alone alone', async ({ off, spoken }) => {
    await lab.startGateway(off);
    const answers = [
      await gatewaySays(NATPMP_REQUEST),
      await gatewaySays(PCP_REQUEST),
      await gatewaySays(search('ssdp:all'), 1900),
    ];
    expect(answers.map((answer) => (typeof answer === 'string' ? answer : answer[0]))).toEqual(spoken);
  });

  test('drop is silence and reject is a refusal, until unblock', async () => {
    await lab.startGateway();
    await lab.block({ protocol: 'pcp' });
    await lab.block({ protocol: 'natpmp', how: 'reject' });
    expect(await gatewaySays(PCP_REQUEST)).toBe('silence');
    expect(await gatewaySays(NATPMP_REQUEST)).toBe('refused');
    await lab.block({ protocol: 'http', how: 'reject' });
    expect((await lab.upnpc(['-s'])).code).not.toBe(0);
    await lab.unblock();
    expect(await gatewaySays(PCP_REQUEST)).toBeInstanceOf(Buffer);
    expect(await gatewaySays(NATPMP_REQUEST)).toBeInstanceOf(Buffer);
    expect((await lab.upnpc(['-s'])).code).toBe(0);
  });

  test('a fault hits just the first packets it was told to', async () => {
    await lab.startGateway();
    await lab.block({ protocol: 'natpmp', firstPackets: 2 });
    const answers = [];
    for (let count = 0; count < 4; count++) answers.push(await gatewaySays(NATPMP_REQUEST));
    expect(answers.map((answer) => typeof answer)).toEqual(['string', 'string', 'object', 'object']);
  });

  test('a lost reply leaves the mapping made', async () => {
    await lab.startGateway();
    await lab.block({ protocol: 'natpmp', lose: 'replies' });
    // Map UDP 91 to 9001 for an hour.
    expect(await gatewaySays(Buffer.from([0, 1, 0, 0, 0, 91, 0x23, 0x29, 0, 0, 0x0e, 0x10]))).toBe('silence');
    expect(await lab.natRules()).toMatchObject([{ externalPort: 9001, internalPort: 91 }]);
  });

  test('searches can be lost, the multicast and the unicast ones apart', async () => {
    await lab.startGateway();
    const target = search('urn:schemas-upnp-org:device:InternetGatewayDevice:1');
    const multicast = ['socat', '-t0.4', '-', 'UDP-DATAGRAM:239.255.255.250:1900'];
    const found = (): Promise<string> => lab.must('lan', multicast, { input: String(target) });
    expect(String(await gatewaySays(target, 1900))).toContain(lab.gateway.descriptionUrl());
    expect(await found()).toContain(lab.gateway.descriptionUrl());
    await lab.block({ protocol: 'ssdp-multicast' });
    expect(await gatewaySays(target, 1900)).toBeInstanceOf(Buffer);
    expect(await found()).toBe('');
    await lab.block({ protocol: 'ssdp-unicast', how: 'reject' });
    expect(await gatewaySays(target, 1900)).toBe('refused');
  });

  test('a restart moves the HTTP port, starts a new epoch and keeps the rules', async () => {
    const gateway = await lab.startGateway();
    const before = { pid: gateway.pid, port: gateway.httpPort() };
    await lab.upnpc(map(ADDRESSES.lan, '8080'));
    await gateway.restart();
    expect(gateway.pid).not.toBe(before.pid);
    expect(gateway.httpPort()).not.toBe(before.port);
    expect(await lab.natRules()).toHaveLength(1);
    const announced = await gatewaySays(NATPMP_REQUEST);
    expect(Buffer.isBuffer(announced) && announced.readUInt32BE(4)).toBeLessThanOrEqual(2);
  });

  test('a restart with a wiped table forgets, unless there is a lease file', async () => {
    const forgetful = await lab.startGateway();
    await lab.upnpc(map(ADDRESSES.lan, '8080'));
    await forgetful.restart({ wipeTable: true });
    expect(await lab.natRules()).toEqual([]);
    expect(await lab.upnpcList()).toEqual([]);
    const mindful = await lab.startGateway({ leaseFile: true });
    await lab.upnpc(map(ADDRESSES.lan, '8080'));
    await mindful.restart({ wipeTable: true });
    expect(await lab.upnpcList()).toMatchObject([{ externalPort: 8080 }]);
    await lab.startGateway({ leaseFile: true });
    expect(await lab.upnpcList(), 'a new gateway begins empty').toEqual([]);
  });

  test('a rival owns a port, a denied port is refused, secure mode keeps to the requester', async () => {
    await lab.startGateway();
    await lab.upnpc(map(ADDRESSES.rival, '8080'), { ns: 'rival' });
    expect((await lab.upnpc(map(ADDRESSES.lan, '8080'))).stdout).toContain('718');
    expect((await lab.upnpc(map(ADDRESSES.lan, '80'))).stdout).toContain('606');
    expect((await lab.upnpc(map(ADDRESSES.rival, '8081'))).stdout).toContain('718');
    await lab.startGateway({ secureMode: false, allow: ['allow 0-65535 0.0.0.0/0 0-65535'], igdV1: true });
    await lab.upnpc(map(ADDRESSES.rival, '81'));
    expect(await lab.natRules()).toMatchObject([{ externalPort: 81, internalClient: ADDRESSES.rival }]);
  });

  test('a paused gateway answers when it is resumed', async () => {
    const gateway = await lab.startGateway();
    gateway.pause();
    expect(await gatewaySays(NATPMP_REQUEST)).toBe('silence');
    gateway.resume();
    expect(await gatewaySays(NATPMP_REQUEST)).toBeInstanceOf(Buffer);
  });

  test('a quiet gateway is the same gateway', async () => {
    const gateway = await lab.startGateway({ quiet: true });
    await lab.upnpc(map(ADDRESSES.lan, '8080'));
    expect(await lab.upnpcList()).toMatchObject([{ externalPort: 8080 }]);
    const { pid } = gateway;
    await gateway.restart({ wipeTable: true });
    expect([pid, gateway.pid].map(alive)).toEqual([false, true]);
    expect(await lab.upnpcList()).toEqual([]);
    await gateway.stop();
    expect(gateway.pid).toBe(0);
    expect(await gatewaySays(NATPMP_REQUEST)).toBe('refused');
  });

  test('over IPv6 only a pinhole lets bytes in', async () => {
    const six = await createLab({ ipv6: true });
    try {
      await six.startGateway();
      await six.serve({ port: 8443, address: '::', reply: 'six' });
      const outside = { to: ADDRESSES.lan6, timeoutMs: 500 };
      expect(await six.connectFromWan(8443, 'tcp', outside)).toBeUndefined();
      const added = await six.exec('lan', [
        'upnpc',
        '-6',
        '-A',
        '',
        '0',
        ADDRESSES.lan6,
        '8443',
        'tcp',
        '600',
      ]);
      expect(added.stdout).toContain('AddPinhole: ([]:0 -> [2001:db8:1::10]:8443) / Pinhole ID =');
      expect(await six.connectFromWan(8443, 'tcp', outside)).toBe('six');
    } finally {
      await six[Symbol.asyncDispose]();
    }
  });

  test('two labs do not see each other, and one that is gone has left nothing', async () => {
    await lab.startGateway();
    const other = await createLab();
    await other.startGateway();
    await other.upnpc(map(ADDRESSES.lan, '8080'));
    expect(await other.natRules()).toHaveLength(1);
    expect(await lab.natRules()).toEqual([]);

    const { pid } = other.gateway;
    other.gateway.pause();
    // A daemon that detached itself, in a session of its own.
    await other.exec('lan', [
      'sh',
      '-c',
      'setsid sleep 600 </dev/null >/dev/null 2>&1 & echo $! >"$0"/pid',
      other.directory,
    ]);
    const detached = Number(await other.must('lan', ['cat', `${other.directory}/pid`]));
    expect([pid, detached].map(alive)).toEqual([true, true]);
    await other[Symbol.asyncDispose]();

    await expect.poll(() => [pid, detached].map(alive)).toEqual([false, false]);
    expect(existsSync(other.directory)).toBe(false);
    const namespaces = spawnSync('ip', ['netns', 'list'], { encoding: 'utf8' }).stdout;
    expect(namespaces).not.toContain(other.prefix);
    expect(namespaces).toContain(lab.prefix);
    expect(await gatewaySays(NATPMP_REQUEST), 'the other lab still works').toBeInstanceOf(Buffer);
  });
});
