import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type Candidate, type Dispatch, dispatchOf } from '../../../src/forwarder/nftables/dispatch.ts';
import { hasPort, portRanges } from '../../../src/net/port-set.ts';
import { parsePortRange } from '../../../src/net/port-range.ts';

const HERE = 'fib daddr type local';

function candidate(ports: string, mark: number | undefined, other: Partial<Candidate> = {}): Candidate {
  const ranges = portRanges({ included: ports.split(',').map(parsePortRange), excluded: [] });
  return {
    protocol: 'tcp',
    family: undefined,
    ports: ranges,
    conditions: '',
    address: undefined,
    destination: HERE,
    mark,
    ...other,
  };
}

interface Packet {
  readonly protocol: 'tcp' | 'udp';
  readonly family: 4 | 6;
  readonly port: number;
  /** Where it goes: of this host. */
  readonly address: string;
  /** Conditions that hold, of those that candidates have. */
  readonly holds: ReadonlySet<string>;
}

/** The mark that the packet gets by what nft would do with these lines; undefined: none. */
function classified({ chains, sets }: Dispatch, packet: Packet, chain = 'in'): number | undefined {
  const { protocol, family, port, address, holds } = packet;
  for (const line of chains.get(chain)?.lines ?? []) {
    const [, map = ''] = /@(\w+)/.exec(line) ?? [];
    const elements = sets.get(`map ${map}`)?.elements;
    if (line.startsWith('meta l4proto . th dport vmap')) {
      const element = elements?.get(`${protocol} . ${port}`);
      if (element !== undefined) return classified({ chains, sets }, packet, /goto (\w+)/.exec(element)?.[1]);
      continue;
    }
    if (map !== '') {
      const asked = /set ip(6?) daddr/.exec(line);
      if (asked !== null && (asked[1] === '6') !== (family === 6)) continue;
      const element = elements?.get(`${asked === null ? `ipv${family}` : address} . ${protocol} . ${port}`);
      if (element !== undefined) return Number(/0x(\w{4})0000/.exec(element)?.[0]) / 0x1_0000;
      continue;
    }
    if (line.startsWith('tcp flags')) continue;
    const [, asked = '', outcome = ''] = /^(.*?)\s*((?:ct mark set|accept).*)$/.exec(line) ?? [];
    if (!asksFor(asked, packet)) continue;
    return outcome === 'accept' ? undefined : Number(/\| (0x\w{8})/.exec(outcome)?.[1]) / 0x1_0000;
  }
  return undefined;

  function asksFor(text: string, one: Packet): boolean {
    const [, of] = /meta nfproto ipv([46])/.exec(text) ?? [];
    if (of !== undefined && Number(of) !== one.family) return false;
    const [, whose, ports] = /(tcp|udp) dport (?:\{ (.*?) \}|\S+)/.exec(text) ?? [];
    const ranges = ports ?? /dport ([\d-]+)/.exec(text)?.[1];
    if (whose !== undefined && whose !== one.protocol) return false;
    if (ranges !== undefined) {
      const included = ranges.split(', ').map(parsePortRange);
      if (!hasPort(portRanges({ included, excluded: [] }), port)) return false;
    }
    const [, protocolAsked] = /meta l4proto (tcp|udp)/.exec(text) ?? [];
    if (protocolAsked !== undefined && protocolAsked !== one.protocol) return false;
    const [, to] = /ip6? daddr (\S+)/.exec(text) ?? [];
    if (to !== undefined && to !== address) return false;
    const [, condition] = /(iifname "\w+")/.exec(text) ?? [];
    return condition === undefined || holds.has(condition);
  }
}

function first(
  candidates: readonly Candidate[],
  { protocol, family, port, address, holds }: Packet,
): number | undefined {
  return candidates.find(
    (one) =>
      one.protocol === protocol &&
      (one.family ?? family) === family &&
      hasPort(one.ports, port) &&
      (one.address ?? address) === address &&
      (one.conditions === '' || holds.has(one.conditions)),
  )?.mark;
}

test('no rules make no chain', () => {
  expect(dispatchOf('in', [], false)).toEqual({ chains: new Map(), sets: new Map() });
});

test('what only the relay has leaves nothing for the kernel to look at', () => {
  const { chains, sets } = dispatchOf(
    'in',
    [candidate('80', undefined), candidate('1-1000', undefined)],
    false,
  );
  expect([chains.size, sets.size]).toEqual([0, 0]);
});

