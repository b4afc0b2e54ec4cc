import { describe, expect, test } from 'vitest';
import type { EmbeddedGateway } from '../../src/responder/gateway.ts';
import { decodeSsdp, type SsdpMessage } from '../../src/wire/ssdp.ts';
import { Ear, http, INNER, search, searchPacket } from './support/client.ts';
import { StillClock } from './support/clock.ts';
import { gatewayFor } from './support/gateway.ts';

const IGD = 'urn:schemas-upnp-org:device:InternetGatewayDevice';
const GROUP = '239.255.255.250';

describe('SSDP', () => {
  test('answers a unicast search with where the description is', async () => {
    const gateway = await gatewayFor();
    const [answer, ...others] = await search(gateway, `${IGD}:2`);
    expect(others).toEqual([]);
    expect(answer).toMatchObject({
      message: { searchTarget: `${IGD}:2`, location: gateway.location, bootId: expect.any(Number) },
      from: { address: INNER, port: gateway.ports.ssdp },
    });
    expect(answer?.message.usn).toMatch(/^uuid:[0-9a-f-]{36}::urn:/);
    expect((await http(gateway.location)).status).toBe(200);
    expect(gateway.counters).toEqual({ 'ssdp search': 1, 'http GET /rootDesc.xml': 1 });
  });

  test.each([
    ['upnp:rootdevice', 1],
    [`${IGD}:1`, 1],
    ['urn:schemas-upnp-org:service:WANIPConnection:1', 1],
    ['urn:schemas-upnp-org:service:WANIPConnection:2', 1],
    ['urn:schemas-upnp-org:service:WANIPv6FirewallControl:1', 1],
    ['ssdp:all', 11],
    [`${IGD}:3`, 0],
    ['urn:schemas-upnp-org:service:WANPPPConnection:1', 0],
    ['urn:schemas-upnp-org:device:MediaServer:1', 0],
  ])('a search for %s finds %i', async (target, count) => {
    const gateway = await gatewayFor();
    const answers = await search(gateway, target);
    expect(answers).toHaveLength(count);
    const told = new Set(answers.map(({ message }) => message.searchTarget));
    expect([...told].filter((found) => target !== 'ssdp:all' && found !== target)).toEqual([]);
  });

  test('a search for a uuid finds that device', async () => {
    const gateway = await gatewayFor();
    const [root] = await search(gateway);
    const uuid = root?.message.usn.split('::')[0] ?? '';
    expect(await search(gateway, uuid)).toMatchObject([{ message: { usn: uuid, searchTarget: uuid } }]);
  });

  test('IGD:1 has no BOOTID and is not found as version 2', async () => {
    const gateway = await gatewayFor({ igdVersion: 1 });
    expect(await search(gateway, `${IGD}:1`)).toMatchObject([{ message: { bootId: undefined } }]);
    expect(await search(gateway, `${IGD}:2`)).toEqual([]);
  });

  test('answers a multicast search on its interface, one without MX not (UDA 2.0, section 1.3.3)', async () => {
    const gateway = await gatewayFor();
    await using ear = await Ear.open();
    ear.socket.setMulticastInterface(INNER);
    ear.send(searchPacket(`${IGD}:1`, 0), { address: GROUP, port: gateway.ports.ssdp });
    ear.send(searchPacket('upnp:rootdevice', 5), { address: GROUP, port: gateway.ports.ssdp });
    const heard = await ear.wait();
    expect(heard?.from).toMatchObject({ address: INNER, port: gateway.ports.ssdp });
    expect(decodeSsdp(heard?.packet ?? new Uint8Array())).toMatchObject({ searchTarget: 'upnp:rootdevice' });
    expect(gateway.counters).toEqual({ 'ssdp search': 1 });
  });

  test('waits up to MX where the setting says so', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({ spreadSearchAnswers: true }, clock);
    expect(await search(gateway)).toHaveLength(1);
    await using ear = await Ear.open();
    ear.socket.setMulticastInterface(INNER);
    ear.send(searchPacket('upnp:rootdevice', 3), { address: GROUP, port: gateway.ports.ssdp });
    expect(await ear.wait(1, 100)).toBeUndefined();
    await clock.advance(3_000);
    expect(await ear.wait()).toBeDefined();
  });

  test('answers at an IPv6 address with an IPv6 location', async () => {
    const gateway = await gatewayFor({ address: '::1', outerAddress: '::1' });
    const [answer] = await search(gateway, 'upnp:rootdevice', { to: '::1' });
    expect(answer?.message.location).toBe(`http://[::1]:${gateway.ports.http}/rootDesc.xml`);
    expect((await http(gateway.location)).status).toBe(200);
  });

  test('a gateway of both families answers in each with an address of it', async () => {
    const gateway = await gatewayFor({ otherAddress: '::1' });
    const [answer4] = await search(gateway);
    const [answer6] = await search(gateway, 'upnp:rootdevice', { to: '::1' });
    expect(answer4?.message.location).toBe(gateway.location);
    expect(answer6?.message.location).toBe(gateway.location.replace(INNER, '[::1]'));
    expect(answer6?.message.usn).toBe(answer4?.message.usn);
  });
});

