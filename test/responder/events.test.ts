import { describe, expect, test } from 'vitest';
import { allServices, decodeDescription } from '../../src/wire/description.ts';
import type { EmbeddedGateway } from '../../src/responder/gateway.ts';
import { nextSeq } from '../../src/wire/gena.ts';
import { parseXml } from '../../src/wire/xml.ts';
import { addMapping, http, outerValues, pcpMap, soap } from './support/client.ts';
import { StillClock } from './support/clock.ts';
import { gatewayFor } from './support/gateway.ts';
import { gena, sent, subscribe, Subscriber } from './support/subscriber.ts';

const NT = 'upnp:event';

/** And lets the time go by until the first message is under way. */
async function subscribeBy(
  clock: StillClock,
  gateway: EmbeddedGateway,
  subscriber: Subscriber,
): Promise<string> {
  const sid = await subscribe(gateway, subscriber);
  await expect.poll(() => clock.isDueWithin(200)).toBe(true);
  await clock.advance(200);
  return sid;
}

describe('a subscription', () => {
  test('is told of all evented variables at first, and of what changes from then on', async () => {
    const gateway = await gatewayFor({ externalAddress: '203.0.113.7' });
    await using subscriber = await Subscriber.open();
    const answer = await gena(gateway, 'SUBSCRIBE', {
      CALLBACK: subscriber.callback,
      NT,
      TIMEOUT: 'Second-300',
    });
    expect(answer).toMatchObject({ status: 200, body: '', headers: { timeout: 'Second-300' } });
    expect(answer.headers['sid']).toMatch(/^uuid:[0-9a-f-]{36}$/);
    expect(await subscriber.wait(1)).toMatchObject({
      url: '/notify?me=1',
      seq: 0,
      headers: { nt: NT, nts: 'upnp:propchange', sid: answer.headers['sid'] },
      values: {
        PossibleConnectionTypes: 'IP_Routed',
        ConnectionStatus: 'Connected',
        ExternalIPAddress: '203.0.113.7',
        PortMappingNumberOfEntries: '0',
        SystemUpdateID: '0',
      },
    });
    gateway.changeExternalAddress('203.0.113.8');
    expect(await subscriber.wait(2)).toMatchObject({ seq: 1, values: { ExternalIPAddress: '203.0.113.8' } });
    await addMapping(gateway, 18_080, 8080);
    expect((await subscriber.wait(3))?.values).toEqual({
      PortMappingNumberOfEntries: '1',
      SystemUpdateID: '1',
    });
    await soap(gateway, 'DeletePortMapping', outerValues(18_080));
    expect((await subscriber.wait(4))?.values).toEqual({
      PortMappingNumberOfEntries: '0',
      SystemUpdateID: '2',
    });
    expect(subscriber.notified.map(({ seq }) => seq)).toEqual([0, 1, 2, 3]);
  });

  test.each([
    ['WANCommonInterfaceConfig', { PhysicalLinkStatus: 'Up' }],
    ['WANIPv6FirewallControl', { FirewallEnabled: '1', InboundPinholeAllowed: '1' }],
    ['Layer3Forwarding', { DefaultConnectionService: expect.stringMatching(/^uuid:.*WANIPConn1$/) }],
  ])('of %s', async (service, values) => {
    const gateway = await gatewayFor();
    await using subscriber = await Subscriber.open();
    await subscribe(gateway, subscriber, service);
    expect((await subscriber.wait(1))?.values).toEqual(values);
  });

  test('is told of what other protocols and time do to the table', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    await using subscriber = await Subscriber.open();
    await subscribeBy(clock, gateway, subscriber);
    await sent(gateway, 1);
    await pcpMap(gateway, 8080, 18_080, { lifetimeSeconds: 120 });
    await clock.advance(200);
    expect((await subscriber.wait(2))?.values).toMatchObject({ PortMappingNumberOfEntries: '1' });
    await sent(gateway, 2);
    await clock.advance(120_000);
    await clock.advance(200);
    expect((await subscriber.wait(3))?.values).toMatchObject({ PortMappingNumberOfEntries: '0' });
  });

  test('is told of many changes at once', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    await using subscriber = await Subscriber.open();
    await subscribeBy(clock, gateway, subscriber);
    await sent(gateway, 1);
    for (let port = 1; port <= 20; port++) await addMapping(gateway, 18_000 + port, port);
    await clock.advance(200);
    await subscriber.wait(3, 200);
    await clock.advance(200);
    await subscriber.wait(3, 200);
    expect(subscriber.notified.length).toBeLessThanOrEqual(3);
    expect(subscriber.notified.at(-1)?.values).toMatchObject({ PortMappingNumberOfEntries: '20' });
  });

  test('a mapping that lives on longer is no change', async () => {
    const gateway = await gatewayFor();
    await using subscriber = await Subscriber.open();
    await addMapping(gateway, 18_080, 8080);
    await subscribe(gateway, subscriber);
    await subscriber.wait(1);
    await addMapping(gateway, 18_080, 8080, { NewLeaseDuration: '7200' });
    expect(await subscriber.wait(2, 300)).toBeUndefined();
    await addMapping(gateway, 18_080, 8081);
    expect((await subscriber.wait(2))?.values).toEqual({ SystemUpdateID: '2' });
  });

  test('ends at its time, unless it is renewed', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    await using subscriber = await Subscriber.open();
    const SID = await subscribeBy(clock, gateway, subscriber);
    await sent(gateway, 1);
    await clock.advance(1_799_000);
    const renewed = await gena(gateway, 'SUBSCRIBE', { SID, TIMEOUT: 'Second-100' });
    expect(renewed).toMatchObject({ status: 200, headers: { sid: SID, timeout: 'Second-100' } });
    await clock.advance(99_000);
    gateway.changeExternalAddress('203.0.113.9');
    expect(await subscriber.wait(2)).toMatchObject({ seq: 1 });
    await sent(gateway, 2);
    await clock.advance(1_000);
    expect((await gena(gateway, 'SUBSCRIBE', { SID })).status).toBe(412);
    gateway.changeExternalAddress('203.0.113.10');
    await clock.advance(1_000);
    expect(await subscriber.wait(3, 200)).toBeUndefined();
  });

  test('ends when its client says so', async () => {
    const gateway = await gatewayFor();
    await using subscriber = await Subscriber.open();
    const SID = await subscribe(gateway, subscriber);
    await subscriber.wait(1);
    expect((await gena(gateway, 'UNSUBSCRIBE', { SID })).status).toBe(200);
    expect((await gena(gateway, 'UNSUBSCRIBE', { SID })).status).toBe(412);
    gateway.changeExternalAddress('203.0.113.9');
    expect(await subscriber.wait(2, 200)).toBeUndefined();
  });

  test.each([
    ['Second-1', 'Second-60'],
    ['Second-infinite', 'Second-1800'],
    ['infinite', 'Second-1800'],
    ['Second-99999', 'Second-1800'],
    ['soon', 'Second-1800'],
    [undefined, 'Second-1800'],
  ])('for %s is granted as %s', async (wished, granted) => {
    const gateway = await gatewayFor();
    await using subscriber = await Subscriber.open();
    const headers = {
      CALLBACK: subscriber.callback,
      NT,
      ...(wished === undefined ? {} : { TIMEOUT: wished }),
    };
    expect((await gena(gateway, 'SUBSCRIBE', headers)).headers['timeout']).toBe(granted);
  });

  test('ends when it could not be told three times', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    await using subscriber = await Subscriber.open();
    subscriber.status = 500;
    const SID = await subscribeBy(clock, gateway, subscriber);
    for (let count = 1; count <= 3; count++) {
      expect(await subscriber.wait(count)).toMatchObject({ seq: 0 });
      await sent(gateway, count);
      await clock.advance(3_000);
    }
    await clock.advance(10_000);
    expect(await subscriber.wait(4, 200)).toBeUndefined();
    expect((await gena(gateway, 'SUBSCRIBE', { SID })).status).toBe(412);
  });

  test('a message that was lost leaves a gap, and what it said comes with the next one', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    await using subscriber = await Subscriber.open();
    await subscribeBy(clock, gateway, subscriber);
    await sent(gateway, 1);
    subscriber.status = 503;
    gateway.changeExternalAddress('203.0.113.9');
    await clock.advance(200);
    expect(await subscriber.wait(2)).toMatchObject({ seq: 1 });
    await sent(gateway, 2);
    subscriber.status = 200;
    await clock.advance(3_000);
    await clock.advance(200);
    expect(await subscriber.wait(3)).toMatchObject({ seq: 2, values: { ExternalIPAddress: '203.0.113.9' } });
  });

  test('a subscriber that takes a message and says nothing is given up after five seconds', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    await using subscriber = await Subscriber.open();
    subscriber.status = undefined;
    await subscribeBy(clock, gateway, subscriber);
    await subscriber.wait(1);
    expect(gateway.counters['gena notify']).toBeUndefined();
    await clock.advance(5_000);
    await sent(gateway, 1);
  });

  test('a subscriber that knows no such subscription has none', async () => {
    const gateway = await gatewayFor();
    await using subscriber = await Subscriber.open();
    subscriber.status = 412;
    const SID = await subscribe(gateway, subscriber);
    await subscriber.wait(1);
    await expect.poll(async () => (await gena(gateway, 'SUBSCRIBE', { SID })).status).toBe(412);
  });

  test('a second callback is tried where the first one cannot be reached', async () => {
    const gateway = await gatewayFor();
    await using gone = await Subscriber.open();
    const nobody = gone.callback;
    await gone[Symbol.asyncDispose]();
    await using subscriber = await Subscriber.open();
    const headers = { CALLBACK: nobody + subscriber.callback, NT };
    expect((await gena(gateway, 'SUBSCRIBE', headers)).status).toBe(200);
    expect(await subscriber.wait(1)).toMatchObject({ seq: 0 });
  });

  test('over IPv6', async () => {
    const gateway = await gatewayFor({ address: '::1', outerAddress: '::1' });
    await using subscriber = await Subscriber.open('::1');
    await subscribe(gateway, subscriber, 'WANIPConnection', '::1');
    expect(await subscriber.wait(1)).toMatchObject({
      seq: 0,
      headers: { host: expect.stringContaining('[::1]:') },
    });
  });

  test('a gateway that closes while a message is under way closes all the same', async () => {
    const gateway = await gatewayFor();
    await using subscriber = await Subscriber.open();
    subscriber.status = undefined;
    await subscribe(gateway, subscriber);
    await subscriber.wait(1);
    await gateway.close();
  });

  test('messages are numbered from 0, and after the last number comes 1', () => {
    expect([nextSeq(0), nextSeq(1), nextSeq(4_294_967_295)]).toEqual([1, 2, 1]);
  });
});

