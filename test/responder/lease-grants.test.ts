import { describe, expect, test } from 'vitest';
import type { GrantRequest } from '../../src/responder/grant.ts';
import { LeaseGrants } from '../../src/responder/lease-grants.ts';
import type { ClientRights } from '../../src/responder/rights.ts';
import type { TableEntry } from '../../src/responder/table.ts';
import type { UpstreamWish } from '../../src/responder/upstream.ts';
import { TestClock } from '../support/test-clock.ts';
import { TestUpstream } from './test-upstream.ts';

const ONE = '10.0.0.5';
const OTHER = '10.0.0.6';
const RIGHTS: ClientRights = {
  externalPorts: [{ first: 1024, last: 65_535 }],
  maxMappings: 3,
  requestsPerSecond: 100,
  mayMapForOthers: false,
};
const NONCE = new Uint8Array(12).fill(1);

const PCP: GrantRequest = {
  via: 'pcp',
  requester: ONE,
  protocol: 'udp',
  internalClient: ONE,
  internalPort: 6881,
  suggestedExternalPort: 0,
  exact: false,
  lifetimeSeconds: 3600,
  description: undefined,
  enabled: true,
  remotePeers: undefined,
  nonce: NONCE,
};
const UPNP: GrantRequest = {
  ...PCP,
  via: 'upnp',
  protocol: 'tcp',
  internalPort: 80,
  suggestedExternalPort: 8080,
  exact: true,
  description: 'web',
  remotePeers: [],
};

function sceneFor(
  rights: Readonly<Record<string, Partial<ClientRights>>> = {},
  upstream: TestUpstream = new TestUpstream(),
) {
  const clock = new TestClock();
  const heard: string[] = [];
  const grants = new LeaseGrants(upstream, {
    clock,
    maxMappings: () => 5,
    rightsOf: (client) => (client.startsWith('10.0.0.') ? { ...RIGHTS, ...rights[client] } : undefined),
    isInside: (host) => host.startsWith('10.0.0.'),
  });
  const hear = (word: string) => (entry: TableEntry) => void heard.push(`${word} ${entry.externalPort}`);
  grants.listen({ moved: hear('moved'), gone: hear('gone'), changed: () => undefined });
  const remove = (entry: TableEntry | undefined) =>
    grants.remove('pcp', () => (entry === undefined ? [] : [entry]));
  return { clock, upstream, grants, heard, remove };
}

function portOf(outcome: Awaited<ReturnType<LeaseGrants['grant']>>): number | string {
  return outcome.kind === 'granted' ? outcome.entry.externalPort : outcome.refusal;
}

