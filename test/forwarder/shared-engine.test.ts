import { expect, test } from 'vitest';
import { NatwardError } from '../../src/errors.ts';
import {
  type Activity,
  type Conversation,
  type EngineEvent,
  type ForwardEngine,
  NO_ACTIVITY,
} from '../../src/forwarder/engine.ts';
import type { KernelEngine, SharedRule } from '../../src/forwarder/nftables/engine.ts';
import { kernelShortcoming } from '../../src/forwarder/nftables/shortcoming.ts';
import type { Relay } from '../../src/forwarder/relay/engine.ts';
import { relayShortcoming } from '../../src/forwarder/relay/shortcoming.ts';
import type { Rule } from '../../src/forwarder/rule.ts';
import { SharedEngine } from '../../src/forwarder/shared-engine.ts';
import type { Table } from '../../src/forwarder/table.ts';
import { table } from './arbitraries.ts';

const CONVERSATION: Conversation = {
  id: 1,
  ruleId: 'a',
  protocol: 'tcp',
  client: { address: '192.0.2.9', port: 50_000 },
  local: { address: '192.0.2.1', port: 80 },
  target: null,
  beganAtMs: 0,
  bytesIn: 0,
  bytesOut: 0,
};

/** Half of a pair: takes tables, and tells what the test has it tell. */
class Half {
  readonly applied: Table[] = [];
  shared: readonly SharedRule[] = [];
  failure: NatwardError | undefined;
  counts: ReadonlyMap<string, Partial<Activity>> = new Map();
  isDisposed = false;
  readonly shortcoming: ForwardEngine['shortcoming'];
  #listener: (event: EngineEvent) => void = () => undefined;

  constructor(shortcoming: ForwardEngine['shortcoming']) {
    this.shortcoming = shortcoming;
  }

  apply(rules: Table) {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    this.applied.push(rules);
    return Promise.resolve({ affected: 1, waiting: [] });
  }

  applyShared(rules: readonly SharedRule[]) {
    this.shared = rules;
    return this.apply(rules.flatMap(({ rule, isCarried }) => (isCarried ? [rule] : [])));
  }

  activity() {
    return Promise.resolve(new Map([...this.counts].map(([id, some]) => [id, { ...NO_ACTIVITY, ...some }])));
  }

  conversations() {
    return Promise.resolve([CONVERSATION]);
  }

  listen(listener: (event: EngineEvent) => void) {
    this.#listener = listener;
    return () => (this.#listener = () => undefined);
  }

  tell(event: EngineEvent) {
    this.#listener(event);
  }

  [Symbol.asyncDispose]() {
    this.isDisposed = true;
    return Promise.resolve();
  }
}

function sceneOf() {
  const kernel = new Half(kernelShortcoming);
  const relay = new Half((rule: Rule) => relayShortcoming(rule, 'the kernel can'));
  const engine = new SharedEngine(kernel as unknown as KernelEngine, relay as unknown as Relay);
  return { kernel, relay, engine };
}

const RULES = table('in tcp 80 -> :8080', 'in tcp 443 -> nas:443 proxy v2', 'out tcp :25 -> :8025');
const [WEB, SECURE, MAIL] = RULES as readonly [Rule, Rule, Rule];
const DRAIN = { conversations: 'drain' } as const;

test('each engine gets its rules, and the kernel knows where the relay’s stand', async () => {
  const { kernel, relay, engine } = sceneOf();
  expect(await engine.apply(RULES, DRAIN)).toEqual({ affected: 2, waiting: [] });
  expect(kernel.shared).toEqual([
    { rule: WEB, isCarried: true },
    { rule: SECURE, isCarried: false },
    { rule: MAIL, isCarried: true },
  ]);
  expect(relay.applied).toEqual([[SECURE]]);
  expect(RULES.map((rule) => engine.carriedBy(rule))).toEqual([['nftables'], ['relay'], ['nftables']]);
});

test('a table that neither can carry is told before anything is done', async () => {
  const { kernel, relay, engine } = sceneOf();
  const rules = table('in tcp 80 -> nas:80 proxy v2 as client');
  await expect(engine.apply(rules, DRAIN)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  expect([kernel.applied, relay.applied]).toEqual([[], []]);
});

test('where the relay cannot listen, the kernel is left as it was', async () => {
  const { kernel, relay, engine } = sceneOf();
  relay.failure = new NatwardError('CONFLICT', 'TCP port 443 is in use');
  await expect(engine.apply(RULES, DRAIN)).rejects.toThrow('in use');
  expect(kernel.applied).toEqual([]);
});

test('where the kernel fails, the relay goes back to the table before', async () => {
  const { kernel, relay, engine } = sceneOf();
  await engine.apply(RULES, DRAIN);
  kernel.failure = new NatwardError('FAILED', 'nft does not answer');
  await expect(engine.apply([WEB], DRAIN)).rejects.toThrow('nft does not answer');
  expect(relay.applied).toEqual([[SECURE], [], [SECURE]]);
  expect(engine.carriedBy(SECURE)).toEqual(['relay']);
});

test('what both have counted of a rule is added up', async () => {
  const { kernel, relay, engine } = sceneOf();
  kernel.counts = new Map([['a', { bytesIn: 5, conversations: 1, lastAtMs: 1000, lastRefusal: 'then' }]]);
  relay.counts = new Map([
    ['a', { bytesIn: 7, conversations: 2, lastAtMs: 2000 }],
    ['b', { open: 1 }],
  ]);
  expect([...(await engine.activity())]).toEqual([
    ['a', { ...NO_ACTIVITY, bytesIn: 12, conversations: 3, lastAtMs: 2000, lastRefusal: 'then' }],
    ['b', { ...NO_ACTIVITY, open: 1 }],
  ]);
});

test('conversations of both have ids of their own, in lists and in events', async () => {
  const { kernel, relay, engine } = sceneOf();
  expect((await engine.conversations()).map(({ id }) => id)).toEqual([2, 3]);
  const heard: unknown[] = [];
  const stop = engine.listen((event) =>
    heard.push('conversation' in event ? event.conversation.id : event.type),
  );
  const refused = { type: 'refused', ruleId: null, client: CONVERSATION.client, reason: 'no' } as const;
  kernel.tell({ type: 'opened', conversation: CONVERSATION });
  relay.tell({ type: 'opened', conversation: CONVERSATION });
  relay.tell(refused);
  stop();
  relay.tell(refused);
  expect(heard).toEqual([2, 3, 'refused']);
});

test('both end with it', async () => {
  const { kernel, relay, engine } = sceneOf();
  await engine[Symbol.asyncDispose]();
  expect([kernel.isDisposed, relay.isDisposed]).toEqual([true, true]);
});
