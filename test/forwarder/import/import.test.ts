import { readdirSync, readFileSync } from 'node:fs';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { isNatwardError } from '../../../src/errors.ts';
import type { Imported } from '../../../src/forwarder/import/findings.ts';
import { type ImportFormat, importRules, recognise } from '../../../src/forwarder/import/import.ts';
import { importPortproxy } from '../../../src/forwarder/import/portproxy.ts';
import { importRinetd } from '../../../src/forwarder/import/rinetd.ts';
import { importSsh } from '../../../src/forwarder/import/ssh.ts';
import { formatRule, parseRule } from '../../../src/forwarder/text.ts';

const FIXTURES = new URL('../../../fixtures/rules/import/', import.meta.url);
const EXPECTED = '.expected';
const names = readdirSync(FIXTURES).filter((name) => !name.endsWith(EXPECTED));

const IMPORTERS = { rinetd: importRinetd, portproxy: importPortproxy, ssh: importSsh };

function read(name: string): string {
  return readFileSync(new URL(name, FIXTURES), 'utf8');
}

/** A rule a line with the number of its own, then the notes. */
function shown({ rules, notes }: Imported): string {
  const lines = [
    ...rules.map(({ line, text }) => `${line}: ${text}`),
    ...notes.map(({ line, message }) => `# ${line}: ${message}`),
  ];
  return lines.map((line) => `${line}\n`).join('');
}

/** What is wrong with what came of a hostile text: nothing, of rules as of a refusal. */
function offencesOf(importer: () => Imported): string[] {
  try {
    const { rules, notes } = importer();
    return [
      ...rules.map(({ text }) => text).filter((text) => formatRule(parseRule(text)) !== text),
      ...notes.map(({ message }) => message).filter((message) => !/^[^\p{C}]*\.$/u.test(message)),
    ];
  } catch (error) {
    if (!isNatwardError(error, 'USAGE')) return [String(error)];
    return /^f:\d+: [^\p{C}]+$/u.test(error.message) ? [] : [error.message];
  }
}

describe('files as they are found', () => {
  test.each(names)('%s becomes the rules that are expected of it', (name) => {
    expect(shown(importRules(read(name), name))).toBe(read(name + EXPECTED));
  });

  test.each(names)('%s is recognised', (name) => {
    const format = name.split('.')[1] as ImportFormat;
    expect(recognise(read(name))).toBe(format);
  });

  test.each(names)('what %s becomes is written as rules are', (name) => {
    for (const { text } of importRules(read(name), name).rules)
      expect(formatRule(parseRule(text))).toBe(text);
  });
});

describe('recognising', () => {
  test.each<[ImportFormat | undefined, string]>([
    ['rinetd', '# comment\n\n0.0.0.0 80 10.0.0.5 8080\n'],
    ['rinetd', 'web.example 8080/tcp 10.0.0.5 http [src=10.0.0.1]'],
    ['rinetd', '0.0.0.0 http 10.0.0.5 http'],
    ['rinetd', 'allow 192.168.1.*'],
    ['rinetd', 'logfile /var/log/rinetd.log'],
    ['portproxy', 'add v4tov4 listenport=80 connectaddress=10.0.0.5'],
    ['portproxy', 'netsh interface portproxy add v6tov4 listenport=80 connectaddress=10.0.0.5'],
    ['portproxy', '\uFEFFpushd interface portproxy\r\nreset\r\npopd\r\n'],
    ['portproxy', 'Listen on ipv4:             Connect to ipv6:'],
    ['ssh', '$ ssh -L 80:a:80 gw'],
    ['ssh', '#!/bin/sh\n/usr/bin/autossh -M 0 -L 80:a:80 gw &'],
    [undefined, ''],
    [undefined, '# nothing\n'],
    [undefined, '[[rule]]\nrule = "in tcp 80 -> :8080"\n'],
    [undefined, '{"rules": ["in tcp 80 -> :8080"]}'],
    [undefined, 'in tcp 80 -> :8080'],
    [undefined, 'some four plain words'],
  ])('%s: %j', (format, text) => {
    expect(recognise(text)).toBe(format);
  });

  test('what is nobody’s is refused with what would be taken', () => {
    expect(() => importRules('# mine\n\nlisten 80;\n', 'nginx.conf')).toThrow(
      'nginx.conf:3: "listen 80;" is of no program that natward knows; give it rinetd.conf, the output of netsh ' +
        'interface portproxy dump or show all, or an ssh command with -L',
    );
    expect(() => importRules('', 'f')).toThrow('f:1: there is nothing here');
  });
});

