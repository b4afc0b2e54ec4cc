/** The rule engine in a real network: mappings to other hosts, and the examples that rules.md is judged by. */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { LeaseStatus, RuleStatus } from '../../src/control/protocol.ts';
import { type Keeping, startAgent, startKeep, until, untilRules } from './support/keeping.ts';
import { ADDRESSES, type ConnectOptions } from './support/lab.ts';
import { describeLab, freshHome, rule, run, runJson } from './support/suite.ts';

describeLab('rules', { rival: true }, (lab) => {
  let running: Keeping[] = [];
  let home: { readonly home: string };

  beforeEach(() => {
    running = [];
    home = freshHome();
  });
  afterEach(async () => {
    await Promise.all(running.map((one) => one.end('SIGKILL')));
  });

  const agent = async (): Promise<Keeping> => {
    const started = await startAgent(lab(), home);
    running.push(started);
    return started;
  };
  const rules = async (): Promise<readonly RuleStatus[]> =>
    (await runJson<{ readonly rules: readonly RuleStatus[] }>(lab(), ['rule', 'list'], home)).rules;
  const reply = async (port: number, options?: ConnectOptions): Promise<string> =>
    String(await lab().connectFromWan(port, 'tcp', options));
  const there = { ns: 'rival', port: 8443, reply: 'the other host' } as const;

  describe('a mapping to another host', () => {
    test('of a gateway that maps only to who asks: kept with a rule that carries it on, both gone together', async () => {
      await lab().startGateway({ secureMode: true });
      await agent();
      const { leases } = await runJson<{ readonly leases: readonly LeaseStatus[] }>(
        lab(),
        ['keep', `8443:${ADDRESSES.rival}:8443`],
        home,
      );
      expect(leases).toMatchObject([
        {
          state: 'held',
          externalPort: 8443,
          internalClient: ADDRESSES.lan,
          target: { address: ADDRESSES.rival, port: 8443 },
        },
      ]);
      expect(await rules()).toMatchObject([
        { owner: 'lease', text: `in tcp 8443 -> ${ADDRESSES.rival}:8443 "8443:${ADDRESSES.rival}:8443"` },
      ]);
      const server = await lab().serve(there);
      expect(await reply(8443)).toBe('the other host');
      await server.stop();
      await run(lab(), ['drop', `8443:${ADDRESSES.rival}:8443`], home);
      expect(await lab().natRules()).toEqual([]);
      await until('its rule is gone', async () => (await rules()).length === 0);
    });

    test('is held, and carried on, by an agent that starts again', async () => {
      await lab().startGateway({ secureMode: true });
      const first = await agent();
      await run(lab(), ['keep', `8443:${ADDRESSES.rival}:8443/tcp+udp`], home);
      const ledger = join(lab().homeOf(home), 'ledger.json');
      await until(
        'it is remembered',
        async () => existsSync(ledger) && /"holdings":\[\{/.test(readFileSync(ledger, 'utf8')),
      );
      await first.end('SIGKILL');
      await agent();
      await until('it is carried on', async () => (await rules()).length === 1);
      const server = await lab().serve(there);
      expect(await reply(8443)).toBe('the other host');
      await server.stop();
      expect(await lab().natRules()).toEqual([rule('tcp', 8443), rule('udp', 8443)]);
    });

    test('where its port is taken on this host it arrives on another one', async () => {
      await lab().startGateway({ secureMode: true });
      const taken = await lab().serve({ ns: 'lan', port: 8443, reply: 'this host' });
      await agent();
      await run(lab(), ['keep', `8443:${ADDRESSES.rival}:8443`], home);
      const server = await lab().serve(there);
      expect(await reply(8443)).toBe('the other host');
      await server.stop();
      await taken.stop();
    });

    test('of a gateway that maps to anybody needs no rule', async () => {
      await lab().startGateway({ secureMode: false, pcp: false, natpmp: false });
      await agent();
      await run(lab(), ['keep', `8443:${ADDRESSES.rival}:8443`], home);
      await untilRules(lab(), [rule('tcp', 8443, { internalClient: ADDRESSES.rival })]);
      expect(await rules()).toEqual([]);
    });

    test('kept in a terminal is carried on there', async () => {
      await lab().startGateway({ secureMode: true });
      const keep = startKeep(lab(), [`8443:${ADDRESSES.rival}:8443`], home);
      running.push(keep);
      await keep.event('granted');
      const server = await lab().serve(there);
      expect(await reply(8443)).toBe('the other host');
      await server.stop();
      expect((await keep.end()).code).toBe(0);
      expect(await lab().natRules()).toEqual([]);
    });

    test('mapped once is carried on by the agent, until it is unmapped', async () => {
      await lab().startGateway({ secureMode: true });
      const spec = `8443:${ADDRESSES.rival}:8443`;
      const { stderr } = await run(lab(), ['map', spec], { ...home, code: 4 });
      expect(stderr).toContain('natward keep');
      await agent();
      const { mappings } = await runJson<{ readonly mappings: readonly object[] }>(
        lab(),
        ['map', spec],
        home,
      );
      expect(mappings).toMatchObject([
        { externalPort: 8443, target: { address: ADDRESSES.rival, port: 8443 } },
      ]);
      const server = await lab().serve(there);
      expect(await reply(8443)).toBe('the other host');
      await server.stop();
      await run(lab(), ['unmap', spec], home);
      expect(await lab().natRules()).toEqual([]);
      expect(await rules()).toEqual([]);
    });
  });

  describe('the reference’s examples', () => {
    const inLan = { to: ADDRESSES.lan, ns: 'gw' } as const;

    test('1: all incoming TCP 80 goes to local port 8080', async () => {
      await agent();
      await run(lab(), ['rule', 'add', 'in tcp 80 -> :8080'], home);
      const server = await lab().serve({ ns: 'lan', port: 8080, reply: 'local', address: '127.0.0.1' });
      expect(await reply(80, inLan)).toBe('local');
      await server.stop();
    });

    test('3: web traffic is watched, unchanged', async () => {
      await agent();
      await run(lab(), ['rule', 'add', 'in tcp 80 -> monitor', '--id', 'web'], home);
      const server = await lab().serve({ ns: 'lan', port: 80, reply: 'watched', address: '127.0.0.1' });
      expect(await reply(80, { ...inLan, send: '12345' })).toBe('watched');
      await server.stop();
      expect(await rules()).toMatchObject([
        { id: 'web', activity: { conversations: 1, bytesIn: 5, bytesOut: 'watched'.length } },
      ]);
    });

    test('5: all incoming TCP 80 goes to another server, which sees this host as its peer', async () => {
      await agent();
      await run(lab(), ['rule', 'add', `in tcp 80 -> ${ADDRESSES.rival}:8080`], home);
      const server = await lab().serve({ ns: 'rival', port: 8080, reply: 'elsewhere' });
      expect(await reply(80, inLan)).toBe('elsewhere');
      await until('it has seen its peer', async () => server.received.length > 0);
      expect(server.received).toMatchObject([{ from: ADDRESSES.lan }]);
      await server.stop();
    });
  });
});
