import { describe, expect, test, vi } from 'vitest';
import type { RuleDocument, RuleEdit } from '../../src/agent/rule-keeping.ts';
import { Steering, type SteeringOptions } from '../../src/agent/steering.ts';
import { NatwardError } from '../../src/errors.ts';
import type { FirstPacket } from '../../src/forwarder/decide.ts';
import type { Conversation, EngineEvent } from '../../src/forwarder/engine.ts';
import { TestClock } from '../support/test-clock.ts';
import {
  DRY,
  documentOf,
  type Scene,
  sceneOf,
  statusOf,
  tableOf,
  TestRules,
  wanted,
} from './steering-scene.ts';
import { TestEngine } from './test-engine.ts';

const A = 'a: in tcp 1001 -> 10.0.0.5:80';
const B = 'b: in tcp 1002 -> 10.0.0.5:80';
const C = 'c: in tcp 1003 -> 10.0.0.5:80';

function conversationOf(ruleId: string, id = 1): Conversation {
  const end = { address: '192.0.2.9', port: 4711 };
  const bytes = { bytesIn: 0, bytesOut: 0, beganAtMs: 0 };
  return { id, ruleId, protocol: 'tcp', client: end, local: end, target: null, ...bytes };
}

function opened(ruleId: string, id = 1): EngineEvent {
  return { type: 'opened', conversation: conversationOf(ruleId, id) };
}

describe('add', () => {
  test('puts rules at the end, carries them out, and remembers them', async () => {
    const scene = sceneOf();
    await scene.add(A);
    const report = await scene.add(B, C);
    expect(report).toMatchObject({
      added: ['b', 'c'],
      removed: [],
      changed: [],
      moved: [],
      unchanged: 1,
      affected: [],
      notes: [],
    });
    expect(report.rules).toEqual([
      { id: 'b', position: 2, text: 'in tcp 1002 -> 10.0.0.5:80', waiting: null },
      { id: 'c', position: 3, text: expect.any(String), waiting: null },
    ]);
    expect((await scene.steering.rules()).map(({ id, position, owner }) => [id, position, owner])).toEqual([
      ['a', 1, 'user'],
      ['b', 2, 'user'],
      ['c', 3, 'user'],
    ]);
    expect(scene.engine.ids).toEqual(['a', 'b', 'c']);
    expect(scene.memory.table).toEqual(scene.engine.table);
  });

  test('gives a rule without an id a new one, also where an equal one is there', async () => {
    const scene = sceneOf();
    const [first] = (await scene.add('in tcp 1001 -> :80')).added;
    const same = { rule: 'in tcp 1001 -> :80', enabled: false };
    const [second] = (await scene.add(same)).added;
    expect([first, second]).toEqual([expect.stringMatching(/^r[0-9a-f]{6}$/), expect.any(String)]);
    expect(second).not.toBe(first);
  });

  test('never gives an id that is there', async () => {
    const values = [7, 7, 7, 8];
    const scene = sceneOf({ fillRandom: (bytes) => void bytes.fill(values.shift() ?? 9) });
    const { added } = await scene.add('in tcp 1001 -> :80', 'in tcp 1002 -> :80');
    expect(added).toEqual(['r070707', 'r080808']);
  });

  test('before a rule puts all of them there, in their order', async () => {
    const scene = sceneOf();
    await scene.add(A, B);
    const rules = ['c: in tcp 1 -> :80', 'd: in tcp 2 -> :80'].map(documentOf);
    await scene.edit({ kind: 'add', rules, before: 'b' });
    await scene.edit({ kind: 'add', rules: [documentOf('e: in tcp 3 -> :80')], before: '1' });
    expect(scene.engine.ids).toEqual(['e', 'a', 'c', 'd', 'b']);
  });

  test('of a rule that is disabled, and with a description of its own', async () => {
    const scene = sceneOf();
    await scene.add({ id: 'a', rule: 'in tcp 1 -> :80 "old"', enabled: false, description: 'new' });
    expect(await statusOf(scene, 'a')).toMatchObject({
      enabled: false,
      description: 'new',
      text: 'in tcp 1 -> :80 "new"',
      engine: 'relay',
      waiting: null,
      activity: { conversations: 0, lastAtMs: null },
    });
  });

  test('of twenty thousand at once takes seconds at the most', async () => {
    const scene = sceneOf();
    const before = performance.now();
    let random = 0;
    const many = sceneOf({
      fillRandom: (bytes) => {
        random++;
        bytes.set([random >> 16, (random >> 8) & 255, random & 255]);
      },
    });
    await many.add(...Array.from({ length: 20_000 }, (_, at) => `in tcp ${at + 1} -> 10.0.0.5:80`));
    expect(many.engine.table).toHaveLength(20_000);
    expect(performance.now() - before).toBeLessThan(10_000);
    expect(scene.engine.table).toEqual([]);
  });

  test('says what can never match', async () => {
    const scene = sceneOf();
    const report = await scene.add('a: in tcp 1-100 -> 10.0.0.5:80', 'b: in tcp 50 -> 10.0.0.6:80');
    expect(report.notes).toEqual([
      {
        ruleId: 'b',
        position: 2,
        message: expect.stringContaining('can never match'),
        advice: expect.any(String),
      },
    ]);
  });
});

