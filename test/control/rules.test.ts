import { describe, expect, onTestFinished, test, vi } from 'vitest';
import type { RuleEdit } from '../../src/agent/rule-keeping.ts';
import type { EngineEvent } from '../../src/forwarder/engine.ts';
import type { FirstPacket } from '../../src/forwarder/decide.ts';
import { HTTP_STATUS } from '../../src/control/failure.ts';
import { PATHS } from '../../src/control/schema.ts';
import { NatwardError } from '../../src/errors.ts';
import { ask, CONVERSATION, EDITED, FakeSteering, postJson, RULE, startAgent } from './support/fake-agent.ts';

const PACKET: FirstPacket = {
  direction: 'in',
  protocol: 'tcp',
  source: { address: '192.0.2.9', port: 4711 },
  destination: { address: '2001:db8::1', port: 80 },
  names: ['host.example.org'],
  adapter: 'eth0',
  mac: '02:00:00:00:00:01',
};
const DRAIN = { conversations: 'drain', dryRun: false } as const;
const REMOVE = { edit: { kind: 'remove', names: ['a'] } };

const EVENTS: readonly EngineEvent[] = [
  { type: 'opened', conversation: { ...CONVERSATION, target: null } },
  { type: 'closed', conversation: CONVERSATION, reason: 'both ends are done' },
  { type: 'refused', ruleId: null, client: CONVERSATION.client, reason: 'no rule is for it' },
  { type: 'refused', ruleId: 'web', client: CONVERSATION.client, reason: 'its rule refuses' },
];

describe('the client carries', () => {
  test('the table', async () => {
    const { client, steering } = await startAgent();
    expect(await client.rules()).toEqual([RULE]);
    steering.answerRules = [];
    expect(await client.rules()).toEqual([]);
  });

  test.each<RuleEdit>([
    { kind: 'add', rules: [{ rule: 'in tcp 80 -> :8080' }] },
    {
      kind: 'add',
      rules: [{ id: 'a', rule: 'in tcp 80 -> :8080', enabled: false, description: 'x' }],
      before: '3',
    },
    { kind: 'replace', rules: [] },
    { kind: 'edit', name: 'a', rule: 'in tcp 80 -> :8080', description: '' },
    { kind: 'edit', name: 'a' },
    { kind: 'enable', names: ['a', '2'] },
    { kind: 'disable', names: ['a'] },
    { kind: 'remove', names: ['a'] },
    { kind: 'move', name: '1', before: '7' },
    { kind: 'move', name: '1' },
  ])('%j', async (edit) => {
    const { client, steering } = await startAgent();
    expect(await client.edit(edit, { conversations: 'cut', dryRun: true })).toEqual(EDITED);
    expect(steering.asked).toEqual([{ edit, conversations: 'cut', dryRun: true }]);
  });

  test('sixty thousand rules at once, and their answer', async () => {
    const { client, steering } = await startAgent();
    const rules = Array.from({ length: 60_000 }, (_, at) => ({ rule: `in tcp ${at + 1} -> 10.0.0.5:80` }));
    const answer = {
      ...EDITED,
      rules: rules.map(({ rule: text }, at) => ({ id: `r${at}`, position: at + 1, text, waiting: null })),
    };
    steering.answerEdit = async () => answer;
    expect(await client.edit({ kind: 'replace', rules }, DRAIN)).toEqual(answer);
    expect(steering.asked).toEqual([{ edit: { kind: 'replace', rules }, ...DRAIN }]);
  });

  test('an explanation, also of what no rule decides', async () => {
    const { client, steering } = await startAgent();
    expect(await client.explain(PACKET)).toEqual(steering.answerExplain);
    steering.answerExplain = { rule: null, refusal: null, obstacles: [], passed: [] };
    const { adapter: _adapter, mac: _mac, ...bare } = PACKET;
    expect(await client.explain(bare)).toEqual(steering.answerExplain);
    expect(steering.asked).toEqual([PACKET, bare]);
  });

  test('that all rules are off, and on again', async () => {
    const { client } = await startAgent();
    const off = { isPaused: true, isNew: true, rules: 1, ended: 2 };
    expect(await client.pause()).toEqual(off);
    expect(await client.pause()).toEqual({ ...off, isNew: false });
    expect(await client.table()).toEqual({ isPaused: true, rules: [RULE] });
    expect(await client.status()).toMatchObject({ rulesPaused: true });
    expect(await client.resume()).toEqual({ isPaused: false, isNew: true, rules: 1, ended: 0 });
    expect(await client.table()).toEqual({ isPaused: false, rules: [RULE] });
  });

  test('the conversations', async () => {
    const { client } = await startAgent();
    expect(await client.conversations()).toEqual([CONVERSATION]);
  });

  test.each([
    ['USAGE', 400],
    ['NOT_FOUND', 404],
    ['NOT_OWN', HTTP_STATUS.NOT_OWN],
    ['CONFLICT', HTTP_STATUS.CONFLICT],
    ['UNSUPPORTED', HTTP_STATUS.UNSUPPORTED],
  ] as const)('what is refused as %s, with what would help', async (code, status) => {
    const { client, steering, place, errors } = await startAgent();
    steering.answerEdit = async () => {
      throw new NatwardError(code, 'to: it cannot be', { advice: 'Do something else.' });
    };
    await expect(client.edit({ kind: 'remove', names: ['a'] }, DRAIN)).rejects.toMatchObject({
      code,
      message: 'to: it cannot be',
      advice: 'Do something else.',
    });
    const answer = await postJson(place, PATHS.rules, REMOVE);
    expect(answer.status).toBe(status);
    expect(errors).toEqual([]);
  });
});

