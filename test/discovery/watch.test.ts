import { randomInt } from 'node:crypto';
import * as fc from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  type Announcement,
  decodeAnnouncement,
  mayBeOf,
  watchAnnouncements,
} from '../../src/discovery/watch.ts';
import { family } from '../../src/net/address.ts';
import { encodeNatpmpResponse } from '../../src/wire/natpmp.ts';
import { encodePcpRequest, encodePcpResponse } from '../../src/wire/pcp.ts';
import { encodeSsdp } from '../../src/wire/ssdp.ts';
import { gatewayFor, type TestGateway } from '../support/gateway.ts';
import { searchAnswer } from './support.ts';

const SOURCE = '192.168.1.1';
const ABOUT = {
  usn: 'uuid:1::urn:schemas-upnp-org:device:InternetGatewayDevice:2',
  notificationType: 'urn:schemas-upnp-org:device:InternetGatewayDevice:2',
  bootId: 5,
};
const LOCATION = 'http://192.168.1.1:5000/rootDesc.xml';

describe('decodeAnnouncement', () => {
  test('reads that a device came', () => {
    const packet = encodeSsdp({
      kind: 'alive',
      ...ABOUT,
      location: LOCATION,
      server: 'x',
      maxAgeSeconds: 1800,
    });
    expect(decodeAnnouncement(packet, SOURCE)).toEqual({
      kind: 'upnp-alive',
      source: SOURCE,
      location: LOCATION,
      usn: ABOUT.usn,
      bootId: 5,
    });
  });

  test('reads that a device went', () => {
    const packet = encodeSsdp({ kind: 'byebye', ...ABOUT });
    expect(decodeAnnouncement(packet, SOURCE)).toEqual({
      kind: 'upnp-byebye',
      source: SOURCE,
      usn: ABOUT.usn,
      bootId: 5,
    });
  });

  test('reads that a device will have another BOOTID', () => {
    const packet = encodeSsdp({ kind: 'update', ...ABOUT, location: LOCATION, nextBootId: 6 });
    expect(decodeAnnouncement(packet, SOURCE)).toEqual({
      kind: 'upnp-update',
      source: SOURCE,
      usn: ABOUT.usn,
      nextBootId: 6,
    });
  });

  test('reads a device of UPnP 1.0, which has no BOOTID', () => {
    const packet = encodeSsdp({ kind: 'byebye', ...ABOUT, bootId: undefined });
    expect(decodeAnnouncement(packet, SOURCE)).toMatchObject({ kind: 'upnp-byebye', bootId: undefined });
  });

  test('reads NAT-PMP’s new external address', () => {
    const packet = encodeNatpmpResponse({
      opcode: 'address',
      result: 0,
      epochSeconds: 3,
      externalAddress: '203.0.113.4',
    });
    expect(decodeAnnouncement(packet, SOURCE)).toEqual({
      kind: 'natpmp',
      source: SOURCE,
      epochSeconds: 3,
      externalAddress: '203.0.113.4',
    });
  });

  test('reads PCP’s restart', () => {
    const packet = encodePcpResponse({ opcode: 'announce', result: 0, lifetimeSeconds: 0, epochSeconds: 9 });
    expect(decodeAnnouncement(packet, SOURCE)).toEqual({ kind: 'pcp', source: SOURCE, epochSeconds: 9 });
  });

  test.each([
    ['a search', encodeSsdp({ kind: 'search', searchTarget: 'ssdp:all', host: 'x', maxWaitSeconds: 1 })],
    ['an answer to a search', searchAnswer(LOCATION)],
    [
      'a NAT-PMP refusal',
      encodeNatpmpResponse({ opcode: 'address', result: 3, epochSeconds: 1, externalAddress: '0.0.0.0' }),
    ],
    ['a PCP request', encodePcpRequest({ opcode: 'announce', lifetimeSeconds: 0, clientAddress: SOURCE })],
    ['nothing', new Uint8Array(0)],
  ])('takes %s for no announcement', (_name, packet) => {
    expect(decodeAnnouncement(packet, SOURCE)).toBeUndefined();
  });

  test('never throws, whatever arrives', () => {
    const head = fc.constantFrom('NOTIFY * HTTP/1.1\r\n', '\u0000\u0080', '\u0002\u0080', '');
    fc.assert(
      fc.property(head, fc.uint8Array({ maxLength: 200 }), (start, rest) => {
        const packet = Buffer.concat([Buffer.from(start, 'latin1'), rest]);
        expect(() => decodeAnnouncement(packet, SOURCE)).not.toThrow();
      }),
    );
  });
});

