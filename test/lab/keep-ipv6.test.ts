/** One `keep` for both families: the IPv4 mapping and the IPv6 pinhole, brought back, renewed and released together. */

import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  type Keeping,
  settled,
  startKeep,
  stopwatch,
  until,
  untilEach,
  untilRules,
} from './support/keeping.ts';
import { ADDRESSES } from './support/lab.ts';
import { describeLab, rule } from './support/suite.ts';

const OUTSIDE = { to: ADDRESSES.lan6, timeoutMs: 500 };

describeLab('keep over both families', { ipv6: true }, (lab) => {
  let keeps: Keeping[] = [];

  beforeEach(() => {
    keeps = [];
  });
  afterEach(async () => {
    await Promise.all(keeps.map((keep) => keep.end('SIGKILL')));
  });

  const keeping = async (...args: string[]): Promise<Keeping> => {
    const keep = startKeep(lab(), args);
    keeps.push(keep);
    await keep.event('granted');
    return keep;
  };

  /** The ports that the gateway's firewall lets in to `lan`; nft prints the rules with raw payloads. */
  const pinholes = async (): Promise<number[]> => {
    const chain = await lab().must('gw', ['nft', 'list', 'chain', 'inet', 'filter', 'miniupnpd']);
    const rules = chain.split('\n').filter((line) => line.includes('0x20010db8000100000000000000000010'));
    return rules.map((line) => Number(/dport (\d+)/.exec(line)?.[1])).sort((a, b) => a - b);
  };
  const untilPinholes = (...ports: number[]) =>
    until(
      `pinholes for ${ports.join()}`,
      async () => JSON.stringify(await pinholes()) === JSON.stringify(ports),
    );

  test('it maps and opens, bytes come in both ways, and Ctrl-C ends both', async () => {
    await lab().startGateway();
    const keep = await keeping('8443');
    await untilRules(lab(), [rule('tcp', 8443)]);
    await untilPinholes(8443);
    const server = await lab().serve({ port: 8443, address: '::', reply: 'here' });
    expect(await lab().connectFromWan(8443, 'tcp', OUTSIDE)).toBe('here');
    expect(await lab().connectFromWan(8443)).toBe('here');
    await server.stop();
    expect(keep.eventsOf('granted').map(({ lease }) => [lease.family, lease.externalAddress])).toEqual(
      expect.arrayContaining([
        [4, ADDRESSES.external],
        [6, ADDRESSES.lan6],
      ]),
    );
    expect((await keep.end()).code).toBe(0);
    expect(await lab().natRules()).toEqual([]);
    expect(await pinholes()).toEqual([]);
  });

  test.each([
    ['-4', [rule('tcp', 8443)], []],
    ['-6', [], [8443]],
  ] as const)('%s keeps the one alone', async (flag, rules, ports) => {
    await lab().startGateway();
    const keep = await keeping('8443', flag);
    expect(await lab().natRules()).toEqual(rules);
    expect(await pinholes()).toEqual(ports);
    await keep.end();
    expect(await pinholes()).toEqual([]);
  });

  test('a gateway that opens no pinholes: the mapping is kept, and nothing is missed', async () => {
    await lab().startGateway({ extraLines: ['ipv6_disable=yes'] });
    const keep = await keeping('8443');
    await untilRules(lab(), [rule('tcp', 8443)]);
    await settled();
    expect(keep.eventsOf('refused')).toEqual([]);
    expect((await keep.end()).code).toBe(0);
  });

  test.each(['pcp', 'upnp'])('-6 alone, over %s: it is heard that the gateway starts again', async (via) => {
    const gateway = await lab().startGateway();
    await keeping('8443', '-6', '--via', via);
    await untilPinholes(8443);
    await settled();
    const watch = stopwatch('restart, announced', 'announced');
    await gateway.restart({ wipeTable: true });
    await untilPinholes(8443);
    watch(`IPv6 pinhole alone, ${via}`);
  });

  describe('over each protocol, side by side', () => {
    const PORT_OF = { pcp: 8443, upnp: 8444 } as const;
    const keepEach = (...args: string[]): Promise<[Keeping, Keeping]> =>
      Promise.all([
        keeping(String(PORT_OF.pcp), '--via', 'pcp', ...args),
        keeping(String(PORT_OF.upnp), '--via', 'upnp', ...args),
      ]);

    test.each(['announced', 'silent'] as const)(
      'the gateway starts again with an empty table, %s: both families come back',
      async (how) => {
        const gateway = await lab().startGateway();
        await keepEach();
        await untilPinholes(PORT_OF.pcp, PORT_OF.upnp);
        await settled();
        if (how === 'silent') await lab().block({ protocol: 'announcements' });
        await gateway.stop();
        await lab().wipeTable();
        const watch = stopwatch(`restart, ${how}`, how);
        await gateway.start();
        await Promise.all([
          untilEach(
            lab(),
            {
              'IPv4 mapping, pcp': rule('tcp', PORT_OF.pcp),
              'IPv4 mapping, upnp': rule('tcp', PORT_OF.upnp),
            },
            watch,
          ),
          ...(['pcp', 'upnp'] as const).map(async (via) => {
            await until(`the pinhole of ${via}`, async () => (await pinholes()).includes(PORT_OF[via]));
            watch(`IPv6 pinhole, ${via}`);
          }),
        ]);
      },
    );

    test('what was renewed over UPnP is ended by Ctrl-C; over PCP miniupnpd does not let us, and it is said', async () => {
      await lab().startGateway({ extraLines: ['min_lifetime=4'] });
      const [pcp, upnp] = await keepEach('-6', '--lifetime', '8s');
      for (const keep of [pcp, upnp]) {
        await until('renewed twice', async () => keep.eventsOf('renewed').length > 1);
        expect(keep.eventsOf('lost')).toEqual([]);
      }
      expect(await pinholes()).toEqual([PORT_OF.pcp, PORT_OF.upnp]);
      expect((await upnp.end()).code).toBe(0);
      expect(await pinholes()).toEqual([PORT_OF.pcp]);
      // A refresh makes miniupnpd 2.3.1 forget the nonce: see pinholes.test.ts.
      const { code, stderr } = await pcp.end();
      expect(code).toBe(1);
      expect(stderr).toContain('PCP 2 NOT_AUTHORIZED');
      await untilPinholes();
    });
  });
});
