import { afterEach, describe, expect, test, vi } from 'vitest';
import { describe as describeGateway } from '../../src/discovery/describe.ts';
import type { UpnpDevice } from '../../src/discovery/gateway.ts';
import type { IpAddress } from '../../src/net/address.ts';
import type { Quirks } from '../../src/responder/quirks/quirks.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import { UpnpMapper } from '../../src/mapping/upnp.ts';
import { requestFor } from '../mapping/support.ts';
import { gatewayFor, type TestGateway } from '../support/gateway.ts';
import { descriptionWith, openWebServer } from './support.ts';

function described(
  { embedded, gateway, clock, system }: TestGateway,
  location: string = embedded.location,
  source: IpAddress = gateway.address,
): Promise<UpnpDevice> {
  return clock.settle(describeGateway(system, gateway, location, source));
}

/** A gateway with a quirk of its description: what is read from it has to map a port in the end. */
async function mapsWith(quirks: Quirks, settings: Partial<GatewaySettings> = {}): Promise<UpnpDevice> {
  const at = await gatewayFor({ ...settings, quirks });
  const device = await described(at);
  const mapper = new UpnpMapper({ protocol: 'upnp', gateway: at.gateway, device }, at.system);
  await at.clock.settle(mapper.map(requestFor()));
  expect(at.embedded.table.length).toBe(1);
  return device;
}