describe('replace', () => {
  test('keeps the ids of rules that say the same, and the others go', async () => {
    const scene = sceneOf();
    await scene.add(A, B);
    const rules = ['in tcp 1009 -> :80', 'in tcp 1002 -> 10.0.0.5:80'].map(documentOf);
    const report = await scene.edit({ kind: 'replace', rules });
    expect(report).toMatchObject({ removed: ['a'], changed: [], unchanged: 1 });
    expect(scene.engine.ids).toEqual([report.added[0], 'b']);
  });

  test('with the same changes nothing', async () => {
    const scene = sceneOf();
    await scene.add(A, B);
    const report = await scene.edit({ kind: 'replace', rules: [A, B].map(documentOf) });
    expect(report).toMatchObject({ added: [], removed: [], changed: [], moved: [], unchanged: 2 });
  });

  test('with nothing removes all', async () => {
    const scene = sceneOf();
    await scene.add(A, B);
    expect((await scene.edit({ kind: 'replace', rules: [] })).removed).toEqual(['a', 'b']);
    expect(scene.memory.table).toEqual([]);
  });
});

describe('edit', () => {
  test('keeps id and place, and the description where none is given', async () => {
    const scene = sceneOf();
    await scene.add(A, 'b: in tcp 2 -> :80 "the web"', C);
    const report = await scene.edit({ kind: 'edit', name: 'b', rule: 'in udp 2 -> :81' });
    expect(report).toMatchObject({ changed: ['b'], unchanged: 2 });
    expect((await scene.table())[1]).toBe('b in udp 2 -> :81 "the web"');
  });

  test.each([
    [{ description: 'mine' }, 'in tcp 2 -> :80 "mine"'],
    [{ description: '' }, 'in tcp 2 -> :80'],
    [{ rule: 'in tcp 3 -> :80 "new"' }, 'in tcp 3 -> :80 "new"'],
    [{ rule: 'in tcp 3 -> :80 "new"', description: 'newer' }, 'in tcp 3 -> :80 "newer"'],
    [{}, 'in tcp 2 -> :80 "old"'],
  ])('%j makes it so', async (change, text) => {
    const scene = sceneOf();
    await scene.add('b: in tcp 2 -> :80 "old"');
    await scene.edit({ kind: 'edit', name: '1', ...change });
    expect(await scene.table()).toEqual([`b ${text}`]);
  });

  test('a rule that is disabled stays so', async () => {
    const scene = sceneOf();
    await scene.add({ id: 'a', rule: 'in tcp 1 -> :80', enabled: false });
    await scene.edit({ kind: 'edit', name: 'a', rule: 'in tcp 2 -> :80' });
    expect(await statusOf(scene, 'a')).toMatchObject({ enabled: false });
  });
});

describe('enable, disable, remove and move', () => {
  test('name rules by id and by place, several at once', async () => {
    const scene = sceneOf();
    await scene.add(A, B, C);
    expect((await scene.edit({ kind: 'disable', names: ['a', '3'] })).changed).toEqual(['a', 'c']);
    expect(scene.engine.table.map(({ enabled }) => enabled)).toEqual([false, true, false]);
    expect((await scene.edit({ kind: 'enable', names: ['1', 'b', 'a'] })).changed).toEqual(['a']);
    expect((await scene.edit({ kind: 'remove', names: ['3', 'a', '1'] })).removed).toEqual(['a', 'c']);
    expect(scene.engine.ids).toEqual(['b']);
  });

  test('an id that is a number is an id first', async () => {
    const scene = sceneOf();
    await scene.add(A, B, '1: in tcp 5 -> :80');
    expect((await scene.edit({ kind: 'remove', names: ['1'] })).removed).toEqual(['1']);
  });

  test.each([
    ['a', undefined, 'b c d a'],
    ['d', 'a', 'd a b c'],
    ['a', 'c', 'b a c d'],
    ['a', 'b', 'a b c d'],
    ['b', 'b', 'a b c d'],
    ['4', '2', 'a d b c'],
    ['1', '4', 'b c a d'],
    ['d', undefined, 'a b c d'],
  ])('%s before %s comes to stand there', async (name, before, order) => {
    const scene = sceneOf();
    await scene.add(A, B, C, 'd: in tcp 4 -> :80');
    const report = await scene.edit({ kind: 'move', name, before });
    expect(scene.engine.ids.join(' ')).toBe(order);
    expect(report.moved).toHaveLength(order === 'a b c d' ? 0 : 1);
  });

  test('the place is that in the whole table, also below the configuration’s rules', async () => {
    const scene = sceneOf();
    await scene.steering.configure(wanted('one: in tcp 1 -> :80', 'two: in tcp 2 -> :80'));
    await scene.add(A, B, C);
    await scene.edit({ kind: 'move', name: '5', before: '3' });
    expect(scene.engine.ids).toEqual(['one', 'two', 'c', 'a', 'b']);
  });
});

