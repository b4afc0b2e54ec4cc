/** What rinetd 0.73 of Debian 12 takes and refuses was tried with the program itself. */

import { describe, expect, test } from 'vitest';
import { importRinetd } from '../../../src/forwarder/import/rinetd.ts';

function rules(text: string): string[] {
  return importRinetd(`${text}\n`, 'f').rules.map((rule) => rule.text);
}

function notes(text: string): string[] {
  return importRinetd(text, 'f').notes.map(({ line, message }) => `${line}: ${message}`);
}

describe('rules', () => {
  test.each([
    ['0.0.0.0 80 10.0.0.1 80', 'in tcp 0.0.0.0/0:80 -> 10.0.0.1:80'],
    ['0 80 10.0.0.1 80', 'in tcp 0.0.0.0/0:80 -> 10.0.0.1:80'],
    [':: 80 10.0.0.1 80', 'in tcp 80 -> 10.0.0.1:80'],
    ['::1 80 2001:DB8::1 80', 'in tcp [::1]:80 -> [2001:db8::1]:80'],
    ['[::1] 80 [2001:db8::1] 80', 'in tcp [::1]:80 -> [2001:db8::1]:80'],
    ['127.0.0.1\t080\t10.0.0.1\t80\t', 'in tcp 127.0.0.1:80 -> 10.0.0.1:80'],
    ['localhost 80 _a.nas.lan. 80', 'in tcp localhost:80 -> _a.nas.lan:80'],
    ['127.0.0.1 80/tcp 10.0.0.1 80# c', 'in tcp 127.0.0.1:80 -> 10.0.0.1:80'],
    ['127.0.0.1 53/udp 10.0.0.1 53/udp', 'in udp 127.0.0.1:53 -> 10.0.0.1:53'],
    ['127.0.0.1 53/udp 10.0.0.1 53/udp [ timeout = 10 ]', 'in udp 127.0.0.1:53 -> 10.0.0.1:53 idle 10s'],
    ['127.0.0.1 53/udp 10.0.0.1 53/udp [timeout=0]', 'in udp 127.0.0.1:53 -> 10.0.0.1:53'],
    ['127.0.0.1 80 10.0.0.1 80[src=127.0.0.2]', 'in tcp 127.0.0.1:80 -> 10.0.0.1:80 as 127.0.0.2'],
    ['127.0.0.1 80 ::1 80 [src=[::1],src=2001:db8::2]', 'in tcp 127.0.0.1:80 -> [::1]:80 as [2001:db8::2]'],
  ])('%s', (line, rule) => {
    expect(rules(line)).toEqual([rule]);
  });

  test('of one port, the wider comes after the narrower', () => {
    const text = ['0.0.0.0 53/udp a 53/udp', '0.0.0.0 53 b 53', '10.0.0.1 53/udp c 53/udp'].join('\n');
    expect(rules(text)).toEqual([
      'in tcp 0.0.0.0/0:53 -> b:53',
      'in udp 10.0.0.1:53 -> c:53',
      'in udp 0.0.0.0/0:53 -> a:53',
    ]);
  });
});

describe('who may', () => {
  const RULE = '127.0.0.1 80 a 80';

  test.each([
    [[RULE], ''],
    [['allow 10.*', RULE], ' allow 10.0.0.0/8'],
    [['deny 10.*', RULE], ' deny 10.0.0.0/8'],
    [
      ['deny 10.0.0.66', 'allow 10.*', 'deny 10.0.0.67', RULE],
      ' allow 10.0.0.0/8 EXCEPT 10.0.0.66,10.0.0.67',
    ],
    [[RULE, 'allow 10.*', 'allow 192.168.1.*'], ' allow 10.0.0.0/8,192.168.1.0/24'],
    [
      ['allow 10.*', 'deny 10.9.*', RULE, 'allow 10.1.*', 'deny 10.1.1.1'],
      ' allow 10.1.0.0/16 EXCEPT 10.9.0.0/16,10.1.1.1',
    ],
    [['allow 10.1.*', RULE, 'allow *'], ' allow 10.1.0.0/16'],
    [['allow *', 'deny *', RULE], ' allow ALL EXCEPT ALL'],
  ])('%j', (lines, access) => {
    expect(rules(lines.join('\n'))).toEqual([`in tcp 127.0.0.1:80 -> a:80${access}`]);
  });

  test('lines after a rule are for that rule only', () => {
    expect(rules('127.0.0.1 80 a 80\nallow 10.*\n127.0.0.1 81 a 81\n127.0.0.1 82 a 82\ndeny 11.*')).toEqual([
      'in tcp 127.0.0.1:80 -> a:80 allow 10.0.0.0/8',
      'in tcp 127.0.0.1:81 -> a:81',
      'in tcp 127.0.0.1:82 -> a:82 deny 11.0.0.0/8',
    ]);
  });

  test('a rule that nobody may use is left out, and that is said', () => {
    const text = 'allow 10.*\n127.0.0.1 80 a 80\nallow 192.168.*\n';
    expect(importRinetd(text, 'f').rules).toEqual([]);
    expect(notes(text)).toEqual([
      '2: The rule for tcp 127.0.0.1:80 was left out: the allow lines before the first rule and those after this one ' +
        'have no address in common, so that nobody may use it.',
    ]);
  });

  test('what rinetd overlooks by mistake is said', () => {
    const overlooked = expect.stringMatching(
      /^3: .* rinetd 0\.73 overlooks the first of several after it\.$/,
    );
    expect(notes('127.0.0.1 80 a 80\nallow 10.*\nallow 11.*\n')).toEqual([overlooked]);
    expect(notes('deny 1.*\n127.0.0.1 80 a 80\nallow 10.*\nallow 11.*\n')).toEqual([]);
    expect(notes('127.0.0.1 80 a 80\nallow 10.*\n127.0.0.1 81 a 80\nallow 10.*\nallow 11.*\n')).toEqual([]);
  });

  test('there may be a hundred networks', () => {
    const lines = Array.from({ length: 101 }, (_, at) => `allow 10.${at}.*`);
    expect(rules([...lines.slice(1), RULE].join('\n'))).toHaveLength(1);
    expect(() => rules([...lines, RULE].join('\n'))).toThrow(
      'f:101: the allow lines come to more than 100 networks',
    );
  });
});

