/** Flows of a real kernel as conntrack tells of them, with the traffic that they are of. */

import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { EngineEvent } from '../../../src/forwarder/engine.ts';
import {
  deleteCommand,
  eventsCommand,
  type Flow,
  listCommand,
  parseFlow,
} from '../../../src/forwarder/nftables/flow.ts';
import { Flows } from '../../../src/forwarder/nftables/flows.ts';
import { followProgram } from '../../../src/system/follow-program.ts';
import { ADDRESSES, type Lab } from '../support/lab.ts';
import { describeLab } from '../support/suite.ts';

const OUTER6 = '2001:db8:2::1';
const MASK = 0xffff_0000;
/** The kept conversation's mark has the highest bit, and a lower half of somebody else. */
const KEPT = 0xfff0;
const RULES = new Map([
  [1, 'web'],
  [2, 'names'],
  [KEPT, 'kept'],
]);

const TABLE = `
flush chain inet filter forward
table inet flows {
  chain marks {
    type filter hook prerouting priority -106; policy accept;
    ct state new tcp dport 80 ct mark set 0x00010000
    ct state new udp dport 53 ct mark set 0x00020000
    ct state new tcp dport 81 ct mark set 0xfff00007
    ct state new tcp dport 82 ct mark set 0x00000007
  }
  chain targets {
    type nat hook prerouting priority -105; policy accept;
    meta nfproto ipv4 tcp dport { 80, 82 } dnat ip to ${ADDRESSES.lan}:8080
    meta nfproto ipv4 tcp dport 81 dnat ip to ${ADDRESSES.lan}:8081
    meta nfproto ipv4 udp dport 53 dnat ip to ${ADDRESSES.lan}:5353
    meta nfproto ipv6 tcp dport 80 dnat ip6 to [${ADDRESSES.lan6}]:8080
    meta nfproto ipv6 udp dport 53 dnat ip6 to [${ADDRESSES.lan6}]:5353
  }
}
`;
// What is over is forgotten in a second, so that nobody waits for it.
const SETTINGS = ['nf_conntrack_acct=1', 'nf_conntrack_timestamp=1', 'nf_conntrack_udp_timeout=1'].concat(
  'nf_conntrack_tcp_timeout_time_wait=1',
);
const SERVE_KEPT = `require('node:net').createServer(() => {}).listen(8081, '0.0.0.0', () => console.log('listening'))`;
const CONNECT_KEPT = `require('node:net').connect(81, '${ADDRESSES.outer}', () => console.log('connected'))`;