describe('what one source may cause', () => {
  test('128 answers a second; another source has its own', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    await using ear = await Ear.open();
    const flood = (count: number) => {
      for (let sent = 0; sent < count; sent++) {
        ear.send(searchPacket('ssdp:all'), { address: INNER, port: gateway.ports.ssdp });
      }
    };
    flood(30);
    await ear.wait(128);
    expect(await ear.wait(129, 200)).toBeUndefined();
    await using other = await Ear.open('127.0.0.8');
    other.send(searchPacket('upnp:rootdevice'), { address: INNER, port: gateway.ports.ssdp });
    expect(await other.wait()).toBeDefined();
    await clock.advance(1_000);
    flood(1);
    expect(await ear.wait(139)).toBeDefined();
  });

  test('16 searches whose answers wait for their moment', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({ spreadSearchAnswers: true }, clock);
    await using ear = await Ear.open();
    ear.socket.setMulticastInterface(INNER);
    for (let sent = 0; sent < 30; sent++) {
      ear.send(searchPacket('upnp:rootdevice', 3), { address: GROUP, port: gateway.ports.ssdp });
    }
    await expect.poll(() => gateway.counters['ssdp search']).toBe(16);
    await clock.advance(3_000);
    await ear.wait(16);
    expect(await ear.wait(17, 200)).toBeUndefined();
  });
});

async function announced(gateway: EmbeddedGateway, what: 'alive' | 'byebye'): Promise<SsdpMessage[]> {
  await using ear = await Ear.open();
  await gateway.announce(`ssdp ${what}`, { address: INNER, port: ear.port });
  await ear.wait(11);
  return ear.heard.map(({ packet }) => decodeSsdp(packet));
}

describe('announcements', () => {
  test('alive and byebye name everything that there is to find', async () => {
    const gateway = await gatewayFor();
    const alive = await announced(gateway, 'alive');
    expect(alive).toHaveLength(11);
    expect(alive[0]).toMatchObject({
      kind: 'alive',
      notificationType: 'upnp:rootdevice',
      location: gateway.location,
    });
    const byebye = await announced(gateway, 'byebye');
    expect(byebye[0]).toMatchObject({ kind: 'byebye' });
    // A control point that has searched for version 1 knows it by that.
    const ended = byebye.map((message) => (message.kind === 'byebye' ? message.notificationType : ''));
    expect(ended.filter((type) => type.endsWith(':1'))).toHaveLength(7);
    expect(ended).toHaveLength(15);
  });

  test('to the group leave by the interface of the address, whatever the routes say', async () => {
    const gateway = await gatewayFor();
    await using ear = await Ear.open(GROUP);
    ear.socket.addMembership(GROUP, INNER);
    await gateway.announce('ssdp alive', { address: GROUP, port: ear.port });
    const heard = await ear.wait();
    expect(heard?.from).toMatchObject({ address: INNER, port: gateway.ports.ssdp });
    expect(Buffer.from(heard?.packet ?? []).toString()).toContain(`HOST: ${GROUP}:1900\r\n`);
  });

  test('over IPv6 name the group of IPv6', async () => {
    const gateway = await gatewayFor({ address: '::1', outerAddress: '::1' });
    await using ear = await Ear.open('::1');
    await gateway.announce('ssdp alive', { address: '::1', port: ear.port });
    const heard = await ear.wait();
    expect(Buffer.from(heard?.packet ?? []).toString()).toContain('HOST: [ff02::c]:1900\r\n');
  });

  test('a reboot raises BOOTID by one', async () => {
    const gateway = await gatewayFor();
    const bootId = async () => {
      const [first] = await announced(gateway, 'alive');
      return first?.kind === 'alive' ? first.bootId : undefined;
    };
    const before = (await bootId()) ?? 0;
    await gateway.wipe();
    expect(await bootId()).toBe(before + 1);
  });

  test('NAT-PMP and PCP announce their epoch, from the port that answers requests', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({ externalAddress: '203.0.113.7' }, clock);
    await clock.advance(9_000);
    await using ear = await Ear.open();
    await gateway.announce('natpmp', { address: INNER, port: ear.port });
    await gateway.announce('pcp', { address: INNER, port: ear.port });
    await ear.wait(2);
    expect(ear.heard.map(({ packet }) => [...packet])).toEqual([
      [0, 128, 0, 0, 0, 0, 0, 9, 203, 0, 113, 7],
      [2, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, ...Array.from({ length: 12 }, () => 0)],
    ]);
    expect(ear.heard[0]?.from.port).toBe(gateway.ports.pcp);
  });
});