describe('what a client asks for', () => {
  test('is held by the outer gateway, whose port, address and lifetime the client is told', async () => {
    const { grants, upstream } = sceneFor();
    upstream.taken.add(6881);
    upstream.lifetimeSeconds = 600;
    expect(await grants.grant(PCP)).toMatchObject({
      kind: 'granted',
      lifetimeSeconds: 600,
      entry: { externalPort: 6882, externalAddress: '198.51.100.7', internalClient: ONE },
    });
    expect(upstream.rows).toEqual(['udp 6882 -> 10.0.0.5:6881']);
    expect(upstream.asked).toMatchObject([{ via: 'pcp', nonce: NONCE, isEndless: false, exact: false }]);
  });

  test('again is answered from the table, for as long again', async () => {
    const { grants, upstream, clock } = sceneFor();
    await grants.grant(PCP);
    await clock.advance(1_800_000);
    const again = await grants.grant({ ...PCP, suggestedExternalPort: 6881 });
    expect(again).toMatchObject({ lifetimeSeconds: 3600, entry: { expiresAtMs: clock.now() + 3_600_000 } });
    expect(upstream.asked).toHaveLength(1);
  });

  test('twice at once is one mapping', async () => {
    const { grants, upstream } = sceneFor();
    const outcomes = await Promise.all([grants.grant(PCP), grants.grant(PCP), grants.grant(PCP)]);
    expect(outcomes.map(portOf)).toEqual([6881, 6881, 6881]);
    expect(upstream.asked).toHaveLength(1);
  });

  test.each(['taken', 'not-authorized', 'no-free-port', 'network-down'] as const)(
    'and the outer gateway refuses as %s is refused so, and takes no place',
    async (refusal) => {
      const { grants, upstream } = sceneFor({ [ONE]: { maxMappings: 1 } });
      upstream.refuses = refusal;
      expect(portOf(await grants.grant(PCP))).toBe(refusal);
      upstream.refuses = undefined;
      expect(portOf(await grants.grant(PCP))).toBe(6881);
    },
  );

  test('is not for a longer time than the outer gateway has promised, nor shorter than two minutes', async () => {
    const { grants, upstream } = sceneFor();
    expect(await grants.grant({ ...PCP, lifetimeSeconds: 1 })).toMatchObject({ lifetimeSeconds: 120 });
    upstream.lifetimeSeconds = undefined;
    expect(await grants.grant({ ...PCP, internalPort: 1, lifetimeSeconds: 2 ** 32 - 1 })).toMatchObject({
      lifetimeSeconds: 86_400,
    });
  });

  test('ends when its time is over, and is given back', async () => {
    const { grants, upstream, clock } = sceneFor();
    await grants.grant(PCP);
    await clock.advance(3_600_000);
    await clock.settle(expect.poll(() => upstream.rows).toEqual([]));
    expect(grants.list()).toEqual([]);
  });

  test('without an end stays', async () => {
    const { grants, upstream, clock } = sceneFor();
    await grants.grant({ ...UPNP, lifetimeSeconds: undefined });
    await clock.advance(30 * 86_400_000);
    expect(upstream.rows).toEqual(['tcp 8080 -> 10.0.0.5:80']);
    expect(upstream.asked).toMatchObject([{ lifetimeSeconds: 7200, isEndless: true }]);
  });

  test('no longer is given back, and asked for again waits for that', async () => {
    const { grants, upstream, remove } = sceneFor();
    await grants.grant(PCP);
    let goOn: () => void = () => undefined;
    upstream.late = new Promise((resolve) => {
      goOn = resolve;
    });
    await remove(grants.list()[0]);
    expect(grants.list()).toEqual([]);
    const again = grants.grant(PCP);
    expect(upstream.asked).toHaveLength(1);
    goOn();
    expect(portOf(await again)).toBe(6881);
    expect(upstream.rows).toEqual(['udp 6881 -> 10.0.0.5:6881']);
  });

  test('may be pointed to another port of its own, or limited to a peer: it is held anew', async () => {
    const { grants, upstream } = sceneFor();
    await grants.grant(UPNP);
    expect(portOf(await grants.grant({ ...UPNP, internalPort: 81 }))).toBe(8080);
    expect(upstream.rows).toEqual(['tcp 8080 -> 10.0.0.5:81']);
    const peer = { address: '192.0.2.1', prefixLength: 32, port: 0 };
    await grants.grant({ ...UPNP, internalPort: 81, remotePeers: [peer] });
    expect(upstream.asked.at(-1)).toMatchObject({ remotePeer: peer });
    expect([upstream.held.size, grants.list().length]).toEqual([1, 1]);
  });

  test('switched off has no mapping outside, and gets one when it is switched on', async () => {
    const { grants, upstream } = sceneFor();
    expect(portOf(await grants.grant({ ...UPNP, enabled: false }))).toBe(8080);
    expect(upstream.rows).toEqual([]);
    await grants.grant(UPNP);
    expect(upstream.rows).toEqual(['tcp 8080 -> 10.0.0.5:80']);
    await grants.grant({ ...UPNP, enabled: false });
    expect([upstream.rows, grants.list().length]).toEqual([[], 1]);
  });
});