describeLab('flows of the kernel', { ipv6: true }, (lab: () => Lab) => {
  const stop = new AbortController();
  const heard: Flow[] = [];
  const events: EngineEvent[] = [];
  const flows = new Flows({ ruleOf: (mark) => RULES.get(mark), now: Date.now });
  flows.listen((event) => events.push(event));
  let following: Promise<void>;

  async function follow(): Promise<void> {
    const [program, ...args] = lab().command('gw', eventsCommand());
    const command = [program ?? '', ...args] as const;
    for await (const lines of followProgram({ command, signal: stop.signal, maxLineBytes: 1000 })) {
      for (const line of lines) {
        const flow = parseFlow(line);
        if (flow === undefined) continue;
        heard.push(flow);
        flows.heard(flow);
      }
    }
  }

  async function list(only?: Parameters<typeof listCommand>[0]): Promise<Flow[]> {
    const text = await lab().must('gw', listCommand(only));
    return text.split('\n').flatMap((line) => parseFlow(line) ?? []);
  }

  async function refresh(): Promise<void> {
    flows.expectListing();
    flows.replace(await list());
  }

  const closed = (ruleId: string) =>
    events.flatMap((event) =>
      event.type === 'closed' && event.conversation.ruleId === ruleId ? [event] : [],
    );

  beforeAll(async () => {
    const settings = SETTINGS.map((setting) => `net.netfilter.${setting}`);
    await lab().must('gw', ['sysctl', '-qw', ...settings]);
    await lab().must('gw', ['nft', '-f', '-'], { input: TABLE });
    following = follow();
    await lab().serve({ port: 8080, reply: 'web' });
    await lab().serve({ port: 8080, address: ADDRESSES.lan6, reply: 'web' });
    await lab().serve({ port: 5353, protocol: 'udp', reply: 'names' });
    await lab().serve({ port: 5353, address: ADDRESSES.lan6, protocol: 'udp', reply: 'names' });
    // The events are followed as soon as one is heard.
    await vi.waitUntil(async () => {
      await lab().connectFromWan(82);
      return heard.length > 0;
    });
  });
  afterAll(async () => {
    stop.abort();
    await following;
  });

  test.each([
    ['IPv4', { to: ADDRESSES.outer, client: ADDRESSES.wan, target: ADDRESSES.lan, header: 28 }],
    ['IPv6', { to: OUTER6, client: ADDRESSES.wan6, target: ADDRESSES.lan6, header: 48 }],
  ])('a UDP conversation over %s is told with what it carried', async (_, { to, client, target, header }) => {
    expect(await lab().connectFromWan(53, 'udp', { to, send: 'ping' })).toBe('names');
    const ends = {
      ruleId: 'names',
      protocol: 'udp',
      client: { address: client, port: expect.any(Number) },
      local: { address: to, port: 53 },
      target: { address: target, port: 5353 },
    };
    const counts = { bytesIn: header + 'ping'.length, bytesOut: header + 'names'.length };
    // An old flow is told gone when somebody looks at it.
    await expect
      .poll(
        async () => {
          await refresh();
          return closed('names').filter(({ conversation }) => conversation.local.address === to);
        },
        { timeout: 10_000 },
      )
      .toEqual([
        {
          type: 'closed',
          reason: expect.stringMatching(/^silent for too long$|^it ended unseen$/),
          conversation: expect.objectContaining({ ...ends, ...counts }),
        },
      ]);
    const told = heard.filter(({ local, protocol }) => protocol === 'udp' && local.address === to);
    expect(told).toMatchObject([
      { event: 'new', isAnswered: false, mark: 0x20000 },
      { event: 'destroy', isAnswered: true, packetsIn: 1, packetsOut: 1, ...counts },
    ]);
    expect(Math.abs((told[0]?.heardAtMs ?? 0) - Date.now())).toBeLessThan(60_000);
  });

  test.each([
    ['IPv4', { to: ADDRESSES.outer, target: ADDRESSES.lan }],
    ['IPv6', { to: OUTER6, target: ADDRESSES.lan6 }],
  ])('a TCP conversation over %s is finished when both sides are', async (_, { to, target }) => {
    expect(await lab().connectFromWan(80, 'tcp', { to, send: 'x'.repeat(5000) })).toBe('web');
    await expect
      .poll(
        async () => {
          await refresh();
          return closed('web').filter(({ conversation }) => conversation.local.address === to);
        },
        { timeout: 10_000 },
      )
      .toMatchObject([
        { reason: 'finished', conversation: { ruleId: 'web', target: { address: target, port: 8080 } } },
      ]);
    const [over] = closed('web').slice(-1);
    expect(over?.conversation.bytesIn).toBeGreaterThan(5000);
    expect(over?.conversation.bytesOut).toBeGreaterThan(3);
  });

  test('the kernel picks by mark, tells how old a flow is, and deletes by mark', async () => {
    const server = lab().spawn('lan', ['node', '-e', SERVE_KEPT]);
    await server.waitFor(/^listening$/m);
    const client = lab().spawn('wan', ['node', '-e', CONNECT_KEPT]);
    await client.waitFor(/^connected$/m);
    const kept = { state: 'ESTABLISHED', mark: 0xfff0_0007, isAnswered: true };
    expect(await list({ mark: 0xfff0_0000, mask: MASK })).toMatchObject([kept]);
    expect(await list({ mark: 0x8000_0000, mask: 0x8000_0000 })).toMatchObject([kept]);
    expect(await list({ mark: 0xfff1_0000, mask: MASK })).toEqual([]);
    expect((await list()).length).toBeGreaterThanOrEqual(1);
    expect((await list({ mark: 0xfff0_0000, mask: MASK }))[0]?.ageSeconds).toBeLessThan(60);
    await refresh();
    expect(flows.openByMark().get(KEPT)).toBe(1);

    const deleted = await lab().must('gw', deleteCommand(0xfff0_0000, MASK));
    expect(deleted.split('\n').flatMap((line) => parseFlow(line) ?? [])).toMatchObject([kept]);
    await expect.poll(() => closed('kept').length).toBe(1);
    expect(closed('kept')).toMatchObject([{ reason: 'it was taken out of the kernel’s table' }]);
    expect(flows.openByMark().get(KEPT)).toBeUndefined();
    expect(await lab().exec('gw', deleteCommand(0xfff0_0000, MASK))).toMatchObject({ code: 1, stdout: '' });
    await client.stop();
    await server.stop();
  });

  test('nothing of another mark was taken for ours', () => {
    const ours = new Set(
      events.flatMap((event) => ('conversation' in event ? [event.conversation.local.port] : [])),
    );
    expect(heard.some(({ local }) => local.port === 82)).toBe(true);
    expect([...ours].sort((a, b) => a - b)).toEqual([53, 80, 81]);
  });
});
