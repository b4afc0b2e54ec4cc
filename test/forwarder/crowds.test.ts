import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { Crowds } from '../../src/forwarder/crowds.ts';
import { portsOf } from '../../src/forwarder/decide.ts';
import type { Rule } from '../../src/forwarder/rule.ts';
import { parsePortSet } from '../../src/net/port-set.ts';
import { rule } from './arbitraries.ts';

function crowded(...lines: readonly string[]): readonly boolean[] {
  const rules = lines.map((line, at) => rule(line, `r${at}`));
  const crowds = new Crowds(rules);
  return rules.map((one) => crowds.has(one));
}

test('a rule with its ports for itself is in no crowd', () => {
  expect(crowded('in tcp 80 -> :1', 'in tcp 81-90,92 -> :1', 'in tcp 91 -> :1')).toEqual([
    false,
    false,
    false,
  ]);
});

test('other protocols and the other direction are others', () => {
  expect(crowded('in tcp 80 -> :1', 'in udp 80 -> :1', 'out tcp :80 -> :1')).toEqual([false, false, false]);
});

test('one port in common is enough, whatever addresses are named', () => {
  expect(
    crowded(
      'in tcp 10.0.0.1:80 -> :1',
      'in tcp+udp 10.0.0.2:70-80 -> :1',
      'in udp 81 -> :1',
      'in tcp * -> :1',
    ),
  ).toEqual([true, true, false, true]);
});

test('the first port and the last count as any', () => {
  expect(crowded('in tcp 1,65535 -> :1', 'in tcp 65535 -> :1', 'in tcp 1 -> :1')).toEqual([true, true, true]);
});

test('those that share a port, and no others', () => {
  const port = fc.integer({ min: 1, max: 40 });
  const range = fc.tuple(port, port).map(([a, b]) => `${Math.min(a, b)}-${Math.max(a, b)}`);
  const line = fc.record({
    direction: fc.constantFrom('in' as const, 'out' as const),
    protocols: fc.constantFrom(['tcp'] as const, ['udp'] as const, ['tcp', 'udp'] as const),
    ports: fc
      .array(fc.oneof(port.map(String), range), { minLength: 1, maxLength: 3 })
      .map((all) => all.join()),
  });
  fc.assert(
    fc.property(fc.array(line, { maxLength: 8 }), (lines) => {
      const rules = lines.map(({ direction, protocols, ports }): Rule => {
        const plain = rule('in tcp 80 -> :1', 'r');
        return { ...plain, direction, protocols, to: { addresses: [], ports: parsePortSet(ports) } };
      });
      const crowds = new Crowds(rules);
      for (const one of rules)
        expect(crowds.has(one)).toBe(rules.some((other) => other !== one && meet(one, other)));
    }),
  );
});

function meet(a: Rule, b: Rule): boolean {
  return (
    a.direction === b.direction &&
    a.protocols.some((one) => b.protocols.includes(one)) &&
    portsOf(a).some((one) => portsOf(b).some((other) => one.first <= other.last && other.first <= one.last))
  );
}
