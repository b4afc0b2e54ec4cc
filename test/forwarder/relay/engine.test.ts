/** The relay's places: taken and given back while tables, addresses and what the machine has to give change. */

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Rule } from '../../../src/forwarder/rule.ts';
import type { InterfaceAddress } from '../../../src/system/routes.ts';
import {
  aWhile,
  client,
  echo,
  freePort,
  LOOPBACK,
  ownAddress,
  relayOn,
  serve,
  STREAMS,
  table,
  udpPeer,
  until,
} from './support.ts';

const privilegedFrom =
  process.platform === 'linux'
    ? Number(readFileSync('/proc/sys/net/ipv4/ip_unprivileged_port_start', 'latin1'))
    : 0;

const DRAIN = { conversations: 'drain' } as const;

function on(name: string, address: string): InterfaceAddress {
  return { interface: name, family: 4, address, prefixLength: 24, internal: false };
}

for (const [name, streams] of STREAMS) {
  describe(`places of the relay on ${name}`, () => {
    test('a rule for one interface takes nothing of another, beside a rule for all of them', async () => {
      const [first, second, port] = [await serve(echo), await serve(echo), await freePort()];
      const [a, b] = [ownAddress(), ownAddress()];
      const under = relayOn(streams, { own: [...LOOPBACK, on('eth0', a), on('eth1', b)] });
      await under.apply(
        `in tcp ${port} on eth0 -> 127.0.0.1:${first.port}`,
        `in tcp ${port} -> 127.0.0.1:${second.port}`,
      );
      for (const [address, server] of [
        [a, first],
        [b, second],
      ] as const) {
        client({ address, port });
        await server.accepted();
      }
      expect([first.peers.length, second.peers.length]).toEqual([1, 1]);
    });

    test('a port goes from every address to one, to two and back, and its conversations go on', async () => {
      const [target, port] = [await serve(echo), await freePort()];
      const under = relayOn(streams);
      const to = `127.0.0.1:${target.port}`;
      const [a, b] = [ownAddress(), ownAddress()];
      const wide = [`in tcp ${port} -> ${to}`];
      const one = [`in tcp ${a}:${port} -> ${to}`];
      const two = [`in tcp ${a}:${port} -> ${to}`, `in tcp ${b}:${port} -> ${to}`];
      const talking = [];
      for (const lines of [wide, one, two, wide, two, one, wide]) {
        await under.apply(...lines);
        const peer = client({ address: a, port });
        peer.say('a');
        await peer.hears('a');
        talking.push(peer);
        const other = client({ address: b, port });
        await until(() => other.isConnected || other.error === 'ECONNREFUSED');
        expect(other.isConnected).toBe(lines !== one);
        other.socket.destroy();
      }
      for (const peer of talking) {
        peer.say('b');
        await peer.hears('ab');
      }
    });

    test('where a swap fails, every place that went for it listens again', async () => {
      const [target, taken] = [await serve(echo), await serve()];
      const [a, b, port] = [ownAddress(), ownAddress(), await freePort()];
      const under = relayOn(streams);
      const to = `127.0.0.1:${target.port}`;
      const before = [
        `in tcp ${a}:${port} -> ${to}`,
        `in tcp ${b}:${port} -> ${to}`,
        `in udp ${a}:${port} -> ${to}`,
      ];
      await under.apply(...before);
      const next = table(`in tcp+udp ${port} -> ${to}`, `in tcp 127.0.0.1:${taken.port} -> ${to}`);
      await expect(under.relay.apply(next, DRAIN)).rejects.toMatchObject({ code: 'CONFLICT' });
      for (const address of [a, b]) {
        const peer = client({ address, port });
        peer.say('a');
        await peer.hears('a');
      }
      const refused = client({ address: '127.0.0.1', port });
      await until(() => refused.error === 'ECONNREFUSED');
      expect(under.troubles.size).toBe(0);
      const one = await udpPeer();
      one.send('a', { address: a, port });
      await until(async () => (await under.relay.activity()).get('r3')?.conversations === 1);
    });

    test('rules come and go beside others, which do not notice, also where one is refused', async () => {
      const [first, second, taken] = [await serve(echo), await serve(echo), await serve()];
      const [one, two] = [await freePort(), await freePort()];
      const under = relayOn(streams);
      const [a, b, c, d] = table(
        `in tcp ${one} -> 127.0.0.1:${first.port}`,
        `in tcp ${two} -> 127.0.0.1:${second.port}`,
        `in tcp 127.0.0.1:${taken.port} -> refuse`,
        `in tcp ${one} from 127.0.0.0/8 -> refuse`,
      ) as [Rule, Rule, Rule, Rule];
      await under.relay.apply([a], DRAIN);
      const peer = client({ address: '127.0.0.1', port: one });
      peer.say('a');
      await peer.hears('a');
      await under.relay.apply([a, b], DRAIN);
      await expect(under.relay.apply([a, b, c], DRAIN)).rejects.toMatchObject({ code: 'CONFLICT' });
      const other = client({ address: '127.0.0.1', port: two });
      other.say('b');
      await other.hears('b');
      expect([...(await under.relay.activity())].map(([id, { open }]) => [id, open])).toEqual([
        ['r1', 1],
        ['r2', 1],
      ]);
      // Of two rules of one port the upper decides, whichever came later.
      await under.relay.apply([d, a], DRAIN);
      const refused = client({ address: '127.0.0.1', port: one });
      await until(() => refused.error !== undefined);
      await under.relay.apply([a, d], DRAIN);
      const late = client({ address: '127.0.0.1', port: one });
      late.say('c');
      await late.hears('c');
      const gone = client({ address: '127.0.0.1', port: two });
      await until(() => gone.error === 'ECONNREFUSED');
      peer.say('d');
      await peer.hears('ad');
    });

    test('a place of one address does not end the UDP of another, which drains', async () => {
      const target = await udpPeer('127.0.0.1', (data) => data);
      const [a, b, port] = [ownAddress(), ownAddress(), await freePort()];
      const under = relayOn(streams);
      await under.apply(`in udp ${a}:${port} -> 127.0.0.1:${target.port}`);
      const one = await udpPeer();
      one.send('a', { address: a, port });
      await until(() => one.heard.length === 1);
      await under.relay.apply(
        [...table(`in udp ${b}:${port} -> 127.0.0.1:${target.port}`)].map((rule) => ({ ...rule, id: 'b' })),
        DRAIN,
      );
      one.send('b', { address: a, port });
      await until(() => one.heard.length === 2);
      // Every address is one of those where it still drains: it has to make room.
      await under.apply(`in udp ${port} -> 127.0.0.1:${target.port}`);
      await until(async () => (await under.relay.conversations()).length === 0);
    });

    // The conversation's local address is the wildcard's, `::`, from which the target's family is taken: see udp.ts.
    test('on every address, UDP of each family leads to this host’s address of that family', async () => {
      const port = await freePort();
      const under = relayOn(streams);
      await under.apply(`in udp ${port} -> :${await freePort()}`);
      for (const address of ['127.0.0.1', '::1']) {
        const one = await udpPeer(address);
        one.send('a', { address, port });
      }
      await until(() => under.events.filter(({ type }) => type === 'opened').length === 2);
      // Nobody is there: a conversation may be over by the time it is looked at.
      const ended = () =>
        under.events.flatMap((event) => (event.type === 'closed' ? event.conversation : []));
      const targets = async () => [
        ...new Set(
          [...(await under.relay.conversations()), ...ended()].flatMap(({ target }) => target?.address ?? []),
        ),
      ];
      await until(async () => (await targets()).length === 2);
      expect((await targets()).toSorted()).toEqual(['127.0.0.1', '::1']);
    });

    test('addresses of the host come and go, and its places with them', async () => {
      const target = await serve((peer) => peer.say('in'));
      const [a, b, port] = [ownAddress(), ownAddress(), await freePort()];
      const under = relayOn(streams);
      const report = await under.apply(`in tcp ${port} on vpn0 -> 127.0.0.1:${target.port}`);
      expect(report.waiting).toEqual([
        { ruleId: 'r1', reason: 'there is no interface vpn0 with an address' },
      ]);
      const at = { address: a, port };
      const early = client(at);
      await until(() => early.error === 'ECONNREFUSED');
      under.host.own = [...LOOPBACK, on('vpn0', a)];
      await under.clock.advance(2000);
      await until(async () => (await under.relay.activity()).size === 1);
      await aWhile();
      const one = client(at);
      await one.hears('in');
      under.host.own = [...LOOPBACK, on('vpn0', b)];
      await under.clock.advance(2000);
      await aWhile();
      const gone = client(at);
      await until(() => gone.error === 'ECONNREFUSED');
      await client({ address: b, port }).hears('in');
      expect(one.isClosed).toBe(false);
    });

    test('a place that is in somebody’s way is tried again until it is free, and said meanwhile', async () => {
      const [a, port] = [ownAddress(), await freePort()];
      const under = relayOn(streams);
      await under.apply(`in tcp ${port} on vpn0 -> refuse`);
      const squatter = await serve(undefined, { address: a, port });
      under.host.own = [...LOOPBACK, on('vpn0', a)];
      await under.clock.advance(2000);
      await until(() => under.troubles.size === 1);
      expect(under.troubles.get('listen')).toMatchObject({ code: 'CONFLICT' });
      await squatter.close();
      await under.clock.advance(4000);
      await until(() => under.troubles.size === 0);
      const one = client({ address: a, port });
      await until(() => one.error === 'ECONNRESET');
    });

    test('a table that is taken while the addresses change is not undone', async () => {
      const target = await serve((peer) => peer.say('new'));
      const [a, port] = [ownAddress(), await freePort()];
      const under = relayOn(streams);
      await under.apply(`in tcp ${a}:${port} -> refuse`);
      // The look at the addresses falls into an apply that is under way.
      const applying = under.apply(
        `in udp ${a}:${port} -> 127.0.0.1:1`,
        `in tcp ${a}:${port} -> 127.0.0.1:${target.port}`,
      );
      under.host.own = [...LOOPBACK, on('eth0', '192.0.2.1')];
      await under.clock.advance(2000);
      await applying;
      await under.clock.advance(2000);
      expect([...(await under.relay.activity()).keys()]).toEqual(['r1', 'r2']);
      await client({ address: a, port }).hears('new');
    });

    test('while it drains, addresses that change open nothing', async () => {
      const target = await serve(echo);
      const [a, b, port] = [ownAddress(), ownAddress(), await freePort()];
      const under = relayOn(streams, { own: [...LOOPBACK, on('eth0', a)] });
      await under.apply(`in tcp ${port} on eth0 -> 127.0.0.1:${target.port}`);
      const one = client({ address: a, port });
      one.say('a');
      await one.hears('a');
      const draining = under.relay.drain(60_000);
      under.host.own = [...LOOPBACK, on('eth0', a), on('eth0', b)];
      await under.clock.advance(5000);
      for (const address of [a, b]) {
        const late = client({ address, port });
        await until(() => late.error === 'ECONNREFUSED');
      }
      one.socket.destroy();
      await until(async () => (await under.relay.conversations()).length === 0);
      await under.clock.advance(1000);
      await draining;
      expect(under.troubles.size).toBe(0);
    });

    test('a table of more places than this process may have files is refused', async () => {
      const under = relayOn(streams, { fileLimit: 300 });
      await expect(under.apply('in tcp 20000-20100 -> refuse')).rejects.toMatchObject({
        code: 'NO_RESOURCES',
        message: expect.stringMatching(/listens in 101 places, and this process may have 300 files/),
      });
      expect((await under.relay.activity()).size).toBe(0);
    });

    test('no more conversations run than there are files for, and it is said until it is over', async () => {
      const target = await serve(echo);
      const under = relayOn(streams, { fileLimit: 256 + 1 + 4 });
      const at = { address: ownAddress(), port: await freePort() };
      await under.apply(`in tcp ${at.address}:${at.port} -> 127.0.0.1:${target.port} per-client 9`);
      const [one, two] = [client(at), client(at)];
      await until(async () => (await under.relay.conversations()).length === 2);
      const three = client(at);
      await until(() => three.error === 'ECONNRESET');
      expect(under.troubles.get('accept')).toMatchObject({ code: 'NO_RESOURCES' });
      for (const peer of [one, two]) peer.socket.destroy();
      await until(async () => (await under.relay.conversations()).length === 0);
      await under.clock.advance(11_000);
      expect(under.troubles.size).toBe(0);
      const four = client(at);
      four.say('a');
      await four.hears('a');
    });

    test.runIf(privilegedFrom > 80)('a port that this user may not have is refused as such', async () => {
      const under = relayOn(streams);
      await asNobody(async () => {
        await expect(under.apply(`in tcp ${ownAddress()}:80 -> refuse`)).rejects.toMatchObject({
          code: 'NOT_AUTHORIZED',
          message: expect.stringMatching(/this user may not listen on TCP .*:80, for rule r1/),
        });
      });
    });

    test('with many places at once nothing is left behind', async () => {
      const [address, target] = [ownAddress(), await serve(echo)];
      const under = relayOn(streams);
      await under.apply(`in tcp ${address}:21000-22499 -> 127.0.0.1:${target.port}`);
      const one = client({ address, port: 22_499 });
      one.say('a');
      await one.hears('a');
      await under.apply(`in tcp ${address}:22499 -> 127.0.0.1:${target.port}`);
      const gone = client({ address, port: 21_700 });
      await until(() => gone.error === 'ECONNREFUSED');
    });
  });
}