describe('a client', () => {
  test('maps for itself alone, unless it is trusted, and never for a host elsewhere', async () => {
    const { grants } = sceneFor({ [OTHER]: { mayMapForOthers: true } });
    expect(portOf(await grants.grant({ ...UPNP, internalClient: OTHER }))).toBe('not-authorized');
    expect(portOf(await grants.grant({ ...UPNP, requester: OTHER, internalClient: ONE }))).toBe(8080);
    const elsewhere = { ...UPNP, requester: OTHER, internalClient: '192.0.2.9' };
    expect(portOf(await grants.grant(elsewhere))).toBe('not-authorized');
    expect(portOf(await grants.grant({ ...UPNP, requester: '192.0.2.9' }))).toBe('not-authorized');
  });

  test('gets no port that it may not have: the one it asks for is refused, or another is found', async () => {
    const { grants } = sceneFor({ [ONE]: { externalPorts: [{ first: 5000, last: 65_535 }] } });
    expect(portOf(await grants.grant({ ...UPNP, suggestedExternalPort: 80 }))).toBe('denied-port');
    expect(portOf(await grants.grant({ ...PCP, internalPort: 90 }))).toBeGreaterThanOrEqual(5000);
    const { grants: narrow, upstream: outer } = sceneFor({
      [ONE]: { externalPorts: [{ first: 6881, last: 6881 }] },
    });
    outer.taken.add(6881);
    expect(portOf(await narrow.grant(PCP))).toBe('denied-port');
    expect(outer.rows).toEqual([]);
  });

  test('has as many mappings as it may, and all together as many as the table holds', async () => {
    const { grants, remove } = sceneFor();
    const ask = (requester: string, internalPort: number) =>
      grants.grant({ ...PCP, requester, internalClient: requester, internalPort }).then(portOf);
    expect(await Promise.all([2001, 2002, 2003, 2004].map((port) => ask(ONE, port)))).toEqual([
      2001,
      2002,
      2003,
      'over-quota',
    ]);
    expect(await Promise.all([3001, 3002, 3003].map((port) => ask(OTHER, port)))).toEqual([
      3001,
      3002,
      'table-full',
    ]);
    await remove(grants.list()[0]);
    expect(await ask(OTHER, 3003)).toBe(3003);
  });

  test('does not get, change or end what is another’s', async () => {
    const { grants, upstream } = sceneFor();
    await grants.grant(UPNP);
    const his = { ...UPNP, requester: OTHER, internalClient: OTHER };
    expect(portOf(await grants.grant(his))).toBe('taken');
    expect(portOf(await grants.grant({ ...his, exact: false }))).not.toBe(8080);
    expect(upstream.rows[0]).toBe('tcp 8080 -> 10.0.0.5:80');
    await grants.grant(PCP);
    expect(portOf(await grants.grant({ ...PCP, nonce: new Uint8Array(12) }))).toBe('wrong-nonce');
  });

  test('that maps a port keeps the same port of the other protocol (RFC 6886, section 3.3)', async () => {
    const { grants } = sceneFor();
    await grants.grant({ ...PCP, via: 'natpmp' });
    const his: GrantRequest = {
      ...PCP,
      via: 'natpmp',
      protocol: 'tcp',
      requester: OTHER,
      internalClient: OTHER,
      suggestedExternalPort: 6881,
    };
    expect(portOf(await grants.grant(his))).not.toBe(6881);
    const own: GrantRequest = { ...PCP, via: 'natpmp', protocol: 'tcp' };
    expect(portOf(await grants.grant(own))).toBe(6881);
  });

  test('may not limit a mapping to two peers', async () => {
    const { grants } = sceneFor();
    const remotePeers = ['192.0.2.1', '192.0.2.2'].map((address) => ({ address, prefixLength: 32, port: 0 }));
    expect(portOf(await grants.grant({ ...PCP, remotePeers }))).toBe('too-many-peers');
  });
});

