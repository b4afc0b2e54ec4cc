/** The fence of the responders, as nft is told, and that it is nobody else's table. */

import { describe, expect, test } from 'vitest';
import { fenceText } from '../../../src/forwarder/nftables/fence.ts';
import { obstacles } from '../../../src/forwarder/nftables/foreign.ts';

const DOCKER0 = { interface: 'docker0', addresses: ['172.17.0.1'], ports: [5351, 1900] } as const;

const REMOVAL = `table inet natward-fence {
}
delete table inet natward-fence
`;

describe('fenceText', () => {
  test('drops what comes for the addresses by any other interface, before it is tracked', () => {
    const virbr0 = { interface: 'virbr0', addresses: ['192.168.122.1', '2001:db8::1'], ports: [5351] };
    expect(fenceText([DOCKER0, virbr0])).toBe(`${REMOVAL}table inet natward-fence {
 chain arriving {
  type filter hook prerouting priority -300; policy accept;
  iifname != { "docker0", "lo" } ip daddr 172.17.0.1 udp dport { 5351, 1900 } drop
  iifname != { "virbr0", "lo" } ip daddr 192.168.122.1 udp dport 5351 drop
  iifname != { "virbr0", "lo" } ip6 daddr 2001:db8::1 udp dport 5351 drop
 }
}
`);
  });

  test('leaves link-local addresses of IPv6 alone: a bridge next door may have the same', () => {
    const place = { ...DOCKER0, addresses: ['fe80::1%docker0', '172.17.0.1'] };
    expect(fenceText([place])).toBe(fenceText([DOCKER0]));
  });

  test('takes the table away where there is nothing to keep', () => {
    expect(fenceText([])).toBe(REMOVAL);
    expect(fenceText([{ ...DOCKER0, addresses: ['fe80::1%docker0'] }])).toBe(REMOVAL);
    expect(fenceText([{ ...DOCKER0, ports: [] }])).toBe(REMOVAL);
  });

  test.each([
    [{ ...DOCKER0, interface: 'eth0" drop' }],
    [{ ...DOCKER0, addresses: ['172.17.0.1 drop'] }],
    [{ ...DOCKER0, ports: [0] }],
  ])('nothing else becomes its text: %j', (place) => {
    expect(() => fenceText([place])).toThrow('that nft may be given');
  });
});

test('it is not taken for another program’s firewall', () => {
  const listing = (table: string) => ({
    nftables: [
      { table: { family: 'inet', name: table } },
      {
        chain: {
          family: 'inet',
          table,
          name: 'arriving',
          type: 'filter',
          hook: 'prerouting',
          prio: -300,
          policy: 'accept',
        },
      },
      { rule: { family: 'inet', table, chain: 'arriving', handle: 1, expr: [{ drop: null }] } },
    ],
  });
  const passage = { hook: 'prerouting', family: 4, protocol: 'udp', isTranslated: false } as const;
  expect(obstacles(listing('another'), [passage])).toHaveLength(1);
  expect(obstacles(listing('natward-fence'), [passage])).toEqual([]);
});
