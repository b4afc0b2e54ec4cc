import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { LeaseTable } from '../../src/agent/lease-table.ts';
import { RuleCheck } from '../../src/agent/rule-check.ts';
import { tableOf as wholeOf } from '../../src/agent/rule-edits.ts';
import { RuleNames } from '../../src/agent/rule-names.ts';
import type { Rule } from '../../src/forwarder/rule.ts';
import type { Table } from '../../src/forwarder/table.ts';
import { validate } from '../../src/forwarder/validate.ts';
import { TestClock } from '../support/test-clock.ts';
import { tableOf } from './steering-scene.ts';

const OWN = '192.0.2.1';
const AROUND = {
  ownAddresses: [OWN],
  addressesOf: (name: string) => (name === 'me.example' ? [OWN] : []),
  ownPorts: [{ protocol: 'udp', port: 3, what: 'it hears announcements there' }],
} as const;

const PORT = fc.integer({ min: 1, max: 6 });
const HOST = fc.constantFrom('10.0.0.5', OWN, '127.0.0.1', 'me.example', '');
const SELECTOR = fc.constantFrom('', ' from 10.0.0.0/8', ' from 127.0.0.0/8', ` from ${OWN}`);
const PROTOCOL = fc.constantFrom('tcp', 'udp', 'tcp+udp');
const LINE = fc.oneof(
  fc
    .tuple(PROTOCOL, PORT, SELECTOR, HOST, PORT)
    .map(([protocol, port, from, host, to]) => `in ${protocol} ${port}${from} -> ${host}:${to}`),
  fc
    .tuple(PROTOCOL, PORT, PORT, HOST)
    .map(([protocol, a, b, host]) => `in ${protocol} ${Math.min(a, b)}-${Math.max(a, b)} -> ${host}:+1`),
  fc.tuple(PORT, HOST).map(([port, host]) => `in tcp ${port} -> ${host}:7 accept-proxy 10.0.0.9`),
  fc.tuple(PROTOCOL, PORT).map(([protocol, port]) => `in ${protocol} ${port} on lo -> refuse`),
);
const LEASE = fc
  .tuple(PROTOCOL, PORT, fc.constantFrom('10.0.0.7', OWN, '127.0.0.1'), PORT)
  .map(([protocol, port, host, to]) => `in ${protocol} ${port} -> ${host}:${to}`);

function errorsIn(table: Table): string[] {
  return validate(table, AROUND).flatMap(({ severity, ruleId }) => (severity === 'error' ? [ruleId] : []));
}

/** Without those that something is wrong with. */
function sound(table: Table): Table {
  const found = new Set(errorsIn(table));
  return found.size === 0 ? table : sound(table.filter(({ id }) => !found.has(id)));
}

function checker(): RuleCheck {
  const names = new RuleNames(new TestClock(), async (name) => AROUND.addressesOf(name));
  return new RuleCheck({ ownAddresses: () => AROUND.ownAddresses, ownPorts: AROUND.ownPorts }, names);
}

test('a lease’s rule is refused where the whole table with it would be', async () => {
  let refused = 0;
  let taken = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(LINE, { maxLength: 8 }),
      fc.array(LEASE, { minLength: 1, maxLength: 6 }),
      async (lines, asked) => {
        const user = sound(tableOf(...lines.map((line, at) => `u${at}: ${line}`)));
        const leases = new LeaseTable([]);
        const check = checker();
        for (const [at, line] of asked.entries()) {
          const [rule] = tableOf(`l${at}: ${line}`) as [Rule];
          if (rule.protocols.some((one) => leases.at(one, rule.to.ports.included[0]?.first as number)))
            continue;
          const tables = { config: [], user, lease: leases.rules };
          const now = { tables, table: wholeOf(tables), isWaiting: () => false };
          const isRefused = await check.checkLease(rule, now, leases).then(
            () => false,
            () => true,
          );
          expect(isRefused).toBe(errorsIn([...now.table, rule]).length > 0);
          if (isRefused) refused++;
          else {
            taken++;
            leases.put(rule);
          }
        }
      },
    ),
    { numRuns: 150 },
  );
  expect(refused).toBeGreaterThan(20);
  expect(taken).toBeGreaterThan(20);
});

test('nothing is taken on beside rules that do not go together, unless they wait', async () => {
  const user = tableOf('a: in tcp 1 -> 10.0.0.5:80', 'b: in tcp 1 -> 10.0.0.6:80');
  const tables = { config: [], user, lease: [] };
  const [rule] = tableOf('l: in tcp 9 -> 10.0.0.7:80') as [Rule];
  const asked = (isWaiting: (id: string) => boolean) =>
    checker().checkLease(rule, { tables, table: wholeOf(tables), isWaiting }, new LeaseTable([]));
  await expect(asked(() => false)).rejects.toMatchObject({ code: 'CONFLICT' });
  await asked((id) => id === 'b');
});
