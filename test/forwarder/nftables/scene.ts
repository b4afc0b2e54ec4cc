/** Tables as the kernel's engine hands them to ruleset.ts, on a machine of the test's own. */

import { assign } from '../../../src/forwarder/assignment.ts';
import { KernelRule } from '../../../src/forwarder/nftables/kernel-rule.ts';
import { needsOf } from '../../../src/forwarder/nftables/needs.ts';
import type { Around } from '../../../src/forwarder/nftables/rewrite.ts';
import type { RulesetInput } from '../../../src/forwarder/nftables/ruleset.ts';
import { kernelShortcoming } from '../../../src/forwarder/nftables/shortcoming.ts';
import type { Rule } from '../../../src/forwarder/rule.ts';
import type { Table } from '../../../src/forwarder/table.ts';
import type { IpAddress } from '../../../src/net/address.ts';
import { rule } from '../arbitraries.ts';

const ADDRESSES_OF: ReadonlyMap<string, readonly IpAddress[]> = new Map([
  ['verigio.com', ['198.51.100.25']],
  ['nas.lan', ['192.168.1.8', '2001:db8::8']],
]);

export const AROUND: Around = {
  addressesOf: (name) => ADDRESSES_OF.get(name) ?? [],
  ownAddresses: new Set(['192.168.1.1', '203.0.113.1', '2001:db8::1', '127.0.0.1', '::1']),
};

/** Rules that are on, with the ids r1, r2 and so on. */
export function tableOf(lines: readonly string[]): Table {
  return lines.map((line, at) => rule(line, `r${at + 1}`));
}

/** What the kernel is given of the table; the relay carries what the kernel cannot. Of each rule the mark is its place. */
export function inputOf(
  rules: Table,
  other: Partial<RulesetInput> = {},
  markOf: (rule: Rule, place: number) => number = (_, place) => 0x8000 + place,
): RulesetInput {
  const enabled = rules.filter((one) => one.enabled);
  const assigned = assign(enabled, { kernel: kernelShortcoming, relay: () => undefined });
  const placed = enabled.map((one, at) => {
    return new KernelRule(one, assigned.get(one.id) === 'nftables' ? markOf(one, at + 1) : undefined);
  });
  const carried = placed.filter(({ mark }) => mark !== undefined);
  const { ways } = needsOf([...carried, ...(other.retired ?? [])], AROUND);
  return {
    around: AROUND,
    rules: placed,
    retired: [],
    ways: new Map([...ways].map(([key, way], at) => [key, { way, number: at + 1 }])),
    used: new Map(),
    guardedForwarding: {},
    guardsLoopback: false,
    keepsMarks: false,
    missing: new Set(),
    records: [],
    ...other,
  };
}