describe('what happens to conversations', () => {
  async function read(events: AsyncIterable<EngineEvent>, count: number): Promise<EngineEvent[]> {
    const seen: EngineEvent[] = [];
    for await (const event of events) {
      seen.push(event);
      if (seen.length === count) break;
    }
    return seen;
  }

  test('comes as it happens', async () => {
    const { client, steering } = await startAgent();
    steering.told = EVENTS;
    expect(await read(client.follow(new AbortController().signal), EVENTS.length)).toEqual(EVENTS);
    expect(steering.asked).toEqual([{ follow: undefined }]);
  });

  test('of one rule is asked for by its id, whatever stands in it', async () => {
    const { client, steering } = await startAgent();
    steering.told = EVENTS;
    await read(client.follow(new AbortController().signal, 'a&b=c d'), 1);
    expect(steering.asked).toEqual([{ follow: 'a&b=c d' }]);
  });

  test('ends when the reader has had enough, and for whoever tells it too', async () => {
    const { client, steering } = await startAgent();
    let isOver = false;
    steering.follow = async function* (signal) {
      signal.addEventListener('abort', () => (isOver = true));
      yield EVENTS[0] as EngineEvent;
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    };
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    for await (const _event of client.follow(stop.signal)) stop.abort();
    await vi.waitFor(() => expect(isOver).toBe(true));
  });

  test('that was too much to be told ends with an error', async () => {
    const { client, steering } = await startAgent();
    steering.follow = async function* () {
      yield EVENTS[0] as EngineEvent;
      throw new NatwardError('NO_RESOURCES', 'more happens than can be told: 3 events were lost');
    };
    const reading = read(client.follow(new AbortController().signal), 2);
    await expect(reading).rejects.toMatchObject({ code: 'NO_RESOURCES' });
  });

  test('that this program does not know is passed over', async () => {
    const { client, steering } = await startAgent();
    steering.told = [{ type: 'moved' } as unknown as EngineEvent, ...EVENTS];
    expect(await read(client.follow(new AbortController().signal), 1)).toEqual(EVENTS.slice(0, 1));
  });
});