describe('mayBeOf', () => {
  test.each([
    ['192.168.1.1', '192.168.1.1', true],
    ['192.168.1.1', '169.254.1.1', false],
    ['fe80::1%eth0', 'fe80::1%eth0', true],
    // Known by a global address, it announces from the link's.
    ['2001:db8::1', 'fe80::1%eth0', true],
    ['2001:db8::1', '2001:db8::1', true],
    ['2001:db8::1', '2001:db8::2', false],
  ])('a gateway at %s, and a datagram from %s: %s', async (address, source, may) => {
    const { gateway } = await gatewayFor();
    const at = { ...gateway, address, family: family(address) };
    expect(mayBeOf(at, { kind: 'pcp', source, epochSeconds: 1 })).toBe(may);
    expect(mayBeOf(at, { kind: 'upnp-byebye', source, usn: ABOUT.usn, bootId: 1 })).toBe(may);
  });

  test('a printer of the same link is no gateway', async () => {
    const { gateway } = await gatewayFor();
    const usn = 'uuid:2::urn:schemas-upnp-org:device:Printer:1';
    const heard = { kind: 'upnp-byebye', source: 'fe80::2%eth0', usn, bootId: 1 } as const;
    expect(mayBeOf({ ...gateway, address: 'fe80::1', family: 6 }, heard)).toBe(false);
  });
});

describe('watchAnnouncements', () => {
  /** A gateway at an address of its own: what others announce on this machine meanwhile is not from it. */
  async function watched(): Promise<
    TestGateway & { readonly heard: () => Promise<readonly Announcement[]> }
  > {
    const at = await gatewayFor({ address: `127.9.${randomInt(250)}.${randomInt(1, 250)}` });
    const all: Announcement[] = [];
    const watch = await watchAnnouncements(at.system, at.gateway, (announcement) => all.push(announcement));
    onTestFinished(() => watch[Symbol.asyncDispose]());
    const heard = async () => {
      await at.clock.advance(0);
      return all.filter(({ source }) => source === at.gateway.address);
    };
    return { ...at, heard };
  }

  test('hears that a gateway came, changed and went', async () => {
    const { embedded, heard } = await watched();
    await embedded.announce('ssdp alive');
    await embedded.announce('ssdp update');
    await embedded.announce('ssdp byebye');
    const announced = await heard();
    expect(new Set(announced.map(({ kind }) => kind))).toEqual(
      new Set(['upnp-alive', 'upnp-update', 'upnp-byebye']),
    );
    expect(announced[0]).toMatchObject({ location: embedded.location });
  });

  test('hears a reboot by its BOOTID', async () => {
    const { embedded, heard } = await watched();
    await embedded.announce('ssdp alive');
    await embedded.wipe();
    await embedded.announce('ssdp alive');
    const bootIds = (await heard()).flatMap((one) => (one.kind === 'upnp-alive' ? [one.bootId ?? 0] : []));
    expect(bootIds.at(-1)).toBe((bootIds[0] ?? 0) + 1);
  });

  test('hears the announcements of NAT-PMP and PCP', async () => {
    const { embedded, heard } = await watched();
    embedded.changeExternalAddress('203.0.113.77');
    await embedded.announce('natpmp');
    await embedded.announce('pcp');
    expect(await heard()).toMatchObject([
      { kind: 'natpmp', epochSeconds: 0, externalAddress: '203.0.113.77' },
      { kind: 'pcp', epochSeconds: 0 },
    ]);
  });

  test('hears NAT-PMP and PCP from the gateway alone, and UPnP from everybody', async () => {
    const at = await gatewayFor({ address: `127.9.${randomInt(250)}.${randomInt(1, 250)}` });
    const { gateway, system, clock } = await gatewayFor();
    const heard: Announcement[] = [];
    const watch = await watchAnnouncements(system, gateway, (announcement) => heard.push(announcement));
    onTestFinished(() => watch[Symbol.asyncDispose]());
    await at.embedded.announce('natpmp');
    await at.embedded.announce('pcp');
    await at.embedded.announce('ssdp alive');
    await clock.advance(0);
    const kinds = heard.filter(({ source }) => source === at.gateway.address).map(({ kind }) => kind);
    expect(new Set(kinds)).toEqual(new Set(['upnp-alive']));
  });

  test('two of them share their ports', async () => {
    const { gateway, system } = await watched();
    const second = await watchAnnouncements(system, gateway, () => undefined);
    await second[Symbol.asyncDispose]();
  });
});