describe('bounds', () => {
  test('a text of more than a MiB is refused', () => {
    expect(() => importRinetd('#'.repeat(2 ** 20 + 1), 'f')).toThrow(
      'f:1: this is longer than 1048576 characters',
    );
  });

  test('ten thousand rules are taken, and one more is refused', () => {
    const lines = Array.from({ length: 10_000 }, (_, at) => `127.0.0.1 ${at + 1} 10.0.0.1 80\n`);
    expect(importRinetd(lines.join(''), 'f').rules).toHaveLength(10_000);
    const more = [...lines, '127.0.0.1 60000 10.0.0.1 80\n', '127.0.0.1 60001 10.0.0.1 80\n'].join('');
    expect(() => importRinetd(more, 'f')).toThrow(
      /^f:10001: there are more than 10000 rules; split the file$/,
    );
  });

  test('twenty errors are said, in order, and the others counted', () => {
    const importer = () => importRinetd('nonsense\n'.repeat(23), 'f');
    expect(importer).toThrow(/^f:1: .*; f:2: .*; f:20: .*; and 3 more$/);
  });
});

describe('whatever the text, there are rules or a USAGE error', () => {
  const token = fc.oneof(
    fc.constantFrom(
      '0.0.0.0',
      '::',
      '[::1]',
      '10.0.0.5',
      'nas.lan',
      '*',
      '80',
      '53/udp',
      '0',
      '99999',
      'http',
      '#',
    ),
    fc.constantFrom(
      'allow',
      'deny',
      '10.*',
      '1?.2.*',
      'fe80:*',
      '[timeout=3,src=10.0.0.1]',
      '[',
      ']',
      'logfile',
    ),
    fc.constantFrom(
      'add v4tov4',
      'delete v6tov4',
      'listenport=80',
      'connectaddress=10.0.0.5',
      'reset',
      'ipv4 ipv6',
    ),
    fc.constantFrom(
      'pushd interface portproxy',
      'popd',
      '----- -----',
      'connectport="80"',
      'listenaddress=*',
    ),
    fc.constantFrom(
      'ssh',
      '-L',
      '-L80:a:80',
      '-NL',
      '-g',
      '[::1]:80:a:80',
      '-R',
      '-o',
      'LocalForward=80 a:80',
      'gw',
    ),
    fc.constantFrom(
      "'",
      '"',
      '\\',
      '$',
      '&',
      ';',
      '->',
      '"x"',
      '\n',
      '\r\n',
      '\t',
      '\u2028',
      '\u001b[2J',
      '\uFEFF',
    ),
    fc.string({ maxLength: 6 }),
    fc.string({ unit: 'binary', maxLength: 6 }),
  );
  const text = fc
    .array(fc.tuple(token, fc.constantFrom(' ', ' ', '', '\n', '\t')), { maxLength: 60 })
    .map((tokens) => tokens.flat().join(''));

  test.each(Object.entries(IMPORTERS))('%s', (_, importer) => {
    fc.assert(
      fc.property(fc.oneof(text, fc.string({ unit: 'binary' })), (hostile) => {
        expect(offencesOf(() => importer(hostile, 'f'))).toEqual([]);
      }),
      { numRuns: 1000 },
    );
  });

  test('and recognising says one of four things', () => {
    fc.assert(
      fc.property(text, (hostile) => {
        expect(['rinetd', 'portproxy', 'ssh', undefined]).toContain(recognise(hostile));
        expect(offencesOf(() => importRules(hostile, 'f'))).toEqual([]);
      }),
    );
  });

  const LONG = 2 ** 18;
  const repeated = (piece: string, end = '') =>
    piece.repeat(Math.floor((LONG - end.length) / piece.length)) + end;
  test.each([
    repeated('#', '\u2028'),
    repeated('ipv4 ', '='),
    repeated('a '),
    repeated(' ', 'x'),
    repeated('a = '),
    repeated('"\\"'),
    repeated('ssh -L 80:a:80 gw\n'),
    repeated('add v4tov4 listenport=', '"'),
    `0 80 a 80 ${repeated('[timeout=1,').slice(20)}`,
    repeated('allow 1?.*\n'),
    repeated('::'),
    repeated('\n'),
    repeated('@'),
  ])('in moderate time, case %#', (hostile) => {
    for (const importer of Object.values(IMPORTERS))
      expect(offencesOf(() => importer(hostile, 'f'))).toEqual([]);
    expect(offencesOf(() => importRules(hostile, 'f'))).toEqual([]);
  });
});