test('a port that one rule asks for, and nothing more, is an element of a map', () => {
  const { chains, sets } = dispatchOf('in', [candidate('80', 1), candidate('81', 2, { family: 4 })], false);
  expect([...chains.keys()]).toEqual(['in']);
  expect([...(sets.get('map in_plain')?.elements.keys() ?? [])]).toEqual([
    'ipv4 . tcp . 80',
    'ipv6 . tcp . 80',
    'ipv4 . tcp . 81',
  ]);
});

test('where others mark connections, too, a map does not set the whole mark', () => {
  const { chains, sets } = dispatchOf('in', [candidate('80', 1)], true);
  expect([...sets.keys()]).toEqual(['map in_chains']);
  expect(chains.get('in_tcp_80')?.lines).toEqual([
    `${HERE} ct mark set ct mark & 0x0000ffff | 0x00010000 goto decided`,
  ]);
});

test('a range of more than 64 ports stands in the last chain, and in those of the ports that it holds', () => {
  const { chains } = dispatchOf(
    'in',
    [candidate('1-64', 1), candidate('1-65', 2), candidate('80', 3, { conditions: 'iifname "a"' })],
    false,
  );
  expect(chains.get('in')?.lines.slice(3)).toEqual([
    `tcp dport 1-65 ${HERE} ct mark set ct mark & 0x0000ffff | 0x00020000 goto decided`,
  ]);
  expect(chains.get('in_tcp_80')?.lines).toHaveLength(1);
});

test('what is copied too often stands in one chain, in its order', () => {
  const narrow = Array.from({ length: 10 }, (_, at) => candidate(`${100 * at + 1}-${100 * at + 64}`, at + 1));
  const wide = Array.from({ length: 480 }, (_, at) =>
    candidate('1-2000', at + 100, { conditions: 'iifname "a"' }),
  );
  const { chains, sets } = dispatchOf('in', [...wide, ...narrow], false);
  expect(sets.size).toBe(0);
  expect([...chains.keys()]).toEqual(['in']);
  expect(chains.get('in')?.lines).toHaveLength(491);
});

test('only what begins a conversation of TCP is looked at', () => {
  const { chains } = dispatchOf('in', [candidate('80', 1)], false);
  expect(chains.get('in')?.lines[0]).toBe('tcp flags & (fin | syn | rst | ack) != syn return');
});

describe('whatever the rules are', () => {
  const arbitrary = fc.record({
    protocol: fc.constantFrom('tcp' as const, 'udp' as const),
    where: fc.constantFrom(
      {},
      { family: 4 as const },
      { family: 6 as const },
      { family: 4 as const, address: '10.0.0.1', destination: '' },
      { family: 4 as const, address: '10.0.0.2', destination: '' },
      { family: 6 as const, address: '2001:db8::1', destination: '' },
    ),
    ports: fc
      .constantFrom('1', '2', '3', '1-3', '2,4', '1-70', '2-100', '3-66', '1-65535', '80-90')
      .map((text) => candidate(text, 1).ports),
    conditions: fc.constantFrom('', '', '', 'iifname "a"', 'iifname "b"'),
    isCarried: fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, fc.constant(false)),
  });

  test('a packet gets the mark of the first rule that is for it', () => {
    let marked = 0;
    fc.assert(
      fc.property(fc.array(arbitrary, { maxLength: 8 }), fc.boolean(), (drawn, keepsMarks) => {
        const candidates = drawn.map(
          ({ isCarried, where, ...one }, at): Candidate => ({
            family: undefined,
            address: undefined,
            destination: HERE,
            ...where,
            ...one,
            mark: isCarried ? at + 1 : undefined,
          }),
        );
        const dispatch = dispatchOf('in', candidates, keepsMarks);
        for (const protocol of ['tcp', 'udp'] as const) {
          for (const family of [4, 6] as const) {
            for (const port of [1, 2, 3, 4, 65, 66, 80, 100, 101]) {
              for (const holds of [[], ['iifname "a"'], ['iifname "b"']]) {
                for (const address of family === 4
                  ? ['10.0.0.1', '10.0.0.2', '10.0.0.3']
                  : ['2001:db8::1', '::2']) {
                  const packet: Packet = { protocol, family, port, address, holds: new Set(holds) };
                  const mark = first(candidates, packet);
                  expect(classified(dispatch, packet), JSON.stringify(packet)).toBe(mark);
                  if (mark !== undefined) marked++;
                }
              }
            }
          }
        }
      }),
      { numRuns: 300 },
    );
    expect(marked).toBeGreaterThan(1000);
  });
});
