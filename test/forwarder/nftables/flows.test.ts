/** Conversations from listings and events, in every order that they may come in. */

import { readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { EngineEvent } from '../../../src/forwarder/engine.ts';
import { type Flow, parseFlow } from '../../../src/forwarder/nftables/flow.ts';
import { Flows } from '../../../src/forwarder/nftables/flows.ts';

const NOW_MS = 1_800_000_000_000;
const RULES = new Map([
  [1, 'web'],
  [2, 'names'],
  [0xfff0, 'last'],
]);

function recorded(name: string): Flow[] {
  const url = new URL(`../../../fixtures/nftables/conntrack/${name}.txt`, import.meta.url);
  return readFileSync(url, 'utf8')
    .split('\n')
    .flatMap((line) => parseFlow(line) ?? []);
}

/** The first line: a TCP conversation of the rule `web`. */
const BEGUN = { ...recorded('events')[0], heardAtMs: NOW_MS - 5 } as Flow;

/** The flow with this id, as a listing tells it. */
function listed(id: number, changes: Partial<Flow> = {}): Flow {
  const timeoutSeconds = 432_000;
  return {
    ...BEGUN,
    event: undefined,
    id,
    state: 'ESTABLISHED',
    isAnswered: true,
    timeoutSeconds,
    heardAtMs: undefined,
    ...changes,
  };
}

function heard(event: 'new' | 'destroy', id: number, changes: Partial<Flow> = {}): Flow {
  const told: Partial<Flow> =
    event === 'new' ? {} : { state: 'TIME_WAIT', isAnswered: true, timeoutSeconds: undefined };
  return { ...BEGUN, ...told, event, id, ...changes };
}

interface Scene {
  readonly flows: Flows;
  readonly said: string[];
  readonly events: EngineEvent[];
}

function scene(): Scene {
  const flows = new Flows({ ruleOf: (mark) => RULES.get(mark), now: () => NOW_MS });
  const said: string[] = [];
  const events: EngineEvent[] = [];
  flows.listen((event) => {
    events.push(event);
    if (event.type === 'opened') said.push(`${event.conversation.id} opened`);
    if (event.type === 'closed') said.push(`${event.conversation.id} closed: ${event.reason}`);
  });
  return { flows, said, events };
}

describe('Flows', () => {
  test('opens a conversation with the event, and closes it with what it carried', () => {
    const { flows, events } = scene();
    flows.heard(heard('new', 7));
    const conversation = {
      id: 1,
      ruleId: 'web',
      protocol: 'tcp',
      client: { address: '192.0.2.2', port: 49526 },
      local: { address: '192.0.2.1', port: 80 },
      target: { address: '10.0.0.2', port: 8080 },
      beganAtMs: NOW_MS - 5,
      bytesIn: 0,
      bytesOut: 0,
    };
    expect(flows.conversations()).toEqual([conversation]);
    flows.heard(heard('destroy', 7, { bytesIn: 326, bytesOut: 222 }));
    expect(events).toEqual([
      { type: 'opened', conversation },
      { type: 'closed', conversation: { ...conversation, bytesIn: 326, bytesOut: 222 }, reason: 'finished' },
    ]);
    expect(flows.conversations()).toEqual([]);
  });

  test('tells of what conntrack wrote, in words', () => {
    const { flows, said } = scene();
    for (const flow of recorded('events')) flows.heard(flow);
    expect(said).toEqual([
      '1 opened',
      '2 opened',
      '3 opened',
      '4 opened',
      '5 opened',
      '6 opened',
      '6 closed: one side has reset it',
      '1 closed: finished',
      '2 closed: finished',
      '5 closed: it was taken out of the kernel’s table',
      '3 closed: silent for too long',
      '4 closed: silent for too long',
    ]);
  });

  test('does not count what is over and still in the kernel’s table', () => {
    const { flows, said } = scene();
    flows.replace(recorded('list'));
    expect(flows.conversations().map(({ client }) => client.port)).toEqual([42757, 48836, 40001]);
    expect(flows.openByMark()).toEqual(
      new Map([
        [1, 1],
        [2, 2],
      ]),
    );
    expect(said).toEqual(['1 opened', '2 opened', '3 opened']);
  });

  test('passes over what has no mark of ours', () => {
    const { flows, said } = scene();
    for (const mark of [0, 7, 0x0003_0000]) {
      flows.heard(heard('new', 1, { mark }));
      flows.replace([listed(1, { mark })]);
    }
    expect(said).toEqual([]);
    flows.heard(heard('new', 1, { mark: 0xfff0_0007 }));
    expect(flows.openByMark()).toEqual(new Map([[0xfff0, 1]]));
  });

  test('a listing brings counts, keeps the id, and closes what is over and what is gone', () => {
    const { flows, said } = scene();
    for (const id of [11, 12, 13]) flows.heard(heard('new', id));
    flows.replace([listed(11, { bytesIn: 9 }), listed(12, { state: 'TIME_WAIT' })]);
    expect(flows.conversations()).toMatchObject([{ id: 1, bytesIn: 9, beganAtMs: NOW_MS - 5 }]);
    expect(said.slice(3)).toEqual(['2 closed: finished', '3 closed: it ended unseen']);
    flows.heard(heard('destroy', 12));
    expect(said).toHaveLength(5);
  });

  test('a conversation that a listing found began as long ago as the kernel says', () => {
    const { flows } = scene();
    flows.replace([listed(1, { ageSeconds: 60 }), listed(2)]);
    expect(flows.conversations().map(({ beganAtMs }) => beganAtMs)).toEqual([NOW_MS - 60_000, NOW_MS]);
  });

  test('an event that comes after the listing that has it opens nothing twice', () => {
    const { flows, said } = scene();
    flows.replace([listed(1, { bytesIn: 9 })]);
    flows.heard(heard('new', 1));
    expect(said).toEqual(['1 opened']);
    expect(flows.conversations()).toMatchObject([{ bytesIn: 9 }]);
  });

  test('what is heard while a listing is on its way is newer than the listing', () => {
    const { flows, said } = scene();
    flows.heard(heard('new', 1));
    flows.expectListing();
    flows.heard(heard('new', 2));
    flows.heard(heard('destroy', 1));
    flows.replace([listed(1)]);
    expect(said).toEqual(['1 opened', '2 opened', '1 closed: finished']);
    flows.replace([]);
    expect(said.at(-1)).toBe('2 closed: it ended unseen');
  });

  test('what begins while a listing is on its way has its counts where the listing has it', () => {
    const { flows, said } = scene();
    flows.expectListing();
    flows.heard(heard('new', 1));
    flows.heard(heard('new', 2));
    flows.replace([listed(1, { bytesIn: 9 }), listed(2, { state: 'TIME_WAIT' })]);
    expect(said).toEqual(['1 opened', '2 opened']);
    expect(flows.conversations()).toMatchObject([{ bytesIn: 9 }, { bytesIn: 0 }]);
  });

  test('the same ends, used again, are another conversation', () => {
    const { flows, said } = scene();
    flows.heard(heard('new', 1));
    flows.replace([listed(1, { state: 'TIME_WAIT' })]);
    flows.heard(heard('destroy', 1));
    flows.heard(heard('new', 1));
    expect(said).toEqual(['1 opened', '1 closed: finished', '2 opened']);
  });

  test('two flows with one id of the kernel’s are two conversations', () => {
    const { flows } = scene();
    flows.replace([listed(1), listed(1, { client: { address: '192.0.2.9', port: 1 } })]);
    expect(flows.conversations()).toHaveLength(2);
  });

  test.each([
    ['the target has refused it', { state: 'CLOSE', isAnswered: false, timeoutSeconds: 120 }],
    ['one side has reset it', { state: 'CLOSE' }],
    ['the target has not answered', { state: 'SYN_SENT', isAnswered: false }],
    ['silent for too long', { state: 'ESTABLISHED' }],
    ['silent for too long', { state: undefined, protocol: 'udp' }],
    ['it was taken out of the kernel’s table', { state: 'ESTABLISHED', timeoutSeconds: 400_000 }],
  ] as const)('says %s', (reason, changes) => {
    const { flows, said } = scene();
    flows.heard(heard('new', 1, changes));
    flows.heard(heard('destroy', 1, changes));
    expect(said).toEqual(['1 opened', `1 closed: ${reason}`]);
  });

  test('cuts the conversations of one mark, with the reason of whoever cuts, until the kernel has', () => {
    const { flows, said } = scene();
    const other = listed(2, { mark: 0x20000 });
    flows.heard(heard('new', 1));
    flows.replace([listed(1), other]);
    expect(flows.cut(1, 'its rule is gone or changed')).toBe(1);
    flows.replace([listed(1), other]);
    flows.replace([listed(1), other]);
    flows.heard(heard('destroy', 1));
    expect(said).toEqual(['1 opened', '2 opened', '1 closed: its rule is gone or changed']);
    expect(flows.openByMark()).toEqual(new Map([[2, 1]]));
  });

  test.each([
    ['an event', (flows: Flows) => flows.heard(heard('destroy', 1))],
    ['a listing without it', (flows: Flows) => flows.replace([])],
    ['the next event', () => undefined],
  ])('takes the same ends again after a cut and %s', (_, end) => {
    const { flows, said } = scene();
    flows.heard(heard('new', 1));
    flows.cut(1, 'cut');
    end(flows);
    flows.heard(heard('new', 1));
    expect(said).toEqual(['1 opened', '1 closed: cut', '2 opened']);
  });

  test('stops listening when told to', () => {
    const { flows } = scene();
    let count = 0;
    const stop = flows.listen(() => count++);
    flows.heard(heard('new', 1));
    stop();
    flows.heard(heard('new', 2));
    expect(count).toBe(1);
  });

  test('follows so many and no more, and takes them quickly', () => {
    const flows = new Flows({ ruleOf: (mark) => RULES.get(mark), now: () => NOW_MS });
    const many = Array.from({ length: 262_145 }, (_, id) => listed(id));
    flows.replace(many);
    expect(flows.conversations()).toHaveLength(262_144);
    expect(flows.isFull).toBe(true);
    flows.replace([listed(1)]);
    expect(flows.isFull).toBe(false);
    expect(flows.openByMark()).toEqual(new Map([[1, 1]]));
  });

  test('counts what is open as it tells of it, whatever comes', () => {
    const id = fc.nat(3);
    const state = fc.constantFrom('ESTABLISHED', 'TIME_WAIT', 'SYN_SENT');
    const step = fc.oneof(
      id.map((of) => (flows: Flows) => flows.heard(heard('new', of))),
      id.map((of) => (flows: Flows) => flows.heard(heard('destroy', of))),
      fc.constant((flows: Flows) => flows.expectListing()),
      fc.array(fc.tuple(id, state)).map((all) => (flows: Flows) => {
        flows.replace(all.map(([of, is]) => listed(of, { state: is })));
      }),
      fc.constant((flows: Flows) => void flows.cut(1, 'cut')),
    );
    fc.assert(
      fc.property(fc.array(step), (steps) => {
        const { flows, events } = scene();
        const open = new Set<number>();
        const told: number[] = [];
        for (const take of steps) {
          take(flows);
          for (const event of events.splice(0)) {
            if (event.type === 'opened') open.add(event.conversation.id);
            if (event.type === 'closed') open.delete(event.conversation.id);
            told.push(event.type === 'opened' ? event.conversation.id : 0);
          }
          expect(new Set(flows.conversations().map((one) => one.id))).toEqual(open);
          expect(flows.openByMark().get(1) ?? 0).toBe(open.size);
        }
        const opened = told.filter((one) => one > 0);
        expect(opened).toEqual(opened.map((_, index) => index + 1));
        expect(told.length - opened.length).toBe(opened.length - open.size);
      }),
    );
  });
});
