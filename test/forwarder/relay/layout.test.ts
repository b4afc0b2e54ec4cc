import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Layout } from '../../../src/forwarder/relay/layout.ts';
import { placeKey } from '../../../src/forwarder/relay/places.ts';
import type { Rule } from '../../../src/forwarder/rule.ts';
import { exchanged, type Table } from '../../../src/forwarder/table.ts';
import type { InterfaceAddress } from '../../../src/system/routes.ts';
import { LOOPBACK, table } from './support.ts';

const ETH: readonly InterfaceAddress[] = [
  { interface: 'eth0', family: 4, address: '192.0.2.2', prefixLength: 24, internal: false },
  { interface: 'eth0', family: 6, address: '2001:db8::2', prefixLength: 64, internal: false },
];
const HOST = [...LOOPBACK, ...ETH];
const IPV4_HOST = HOST.filter(({ family }) => family === 4);

/** `tcp :: 80: r1,r2` */
function plan(lines: readonly string[], own: readonly InterfaceAddress[] = HOST): string[] {
  return shown(layoutOf(table(...lines), own));
}

function layoutOf(rules: Table, own: readonly InterfaceAddress[]): Layout {
  const layout = new Layout(own);
  layout.commit(layout.changeTo(rules, { gone: [], come: rules }));
  return layout;
}

function shown(layout: Layout): string[] {
  return [...layout.places()].map((place) => `${placeKey(place)}: ${place.rules.map(({ id }) => id).join()}`);
}

describe('the layout of a table', () => {
  test('a rule without an address listens on every one, of both families where the host has both', () => {
    expect(plan(['in tcp+udp 80 -> 10.0.0.1'])).toEqual(['tcp :: 80: r1', 'udp :: 80: r1']);
    expect(plan(['in tcp 80 -> 10.0.0.1'], IPV4_HOST)).toEqual(['tcp 0.0.0.0 80: r1']);
  });

  test('a port has its rules in their order, also where one names an address', () => {
    expect(
      plan(['in tcp 192.0.2.2:80 -> refuse', 'in tcp 80-81 -> 10.0.0.1', 'in tcp 127.0.0.9:80 -> refuse']),
    ).toEqual(['tcp :: 80: r1,r2,r3', 'tcp :: 81: r2']);
  });

  test('rules of single addresses have places of their own, and one address is taken as it is written', () => {
    expect(
      plan([
        'in udp 192.0.2.2:80 -> :81',
        'in udp 127.0.0.9:80 -> :81',
        'in udp 127.0.0.9:80 from 127.0.0.0/8 -> :82',
      ]),
    ).toEqual(['udp 192.0.2.2 80: r1', 'udp 127.0.0.9 80: r2,r3']);
  });

  test('a network stands for the addresses of this host in it', () => {
    expect(plan(['in tcp 192.0.2.0/24:80 -> :81'])).toEqual(['tcp 192.0.2.2 80: r1']);
  });

  test('an interface stands for its addresses, and waits where it has none', () => {
    expect(plan(['in tcp 80 on eth0 -> :81'])).toEqual(['tcp 192.0.2.2 80: r1', 'tcp 2001:db8::2 80: r1']);
    const rules = table('in tcp 80 on wlan0 -> :81', 'in tcp 198.51.100.0/24:80 -> :81');
    const layout = layoutOf(rules, HOST);
    expect(shown(layout)).toEqual([]);
    expect(layout.waiting(rules)).toEqual([
      { ruleId: 'r1', reason: 'there is no interface wlan0 with an address' },
      { ruleId: 'r2', reason: 'this host has none of its addresses' },
    ]);
  });

  test('what leads to the same port of this host leaves the loopback address to it', () => {
    const outer = ['tcp 192.0.2.2 80: r1', 'tcp 2001:db8::2 80: r1'];
    expect(plan(['in tcp 80 -> monitor'])).toEqual(outer);
    expect(plan(['in tcp 80 -> 127.0.0.1:80'])).toEqual(outer);
    expect(plan(['in tcp 80,90 -> :80'])).toEqual([...outer, 'tcp :: 90: r1']);
  });

  test('a rule that has nothing but the loopback address left waits', () => {
    const rules = table('in tcp 80,90 -> monitor');
    const layout = layoutOf(rules, LOOPBACK);
    expect(shown(layout)).toEqual([]);
    expect(layout.waiting(rules)).toMatchObject([{ ruleId: 'r1' }]);
  });

  test('every address and single ones of one UDP port do not go together', () => {
    expect(() => plan(['in udp 53 -> :54', 'in udp 192.0.2.2:53 -> :55'])).toThrow(
      expect.objectContaining({ code: 'CONFLICT', message: expect.stringMatching(/UDP 53: rule r1 .* r2/) }),
    );
  });

  test('disabled rules and outgoing ones listen nowhere', () => {
    const [rule] = table('in tcp 80 -> :81');
    expect(shown(layoutOf([{ ...(rule as Rule), enabled: false }], HOST))).toEqual([]);
    expect(plan(['out tcp 80 -> monitor'])).toEqual([]);
  });

  test('a table that asks for too much is refused before anything is opened', () => {
    expect(() => plan(['in tcp+udp 1-65535 on lo,eth0 -> 10.0.0.1'])).toThrow(
      expect.objectContaining({ code: 'NO_RESOURCES' }),
    );
  });
});