describe('a description', () => {
  test('leads to the services that map ports', async () => {
    const at = await gatewayFor();
    const origin = new URL(at.embedded.location).origin;
    expect(await described(at)).toMatchObject({
      location: at.embedded.location,
      host: '127.0.0.1',
      connection: {
        serviceType: 'urn:schemas-upnp-org:service:WANIPConnection:2',
        controlUrl: `${origin}/control/WANIPConnection`,
      },
      connectionVersion: 2,
      firewall: { controlUrl: `${origin}/control/WANIPv6FirewallControl` },
    });
  });

  test('of version 1 has neither AddAnyPortMapping nor a firewall', async () => {
    expect(await mapsWith({}, { igdVersion: 1 })).toMatchObject({
      connectionVersion: 1,
      firewall: undefined,
    });
  });

  test('leads to a WANPPPConnection', async () => {
    const device = await mapsWith({}, { connectionService: 'WANPPPConnection' });
    expect(device.connection.serviceType).toBe('urn:schemas-upnp-org:service:WANPPPConnection:1');
    expect(device.connectionVersion).toBe(1);
  });

  test('of a device that maps no ports is UNSUPPORTED', async () => {
    const at = await gatewayFor();
    const { port } = await openWebServer('127.0.0.1', () =>
      descriptionWith('/control').replace('WANIPConnection', 'RenderingControl'),
    );
    await expect(described(at, `http://127.0.0.1:${port}/`)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });

  test('that is not there is MALFORMED', async () => {
    const at = await gatewayFor();
    const nowhere = new URL('/nothing.xml', at.embedded.location).href;
    await expect(described(at, nowhere)).rejects.toMatchObject({ code: 'MALFORMED' });
  });
});

describe('quirks of descriptions', () => {
  test('quirk 18: service types of the DSL Forum (Huawei) are taken', async () => {
    const device = await mapsWith({ dslforumServiceTypes: true });
    expect(device.connection.serviceType).toBe('urn:dslforum-org:service:WANIPConnection:2');
    expect(device.connectionVersion).toBe(2);
  });

  test('quirk 19: of two WAN devices, the first one disconnected (MikroTik), the connected one is taken', async () => {
    const device = await mapsWith({ firstWanDeviceDisconnected: true });
    expect(device.connection.controlUrl).not.toContain('disconnected');
  });

  test('quirk 25: "Disconnected" yet working: a single connection is taken whatever it says', async () => {
    await mapsWith({ disconnectedYetWorking: true });
  });

  test('quirks 19 and 25 together: the first is taken where all say "Disconnected"', async () => {
    const at = await gatewayFor({
      quirks: { firstWanDeviceDisconnected: true, disconnectedYetWorking: true },
    });
    expect((await described(at)).connection.controlUrl).toContain('/control/');
  });

  test('quirk 20: an absolute control URL on another port of the same host (D-Link DIR-655) is called', async () => {
    const device = await mapsWith({ controlUrlOnAnotherPort: true });
    expect(new URL(device.connection.controlUrl).port).not.toBe(new URL(device.location).port);
  });

  test.each(['unescaped', 'unbound-prefix', 'wrong-namespace'] as const)(
    'quirk 21: malformed XML (%s) is read',
    async (malformedXml) => {
      await mapsWith({ malformedXml });
    },
  );

  test('quirk 29: white space before the XML and a query in the control URL (DD-WRT) are taken', async () => {
    const device = await mapsWith({ spaceBeforeXml: true, queryInControlUrl: true });
    expect(device.connection.controlUrl).toContain('?');
  });

  test.each(['http-1.0', 'long-content-length', 'chunked', 'no-content-type'] as const)(
    'quirk 30: HTTP that is off (%s) is read',
    async (http) => {
      await mapsWith({ http });
    },
  );

  test('quirk 30: a Content-Length that is too short cuts the description, and that is MALFORMED', async () => {
    const at = await gatewayFor({ quirks: { http: 'short-content-length' } });
    await expect(described(at)).rejects.toMatchObject({
      code: expect.stringMatching(/MALFORMED|UNSUPPORTED/),
    });
  });
});

describe('quirk 16: a floating address (VRRP, CARP)', () => {
  /** The embedded gateway, as if it were on a home network and the router there had `own` addresses. */
  async function onHomeNetwork(host: IpAddress) {
    const at = await gatewayFor();
    const fetched: string[] = [];
    const gateway = {
      ...at.gateway,
      address: '192.168.7.1',
      localAddress: '192.168.7.50',
      prefixLength: 24,
    };
    const system = {
      ...at.system,
      http: ({ localAddress: _own, ...request }: Parameters<typeof at.system.http>[0]) => {
        fetched.push(request.url);
        return at.system.http({ ...request, url: request.url.replace(host, '127.0.0.1') });
      },
    };
    const location = at.embedded.location.replace('127.0.0.1', host);
    return { fetched, describing: described({ ...at, gateway, system }, location, '192.168.7.2') };
  }

  test('is followed within the private network that it shares with the gateway', async () => {
    const { describing } = await onHomeNetwork('192.168.7.3');
    const device = await describing;
    expect(device.host).toBe('192.168.7.3');
    expect(device.connection.controlUrl).toContain('http://192.168.7.3:');
  });

  test.each(['192.168.8.3', '10.0.0.1', '127.0.0.1', '203.0.113.5', '169.254.169.254'])(
    'is not followed to %s',
    async (host) => {
      const { describing, fetched } = await onHomeNetwork(host);
      await expect(describing).rejects.toMatchObject({ code: 'HOSTILE' });
      expect(fetched).toEqual([]);
    },
  );
});

describe('a hostile gateway', () => {
  const FOREIGN = '127.0.0.66';

  test('that sends its description to a foreign host is refused, and nothing is fetched there', async () => {
    const at = await gatewayFor();
    const foreign = await openWebServer(FOREIGN, () => descriptionWith('/control'));
    const location = `http://${FOREIGN}:${foreign.port}/`;
    await expect(described(at, location)).rejects.toMatchObject({ code: 'HOSTILE' });
    expect(foreign.asked).toEqual([]);
  });

  test.each([
    'https://127.0.0.1/',
    'file:///etc/passwd',
    'ftp://127.0.0.1/',
    'http://localhost/',
    'http://user@127.0.0.1/',
    'http://127.0.0.1.example.com/',
    'not a URL',
    '',
  ])('that sends its description to "%s" is refused', async (location) => {
    const at = await gatewayFor();
    await expect(described(at, location)).rejects.toMatchObject({ code: 'HOSTILE' });
    expect(at.embedded.counters).toEqual({});
  });

  test('that redirects is refused, and nothing is fetched there', async () => {
    const foreign = await openWebServer(FOREIGN, () => descriptionWith('/control'));
    const at = await gatewayFor({ quirks: { redirect: `http://${FOREIGN}:${foreign.port}/` } });
    await expect(described(at)).rejects.toMatchObject({ code: 'HOSTILE' });
    expect(foreign.asked).toEqual([]);
  });

  test('whose control URL is on a foreign host is not called there', async () => {
    const foreign = await openWebServer(FOREIGN, () => '');
    const at = await gatewayFor();
    const own = await openWebServer('127.0.0.1', () => descriptionWith(`http://${FOREIGN}:${foreign.port}/`));
    await expect(described(at, `http://127.0.0.1:${own.port}/`)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    });
    expect(foreign.asked).toEqual([]);
  });

  test('whose URLBase is on a foreign host is not called there', async () => {
    const foreign = await openWebServer(FOREIGN, () => '');
    const at = await gatewayFor();
    const own = await openWebServer('127.0.0.1', () =>
      descriptionWith('/control').replace(
        '<device>',
        `<URLBase>http://${FOREIGN}:${foreign.port}/</URLBase><device>`,
      ),
    );
    await expect(described(at, `http://127.0.0.1:${own.port}/`)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
    });
    expect(foreign.asked).toEqual([]);
  });

  test('that sends a body of 100 MB is refused long before its end', async () => {
    const at = await gatewayFor({ quirks: { hugeBody: true } });
    const before = process.memoryUsage().arrayBuffers;
    await expect(described(at)).rejects.toMatchObject({ code: 'HOSTILE' });
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20_000_000);
  });

  test.each(['entities', 'nesting'] as const)('that sends an XML bomb (%s) is refused', async (xmlBomb) => {
    const at = await gatewayFor({ quirks: { xmlBomb } });
    await expect(described(at)).rejects.toMatchObject({ code: 'HOSTILE' });
  });

  describe('that never ends its body', () => {
    afterEach(() => void vi.useRealTimers());

    test('is given up after 5 s', async () => {
      const at = await gatewayFor({ quirks: { slowBody: true } });
      vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
      const describing = described(at).catch((error: { code: string }) => error.code);
      for (let times = 0; times < 20; times++) await at.clock.advance(200);
      await vi.advanceTimersByTimeAsync(5000);
      expect(await describing).toBe('TIMEOUT');
    });
  });

  test('is left at once when the asking is aborted', async () => {
    const at = await gatewayFor({ quirks: { slowBody: true } });
    const stop = new AbortController();
    void at.clock.sleep(300).then(() => stop.abort());
    const describing = describeGateway(
      at.system,
      at.gateway,
      at.embedded.location,
      at.gateway.address,
      stop.signal,
    );
    await expect(at.clock.settle(describing)).rejects.toMatchObject({ code: 'ABORTED' });
  });
});