test('what is mapped for a client that may nothing any more is ended', async () => {
  const { grants, upstream, clock } = sceneFor();
  await grants.grant(PCP);
  await grants.grant({ ...PCP, requester: OTHER, internalClient: OTHER, internalPort: 9000 });
  grants.review((client) => client === ONE);
  await clock.settle(expect.poll(() => upstream.rows).toEqual(['udp 9000 -> 10.0.0.6:9000']));
  expect(grants.list()).toHaveLength(1);
});

describe('when the outer gateway', () => {
  test('moves a mapping, the table has it there, and its client is told', async () => {
    const { grants, upstream, heard } = sceneFor();
    await grants.grant(PCP);
    const grant = { externalPort: 7000, externalAddress: '198.51.100.8', lifetimeSeconds: 60 };
    upstream.tell({ kind: 'moved', grant });
    expect(grants.list()).toMatchObject([{ externalPort: 7000, externalAddress: '198.51.100.8' }]);
    expect(heard).toEqual(['moved 7000']);
    expect(await grants.grant(PCP)).toMatchObject({ lifetimeSeconds: 60, entry: { externalPort: 7000 } });
  });

  test('loses it, a renewal is refused until it is there again', async () => {
    const { grants, upstream, heard } = sceneFor();
    await grants.grant(PCP);
    const [held] = upstream.held;
    upstream.tell({ kind: 'lost' });
    expect(portOf(await grants.grant(PCP))).toBe('network-down');
    if (held !== undefined) upstream.tell({ kind: 'held', grant: held.grant });
    expect(portOf(await grants.grant(PCP))).toBe(6881);
    expect(heard).toEqual([]);
  });

  test('will not have it any more, it is gone, and its client is told', async () => {
    const { grants, upstream, heard, clock } = sceneFor();
    await grants.grant(PCP);
    upstream.tell({ kind: 'refused', refusal: 'taken' });
    await clock.settle(expect.poll(() => upstream.rows).toEqual([]));
    expect([grants.list(), heard]).toEqual([[], ['gone 6881']]);
  });
});

describe('what was held before this start', () => {
  const { via, protocol, internalClient, internalPort } = PCP;
  const wish: UpstreamWish = {
    via,
    protocol,
    internalClient,
    internalPort,
    suggestedExternalPort: 0,
    exact: false,
    lifetimeSeconds: 3600,
    description: 'x',
    remotePeer: undefined,
    nonce: NONCE,
    isEndless: false,
  };

  function restored(change: { internalClient?: string } = {}, rights: Partial<ClientRights> = {}) {
    const upstream = new TestUpstream();
    let released = 0;
    const grant = { externalPort: 6881, externalAddress: '198.51.100.7', lifetimeSeconds: 7200 };
    const holding = { release: async () => void released++ };
    upstream.before.push({ wish: { ...wish, ...change }, grant, holding, listen: () => undefined });
    return { ...sceneFor({ [ONE]: rights }, upstream), released: () => released };
  }

  test('is in the table, with its client’s nonce', async () => {
    const { grants, upstream } = restored();
    expect(grants.list()).toMatchObject([{ externalPort: 6881, description: 'x', nonce: NONCE }]);
    expect(portOf(await grants.grant({ ...PCP, nonce: new Uint8Array(12) }))).toBe('wrong-nonce');
    expect(portOf(await grants.grant(PCP))).toBe(6881);
    expect(upstream.asked).toEqual([]);
  });

  test('at a port that its client may no longer have is given back; of a client that nobody knows it is left', () => {
    const denied = restored({}, { externalPorts: [{ first: 80, last: 80 }] });
    expect([denied.grants.list(), denied.released()]).toEqual([[], 1]);
    const unknown = restored({ internalClient: '192.0.2.1' });
    expect([unknown.grants.list(), unknown.released()]).toEqual([[], 0]);
  });
});