/** Rules that get in each other's way: few ports, single addresses, interfaces that are not there, some disabled. */
const POOL: Table = table(
  ...['tcp', 'udp', 'tcp+udp'].flatMap((protocol) => [
    `in ${protocol} 80 -> 10.0.0.1`,
    `in ${protocol} 79-81 from 10.0.0.0/8 -> 10.0.0.2`,
    `in ${protocol} 192.0.2.2:80 -> 10.0.0.3`,
    `in ${protocol} 127.0.0.1:81 -> 10.0.0.3`,
    `in ${protocol} 80-82 on wlan0 -> 10.0.0.4`,
    `in ${protocol} 82 -> :82`,
  ]),
  'out tcp 80 -> monitor',
).map((rule, at) => (at % 7 === 6 ? { ...rule, enabled: false } : rule));

describe('what another table changes of a layout', () => {
  const tables = fc.shuffledSubarray([...POOL]);
  const result = (rules: Table, make: () => Layout): unknown => {
    try {
      const layout = make();
      return { places: shown(layout).sort(), waiting: layout.waiting(rules) };
    } catch (error) {
      // Which two rules of a port do not go together is said of another port that is looked at first.
      return (error as { readonly code: string }).code;
    }
  };

  test('comes to what that table has from the start', () => {
    fc.assert(
      fc.property(fc.array(tables, { minLength: 2, maxLength: 6 }), (steps) => {
        const layout = new Layout(HOST);
        let before: Table = [];
        for (const rules of steps) {
          const change = () => {
            layout.commit(layout.changeTo(rules, exchanged(before, rules)));
            before = rules;
            return layout;
          };
          expect(result(rules, change)).toEqual(result(rules, () => layoutOf(rules, HOST)));
        }
      }),
    );
  });

  test('is only of the ports of rules that come or go', () => {
    const rules = table('in tcp 80 -> 10.0.0.1', 'in tcp 81 -> 10.0.0.1', 'in tcp 82 -> 10.0.0.1');
    const layout = layoutOf(rules.slice(0, 2), HOST);
    const after = rules.slice(1);
    const change = layout.changeTo(after, exchanged(rules.slice(0, 2), after));
    expect([...change.ports].map(([key, places]) => [key, places.length])).toEqual([
      ['tcp 80', 0],
      ['tcp 82', 1],
    ]);
    expect(shown(layout)).toEqual(['tcp :: 80: r1', 'tcp :: 81: r2']);
  });
});