describe('what cannot be', () => {
  const before = ['one in tcp 500 -> 10.0.0.1:80', 'a in tcp 1001 -> 10.0.0.5:80'];
  const lease = 'lease-key-1 in tcp 700 -> 10.0.0.9:700 "700"';

  async function standing(): Promise<Scene> {
    const scene = sceneOf();
    await scene.steering.configure(wanted('one: in tcp 500 -> 10.0.0.1:80'));
    await scene.add(A);
    await scene.steering.carry('key/1', {
      protocols: ['tcp'],
      port: 700,
      isFixed: false,
      target: { address: '10.0.0.9', port: 700 },
      description: '700',
    });
    scene.engine.taken.add(80).add(81);
    return scene;
  }

  const doc = (rule: string, more: Partial<RuleDocument> = {}): RuleEdit => ({
    kind: 'add',
    rules: [documentOf('ok: in tcp 9999 -> :80'), { rule, ...more }],
  });

  test.each<[string, RuleEdit, string, RegExp]>([
    ['a text that is no rule', doc('in tcp 80'), 'USAGE', /->/],
    ['an id that is none', doc('in tcp 5 -> :6', { id: 'a b' }), 'USAGE', /no id of a rule/],
    ['a long description', doc('in tcp 5 -> :6', { description: 'x'.repeat(251) }), 'USAGE', /250/],
    ['a description of two lines', doc('in tcp 5 -> :6', { description: 'a\nb' }), 'USAGE', /control/],
    ['an id that is there', doc('in tcp 5 -> :6', { id: 'a' }), 'CONFLICT', /there is a rule a already/],
    ['one of the configuration', doc('in tcp 5 -> :6', { id: 'one' }), 'CONFLICT', /rule one already/],
    ['one of a lease', doc('in tcp 5 -> :6', { id: 'lease-key-1' }), 'CONFLICT', /lease-key-1 already/],
    ['an id twice', doc('in tcp 5 -> :6', { id: 'ok' }), 'CONFLICT', /there is a rule ok already/],
    [
      'an id twice in all that there is to be',
      { kind: 'replace', rules: [A, 'a: in tcp 5 -> :6'].map(documentOf) },
      'CONFLICT',
      /two rules have the id a/,
    ],
    [
      'a configuration’s id in all that there is to be',
      { kind: 'replace', rules: [documentOf('one: in tcp 5 -> :6')] },
      'CONFLICT',
      /there is a rule one already/,
    ],
    ['the same traffic', doc('in tcp 1001 -> 10.0.0.6:80'), 'CONFLICT', /^to: .*listen for the same/],
    ['the traffic of a lease', doc('in tcp 700 -> 10.0.0.6:80'), 'CONFLICT', /^to: .*listen for the same/],
    ['natward’s own port', doc('in udp 5350 -> :6'), 'CONFLICT', /^to: UDP 5350 is natward's own port/],
    [
      'a circle',
      { kind: 'add', rules: ['in tcp 5 -> :7', 'in tcp 7 -> :5'].map(documentOf) },
      'CONFLICT',
      /^target: loop/,
    ],
    ['a port in use', doc('in tcp 80 -> 10.0.0.6:80'), 'CONFLICT', /another program listens on TCP 80/],
    ['what the engine cannot do', doc('out tcp 10.0.0.5:80 -> :81'), 'UNSUPPORTED', /goes out/],
    ['nobody’s place', { kind: 'remove', names: ['a', '9'] }, 'NOT_FOUND', /no rule 9/],
    ['nobody’s id', { kind: 'edit', name: 'x', rule: 'in tcp 5 -> :6' }, 'NOT_FOUND', /no rule x/],
    ['before nobody', { kind: 'move', name: 'a', before: 'x' }, 'NOT_FOUND', /no rule x/],
    ['place 0', { kind: 'enable', names: ['0'] }, 'NOT_FOUND', /no rule 0/],
    ['the configuration’s', { kind: 'disable', names: ['one'] }, 'NOT_OWN', /configuration file/],
    ['the configuration’s by place', { kind: 'remove', names: ['1'] }, 'NOT_OWN', /configuration file/],
    ['above the configuration’s', { kind: 'move', name: 'a', before: '1' }, 'NOT_OWN', /configuration/],
    ['a lease’s', { kind: 'remove', names: ['lease-key-1'] }, 'NOT_OWN', /a lease/],
    ['a lease’s by place', { kind: 'edit', name: '3', description: 'x' }, 'NOT_OWN', /a lease/],
    ['a bad text for a rule', { kind: 'edit', name: 'a', rule: 'in tcp' }, 'USAGE', /./],
    ['a bad description', { kind: 'edit', name: 'a', description: '\u0000' }, 'USAGE', /control/],
  ])('%s is refused as a whole, and all is as it was', async (_what, edit, code, message) => {
    const scene = await standing();
    const { applied, table } = scene.engine;
    const [count, { saves }] = [applied.length, scene.memory];
    await expect(scene.edit(edit)).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect(await scene.table()).toEqual([...before, lease]);
    expect(scene.engine.table).toBe(table);
    expect([applied.length, scene.memory.saves]).toEqual([count, saves]);
    await scene.add('z: in tcp 4000 -> 10.0.0.5:80');
    expect(scene.engine.ids).toEqual(['one', 'a', 'z', 'lease-key-1']);
  });

  test('is said with what would help', async () => {
    const scene = await standing();
    await expect(scene.add('in tcp 1001 -> 10.0.0.6:80')).rejects.toMatchObject({
      advice: 'Remove one of them, or disable it.',
    });
    await expect(scene.edit({ kind: 'remove', names: ['one'] })).rejects.toMatchObject({
      advice: 'Change it there.',
    });
  });

  test('an error that nobody expected is thrown as it is', async () => {
    const scene = await standing();
    scene.engine.failure = new TypeError('a bug');
    await expect(scene.add('z: in tcp 4000 -> 10.0.0.5:80')).rejects.toThrow(TypeError);
    expect(await scene.table()).toEqual([...before, lease]);
  });
});

describe('a dry run', () => {
  test('says what would happen, and changes nothing', async () => {
    const scene = sceneOf();
    await scene.add(A, B);
    scene.engine.running.push(conversationOf('a'), conversationOf('b', 2));
    const tries = scene.engine.tries;
    const rules = ['in tcp 1002 -> 10.0.0.5:80', 'c: in tcp 9 -> :80'].map(documentOf);
    const report = await scene.edit({ kind: 'replace', rules }, DRY);
    expect(report).toMatchObject({ added: ['c'], removed: ['a'], unchanged: 1 });
    expect(report.affected).toEqual([conversationOf('a')]);
    expect(report.rules.map(({ id, position }) => `${position} ${id}`)).toEqual(['2 c']);
    expect(await scene.table()).toEqual(['a in tcp 1001 -> 10.0.0.5:80', 'b in tcp 1002 -> 10.0.0.5:80']);
    expect([scene.engine.tries, scene.memory.saves]).toEqual([tries, 1]);
  });

  test('refuses what would be refused', async () => {
    const scene = sceneOf();
    await scene.add(A);
    const dry = (line: string) => scene.edit({ kind: 'add', rules: [documentOf(line)] }, DRY);
    await expect(dry('in tcp 1001 -> 10.0.0.6:80')).rejects.toMatchObject({ code: 'CONFLICT' });
    await expect(dry('out tcp 10.0.0.5:80 -> :81')).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: 'out tcp 10.0.0.5:80 -> :81: out: it sees nothing that goes out',
      advice: 'Use another engine.',
    });
    const disabled = { rule: 'out tcp 10.0.0.5:80 -> :81', enabled: false };
    await expect(scene.edit({ kind: 'add', rules: [disabled] }, DRY)).resolves.toMatchObject({
      unchanged: 1,
    });
  });
});