test.runIf(process.platform === 'linux').each(STREAMS.map(([name]) => name))(
  'on %s a process that has no files left says so, lives, and goes on when it has some again',
  async (name) => {
    const child = spawn(
      'sh',
      ['-c', 'ulimit -n 64; exec "$0" --import tsx "$1" "$2"', process.execPath, CHILD, name],
      { stdio: ['pipe', 'pipe', 'inherit'] },
    );
    onTestFinished(async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    });
    const said: string[] = [];
    createInterface(child.stdout).on('line', (line) => said.push(line));
    await until(() => said.some((line) => line.startsWith('listens')));
    const port = Number(said[0]?.split(' ')[1]);
    const many = Array.from({ length: 60 }, () => client({ address: '127.0.0.1', port }));
    for (const peer of many) peer.say('a');
    await until(() => many.every(({ bytes, isClosed, hasEnded }) => bytes > 0 || isClosed || hasEnded));
    const served = many.filter(({ bytes }) => bytes > 0).length;
    expect(served).toBeGreaterThan(5);
    expect(served).toBeLessThan(40);
    for (const { socket } of many) socket.destroy();
    await until(() => {
      child.stdin.write('\n');
      return said.at(-1) === 'open 0';
    }, 'all is given back');
    const again = client({ address: '127.0.0.1', port });
    again.say('b');
    await again.hears('b');
  },
);

/** Root has its privileges back afterwards. */
async function asNobody(work: () => Promise<void>): Promise<void> {
  const isRoot = process.geteuid?.() === 0;
  if (isRoot) process.seteuid?.(65_534);
  try {
    await work();
  } finally {
    if (isRoot) process.seteuid?.(0);
  }
}

const CHILD = fileURLToPath(new URL('relay-of-few-files.ts', import.meta.url));
