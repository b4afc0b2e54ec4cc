import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { describeHook, type Hook } from '../../../src/agent/hooks/hook.ts';
import {
  hookDocumentSchema,
  hookSchema,
  parseDyndns,
  parseRun,
  parseShell,
  parseSync,
  parseWebhook,
} from '../../../src/agent/hooks/parse.ts';
import type { NatwardError } from '../../../src/errors.ts';

const SECRET = 'hunter2';

describe('the words of a command line', () => {
  test.each<[string, Hook, Hook]>([
    ['--run', parseRun('/usr/local/bin/notify me'), { kind: 'run', argv: ['/usr/local/bin/notify me'] }],
    ['--shell', parseShell('echo $X | wall'), { kind: 'shell', line: 'echo $X | wall' }],
    [
      '--webhook',
      parseWebhook('https://example.org/in?key=1'),
      { kind: 'webhook', url: 'https://example.org/in?key=1' },
    ],
    [
      '--sync',
      parseSync('qBittorrent=http://user:p%40ss=w@127.0.0.1:8080'),
      { kind: 'sync', client: 'qbittorrent', url: 'http://user:p%40ss=w@127.0.0.1:8080' },
    ],
    [
      '--sync without a user',
      parseSync('transmission=http://[::1]:9091'),
      { kind: 'sync', client: 'transmission', url: 'http://[::1]:9091' },
    ],
    [
      '--dyndns',
      parseDyndns('home.example.org=https://u:p@members.dyndns.org/nic/update?system=dyndns'),
      {
        kind: 'dyndns',
        hostname: 'home.example.org',
        url: 'https://u:p@members.dyndns.org/nic/update?system=dyndns',
      },
    ],
  ])('%s', (_, parsed, hook) => {
    expect(parsed).toEqual(hook);
    expect(v.parse(hookSchema, parsed)).toEqual(hook);
  });

  test.each<[string, () => unknown, RegExp]>([
    ['an empty program', () => parseRun(' '), /program of a hook is empty/],
    ['a NUL', () => parseRun('a\0b'), /NUL/],
    ['an empty line', () => parseShell(''), /line for the shell is empty/],
    ['a line without end', () => parseShell('x'.repeat(5000)), /longer than 4096/],
    ['no URL', () => parseWebhook(SECRET), /http:\/\/ or https:\/\//],
    ['another protocol', () => parseWebhook(`ftp://${SECRET}@example.org`), /http:\/\/ or https:\/\//],
    ['a URL without a host', () => parseWebhook('http://'), /http:\/\/ or https:\/\//],
    ['a URL without end', () => parseWebhook(`https://example.org/${'x'.repeat(3000)}`), /longer than 2048/],
    ['a % that escapes nothing', () => parseWebhook(`https://me:${SECRET}%@example.org`), /%25/],
    [
      'no client',
      () => parseSync(`http://me:${SECRET}@127.0.0.1`),
      /CLIENT=URL.*qbittorrent, transmission, deluge/,
    ],
    ['an unknown client', () => parseSync(`utorrent=http://${SECRET}@127.0.0.1`), /one of qbittorrent/],
    ['a client without its URL', () => parseSync('deluge'), /CLIENT=URL/],
    [
      'Deluge without a password',
      () => parseSync('deluge=http://127.0.0.1:8112'),
      /deluge=http:\/\/:PASSWORD@/,
    ],
    ['no host name', () => parseDyndns(`https://me:${SECRET}@members.dyndns.org/`), /HOSTNAME=URL/],
    ['a name of one label', () => parseDyndns(`home=https://${SECRET}@example.org`), /full host name/],
    ['a name that is none', () => parseDyndns(`a b.org=https://${SECRET}@example.org`), /full host name/],
    ['a name and no URL', () => parseDyndns(`home.example.org=${SECRET}`), /name service has to be an http/],
  ])('throws USAGE for %s, and repeats no password', (_, parse, message) => {
    let thrown: unknown;
    try {
      parse();
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toMatchObject({ code: 'USAGE', message: expect.stringMatching(message) });
    expect((thrown as NatwardError).message).not.toContain(SECRET);
  });
});

const HOOKS: readonly [string, unknown, Hook][] = [
  [
    'run',
    { on: ['granted'], timeoutSeconds: 5, run: ['/bin/notify', '--now', ''] },
    { on: ['granted'], timeoutSeconds: 5, kind: 'run', argv: ['/bin/notify', '--now', ''] },
  ],
  ['shell', { shell: 'date' }, { kind: 'shell', line: 'date' }],
  ['webhook', { webhook: 'https://example.org/' }, { kind: 'webhook', url: 'https://example.org/' }],
  [
    'sync',
    { on: ['granted', 'changed'], sync: 'deluge=http://:pw@127.0.0.1:8112' },
    { on: ['granted', 'changed'], kind: 'sync', client: 'deluge', url: 'http://:pw@127.0.0.1:8112' },
  ],
  [
    'dyndns',
    { dyndns: { url: 'https://u:p@example.org/nic/update', hostname: 'a.example.org' } },
    { kind: 'dyndns', url: 'https://u:p@example.org/nic/update', hostname: 'a.example.org' },
  ],
];

describe('a document', () => {
  test.each(HOOKS)('%s: is read; as natward writes it, it is read back', (_, document, hook) => {
    expect(v.parse(hookDocumentSchema, document)).toEqual(hook);
    expect(v.parse(hookSchema, JSON.parse(JSON.stringify(hook)))).toEqual(hook);
  });

  test.each<[string, unknown, RegExp, string | null]>([
    ['no kind', { on: ['granted'] }, /exactly one of run, shell, webhook, sync, dyndns/, null],
    ['two kinds', { run: ['a'], shell: 'a' }, /exactly one of/, null],
    ['an unknown key', { shell: 'a', ruin: 1 }, /ruin/, 'ruin'],
    ['an unknown event', { shell: 'a', on: ['renewed'] }, /granted, changed, lost, address-changed/, 'on.0'],
    ['no event', { shell: 'a', on: [] }, /names no event/, 'on'],
    [
      'a sync on what says nothing to it',
      { sync: 'transmission=http://h', on: ['lost'] },
      /kind of hook/,
      null,
    ],
    ['no time', { shell: 'a', timeoutSeconds: 0 }, /at least 1/, 'timeoutSeconds'],
    ['a day', { shell: 'a', timeoutSeconds: 86_400 }, /at most 3600/, 'timeoutSeconds'],
    ['half a second', { shell: 'a', timeoutSeconds: 0.5 }, /whole number/, 'timeoutSeconds'],
    ['a program that is a line', { run: 'notify --now' }, /is a list: the program/, 'run'],
    ['no program', { run: [] }, /./, 'run.0'],
    ['too many arguments', { run: Array.from({ length: 65 }, () => 'a') }, /64 arguments/, 'run'],
    ['a URL that is none', { webhook: 'example.org' }, /https:/, 'webhook'],
    ['an unknown client', { sync: 'utorrent=http://h' }, /one of qbittorrent/, 'sync'],
    ['a name without its service', { dyndns: { hostname: 'a.b' } }, /./, 'dyndns.url'],
    ['no object', 'shell', /./, null],
  ])('throws for %s, and says where', (_, document, message, path) => {
    const result = v.safeParse(hookDocumentSchema, document);
    expect(result.issues?.[0].message).toMatch(message);
    expect(result.issues && v.getDotPath(result.issues[0])).toBe(path);
  });
});

describe('hookSchema', () => {
  test.each([
    { kind: 'run', argv: [] },
    { kind: 'ruin' },
    { kind: 'shell', line: 'a', more: 1 },
    { kind: 'webhook', url: 'ftp://example.org' },
    { kind: 'sync', client: 'deluge', url: 'http://127.0.0.1' },
    { kind: 'sync', client: 'transmission', url: 'http://127.0.0.1', on: ['lost'] },
    { kind: 'dyndns', url: 'http://127.0.0.1', hostname: 'x' },
    null,
  ])('does not take %j', (value) => {
    expect(v.is(hookSchema, value)).toBe(false);
  });
});

describe('describeHook()', () => {
  test.each<[Hook, string]>([
    [{ kind: 'run', argv: ['/bin/curl', SECRET] }, 'the program /bin/curl'],
    [{ kind: 'shell', line: ` curl -H ${SECRET}` }, 'the shell line "curl ..."'],
    [
      { kind: 'webhook', url: `https://u:${SECRET}@hooks.example.org/${SECRET}?${SECRET}` },
      'the webhook at https://hooks.example.org',
    ],
    [
      { kind: 'sync', client: 'qbittorrent', url: `http://u:${SECRET}@127.0.0.1:8080/` },
      'qBittorrent at http://127.0.0.1:8080',
    ],
    [
      { kind: 'dyndns', url: `https://u:${SECRET}@dyn.example.org/nic/update`, hostname: 'home.example.org' },
      'the name home.example.org at https://dyn.example.org',
    ],
  ])('tells nothing secret of %j', (hook, text) => {
    expect(describeHook(hook)).toBe(text);
  });
});
