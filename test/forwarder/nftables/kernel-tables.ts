/** Small tables of all that the kernel carries, with some that the relay does, about the same few ports. */

import * as fc from 'fast-check';
import { isNatwardError } from '../../../src/errors.ts';
import { assign } from '../../../src/forwarder/assignment.ts';
import { needsOf } from '../../../src/forwarder/nftables/needs.ts';
import { type Way, wayKey } from '../../../src/forwarder/nftables/rewrite.ts';
import { type RulesetInput, rulesetOf } from '../../../src/forwarder/nftables/ruleset.ts';
import { KernelRule } from '../../../src/forwarder/nftables/kernel-rule.ts';
import { kernelShortcoming } from '../../../src/forwarder/nftables/shortcoming.ts';
import type { Ruleset } from '../../../src/forwarder/nftables/change.ts';
import type { Rule } from '../../../src/forwarder/rule.ts';
import type { Table } from '../../../src/forwarder/table.ts';
import { rule } from '../arbitraries.ts';
import { AROUND, inputOf } from './scene.ts';

const few = (...words: readonly string[]) => fc.constantFrom(...words);
const rarely = (...words: readonly string[]) => fc.oneof({ weight: 5, arbitrary: few('') }, few(...words));

const VERDICTS = [
  ':8080',
  ':+1000',
  '192.168.1.8:8080',
  '192.168.1.8',
  '192.168.1.8:+1',
  'nas.lan:80',
  '[2001:db8::8]:80',
  '127.0.0.1:80',
  'monitor',
  'refuse',
  'drop',
  'reflect mirror',
  ':80 reflect plain',
  'reflect plain',
  '192.168.1.8 via eth1',
  '192.168.1.8:80 via eth0 source-mac 02:00:00:00:00:02',
  '192.168.1.8 reflect route',
  '192.168.1.8:80 as client',
  '192.168.1.8:80 as 192.168.1.1:4000',
  ':80 as :4000',
  'nas.lan:1 proxy v2',
];

const line = fc
  .tuple(
    few('in', 'in', 'in', 'out'),
    few('tcp', 'udp', 'tcp+udp'),
    rarely(':', '203.0.113.1:', '192.168.1.0/24,[2001:db8::1]:', 'nas.lan:', '[::]/0:', '127.0.0.1:'),
    few('80', '81', '82', '80-82', '81,83', '1-100', '50-200,~81', '*'),
    rarely(' from 10.0.0.0/8', ' from ALL EXCEPT [2001:db8::]/32', ' from .example.org', ' port 1024-65535'),
    rarely(' on eth0', ' on eth0,eth1', ' mac 02:00:00:00:00:01'),
    few(...VERDICTS),
    rarely(' clone 192.168.1.7', ' clone 192.168.1.7:5000', ' clone nas.lan:5000'),
    rarely(' allow 10.0.0.0/8', ' deny 10.0.0.7, 2001:db8::/32'),
    rarely(' open 10', ' per-client 2', ' new 5/s', ' rate 1MB/s', ' quota 1GB'),
    rarely(' idle 60s', ' idle 2h'),
  )
  .map((words) => {
    const [direction, protocol, ...others] = words;
    return `${direction} ${protocol} ${others.slice(0, 4).join('')} -> ${others.slice(4).join('')}`;
  })
  .filter(isRule);

function isRule(text: string): boolean {
  try {
    const one = rule(text, 'a');
    return kernelShortcoming(one) === undefined || one.direction === 'in';
  } catch (error) {
    if (isNatwardError(error)) return false;
    throw error;
  }
}

/** Several edits, one after the other: what a table becomes, with what stays in it and what goes. */
export const tables: fc.Arbitrary<readonly (readonly string[])[]> = fc
  .array(line, { minLength: 3, maxLength: 12 })
  .chain((lines) => fc.array(fc.shuffledSubarray(lines), { minLength: 2, maxLength: 4 }));

/** Keeps the mark of each line and the number of each way, as the engine does. */
export class Rulesets {
  readonly #rules = new Map<string, { readonly rule: Rule; readonly mark: number }>();
  readonly #ways = new Map<string, { readonly way: Way; readonly number: number }>();

  of(lines: readonly string[], other: Partial<RulesetInput> = {}): Ruleset {
    const table: Table = lines.map((text) => {
      const place = this.#rules.size + 1;
      const known = this.#rules.get(text) ?? { rule: rule(text, `r${place}`), mark: 0x8000 + place };
      this.#rules.set(text, known);
      return known.rule;
    });
    const assigned = assign(table, { kernel: kernelShortcoming, relay: () => undefined });
    const carried = table.filter(({ id }) => assigned.get(id) === 'nftables');
    const marked = carried.map((one) => new KernelRule(one, 1));
    for (const way of needsOf(marked, AROUND).ways.values()) {
      const key = wayKey(way);
      if (!this.#ways.has(key)) this.#ways.set(key, { way, number: this.#ways.size + 1 });
    }
    const markOf = (one: Rule) => [...this.#rules.values()].find((known) => known.rule === one)?.mark ?? 0;
    return rulesetOf(inputOf(table, { ways: this.#ways, ...other }, markOf));
  }
}
