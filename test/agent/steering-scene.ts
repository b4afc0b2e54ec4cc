/** A rule table on an engine without a network, with its memory and its clock in the test's hands. */

import { onTestFinished } from 'vitest';
import type {
  EditOptions,
  EditReport,
  RuleDocument,
  RuleEdit,
  RuleStatus,
} from '../../src/agent/rule-keeping.ts';
import type { RuleMemory, RuleRecord } from '../../src/agent/rule-memory.ts';
import { Steering, type SteeringOptions } from '../../src/agent/steering.ts';
import type { Table, WantedRule } from '../../src/forwarder/table.ts';
import { parseRule } from '../../src/forwarder/text.ts';
import { TestClock } from '../support/test-clock.ts';
import { TestEngine } from './test-engine.ts';

const DRAIN: EditOptions = { conversations: 'drain', dryRun: false };
export const DRY: EditOptions = { conversations: 'drain', dryRun: true };

/** Remembers what was saved; cannot, while `failure` is there. */
export class TestRules implements RuleMemory {
  table: Table;
  leases: Table = [];
  isPaused = false;
  saves = 0;
  failure: Error | undefined;

  constructor(table: Table = []) {
    this.table = table;
  }

  load(): RuleRecord {
    return { rules: this.table, leases: this.leases, isPaused: this.isPaused };
  }

  async prepare(): Promise<void> {}

  async save({ rules, leases, isPaused }: RuleRecord): Promise<void> {
    if (this.failure !== undefined) throw this.failure;
    this.saves++;
    this.table = rules;
    this.leases = leases;
    this.isPaused = isPaused;
  }
}

export interface Scene {
  readonly steering: Steering;
  readonly engine: TestEngine;
  readonly memory: TestRules;
  readonly clock: TestClock;
  /** What `warn` was called with, in short: `rules: rule a is not carried out: ...`, `rules: well`. */
  readonly warned: string[];
  edit(edit: RuleEdit, options?: Partial<EditOptions>): Promise<EditReport>;
  add(...rules: readonly (string | RuleDocument)[]): Promise<EditReport>;
  /** Each rule as `id text`. */
  table(): Promise<string[]>;
}

export function sceneOf(change: Partial<SteeringOptions> & { readonly memory?: TestRules } = {}): Scene {
  const engine = new TestEngine();
  const clock = new TestClock();
  const memory = change.memory ?? new TestRules();
  const warned: string[] = [];
  let random = 0;
  const steering = new Steering({
    engine,
    clock,
    fillRandom: (bytes) => void bytes.fill(++random),
    ownAddresses: () => ['192.0.2.1'],
    addressesOf: async () => [],
    tidy: () => undefined,
    isTaken: () => false,
    ownPorts: [{ protocol: 'udp', port: 5350, what: 'it hears announcements there' }],
    warn: (key, error) => void warned.push(`${key}: ${error?.message ?? 'well'}`),
    ...change,
    memory,
  });
  onTestFinished(() => steering[Symbol.asyncDispose]());
  const edit: Scene['edit'] = (what, options = {}) => steering.edit(what, { ...DRAIN, ...options });
  return {
    steering,
    engine,
    memory,
    clock,
    warned,
    edit,
    add: (...rules) =>
      edit({ kind: 'add', rules: rules.map((one) => (typeof one === 'string' ? documentOf(one) : one)) }),
    table: async () => (await steering.rules()).map(({ id, text }) => `${id} ${text}`),
  };
}

/** `a: in tcp 80 -> :8080` is the rule with the id a. */
export function documentOf(line: string): RuleDocument {
  const [, id, rule = ''] = /^(?:([\w-]+): )?(.*)$/.exec(line) ?? [];
  return { id, rule };
}

export function wanted(...lines: readonly string[]): readonly WantedRule[] {
  return lines.map((line) => {
    const { id, rule } = documentOf(line);
    return { id, enabled: true, spec: parseRule(rule) };
  });
}

export function tableOf(...lines: readonly string[]): Table {
  return lines.map((line) => {
    const { id = '', rule } = documentOf(line);
    return { ...parseRule(rule), id, enabled: true };
  });
}

export async function statusOf({ steering }: Scene, id: string): Promise<RuleStatus | undefined> {
  return (await steering.rules()).find((rule) => rule.id === id);
}
