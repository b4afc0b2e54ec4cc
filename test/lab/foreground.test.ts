/** `natward keep` in a terminal: what it leaves behind, or not, and what beside it can be done. */

import { afterEach, beforeEach, expect, test } from 'vitest';
import { type Keeping, startKeep, stopwatch, until, untilEach, untilRules } from './support/keeping.ts';
import { ADDRESSES, type NatwardOptions } from './support/lab.ts';
import { countPackets } from './support/packets.ts';
import { describeLab, freshHome, listed, rule, run } from './support/suite.ts';

describeLab('keep in a terminal', { rival: true }, (lab) => {
  let keeps: Keeping[] = [];
  let home: { readonly home: string };

  beforeEach(() => {
    keeps = [];
    home = freshHome();
  });
  afterEach(async () => {
    await Promise.all(keeps.map((keep) => keep.end('SIGKILL')));
  });

  const start = (args: readonly string[], options: NatwardOptions = home): Keeping => {
    const keep = startKeep(lab(), args, options);
    keeps.push(keep);
    return keep;
  };
  const keeping = async (...args: string[]): Promise<Keeping> => {
    const keep = start(args);
    await keep.event('granted');
    return keep;
  };

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('%s releases what it kept', async (signal) => {
    await lab().startGateway();
    const keep = await keeping('8080', '*:6881/tcp+udp');
    await untilRules(lab(), [rule('tcp', 6881), rule('udp', 6881), rule('tcp', 8080)]);
    expect((await keep.end(signal)).code).toBe(0);
    expect(keep.eventsOf('released')).toHaveLength(3);
    expect(await lab().natRules()).toEqual([]);
    expect(await listed(lab(), home)).toEqual([]);
  });

  test('people read a fact a line', async () => {
    await lab().startGateway();
    const keep = lab().spawnNatward(['keep', '8080', '--via', 'pcp'], home);
    await keep.waitFor(/ kept, /);
    const { stdout, stderr } = await keep.stop('SIGINT');
    expect(stdout.split('\n')).toEqual([
      `gateway ${ADDRESSES.gateway} answers`,
      expect.stringMatching(
        /^tcp 11\.22\.33\.44:8080 -> 192\.168\.77\.10:8080 kept, 2h at a time via PCP on 192\.168\.77\.1 \[[0-9a-f]{8}\]$/,
      ),
      'tcp 8080 -> 8080 released',
      '',
    ]);
    expect(stderr).toBe('');
  });

  test('killed, it leaves what natward unmap takes back', async () => {
    await lab().startGateway();
    const keep = await keeping('8080', '--via', 'pcp');
    const other = await keeping('8081', '--via', 'upnp');
    await until('they are remembered', async () => (await listed(lab(), home)).every(({ own }) => own));
    await Promise.all([keep, other].map((killed) => killed.end('SIGKILL')));
    expect(await lab().natRules()).toEqual([rule('tcp', 8080), rule('tcp', 8081)]);
    await run(lab(), ['unmap', '8080', '8081'], home);
    expect(await lab().natRules()).toEqual([]);
    expect(await listed(lab(), home)).toEqual([]);
  });

  test('two with one memory stand side by side: one ends, the other stays and is still ours', async () => {
    await lab().startGateway();
    const first = await keeping('8080');
    const second = await keeping('8081/tcp+udp');
    const all = [rule('tcp', 8080), rule('tcp', 8081), rule('udp', 8081)];
    await untilRules(lab(), all);
    await until('all are remembered', async () => (await listed(lab(), home)).every(({ own }) => own));
    await first.end();
    expect(await lab().natRules()).toEqual(all.slice(1));
    expect(await listed(lab(), home)).toEqual(all.slice(1).map((one) => ({ ...one, own: true })));
    await second.end();
    expect(await lab().natRules()).toEqual([]);
  });

  test('ended while the gateway is dead, it says what stays, and natward unmap takes that back later', async () => {
    await lab().startGateway();
    const keep = await keeping('8080');
    await until('it is remembered', async () => (await listed(lab(), home)).every(({ own }) => own));
    for (const protocol of ['pcp', 'natpmp', 'ssdp', 'http'] as const) await lab().block({ protocol });
    const startedMs = performance.now();
    const { code, stderr } = await keep.end();
    expect(performance.now() - startedMs).toBeLessThan(3_500);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^natward: .*lifetime/);
    await lab().unblock();
    expect(await lab().natRules()).toEqual([rule('tcp', 8080)]);
    await run(lab(), ['unmap', '8080'], home);
    expect(await lab().natRules()).toEqual([]);
  });

  test('started before the gateway, it waits for it', async () => {
    const gateway = await lab().startGateway();
    await gateway.stop();
    const searches = await countPackets(lab(), 'udp dport 1900');
    const keep = start(['8080']);
    // It has looked when its first search has gone out.
    await until('it has looked', async () => (await searches()) > 0);
    expect(keep.events).toEqual([]);
    const watch = stopwatch('started before the gateway', 'announced');
    await gateway.start();
    await untilEach(lab(), { any: rule('tcp', 8080) }, watch);
  });

  test('a range of which another host has one: each of ours has a port of its own', async () => {
    await lab().startGateway({ pcp: false, natpmp: false });
    await lab().upnpc(['-a', ADDRESSES.rival, '80', '9000', 'tcp', '600'], { ns: 'rival' });
    const keep = await keeping('9000-9003');
    await until('all are granted', async () => keep.eventsOf('granted').length >= 4);
    await until('four of ours', async () => (await lab().natRules()).length === 5);
    const ours = (await lab().natRules()).filter(({ internalClient }) => internalClient === ADDRESSES.lan);
    expect(new Set(ours.map(({ internalPort }) => internalPort))).toEqual(new Set([9000, 9001, 9002, 9003]));
    await keep.end();
    expect(await lab().natRules()).toHaveLength(1);
  });
});