test.each(['drain', 'cut'] as const)(
  'what becomes of conversations is handed on: %s',
  async (conversations) => {
    const scene = sceneOf();
    await scene.add(A);
    scene.engine.running.push(conversationOf('a'));
    const { affected } = await scene.edit({ kind: 'remove', names: ['a'] }, { conversations });
    expect(affected).toEqual([conversationOf('a')]);
    expect(scene.engine.applied.at(-1)).toEqual({ ids: [], conversations });
  },
);

describe('the rules of the configuration', () => {
  test('stand above people’s, which stand above those of leases', async () => {
    const scene = sceneOf({ memory: new TestRules(tableOf(A)) });
    const target = { address: '10.0.0.9', port: 80 };
    const rest = { protocols: ['tcp', 'udp'] as const, isFixed: false, description: '80' };
    await scene.steering.carry('k/80', { ...rest, port: 80, target });
    await scene.steering.configure(wanted('one: in tcp 5 -> :6'));
    expect((await scene.steering.rules()).map(({ id, owner }) => `${owner} ${id}`)).toEqual([
      'config one',
      'user a',
      'lease lease-k-80',
    ]);
    expect(scene.engine.ids).toEqual(['one', 'a', 'lease-k-80']);
  });

  test('are what it says now, and keep their ids', async () => {
    const scene = sceneOf();
    await scene.steering.configure(wanted('in tcp 5 -> :6', 'in tcp 6 -> :7'));
    const [, id] = scene.engine.ids;
    await scene.steering.configure(wanted('in tcp 6 -> :7', 'in tcp 8 -> :9'));
    expect(scene.engine.ids[0]).toBe(id);
    expect(scene.engine.table).toHaveLength(2);
    await scene.steering.configure([]);
    expect(scene.engine.table).toEqual([]);
    expect(scene.warned).not.toContainEqual(expect.stringMatching(/^rules: rule/));
  });

  test('with an id that a person gave are left out alone, and told of until that is over', async () => {
    const scene = sceneOf({ memory: new TestRules(tableOf(A)) });
    await scene.steering.configure(wanted('a: in tcp 5 -> :6', 'c: in tcp 7 -> :8', 'c: in tcp 8 -> :9'));
    expect(scene.engine.ids).toEqual(['c', 'a']);
    expect(scene.warned[0]).toMatch(/^rule ids: the configuration's rule a, c is left out/);
    await scene.edit({ kind: 'remove', names: ['a'] });
    await scene.steering.configure(wanted('a: in tcp 5 -> :6'));
    expect(scene.engine.ids).toEqual(['a']);
    expect(scene.warned).toContain('rule ids: well');
  });

  test('that contradict people’s have the person’s wait', async () => {
    const scene = sceneOf({ memory: new TestRules(tableOf(A, B)) });
    await scene.steering.configure(wanted('x: in tcp 1001 -> 10.0.0.7:80'));
    expect(scene.engine.ids).toEqual(['x', 'b']);
    expect((await statusOf(scene, 'a'))?.waiting).toMatch(/listen for the same traffic/);
    await scene.steering.configure([]);
    expect(scene.engine.ids).toEqual(['a', 'b']);
    expect((await statusOf(scene, 'a'))?.waiting).toBeNull();
  });

  test('that the engine cannot carry out wait, with what is too much', async () => {
    const scene = sceneOf();
    await scene.steering.configure(wanted('o: out tcp 10.0.0.5:80 -> :81', 'i: in tcp 5 -> :6'));
    expect(scene.engine.ids).toEqual(['i']);
    expect((await statusOf(scene, 'o'))?.waiting).toBe('out: it sees nothing that goes out');
  });

  test('an error that nobody expected is thrown, and later ones are carried out all the same', async () => {
    const scene = sceneOf();
    scene.engine.failure = new TypeError('a bug');
    await expect(scene.steering.configure(wanted('i: in tcp 5 -> :6'))).rejects.toThrow(TypeError);
    await scene.steering.configure(wanted('j: in tcp 5 -> :6'));
    expect(scene.engine.ids).toEqual(['j']);
  });
});

describe('a rule whose port is in use when the agent starts', () => {
  async function started(...lines: readonly string[]): Promise<Scene> {
    const scene = sceneOf({ memory: new TestRules(tableOf(...lines)) });
    scene.engine.taken.add(1002);
    await scene.steering.configure([]);
    return scene;
  }

  test('waits alone, is told of once, is tried again, and is carried out when the port is free', async () => {
    const scene = await started(A, B, C);
    expect(scene.engine.ids).toEqual(['a', 'c']);
    expect((await statusOf(scene, 'b'))?.waiting).toBe('another program listens on TCP 1002');
    await scene.clock.advance(60_000);
    expect(scene.warned.filter((one) => one.startsWith('rules:'))).toEqual([
      'rules: rule b is not carried out: another program listens on TCP 1002',
    ]);
    scene.engine.taken.clear();
    await scene.clock.advance(5000);
    expect(scene.engine.ids).toEqual(['a', 'b', 'c']);
    expect(await statusOf(scene, 'b')).toMatchObject({ waiting: null });
    expect(scene.warned.at(-1)).toBe('rules: well');
    const { tries } = scene.engine;
    await scene.clock.advance(600_000);
    expect(scene.engine.tries).toBe(tries);
  });

  test('takes nothing from those that run when it is tried again', async () => {
    const scene = await started(A, B, C);
    const { tries } = scene.engine;
    const from = scene.engine.applied.length;
    await scene.clock.advance(20_000);
    expect(scene.engine.tries).toBeGreaterThan(tries);
    for (const { ids } of scene.engine.applied.slice(from)) expect(ids).toEqual(['a', 'c']);
    expect(scene.engine.ids).toEqual(['a', 'c']);
  });

  test('asks nothing of the engine while the table forbids it, and is taken up when it no longer does', async () => {
    let own = ['192.0.2.1', '192.0.2.7'];
    const memory = new TestRules(tableOf(A, 'b: in tcp 80-90 -> 192.0.2.7:85'));
    const scene = sceneOf({ memory, ownAddresses: () => own });
    await scene.steering.configure([]);
    expect(scene.engine.ids).toEqual(['a']);
    const { tries } = scene.engine;
    await scene.clock.advance(60_000);
    expect(scene.engine.tries).toBe(tries);
    own = ['192.0.2.1'];
    await scene.clock.advance(5000);
    expect(scene.engine.ids).toEqual(['a', 'b']);
  });

  test('leaves those that run as they are when the configuration changes beside it', async () => {
    const scene = await started(A, B, C);
    const from = scene.engine.applied.length;
    await scene.steering.configure(wanted('x: in tcp 5 -> :6'));
    expect(scene.engine.ids).toEqual(['x', 'a', 'c']);
    for (const { ids } of scene.engine.applied.slice(from))
      expect(ids).toEqual(expect.arrayContaining(['a', 'c']));
  });

  test('does not stand in the way of an edit beside it', async () => {
    const scene = await started(A, B);
    const report = await scene.add(C);
    expect(report.rules.map(({ id, waiting }) => [id, waiting === null])).toEqual([['c', true]]);
    expect((await statusOf(scene, 'b'))?.waiting).toEqual(expect.any(String));
    expect(scene.engine.ids).toEqual(['a', 'c']);
    await scene.edit({ kind: 'move', name: 'b' });
    expect(scene.memory.table.map(({ id }) => id)).toEqual(['a', 'c', 'b']);
    scene.engine.taken.clear();
    await scene.clock.advance(5000);
    expect(scene.engine.ids).toEqual(['a', 'c', 'b']);
  });

  test.each<[string, RuleEdit]>([
    ['is removed', { kind: 'remove', names: ['b'] }],
    ['is disabled', { kind: 'disable', names: ['b'] }],
    ['goes to another port', { kind: 'edit', name: 'b', rule: 'in tcp 1009 -> :80' }],
  ])('waits no more when it %s', async (_what, edit) => {
    const scene = await started(A, B);
    await scene.edit(edit);
    expect(scene.warned.at(-2)).toBe('rules: well');
    expect((await scene.steering.rules()).map(({ waiting }) => waiting)).not.toContainEqual(
      expect.any(String),
    );
    const { tries } = scene.engine;
    await scene.clock.advance(60_000);
    expect(scene.engine.tries - tries).toBeLessThanOrEqual(1);
  });

  test('is refused where a person changes what it says and leaves the port', async () => {
    const scene = await started(A, B);
    await expect(scene.edit({ kind: 'edit', name: 'b', description: 'x' })).rejects.toMatchObject({
      code: 'CONFLICT',
    });
    expect((await statusOf(scene, 'b'))?.waiting).toBe('another program listens on TCP 1002');
    expect(scene.engine.ids).toEqual(['a']);
  });

  test('is found among many: the others run', async () => {
    const lines = Array.from({ length: 1000 }, (_, at) => `r${at}: in tcp ${at + 1} -> 10.0.0.5:80`);
    const scene = sceneOf({ memory: new TestRules(tableOf(...lines)) });
    for (const port of [1, 2, 500, 1000]) scene.engine.taken.add(port);
    await scene.steering.configure([]);
    expect(scene.engine.table).toHaveLength(996);
    expect(scene.engine.tries).toBeLessThan(100);
    expect(scene.warned.at(-1)).toMatch(
      /^rules: rule r0 is not carried out: .*TCP 1; 3 more of the rules wait$/,
    );
  });

  test('where too many are in the way to try each, all that are left wait and say so', async () => {
    const lines = Array.from({ length: 3000 }, (_, at) => `r${at}: in tcp ${at + 1} -> 10.0.0.5:80`);
    const scene = sceneOf({ memory: new TestRules(tableOf(...lines)) });
    for (let port = 1; port <= 3000; port += 2) scene.engine.taken.add(port);
    await scene.steering.configure([]);
    const rules = await scene.steering.rules();
    const waiting = rules.filter((rule) => rule.waiting !== null).map(({ id }) => id);
    expect(new Set([...waiting, ...scene.engine.ids])).toEqual(new Set(rules.map(({ id }) => id)));
    expect(waiting.length + scene.engine.ids.length).toBe(3000);
    expect(scene.engine.tries).toBeLessThan(1500);
  });
});

describe('a rule that the engine waits with', () => {
  test('stays the engine’s when others are edited, and is told of', async () => {
    const scene = sceneOf();
    await scene.add(A, B);
    scene.engine.delayed.set('b', 'there is no interface tun0');
    await scene.steering.configure([]);
    expect((await statusOf(scene, 'b'))?.waiting).toBe('there is no interface tun0');
    expect(scene.warned.at(-1)).toBe('rules: rule b is not carried out: there is no interface tun0');
    await scene.add(C);
    expect(scene.engine.ids).toEqual(['a', 'b', 'c']);
    const target = { address: '10.0.0.9', port: 80 };
    const rest = { protocols: ['tcp'] as const, isFixed: false, description: '80' };
    await scene.steering.carry('k/80', { ...rest, port: 80, target });
    expect(scene.engine.ids).toContain('b');
    scene.engine.delayed.clear();
    await scene.clock.advance(5000);
    expect((await statusOf(scene, 'b'))?.waiting).toBeNull();
    expect(scene.warned.filter((one) => one === 'rules: well')).toHaveLength(1);
  });

  test('is said to wait in the answer to whoever adds it', async () => {
    const scene = sceneOf();
    scene.engine.delayed.set('a', 'there is no interface tun0');
    const { rules } = await scene.add(A);
    expect(rules).toMatchObject([{ id: 'a', waiting: 'there is no interface tun0' }]);
  });
});

describe('a memory that cannot be written', () => {
  test('is told of; the rules run, and the next edit mends it', async () => {
    const scene = sceneOf();
    scene.memory.failure = new NatwardError('FAILED', 'the disk is full');
    await scene.add(A);
    expect(scene.engine.ids).toEqual(['a']);
    expect(scene.warned).toEqual(['rules file: the disk is full']);
    scene.memory.failure = undefined;
    await scene.add(B);
    expect(scene.memory.table.map(({ id }) => id)).toEqual(['a', 'b']);
    expect(scene.warned.at(-1)).toBe('rules file: well');
  });

  test('for a reason that nobody expected throws', async () => {
    const scene = sceneOf();
    scene.memory.failure = new TypeError('a bug');
    await expect(scene.add(A)).rejects.toThrow(TypeError);
  });

  test('holds no dry run and no refusal', async () => {
    const scene = sceneOf();
    await scene.edit({ kind: 'add', rules: [documentOf(A)] }, DRY);
    await expect(scene.add('in tcp')).rejects.toThrow(NatwardError);
    expect(scene.memory.saves).toBe(0);
  });

  test('that cannot be read throws at once', () => {
    const memory = new TestRules();
    vi.spyOn(memory, 'load').mockImplementation(() => {
      throw new NatwardError('FAILED', 'cannot read it');
    });
    expect(() => new Steering({ ...optionsOf(), memory })).toThrow('cannot read it');
  });
});

function optionsOf(): SteeringOptions {
  return {
    engine: new TestEngine(),
    memory: new TestRules(),
    clock: new TestClock(),
    fillRandom: () => undefined,
    ownAddresses: () => [],
    addressesOf: async () => [],
    ownPorts: [],
    tidy: () => undefined,
    isTaken: () => false,
    warn: () => undefined,
  };
}

test('edits at once come one after the other, none lost', async () => {
  const scene = sceneOf();
  await Promise.all(
    Array.from({ length: 20 }, (_, at) => scene.add(`r${at}: in tcp ${at + 1} -> 10.0.0.5:80`)),
  );
  expect(scene.engine.table).toHaveLength(20);
  expect(scene.memory.table).toEqual(scene.engine.table);
});

test('a change of thousands of rules is tidied up after, one of a few is not', async () => {
  let tidied = 0;
  const scene = sceneOf({ tidy: () => void tidied++ });
  const many = Array.from({ length: 5000 }, (_, at) => `r${at}: in tcp ${at + 1} -> 10.0.0.5:80`);
  await scene.steering.configure(wanted(...many));
  await scene.clock.advance(2000);
  expect(tidied).toBe(1);
  await scene.add('one: in udp 1 -> 10.0.0.5:80');
  await scene.clock.advance(10_000);
  expect(tidied).toBe(1);
});

test('a lease that the kernel carries takes no port of another program', async () => {
  const scene = sceneOf({ isTaken: (protocol, port) => protocol === 'tcp' && port <= 81 });
  const carriage = {
    protocols: ['tcp'] as const,
    port: 80,
    description: '',
    target: { address: '10.0.0.5', port: 80 },
  };
  expect(await scene.steering.carry('by/relay', { ...carriage, isFixed: false })).toBe(80);
  scene.engine.carriers = ['nftables'];
  expect(await scene.steering.carry('by/kernel', { ...carriage, isFixed: false })).toBeGreaterThanOrEqual(
    20_000,
  );
  await expect(scene.steering.carry('fixed', { ...carriage, port: 81, isFixed: true })).rejects.toMatchObject(
    {
      code: 'CONFLICT',
      message: 'another program listens on TCP 81',
      advice: expect.stringContaining('ss -ltnp'),
    },
  );
});

test('the rules of leases are there from the start, until it is known which of them are wanted', async () => {
  const memory = new TestRules();
  memory.leases = tableOf('lease-a-80: in tcp 80 -> 10.0.0.5:80', 'lease-b-81: in tcp 81 -> 10.0.0.6:80');
  const scene = sceneOf({ memory });
  await scene.steering.configure([]);
  expect(scene.engine.ids).toEqual(['lease-a-80', 'lease-b-81']);
  scene.steering.settle(['a/80']);
  await scene.clock.advance(1000);
  await scene.add('u: in tcp 9 -> 10.0.0.7:9');
  expect(scene.engine.ids).toEqual(['u', 'lease-a-80']);
  expect(memory.leases.map(({ id }) => id)).toEqual(['lease-a-80']);
});

test('a rule that waits from now on, with no change of the table, is told and shown', async () => {
  const scene = sceneOf();
  await scene.add('a: in tcp 1001 -> 10.0.0.5:80');
  scene.engine.waits([{ ruleId: 'a', reason: 't0 is down' }]);
  expect(await statusOf(scene, 'a')).toMatchObject({ waiting: 't0 is down' });
  expect(scene.warned.at(-1)).toBe('rules: rule a is not carried out: t0 is down');
});

test('what troubles the engine is told', () => {
  const scene = sceneOf();
  scene.engine.trouble('accept', new NatwardError('NO_RESOURCES', 'no file handle is left'));
  scene.engine.trouble('accept', undefined);
  expect(scene.warned).toEqual(['rules accept: no file handle is left', 'rules accept: well']);
});

describe('names', () => {
  test('of targets are resolved before anything is said of circles', async () => {
    const asked: string[] = [];
    const scene = sceneOf({
      addressesOf: async (name) => {
        asked.push(name);
        return ['192.0.2.1'];
      },
    });
    await expect(scene.add('in tcp 80-90 -> me.example:85')).rejects.toMatchObject({
      code: 'CONFLICT',
      message: expect.stringMatching(/^target: loop/),
    });
    expect(asked).toEqual(['me.example']);
  });

  test('that nobody resolves, or not in time, hold nothing up for longer', async () => {
    const scene = sceneOf({
      addressesOf: (name) =>
        name === 'bad.example' ? Promise.reject(new Error('no such name')) : new Promise(() => undefined),
    });
    const startMs = scene.clock.now();
    const adding = scene.add('a: in tcp 1 -> bad.example:80', 'b: in tcp 2 -> slow.example:80');
    await scene.clock.settle(adding);
    expect(scene.clock.now() - startMs).toBe(3000);
    expect(scene.engine.ids).toEqual(['a', 'b']);
  });
});

describe('explain', () => {
  const PACKET: FirstPacket = {
    direction: 'in',
    protocol: 'tcp',
    source: { address: '192.0.2.9', port: 50_000 },
    destination: { address: '192.0.2.1', port: 1002 },
    names: [],
  };

  test('names the rule that decides, and why those above do not', async () => {
    const scene = sceneOf();
    await scene.add({ id: 'off', rule: 'in tcp 1002 -> :9', enabled: false }, A, B);
    expect(await scene.steering.explain(PACKET)).toMatchObject({
      rule: { id: 'b', position: 3 },
      refusal: null,
      passed: [
        { position: 1, id: 'off', reason: 'it is disabled' },
        { position: 2, id: 'a', reason: 'it is for port 1001' },
      ],
    });
  });

  test('says why the rule does not let it through', async () => {
    const scene = sceneOf();
    await scene.add(B);
    scene.engine.refusals = 'its allow list has nobody like that';
    expect(await scene.steering.explain(PACKET)).toMatchObject({
      refusal: 'its allow list has nobody like that',
    });
  });

  test('says what of other programs stands in its way', async () => {
    const scene = sceneOf();
    await scene.add(B);
    scene.engine.hindrances = ['The firewall drops TCP 1002.'];
    expect(await scene.steering.explain(PACKET)).toMatchObject({
      obstacles: ['The firewall drops TCP 1002.'],
    });
    expect(await scene.steering.explain({ ...PACKET, protocol: 'udp' })).toMatchObject({ obstacles: [] });
  });

  test('says that none decides', async () => {
    const scene = sceneOf();
    await scene.add(A);
    scene.engine.refusals = 'not asked';
    expect(await scene.steering.explain(PACKET)).toMatchObject({ rule: null, refusal: null });
  });

  test('knows the addresses of the names in rules', async () => {
    const scene = sceneOf({ addressesOf: async () => ['192.0.2.1'] });
    await scene.add('a: in tcp me.example:1002 -> 10.0.0.5:80');
    expect(await scene.steering.explain(PACKET)).toMatchObject({ rule: { id: 'a' }, passed: [] });
  });

  test('goes by the clock’s hour', async () => {
    const scene = sceneOf();
    const now = new Date(scene.clock.now());
    const [hour, next] = [now.getHours(), (now.getHours() + 2) % 24].map((one) =>
      String(one).padStart(2, '0'),
    );
    await scene.add(`a: in tcp 1002 when daily ${hour}:00-${next}:00 -> 10.0.0.5:80`);
    expect(await scene.steering.explain(PACKET)).toMatchObject({ rule: { id: 'a' } });
    await scene.clock.advance(3 * 3_600_000);
    expect(await scene.steering.explain(PACKET)).toMatchObject({ rule: null });
  });
});

test('conversations and activities are the engine’s', async () => {
  const scene = sceneOf();
  await scene.add(A);
  scene.engine.running.push(conversationOf('a'));
  const activity = {
    bytesIn: 1,
    bytesOut: 2,
    packetsIn: 3,
    packetsOut: 4,
    open: 5,
    conversations: 6,
    refused: 7,
    lastAtMs: 8,
    lastRefusal: 'x',
  };
  scene.engine.activities.set('a', activity);
  expect(await scene.steering.conversations()).toEqual([conversationOf('a')]);
  expect(await statusOf(scene, 'a')).toMatchObject({ activity });
});

describe('follow', () => {
  /** Reads until `count` events are there, or the stream ends. */
  async function read(events: AsyncIterable<EngineEvent>, count: number): Promise<EngineEvent[]> {
    const seen: EngineEvent[] = [];
    for await (const event of events) {
      seen.push(event);
      if (seen.length === count) break;
    }
    return seen;
  }

  async function listening({ engine }: Scene, count: number): Promise<void> {
    await vi.waitFor(() => expect(engine.listeners).toBe(count));
  }

  test('tells what happens, in order, until its signal fires', async () => {
    const scene = sceneOf();
    const stop = new AbortController();
    const reading = read(scene.steering.follow(stop.signal), 10);
    await listening(scene, 1);
    const refused = {
      type: 'refused',
      ruleId: null,
      client: conversationOf('a').client,
      reason: 'x',
    } as const;
    scene.engine.emit(opened('a'), refused);
    await new Promise((resolve) => setImmediate(resolve));
    scene.engine.emit({ type: 'closed', conversation: conversationOf('a'), reason: 'done' });
    await new Promise((resolve) => setImmediate(resolve));
    stop.abort();
    expect((await reading).map(({ type }) => type)).toEqual(['opened', 'refused', 'closed']);
    expect(scene.engine.listeners).toBe(0);
  });

  test('of one rule tells of it alone', async () => {
    const scene = sceneOf();
    const reading = read(scene.steering.follow(new AbortController().signal, 'b'), 2);
    await listening(scene, 1);
    const refused = (ruleId: string | null) =>
      ({ type: 'refused', ruleId, client: conversationOf('a').client, reason: 'x' }) as const;
    scene.engine.emit(opened('a'), refused(null), refused('a'), opened('b'), refused('b'));
    expect(await reading).toEqual([opened('b'), refused('b')]);
  });

  test('makes nothing ready once its reader leaves, or its signal has fired before', async () => {
    const scene = sceneOf();
    const reading = read(scene.steering.follow(new AbortController().signal), 1);
    await listening(scene, 1);
    scene.engine.emit(opened('a'), opened('b'));
    expect(await reading).toHaveLength(1);
    expect(scene.engine.listeners).toBe(0);
    expect(await read(scene.steering.follow(AbortSignal.abort()), 1)).toEqual([]);
    expect(scene.engine.listeners).toBe(0);
  });

  test('ends with an error where more happens than can be told', async () => {
    const scene = sceneOf();
    const events = scene.steering.follow(new AbortController().signal)[Symbol.asyncIterator]();
    const first = events.next();
    await listening(scene, 1);
    scene.engine.emit(...Array.from({ length: 10_003 }, (_, at) => opened('a', at)));
    expect(await first).toMatchObject({ value: { conversation: { id: 0 } } });
    let told = 1;
    const rest = (async () => {
      for (;;) {
        await events.next();
        told++;
      }
    })();
    await expect(rest).rejects.toMatchObject({
      code: 'NO_RESOURCES',
      message: expect.stringContaining('3 events'),
    });
    expect(told).toBe(10_000);
    expect(scene.engine.listeners).toBe(0);
  });
});

describe('the end', () => {
  test('drains what runs for so long, then ends the engine', async () => {
    const scene = sceneOf();
    await scene.add(A);
    await scene.steering.close(2000);
    expect(scene.engine.drained).toEqual([2000]);
    expect(scene.engine.ends).toBe(1);
  });

  test('waits for what is being changed, and takes nothing new', async () => {
    const scene = sceneOf();
    let letGo: () => void = () => undefined;
    scene.engine.held = new Promise((resolve) => (letGo = resolve));
    const adding = scene.add(A);
    await vi.waitFor(() => expect(scene.engine.tries).toBe(1));
    const closing = scene.steering.close(2000);
    const late = scene.add(B);
    scene.steering.release('k/1');
    letGo();
    expect((await adding).added).toEqual(['a']);
    await expect(late).rejects.toMatchObject({ code: 'ABORTED' });
    await closing;
    expect(scene.memory.table.map(({ id }) => id)).toEqual(['a']);
    await expect(scene.steering.configure([])).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('ends what is tried again, and leaves no timer', async () => {
    const scene = sceneOf({ memory: new TestRules(tableOf(A)) });
    scene.engine.taken.add(1001);
    await scene.steering.configure([]);
    expect(scene.clock.pending).toBe(1);
    await scene.steering.close(0);
    await vi.waitFor(() => expect(scene.clock.pending).toBe(0));
    const { tries } = scene.engine;
    await scene.clock.advance(60_000);
    expect(scene.engine.tries).toBe(tries);
  });
});