describe('what is refused', () => {
  test.each([
    ['a subscription without a callback', 412, 'SUBSCRIBE', { NT }],
    [
      'another type of notification',
      412,
      'SUBSCRIBE',
      { NT: 'upnp:other', CALLBACK: '<http://127.0.0.1:5000/>' },
    ],
    ['no type of notification', 412, 'SUBSCRIBE', { CALLBACK: '<http://127.0.0.1:5000/>' }],
    ['a renewal with a callback', 400, 'SUBSCRIBE', { SID: 'uuid:1', CALLBACK: '<http://127.0.0.1:5000/>' }],
    ['a renewal with a type', 400, 'SUBSCRIBE', { SID: 'uuid:1', NT }],
    ['a renewal of nothing', 412, 'SUBSCRIBE', { SID: 'uuid:1' }],
    ['an end of nothing', 412, 'UNSUBSCRIBE', { SID: 'uuid:1' }],
    ['an end of it does not say what', 412, 'UNSUBSCRIBE', {}],
    ['an end with a type', 400, 'UNSUBSCRIBE', { SID: 'uuid:1', NT }],
  ] as const)('%s is answered %i', async (_what, status, method, headers) => {
    const gateway = await gatewayFor();
    expect((await gena(gateway, method, headers)).status).toBe(status);
  });

  // CallStranger, CVE-2020-12695.
  test.each([
    ['another host', 'http://127.0.0.2:5000/'],
    ['a host of the internet', 'http://198.51.100.7:5000/'],
    ['a name', 'http://localhost:5000/'],
    ['an address that is written otherwise', 'http://2130706433:5000/'],
    ['an address with leading zeros', 'http://127.000.000.001:5000/'],
    ['another scheme', 'https://127.0.0.1:5000/'],
    ['a user', 'http://127.0.0.2@127.0.0.1:5000/'],
    ['a user who looks like an address', 'http://127.0.0.1@127.0.0.2:5000/'],
    ['port 0', 'http://127.0.0.1:0/'],
    ['a port beyond', 'http://127.0.0.1:65536/'],
    ['a port of a service', 'http://127.0.0.1:25/'],
    ['a very long path', `http://127.0.0.1:5000/${'x'.repeat(600)}`],
    ['a path with a space', 'http://127.0.0.1:5000/a HTTP/1.1'],
    ['a fragment', 'http://127.0.0.1:5000/#a'],
  ])('a callback to %s', async (_what, url) => {
    const gateway = await gatewayFor();
    expect((await gena(gateway, 'SUBSCRIBE', { CALLBACK: `<${url}>`, NT })).status).toBe(412);
  });

  test('of several callbacks only those to the subscriber itself are called', async () => {
    const gateway = await gatewayFor();
    await using victim = await Subscriber.open('127.0.0.3');
    await using subscriber = await Subscriber.open();
    const headers = { CALLBACK: victim.callback + subscriber.callback, NT };
    expect((await gena(gateway, 'SUBSCRIBE', headers)).status).toBe(200);
    await subscriber.wait(1);
    expect(victim.notified).toEqual([]);
  });

  test("another host's subscription, to renew or to end, and one of another service", async () => {
    const gateway = await gatewayFor();
    await using subscriber = await Subscriber.open();
    const SID = await subscribe(gateway, subscriber);
    expect((await gena(gateway, 'SUBSCRIBE', { SID }, { from: '127.0.0.4' })).status).toBe(412);
    expect((await gena(gateway, 'UNSUBSCRIBE', { SID }, { from: '127.0.0.4' })).status).toBe(412);
    expect((await gena(gateway, 'UNSUBSCRIBE', { SID }, { service: 'Layer3Forwarding' })).status).toBe(412);
    expect((await gena(gateway, 'UNSUBSCRIBE', { SID })).status).toBe(200);
  });

  test('more than 16 subscriptions of one client; others have room', async () => {
    const gateway = await gatewayFor();
    await using subscriber = await Subscriber.open();
    await using elsewhere = await Subscriber.open('127.0.0.5');
    for (let count = 0; count < 16; count++) await subscribe(gateway, subscriber);
    const headers = { CALLBACK: subscriber.callback, NT };
    expect((await gena(gateway, 'SUBSCRIBE', headers)).status).toBe(503);
    await subscribe(gateway, elsewhere, 'WANIPConnection', '127.0.0.5');
  });

  test('more than 256 in all, until some end', async () => {
    const clock = new StillClock();
    const gateway = await gatewayFor({}, clock);
    const status = async (from: string) => {
      const headers = { CALLBACK: `<http://${from}:9999/>`, NT };
      return (await gena(gateway, 'SUBSCRIBE', headers, { from })).status;
    };
    for (let host = 1; host <= 16; host++) {
      for (let count = 0; count < 16; count++) expect(await status(`127.0.1.${host}`)).toBe(200);
    }
    expect(await status('127.0.2.1')).toBe(503);
    await clock.advance(1_800_000);
    expect(await status('127.0.2.1')).toBe(200);
  });

  test('other methods at the URL of events', async () => {
    const gateway = await gatewayFor();
    const url = new URL('/events/WANIPConnection', gateway.location).href;
    expect(await http(url)).toMatchObject({ status: 405, headers: { allow: 'SUBSCRIBE, UNSUBSCRIBE' } });
  });
});