describe('notes', () => {
  test('on logging and the file with the process id', () => {
    const text = 'logfile /var/log/a#b.log\nlogcommon\npidlogfile "/run/x y"\nlogcommon # again\n';
    expect(notes(text).map((note) => note.split(':', 2).join(':'))).toEqual([
      '1: logfile',
      '2: logcommon',
      '3: pidlogfile',
    ]);
  });

  test('on a timeout of TCP', () => {
    expect(rules('127.0.0.1 80 a 80 [timeout=3]')).toEqual(['in tcp 127.0.0.1:80 -> a:80']);
    expect(notes('127.0.0.1 80 a 80 [timeout=3]\n')).toEqual([expect.stringContaining('1: timeout: ')]);
  });

  test('on a last line without an end, which rinetd passes over', () => {
    expect(notes('127.0.0.1 80 a 80')).toEqual([expect.stringContaining('1: rinetd 0.73 passes over')]);
    expect(notes('127.0.0.1 80 a 80\n# the end')).toEqual([]);
  });
});

describe('errors', () => {
  test.each([
    ['127.0.0.1 http 10.0.0.1 80', '"http" is the name of a service; write the number of its port'],
    ['127.0.0.1 0 10.0.0.1 80', 'port 0 is out of range: ports run from 1 to 65535'],
    ['127.0.0.1 70000 10.0.0.1 80', 'port 70000 is out of range'],
    ['127.0.0.1 80/sctp 10.0.0.1 80', '"80/sctp" is no port of rinetd; write 80, 80/tcp or 53/udp'],
    [
      '127.0.0.1 80/udp 10.0.0.1 80',
      'this turns UDP into TCP, which natward does not do; write the same protocol',
    ],
    ['127.0.0.1 80 10.0.0.256 80', '"10.0.0.256" is neither an address nor a host name'],
    ['127.0.0.1 80 0.0.0.0 80', 'nobody can connect to 0.0.0.0; write 127.0.0.1'],
    ['127.0.0.1 80 10.0.0.1 80 keepalive', 'is no line of rinetd.conf: a rule is "bindaddress'],
    ['127.0.0.1 80 10.0.0.1', 'is no line of rinetd.conf'],
    ['LOGFILE /tmp/x', 'is no line of rinetd.conf'],
    ['127.0.0.1 80 10.0.0.1 80 []', '"" is no option of rinetd; write timeout=SECONDS or src=ADDRESS'],
    ['127.0.0.1 80 10.0.0.1 80 [timeout=3', 'is no list of options; write [timeout=3600,src=10.0.0.2]'],
    ['127.0.0.1 80 10.0.0.1 80 [Timeout=3]', '"Timeout=3" is no option of rinetd'],
    ['127.0.0.1 80 10.0.0.1 80 [timeout=soon]', 'timeout: "soon" is no number of seconds'],
    ['127.0.0.1 80 10.0.0.1 80 [src=nas.lan]', 'src: "nas.lan" is no address'],
    ['allow', 'allow takes one pattern; write allow 192.168.1.*'],
    ['deny 10.0.0.1 10.0.0.2', 'deny takes one pattern; write deny 192.168.1.*'],
    ['deny nas.lan', '"nas.lan" is no pattern of addresses'],
  ])('%s', (line, message) => {
    expect(() => rules(`# c\n${line}`)).toThrow(`f:2: `);
    expect(() => rules(`# c\n${line}`)).toThrow(message);
  });

  test('are said all at once, in order', () => {
    const text = '127.0.0.1 80 a:b 80\nallow nobody\nnonsense';
    expect(() => rules(text)).toThrow(/^f:1: .*; f:2: .*; f:3: .*/);
  });

  test('say nothing that moves a cursor', () => {
    expect(() => rules('\u001b[2J')).toThrow('"?[2J" is no line');
  });
});
