import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import type { EditReport, ExplainReport, RuleStatus } from '../../src/agent/rule-keeping.ts';
import {
  printConversationEvent,
  printEdit,
  printExplanation,
  printPause,
  printRule,
  printRules,
} from '../../src/cli/rule-words.ts';
import { CONVERSATION, EDITED, RULE } from '../control/support/fake-agent.ts';

let said = '';

beforeEach(() => {
  said = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    said += String(text);
    return true;
  });
});

afterEach(() => {
  vi.restoreAllMocks();
});

const IDLE = { ...RULE.activity, conversations: 0, refused: 0, lastAtMs: null, lastRefusal: null };

function rule(change: Partial<RuleStatus> = {}): RuleStatus {
  return { ...RULE, activity: IDLE, ...change };
}

function lines(): string[] {
  return said.split('\n').slice(0, -1);
}

describe('printRules()', () => {
  test('says each rule in a line, with what it let through', () => {
    printRules([RULE, rule({ id: 'r0a1b2c3', position: 10, text: 'in udp 53 -> :5353' })], false);
    expect(lines()).toEqual([
      ' 1 web      in tcp 80 -> 10.0.0.5:8080 "web"  12 conversations (2 open), 1 refused, 1.0 kB in, 2.5 MB out',
      '10 r0a1b2c3 in udp 53 -> :5353',
    ]);
  });

  test('says what is disabled, and what waits', () => {
    printRules(
      [rule({ enabled: false }), rule({ id: 'x', waiting: 'another program listens on TCP 80' })],
      false,
    );
    expect(lines()).toEqual([
      '1 web in tcp 80 -> 10.0.0.5:8080 "web" (disabled)',
      '1 x   in tcp 80 -> 10.0.0.5:8080 "web"',
      'warning: x is not carried out: another program listens on TCP 80',
    ]);
  });

  test('says once and first that all of them are off', () => {
    const waiting = 'natward rule panic has stopped all rules';
    printRules([rule({ waiting }), rule({ id: 'x', waiting })], true);
    expect(lines()).toEqual([
      'RULES ARE OFF: natward rule panic has stopped all rules. natward rule resume has them carried out again.',
      '1 web in tcp 80 -> 10.0.0.5:8080 "web"',
      '1 x   in tcp 80 -> 10.0.0.5:8080 "web"',
    ]);
  });

  test('says that there are none', () => {
    printRules([], false);
    expect(said).toBe('no rules\n');
  });

  test.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1.0 kB'],
    [999_949, '999.9 kB'],
    [999_950, '1.0 MB'],
    [1_540_000, '1.5 MB'],
    [2e9, '2.0 GB'],
    [3e12, '3.0 TB'],
    [4e15, '4000.0 TB'],
  ])('%d bytes are %s', (bytes, words) => {
    printRules([rule({ activity: { ...IDLE, conversations: 1, bytesIn: bytes, bytesOut: 0 } })], false);
    expect(said).toContain(`, ${words} in, 0 B out`);
  });
});

describe('printPause()', () => {
  const stopped = { isPaused: true, isNew: true, rules: 2, ended: 1 };
  test.each([
    [stopped, '2 rules off, 1 conversation ended\nnatward rule resume has them carried out again\n'],
    [
      { ...stopped, isNew: false, ended: 0 },
      'rules were off already; 0 conversations ended\nnatward rule resume has them carried out again\n',
    ],
    [{ ...stopped, isPaused: false, rules: 1, ended: 0 }, 'rules are on again: 1 rule\n'],
    [{ ...stopped, isPaused: false, isNew: false }, 'rules were on already\n'],
  ])('%j', (report, words) => {
    printPause(report);
    expect(said).toBe(words);
  });
});

describe('printRule()', () => {
  test('says all of it, and its conversations', () => {
    printRule(RULE, [CONVERSATION, { ...CONVERSATION, target: null }], CONVERSATION.beganAtMs + 65_400);
    expect(lines()).toEqual([
      'web in tcp 80 -> 10.0.0.5:8080 "web"',
      'place 1, made by hand, carried by the relay',
      'conversations 12 begun, 2 open, 1 refused',
      'in 1.0 kB in 10 packets, out 2.5 MB in 2000',
      'last 2026-01-01T00:00:00.000Z',
      'last refused 192.0.2.9:4711: its rule refuses',
      'tcp 192.0.2.9:4711 -> 192.168.1.10:80 -> 10.0.0.5:8080 for 1m 5s, 10 B in, 20 B out',
      'tcp 192.0.2.9:4711 -> 192.168.1.10:80 -> ... for 1m 5s, 10 B in, 20 B out',
    ]);
  });

  test('says whose it is, and that it is disabled or waits', () => {
    printRule(rule({ owner: 'config', enabled: false }), [], 0);
    printRule(rule({ owner: 'lease', waiting: 'no interface tun0' }), [], 0);
    expect(lines().filter((line) => /^place|^warning/.test(line))).toEqual([
      'place 1, of the configuration file, disabled',
      'place 1, of a lease, carried by the relay',
      'warning: not carried out: no interface tun0',
    ]);
  });

  test('a clock that was set back makes no time negative', () => {
    printRule(RULE, [CONVERSATION], 0);
    expect(said).toContain('for 0s');
  });
});