describe('a question about rules that is not in order', () => {
  const rule = 'in tcp 80 -> :8080';
  const end = { address: '192.0.2.9', port: 4711 };
  const WRONG: readonly (readonly [path: string, body: unknown, names: string])[] = [
    [PATHS.rules, {}, 'edit'],
    [PATHS.rules, { edit: { kind: 'rename' } }, 'edit.kind'],
    [PATHS.rules, { edit: { kind: 'add' } }, 'edit.rules'],
    [PATHS.rules, { edit: { kind: 'add', rules: [{}] } }, 'edit.rules.0.rule'],
    [PATHS.rules, { edit: { kind: 'add', rules: [{ rule: '' }] } }, 'edit.rules.0.rule'],
    [PATHS.rules, { edit: { kind: 'add', rules: [{ rule: 'x'.repeat(8193) }] } }, 'edit.rules.0.rule'],
    [PATHS.rules, { edit: { kind: 'add', rules: [{ rule, port: 1 }] } }, 'port'],
    [PATHS.rules, { edit: { kind: 'add', rules: [{ rule, enabled: 'yes' }] } }, 'enabled'],
    [PATHS.rules, { edit: { kind: 'add', rules: [{ rule, id: '' }] } }, 'id'],
    [PATHS.rules, { edit: { kind: 'add', rules: [], befor: 'a' } }, 'befor'],
    [
      PATHS.rules,
      { edit: { kind: 'replace', rules: Array.from({ length: 60_001 }, () => ({ rule })) } },
      'edit.rules',
    ],
    [PATHS.rules, { edit: { kind: 'remove', names: [] } }, 'edit.names'],
    [PATHS.rules, { edit: { kind: 'move' } }, 'edit.name'],
    [PATHS.rules, { edit: { kind: 'edit', name: 'a', description: 'x'.repeat(251) } }, 'description'],
    [PATHS.rules, { ...REMOVE, conversations: 'keep' }, 'conversations'],
    [PATHS.rules, { ...REMOVE, dryRun: 1 }, 'dryRun'],
    [PATHS.rules, { ...REMOVE, dryrun: true }, 'dryrun'],
    [PATHS.explain, {}, 'direction'],
    [PATHS.explain, { ...PACKET, protocol: 'sctp' }, 'protocol'],
    [PATHS.explain, { ...PACKET, source: { ...end, port: 65_536 } }, 'source.port'],
    [PATHS.explain, { ...PACKET, destination: { ...end, address: 'example.org' } }, 'destination.address'],
    [PATHS.explain, { ...PACKET, names: Array(9).fill('a') }, 'names'],
  ];
  test.each(WRONG.map(([path, body, names]) => ({ path, body, names })))(
    '$path is told where it is wrong: $names',
    async ({ path, body, names }) => {
      const { place, steering, errors } = await startAgent();
      const answer = await postJson(place, path, body);
      expect(answer.json()).toMatchObject({
        error: { code: 'MALFORMED', message: expect.stringContaining(names) },
      });
      expect(answer.status).toBe(400);
      expect(steering.asked).toEqual([]);
      expect(errors).toEqual([]);
    },
  );

  test('what is left out has its default', async () => {
    const { place, steering } = await startAgent();
    expect((await postJson(place, PATHS.rules, REMOVE)).json()).toEqual(EDITED);
    expect(steering.asked).toEqual([{ ...REMOVE, ...DRAIN }]);
    const { names: _names, ...packet } = PACKET;
    await postJson(place, PATHS.explain, packet);
    expect(steering.asked.at(-1)).toEqual({ ...packet, names: [] });
  });

  test('panic asks for nothing but to be called', async () => {
    const { place, steering } = await startAgent();
    expect((await ask(place, 'POST', PATHS.panic)).json()).toMatchObject({ isPaused: true });
    expect(steering.isPaused).toBe(true);
  });

  test.each([
    ['PUT', PATHS.rules, 'GET, POST'],
    ['HEAD', PATHS.rules, 'GET'],
    ['GET', PATHS.explain, 'POST'],
    ['GET', PATHS.panic, 'POST'],
    ['GET', PATHS.resume, 'POST'],
    ['POST', PATHS.conversations, 'GET'],
    ['HEAD', PATHS.conversations, 'GET'],
    ['POST', PATHS.conversationEvents, 'GET'],
    ['HEAD', PATHS.conversationEvents, 'GET'],
  ])('%s %s is told which method there is', async (method, path, allowed) => {
    const { place, steering } = await startAgent();
    const answer = await ask(place, method, path);
    expect(answer.status).toBe(405);
    expect(answer.headers['allow']).toBe(allowed);
    expect(steering.asked).toEqual([]);
  });

  test('a table may be larger than other questions', async () => {
    const { place, steering } = await startAgent({ limits: { bodyBytes: 1000, tableBytes: 5000 } });
    const rules = Array.from({ length: 50 }, () => ({ rule }));
    expect((await postJson(place, PATHS.rules, { edit: { kind: 'add', rules } })).status).toBe(200);
    const more = Array.from({ length: 500 }, () => ({ rule }));
    expect((await postJson(place, PATHS.rules, { edit: { kind: 'add', rules: more } })).status).toBe(413);
    expect((await postJson(place, PATHS.explain, { ...PACKET, names: ['x'.repeat(2000)] })).status).toBe(413);
    expect(steering.asked).toHaveLength(1);
  });

  test('an error that nobody expected is told as FAILED, and reported', async () => {
    const { place, steering, errors } = await startAgent();
    const bug = new TypeError('a bug');
    steering.answerEdit = async () => {
      throw bug;
    };
    const answer = await postJson(place, PATHS.rules, REMOVE);
    expect([answer.status, answer.json()]).toMatchObject([500, { error: { code: 'FAILED' } }]);
    expect(errors).toEqual([bug]);
  });
});

test('questions that come before there are rules are answered when there are', async () => {
  let begin: (steering: FakeSteering) => void = () => undefined;
  const { client } = await startAgent({
    steering: new Promise<FakeSteering>((resolve) => (begin = resolve)),
  });
  const asked = [client.rules(), client.conversations(), client.explain(PACKET)];
  const steering = new FakeSteering();
  begin(steering);
  expect(await Promise.all(asked)).toEqual([[RULE], [CONVERSATION], steering.answerExplain]);
});
