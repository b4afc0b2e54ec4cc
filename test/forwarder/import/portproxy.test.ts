import { describe, expect, test } from 'vitest';
import { importPortproxy } from '../../../src/forwarder/import/portproxy.ts';

function rules(...lines: string[]): string[] {
  return importPortproxy(lines.join('\r\n')).rules.map(({ text }) => text);
}

describe('commands', () => {
  test.each([
    [
      'add v4tov4 listenport=80 listenaddress=0.0.0.0 connectport=8080 connectaddress=10.0.0.5 protocol=tcp',
      'in tcp 0.0.0.0/0:80 -> 10.0.0.5:8080',
    ],
    ['add v4tov4 listenport=80 connectaddress=10.0.0.5', 'in tcp 0.0.0.0/0:80 -> 10.0.0.5:80'],
    ['add v6tov4 listenport=80 connectaddress=10.0.0.5', 'in tcp [::]/0:80 -> 10.0.0.5:80'],
    ['add v4tov6 listenport=80 listenaddress=* connectport=81', 'in tcp 0.0.0.0/0:80 -> [::1]:81'],
    ['add v6tov6 listenaddress=:: listenport=80 connectaddress=fd00::9', 'in tcp [::]/0:80 -> [fd00::9]:80'],
    ['ADD V4TOV4 ListenPort = 80 ConnectAddress = "nas.lan"', 'in tcp 0.0.0.0/0:80 -> nas.lan:80'],
    [
      'set v4tov4 listenport="80" listenaddress=mailhog connectaddress=127.0.0.2',
      'in tcp mailhog:80 -> 127.0.0.2:80',
    ],
    ['add v4tov4 80 10.0.0.5 8080 10.0.0.1 tcp', 'in tcp 10.0.0.1:80 -> 10.0.0.5:8080'],
    ['netsh interface portproxy add v4tov4 80 10.0.0.5', 'in tcp 0.0.0.0/0:80 -> 10.0.0.5:80'],
    ['PS C:\\> netsh.exe interface portproxy add v4tov4 80 10.0.0.5', 'in tcp 0.0.0.0/0:80 -> 10.0.0.5:80'],
  ])('%s', (line, rule) => {
    expect(rules(line)).toEqual([rule]);
  });

  test('are followed one after the other', () => {
    const add = (port: number, target: string) => `add v4tov4 listenport=${port} connectaddress=${target}`;
    expect(rules(add(80, 'a'), add(81, 'b'), add(80, 'c'))).toEqual([
      'in tcp 0.0.0.0/0:81 -> b:81',
      'in tcp 0.0.0.0/0:80 -> c:80',
    ]);
    expect(rules(add(80, 'a'), add(81, 'b'), 'delete v4tov4 listenport=80')).toEqual([
      'in tcp 0.0.0.0/0:81 -> b:81',
    ]);
    expect(rules(add(80, 'a'), 'reset', add(81, 'b'))).toEqual(['in tcp 0.0.0.0/0:81 -> b:81']);
  });

  test('a rule for one address stands before the one for all, as Windows has it', () => {
    expect(
      rules('add v4tov4 80 a', 'add v4tov4 listenport=80 listenaddress=10.0.0.1 connectaddress=b'),
    ).toEqual(['in tcp 10.0.0.1:80 -> b:80', 'in tcp 0.0.0.0/0:80 -> a:80']);
  });

  test('comments, contexts and what only shows are passed over', () => {
    expect(
      rules('# c', 'rem c', ':: c', '@echo off', 'pushd interface portproxy', 'popd', '', 'exit'),
    ).toEqual([]);
    expect(rules('interface portproxy', 'netsh interface portproxy show all', 'dump')).toEqual([]);
  });

  test('other contexts are noted, and their commands not read', () => {
    const text = 'pushd interface ipv4\nreset\nadd v4tov4 80 a\npopd\nadd v4tov4 81 b\n';
    expect(importPortproxy(text)).toEqual({
      rules: [{ line: 5, text: 'in tcp 0.0.0.0/0:81 -> b:81' }],
      notes: [
        {
          line: 2,
          message: 'What stands under "pushd interface ipv4" is not of the port proxy, and was left out.',
        },
      ],
    });
  });
});

describe('tables', () => {
  test('without a ruler, rows are known by their ports', () => {
    expect(
      rules('Listen on ipv4:  Connect to ipv6:', 'Address Port Address Port', '* 80 fd00::9 81'),
    ).toEqual(['in tcp 0.0.0.0/0:80 -> [fd00::9]:81']);
  });

  test('under the ruler all is rows', () => {
    const table = ['Listen on ipv4:  Connect to ipv4:', '--- --- --- ---'];
    expect(() => rules(...table, '* http 10.0.0.5 80')).toThrow(
      'portproxy:3: "http" is the name of a service',
    );
    expect(() => rules(...table, '* 80 10.0.0.5')).toThrow(
      'portproxy:3: "* 80 10.0.0.5" is no row of the table',
    );
  });
});

describe('errors', () => {
  test.each([
    ['add v4tov4 connectaddress=10.0.0.5', 'listenport is missing; write listenport=80'],
    ['add v4tov4 listenport=http', '"http" is the name of a service'],
    [
      'add v4tov4 listenport=80 connectaddress=fd00::9',
      'fd00::9 is no address of IPv4, which this connects to',
    ],
    [
      'add v6tov4 listenport=80 listenaddress=10.0.0.1',
      '10.0.0.1 is no address of IPv6, which this listens on',
    ],
    ['add v4tov4 listenport=80 connectaddress=0.0.0.0', 'nobody can connect to 0.0.0.0'],
    ['add v4tov4 listenport=80 protocol=udp', '"udp": the port proxy knows protocol=tcp only'],
    [
      'add v4tov4 listenport=80 port=81',
      '"port" is nothing that a port proxy has; write listenport, connectaddress',
    ],
    ['add v4tov4 1 a 2 * tcp more', '"more" is nothing that a port proxy has'],
    ['add v5tov4 listenport=80', 'is not of the port proxy; write add v4tov4 listenport=80'],
    ['hello', '"hello" is not of the port proxy'],
  ])('%s', (line, message) => {
    expect(() => rules('reset', line)).toThrow('portproxy:2: ');
    expect(() => rules('reset', line)).toThrow(message);
  });
});