describe('the descriptions', () => {
  test('name what is evented, and where to subscribe', async () => {
    const gateway = await gatewayFor();
    const root = decodeDescription((await http(gateway.location)).body, gateway.location);
    const evented: Record<string, string[]> = {};
    for (const { service } of allServices(root)) {
      const name = service.serviceType.split(':')[3] ?? '';
      expect(new URL(service.eventUrl).pathname).toBe(`/events/${name}`);
      const { body } = await http(service.scpdUrl);
      const table = parseXml(body).children.find((element) => element.name === 'serviceStateTable');
      const declared = new Set(table?.children.map(({ children }) => children[0]?.text));
      const related = [...body.matchAll(/<relatedStateVariable>(\w+)</g)].map(([, variable]) => variable);
      expect(related.filter((variable) => !declared.has(variable))).toEqual([]);
      evented[name] = [...body.matchAll(/sendEvents="yes"><name>(\w+)</g)].map(
        ([, variable]) => variable ?? '',
      );
    }
    expect(evented).toEqual({
      Layer3Forwarding: ['DefaultConnectionService'],
      WANCommonInterfaceConfig: ['PhysicalLinkStatus'],
      WANIPConnection: [
        'PossibleConnectionTypes',
        'ConnectionStatus',
        'ExternalIPAddress',
        'PortMappingNumberOfEntries',
        'SystemUpdateID',
      ],
      WANIPv6FirewallControl: ['FirewallEnabled', 'InboundPinholeAllowed'],
    });
  });
});
