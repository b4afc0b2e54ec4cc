/** What selectors become, judged by nft itself. */

import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { parseAccessList } from '../../../src/forwarder/access.ts';
import { matchesOf, refusedBy } from '../../../src/forwarder/nftables/selector.ts';
import { comment, markLiteral, portElements } from '../../../src/forwarder/nftables/syntax.ts';
import type { Rule } from '../../../src/forwarder/rule.ts';
import type { IpAddress } from '../../../src/net/address.ts';
import { ruleSpec } from '../../forwarder/arbitraries.ts';
import type { Lab } from '../support/lab.ts';
import { describeLab } from '../support/suite.ts';

const RULES_PER_RUN = 100;

const word = fc.oneof(
  fc.constantFrom(
    'ALL',
    'LOCAL',
    '10.0.0.0/8',
    '10.',
    '0.0.0.0/1',
    '255.255.255.255',
    '::/1',
    '::1',
    'ffff::/16',
  ),
  fc.constantFrom(
    '0.0.0.0',
    '::',
    '224.0.0.0/3',
    '::fffe:0:0/96',
    '::fffe:0:0/95',
    '2001:db8::/32',
    '10.0.0.7',
  ),
  fc.ipV4(),
);
const clients = fc.option(
  fc
    .array(fc.array(word, { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 3 })
    .map((lists) => parseAccessList(lists.map((list) => list.join(',')).join(' EXCEPT '))),
  { nil: undefined },
);
const rule = fc.tuple(ruleSpec, clients, clients, clients, fc.stringMatching(/^[\w.-]{1,64}$/)).map(
  ([spec, list, allow, deny, id]): Rule => ({
    ...spec,
    id,
    enabled: true,
    from: { ...spec.from, clients: list },
    access: { allow, deny, hosts: undefined },
  }),
);

function addressesOf(name: string): readonly IpAddress[] {
  return name.length % 3 === 0 ? [] : ['192.0.2.9', '192.0.2.10', '2001:db8::9', '255.255.255.255'];
}

function familyText(family: 4 | 6 | undefined): string {
  return family === undefined ? '' : `meta nfproto ipv${family} `;
}

/** A line for each condition. */
function linesOf(one: Rule, at: number): string[] {
  const note = `comment ${comment([one.id])}`;
  return [
    ...matchesOf(one, { addressesOf }).map(
      ({ family, conditions, protocol, ports }) =>
        `${familyText(family)}${conditions} ${protocol} dport ${portElements(ports)} ` +
        `ct mark set ct mark & 0x0000ffff | ${markLiteral(at + 1)} accept ${note}`,
    ),
    ...refusedBy(one.access).map(({ family, condition }) => `${familyText(family)}${condition} drop ${note}`),
  ];
}

function tableOf(lines: readonly string[]): string {
  return [
    'table inet natward_selectors {',
    'chain both {',
    'type filter hook prerouting priority -106; policy accept;',
    ...lines,
    '}',
    '}',
    '',
  ].join('\n');
}

describeLab('selectors in the kernel', {}, (lab: () => Lab) => {
  test('nft reads whatever rules become', async () => {
    let count = 0;
    await fc.assert(
      fc.asyncProperty(
        fc.array(rule, { minLength: RULES_PER_RUN, maxLength: RULES_PER_RUN }),
        async (rules) => {
          const lines = rules.flatMap(linesOf);
          count += lines.length;
          const { code, stderr } = await lab().exec('lan', ['nft', '-c', '-f', '-'], {
            input: tableOf(lines),
          });
          expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
        },
      ),
      { numRuns: 10, endOnFailure: true },
    );
    expect(count).toBeGreaterThan(10 * RULES_PER_RUN);
  });
});