describe('printEdit()', () => {
  const REPORT: EditReport = {
    ...EDITED,
    added: ['web'],
    removed: ['old'],
    changed: ['b'],
    moved: ['c'],
    unchanged: 3,
    notes: [
      { ruleId: 'b', position: 2, message: 'rule 2 can never match', advice: 'Remove it.' },
      { ruleId: 'c', position: 3, message: 'odd', advice: null },
    ],
    rules: [
      rule(),
      rule({ id: 'b', text: 'in tcp 2 -> :3', waiting: 'no interface tun0' }),
      rule({ id: 'c', text: 'in tcp 4 -> :5', waiting: 'not of this edit' }),
    ],
  };

  test('says what was done', () => {
    printEdit(REPORT, { dryRun: false, conversations: 'drain' });
    expect(lines()).toEqual([
      'web added: in tcp 80 -> 10.0.0.5:8080 "web"',
      'b changed: in tcp 2 -> :3',
      'c moved: in tcp 4 -> :5',
      'old removed',
      '3 rules stay as they are',
      'tcp 192.0.2.9:4711 -> 192.168.1.10:80 -> 10.0.0.5:8080 of web drains',
      'note: rule 2 can never match. Remove it.',
      'note: odd',
      'warning: b waits: no interface tun0',
    ]);
  });

  test('says what would be done', () => {
    printEdit(REPORT, { dryRun: true, conversations: 'drain' });
    expect(lines().slice(0, 6)).toEqual([
      'web would be added: in tcp 80 -> 10.0.0.5:8080 "web"',
      'b would be changed: in tcp 2 -> :3',
      'c would be moved: in tcp 4 -> :5',
      'old would be removed',
      '3 rules would stay as they are',
      expect.stringMatching(/ of web would drain$/),
    ]);
  });

  test.each([
    [false, 'was cut'],
    [true, 'would be cut'],
  ])('says who is cut (dry run: %s)', (dryRun, words) => {
    printEdit(EDITED, { dryRun, conversations: 'cut' });
    expect(said).toContain(` of web ${words}\n`);
  });
});

describe('printExplanation()', () => {
  const REPORT: ExplainReport = {
    rule: RULE,
    refusal: null,
    obstacles: [],
    passed: [{ position: 1, id: 'first', reason: 'it is disabled' }],
  };

  test('says who decides, and why those above do not', () => {
    printExplanation({ ...REPORT, rule: { ...RULE, position: 2 } });
    expect(lines()).toEqual([
      '1 first no: it is disabled',
      '2 web decides: in tcp 80 -> 10.0.0.5:8080 "web"',
    ]);
  });

  test('says that it refuses, or waits, and what stands in its way', () => {
    printExplanation({
      rule: rule({ waiting: 'no interface' }),
      refusal: 'not in its allow list',
      obstacles: ['The firewall drops TCP 80.'],
      passed: [],
    });
    expect(lines().slice(1)).toEqual([
      'web does not let it through: not in its allow list',
      'warning: web is not carried out: no interface',
      'warning: The firewall drops TCP 80.',
    ]);
  });

  test('says that none decides', () => {
    printExplanation({ rule: null, refusal: null, obstacles: [], passed: [] });
    expect(said).toBe('no rule decides: natward leaves it alone\n');
  });
});

test('what happens to conversations is a line each', () => {
  printConversationEvent({ type: 'opened', conversation: CONVERSATION });
  printConversationEvent({ type: 'closed', conversation: CONVERSATION, reason: 'both ends are done' });
  const refused = { type: 'refused', client: { address: '2001:db8::9', port: 1 }, reason: 'no' } as const;
  printConversationEvent({ ...refused, ruleId: 'web' });
  printConversationEvent({ ...refused, ruleId: null });
  expect(lines()).toEqual([
    'opened tcp 192.0.2.9:4711 -> 192.168.1.10:80 -> 10.0.0.5:8080 by web',
    'closed tcp 192.0.2.9:4711 -> 192.168.1.10:80 -> 10.0.0.5:8080: both ends are done, 10 B in, 20 B out',
    'refused [2001:db8::9]:1 by web: no',
    'refused [2001:db8::9]:1: no',
  ]);
});
