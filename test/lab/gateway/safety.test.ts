/** Whom natward does not answer, what it does not do for those whom it answers, and what its end leaves behind. */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type InnerGateway, leadsNowhere, startResponding, untilOuter } from '../support/inner.ts';
import { startAgent, until } from '../support/keeping.ts';
import { ADDRESSES, type Place } from '../support/lab.ts';
import { describeLab, freshHome } from '../support/suite.ts';

const { inner0, inner1, inner2, lan: lanAddress, gateway: gatewayAddress } = ADDRESSES;

/** NAT-PMP asks for the public address. */
const NATPMP = Buffer.from('0000', 'hex');
/** And for UDP 7777, for ten minutes. */
const NATPMP_MAP = Buffer.from('000100001e611e6100000258', 'hex');
const SEARCH = Buffer.from(
  'M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: "ssdp:discover"\r\nST: ssdp:all\r\n\r\n',
);
const DESCRIPTION = description('10.77.0.1');

function description(host: string): Buffer {
  return Buffer.from(`GET /rootDesc.xml HTTP/1.1\r\nHOST: ${host}\r\nConnection: close\r\n\r\n`);
}

describeLab('the gateway for other programs', { inner: true }, (lab) => {
  let gateway: InnerGateway;
  beforeAll(async () => {
    await lab().startGateway();
    gateway = await startResponding(lab());
  });
  afterAll(() => gateway.stop());

  const httpPort = () => Number(new URL(gateway.descriptionUrl).port);
  const asks = (ns: Place, to: string): Promise<readonly unknown[]> =>
    Promise.all([
      lab().ask(5351, 'udp', NATPMP, { ns, to, timeoutMs: 700 }),
      lab().ask(1900, 'udp', SEARCH, { ns, to, timeoutMs: 700 }),
      lab().ask(httpPort(), 'tcp', DESCRIPTION, { ns, to, timeoutMs: 700 }),
    ]);

  /** What it listens on for them, wherever that is. */
  const listens = async (): Promise<readonly string[]> => {
    const filter = ['sport', '=', ':5351', 'or', 'sport', '=', ':1900', 'or', 'sport', '=', `:${httpPort()}`];
    const rows = (await lab().must('lan', ['ss', '-Hlntu', ...filter])).split('\n');
    const places = rows.filter((row) => row !== '').map((row) => row.split(/\s+/)[4] ?? '');
    // There it hears of gateways, and answers nobody.
    return places.filter((place) => !place.startsWith('239.255.255.250'));
  };
  const NOBODY = [expect.any(String), expect.any(String), expect.any(String)];

  describe('who is not behind it', () => {
    test('finds no open port on the outer side', async () => {
      expect((await asks('inner1', inner0)).every(Buffer.isBuffer)).toBe(true);
      expect(await asks('gw', lanAddress)).toEqual(NOBODY);
      for (const place of await listens()) expect(place).toMatch(/^10\.77\.0\.1:/);
    });

    test('gets no answer from the inner address either, though it has a route to it', async () => {
      await lab().must('gw', ['ip', 'route', 'replace', '10.77.0.0/24', 'via', lanAddress]);
      const answers = await asks('gw', inner0);
      expect(answers.map((answer) => (Buffer.isBuffer(answer) ? answer.toString() : ''))).toEqual([
        '',
        '',
        '',
      ]);
      await lab().must('gw', ['ip', 'route', 'del', '10.77.0.0/24']);
    });
  });

  /** A request of `inner1`, sent by the gateway on the outer link, where the kernel checks sources in this way. */
  const forge = async (rpFilter: 0 | 2): Promise<void> => {
    const set = `echo 0 > $0/all/rp_filter; echo ${rpFilter} > $0/eth0/rp_filter`;
    await lab().must('lan', ['sh', '-euc', set, '/proc/sys/net/ipv4/conf']);
    await lab().must('gw', ['ip', 'address', 'add', `${inner1}/32`, 'dev', 'int0']);
    await lab().must('gw', ['ip', 'route', 'add', inner0, 'via', lanAddress, 'src', inner1]);
    try {
      // The answer goes to whom it is from.
      expect(await lab().ask(5351, 'udp', NATPMP_MAP, { ns: 'gw', to: inner0, timeoutMs: 700 })).toBeTypeOf(
        'string',
      );
    } finally {
      await lab().must('gw', ['ip', 'route', 'del', inner0]);
      await lab().must('gw', ['ip', 'address', 'del', `${inner1}/32`, 'dev', 'int0']);
    }
  };
  const fences = async () =>
    (await lab().must('lan', ['nft', 'list', 'tables'])).match(/natward-fence/g)?.length ?? 0;

  describe('who is behind it', () => {
    test('is not who writes its address on a packet of the outer link', async () => {
      for (const rpFilter of [0, 2] as const) {
        await forge(rpFilter);
        expect(await lab().natRules(), `rp_filter ${rpFilter}`).toEqual([]);
      }
      expect(await fences()).toBe(1);
      // The real one is heard.
      expect(await lab().ask(5351, 'udp', NATPMP_MAP, { ns: 'inner1', to: inner0 })).toBeInstanceOf(Buffer);
      await untilOuter(lab(), 'udp 7777');
      await lab().exec('inner1', ['natpmpc', '-a', '0', '7777', 'udp', '0']);
      await untilOuter(lab());
    });

    test('maps to itself alone, and ends nobody else’s mapping', async () => {
      const stolen = await gateway.upnpc('inner1', '-a', inner2, '80', '8080', 'tcp', '600');
      expect(stolen).toContain('failed with code 606');
      const spec = `8080:${inner2}:80`;
      for (const via of ['pcp', 'upnp']) {
        const { code } = await lab().natward(['map', spec, '--via', via], { ...freshHome(), ns: 'inner1' });
        expect(code, via).not.toBe(0);
      }
      expect(await lab().natRules()).toEqual([]);

      await gateway.upnpc('inner2', '-a', inner2, '80', '8080', 'tcp', '600');
      expect(await gateway.upnpc('inner1', '-d', '8080', 'tcp')).toContain('code : 606');
      await lab().exec('inner1', ['natpmpc', '-a', '0', '0', 'tcp', '0']);
      await untilOuter(lab(), 'tcp 8080');
      await gateway.upnpc('inner2', '-d', '8080', 'tcp');
      await untilOuter(lab());
    });

    test('has no say in which port of this host its traffic comes in by', async () => {
      // Where others of its network may ask for names.
      await gateway.upnpc('inner1', '-a', inner1, '53', '8080', 'udp', '600');
      const server = await lab().serve({ ns: 'inner1', port: 53, protocol: 'udp', address: inner1 });
      const asked = (ns: Place, to: string) =>
        lab().ask(53, 'udp', Buffer.from('ping'), { ns, to, timeoutMs: 500 });
      expect(await asked('inner2', inner0)).toBeTypeOf('string');
      expect(await asked('gw', lanAddress)).toBeTypeOf('string');
      expect(await lab().connectFromWan(8080, 'udp')).toBe('hello');
      await server.stop();
      await gateway.upnpc('inner1', '-d', '8080', 'udp');
      await untilOuter(lab());
    });

    test('is answered by address alone: no web page of a name that leads here reads anything', async () => {
      const ask = (host: string) =>
        lab().ask(httpPort(), 'tcp', description(host), { ns: 'inner1', to: inner0 }).then(String);
      expect(await ask(`${inner0}:${httpPort()}`)).toMatch(/^HTTP\/1\.1 200 /);
      expect(await ask('rebound.example')).toMatch(/^HTTP\/1\.1 400 /);
    });

    test('has events sent to itself alone', async () => {
      await lab().must('inner2', ['nft', '-f', '-'], {
        input: `table ip seen { chain in { type filter hook input priority 0; ip saddr ${inner0} tcp dport 9 counter; }; }`,
      });
      const subscribe = async (callback: string): Promise<string> => {
        const head = [
          `SUBSCRIBE ${await eventPath()} HTTP/1.1`,
          `HOST: ${inner0}:${httpPort()}`,
          `CALLBACK: <http://${callback}/>`,
          'NT: upnp:event',
          'TIMEOUT: Second-300',
          'Connection: close',
        ];
        const request = Buffer.from(`${head.join('\r\n')}\r\n\r\n`);
        const answer = await lab().ask(httpPort(), 'tcp', request, { ns: 'inner1', to: inner0 });
        return String(answer).split('\r\n')[0] ?? '';
      };
      for (const foreign of [
        `${inner2}:9`,
        `${gatewayAddress}:9`,
        `${inner0}:9`,
        '127.0.0.1:9',
        'example.org:9',
      ]) {
        expect(await subscribe(foreign), foreign).toMatch(/^HTTP\/1\.1 412 /);
      }
      const own = lab().spawn('inner1', ['socat', '-u', 'TCP-LISTEN:9999,reuseaddr', '-']);
      await until('a listener', async () => (await lab().must('inner1', ['ss', '-Hlnt'])).includes(':9999'));
      expect(await subscribe(`${inner1}:9999`)).toMatch(/^HTTP\/1\.1 200 /);
      await own.waitFor(/NOTIFY \/ HTTP/);
      await own.stop();
      expect(await lab().must('inner2', ['nft', 'list', 'table', 'ip', 'seen'])).toContain('packets 0');
    });

    /** Of its WANIPConnection. */
    const eventPath = async (): Promise<string> => {
      const answer = await lab().ask(httpPort(), 'tcp', DESCRIPTION, { ns: 'inner1', to: inner0 });
      const [, path = ''] = /WANIPConnection:.*?<eventSubURL>(.*?)</s.exec(String(answer)) ?? [];
      return path;
    };
  });

  test('its end gives everything back, and says good-bye', async () => {
    const heard = lab().spawn('inner2', ['tcpdump', '-lnAi', 'eth0', 'udp', 'port', '1900']);
    await heard.waitFor(/listening on/);
    await gateway.upnpc('inner1', '-a', inner1, '80', '8080', 'tcp', '600');
    await lab().exec('inner2', ['natpmpc', '-a', '8081', '80', 'udp', '600']);
    await untilOuter(lab(), 'tcp 8080', 'udp 8081');

    await gateway.stop();
    expect(await lab().natRules()).toEqual([]);
    await heard.waitFor(/ssdp:byebye/);
    await heard.stop();
    await leadsNowhere(lab(), 'tcp', 8080);
    expect(await fences()).toBe(0);
    expect(await asks('inner1', inner0)).toEqual(NOBODY);
    expect(await listens()).toEqual([]);
  });

  test('the way to the outer gateway is refused with a warning, and nobody is answered there', async () => {
    const agent = await startAgent(lab(), freshHome(), ['--respond-on', 'eth0', '--engine', 'relay']);
    const { message } = await agent.event('warning');
    expect(message).toContain(`eth0 leads to the outer gateway ${gatewayAddress}`);
    expect(await asks('gw', lanAddress)).toEqual(NOBODY);
    expect(await listens()).toEqual([]);
    expect(await lab().must('lan', ['ss', '-Hlnt', 'src', lanAddress])).toBe('');
    await agent.end();
  });

  test('without the right to load a fence, what is open is told, and it is open', async () => {
    await lab().must('lan', ['sh', '-euc', 'echo 2 > /proc/sys/net/ipv4/conf/eth0/rp_filter']);
    const first = 'set -- setpriv --bounding-set=-net_admin --inh-caps=-net_admin "$@"';
    const options = { ...freshHome(), first };
    const agent = await startAgent(lab(), options, ['--respond-on', 'inner0', '--engine', 'relay']);
    const { message, advice } = await agent.event('warning');
    expect(message).toMatch(/^hosts on eth0 can claim to be hosts of the network of inner0/);
    expect(advice).toContain('sysctl -w net.ipv4.conf.eth0.rp_filter=1');
    expect(await fences()).toBe(0);
    await agent.event('gateway-up');
    await forge(2);
    await untilOuter(lab(), 'udp 7777');
    await agent.end();
    await untilOuter(lab());
  });
});
