import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Hook } from '../../src/agent/hooks/hook.ts';
import { intentOf } from '../../src/agent/intent.ts';
import type { Intent, KeepRequest } from '../../src/agent/lease.ts';
import type { RuleStatus } from '../../src/agent/rule-keeping.ts';
import { parseSpec } from '../../src/agent/spec.ts';
import { parseDesired } from '../../src/control/desired.ts';
import { keepChanges } from '../../src/control/desired-keeps.ts';
import { formatDesired, writeState } from '../../src/control/desired-text.ts';
import { formatRule } from '../../src/forwarder/text.ts';
import { ruleSpec } from '../forwarder/arbitraries.ts';
import { REQUEST, RULE } from './support/fake-agent.ts';

const unresolvable = async (name: string): Promise<never> => {
  throw new Error(`${name} was looked up`);
};

const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const word = fc
  .string({ unit: 'binary', minLength: 1, maxLength: 40 })
  .filter((text) => text.trim() !== '' && !text.includes('\0'));
const url = fc.webUrl({ withQueryParameters: true, withFragments: true });
const on = fc.option(fc.subarray(['granted', 'changed'] as const, { minLength: 1 }), { nil: undefined });
const hook: fc.Arbitrary<Hook> = fc
  .tuple(
    fc.record({ on, timeoutSeconds: optional(fc.integer({ min: 1, max: 3600 })) }),
    fc.oneof(
      fc
        .tuple(word, fc.array(word, { maxLength: 3 }))
        .map(([program, rest]) => ({ kind: 'run' as const, argv: [program, ...rest] as const })),
      fc.record({ kind: fc.constant('shell' as const), line: word }),
      fc.record({ kind: fc.constant('webhook' as const), url }),
      fc.constant({ kind: 'sync' as const, client: 'deluge' as const, url: 'http://:a=b@127.0.0.1:8112' }),
      fc.record({ kind: fc.constant('dyndns' as const), url, hostname: fc.constant('home.example.org') }),
    ),
  )
  .map(([common, action]) => ({ ...common, ...action }));

const port = fc.integer({ min: 1, max: 65_535 });
const request: fc.Arbitrary<KeepRequest> = fc
  .record({
    spec: fc.constantFrom('80', 'my camera', '443:nas.lan:8443', '"'),
    ports: fc.tuple(port, port, fc.nat(200)),
    isAny: fc.boolean(),
    protocols: fc.constantFrom(['tcp'] as const, ['udp'] as const, ['tcp', 'udp'] as const),
    host: fc.constantFrom(undefined, '192.168.1.8', '2001:db8::8', 'fe80::1%eth0'),
    lifetimeSeconds: fc.oneof(
      fc.constantFrom(1, 60, 5400, 7200, 86_400, 604_800),
      fc.integer({ min: 1, max: 604_800 }),
    ),
    choice: fc.constantFrom('exact' as const, 'any' as const),
    description: optional(fc.string({ unit: 'binary', maxLength: 60 })),
    via: optional(fc.constantFrom('pcp' as const, 'natpmp' as const, 'upnp' as const)),
    gateway: fc.constantFrom(undefined, '192.168.1.1', 'fe80::1%eth0'),
    interface: optional(fc.string({ unit: 'binary', minLength: 1, maxLength: 20 })),
    family: fc.constantFrom(undefined, 4 as const, 6 as const),
    hooks: fc.array(hook, { maxLength: 3 }),
  })
  .map(({ ports: [outside, inside, more], isAny, ...rest }) => {
    const length = Math.min(more, 65_535 - Math.max(outside, inside));
    return {
      ...rest,
      external: isAny ? ('any' as const) : { first: outside, last: outside + length },
      internal: { first: inside, last: inside + length },
    };
  });

const rules: fc.Arbitrary<readonly RuleStatus[]> = fc
  .array(fc.tuple(ruleSpec, fc.boolean()), { maxLength: 5 })
  .map((all) =>
    all.map(([spec, enabled], at) => ({
      ...RULE,
      id: `r${at}`,
      enabled,
      text: formatRule(spec),
      description: spec.description,
    })),
  );

describe('what the user wants, written as a file', () => {
  test('is the same again when it is read', async () => {
    await fc.assert(
      fc.asyncProperty(rules, fc.array(request, { maxLength: 3 }), async (table, requests) => {
        const all = requests.map((one, at) => intentOf({ ...one, gateway: `10.0.0.${at}` }, 'user'));
        const { document, leftOut } = writeState(table, all);
        expect(leftOut).toEqual([]);
        for (const text of [formatDesired(document), JSON.stringify(document)]) {
          const desired = parseDesired(text, 'export');
          expect(desired.rules).toEqual(
            table.map(({ id, text: rule, enabled }) => ({ id, rule, ...(enabled ? {} : { enabled }) })),
          );
          expect(await keepChanges({ wanted: async () => all }, desired.keeps ?? [], unresolvable)).toEqual({
            added: [],
            changed: [],
            removed: [],
            unchanged: all.length,
          });
        }
      }),
    );
  });

  test('is both lists, also where they are empty', () => {
    const { document } = writeState([], []);
    expect(parseDesired(formatDesired(document), 'export')).toEqual({ rules: [], keeps: [] });
  });

  test('is nothing of what the configuration, a lease or another program wants', () => {
    const others = [
      { ...RULE, id: 'c', owner: 'config' },
      { ...RULE, id: 'l', owner: 'lease' },
    ] as const;
    const { document } = writeState(
      [...others, RULE],
      [intentOf(REQUEST, 'config'), intentOf(REQUEST, 'a-program'), intentOf(REQUEST, 'user')],
    );
    expect(document).toMatchObject({ rule: [{ id: 'web', rule: RULE.text }], keep: [{ spec: '443:8443' }] });
  });

  test('leaves out what a file has no words for, and says so', () => {
    const peer = { address: '198.51.100.7', prefixLength: 32, port: 0 };
    const intent = intentOf({ ...REQUEST, remotePeer: peer }, 'user');
    expect(writeState([], [intent])).toEqual({ document: { rule: [], keep: [] }, leftOut: [intent] });
  });

  test.each([
    ['as it was typed', '443:8443/tcp', '443:8443/tcp', undefined],
    ['anew where it was no spec', 'my camera', '443:8443', undefined],
    ['with the address where it was a name', '443:nas.lan:8443', '443:192.168.1.8:8443', '192.168.1.8'],
  ])('has a spec %s', (_, spec, written, host) => {
    const intent: Intent = intentOf({ ...REQUEST, spec, host }, 'user');
    const { document } = writeState([], [intent]);
    expect(document.keep[0]?.spec).toBe(written);
    expect(parseSpec(written)).toMatchObject({ internal: REQUEST.internal, external: REQUEST.external });
  });

  test('reads well', () => {
    const { document } = writeState(
      [RULE, { ...RULE, id: 'r2', enabled: false, text: 'in udp 53 -> 10.0.0.5:53' }],
      [intentOf({ ...REQUEST, hooks: [{ kind: 'shell', line: 'logger "$NATWARD"' }] }, 'user')],
    );
    expect(formatDesired(document)).toBe(`\
# What natward keeps and steers for this user: natward apply reads it. Hooks may hold passwords.

[[rule]]
id = "web"
rule = "in tcp 80 -> 10.0.0.5:8080 \\"web\\""

[[rule]]
id = "r2"
rule = "in udp 53 -> 10.0.0.5:53"
enabled = false

[[keep]]
spec = "443:8443"
lifetime = "2h"
exact = true

[[keep.hook]]
shell = "logger \\"$NATWARD\\""
`);
  });
});
