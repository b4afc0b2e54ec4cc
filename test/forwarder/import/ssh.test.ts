import { describe, expect, test } from 'vitest';
import { importSsh } from '../../../src/forwarder/import/ssh.ts';

function rules(text: string): string[] {
  return importSsh(text).rules.map((rule) => rule.text);
}

function notes(text: string): string[] {
  return importSsh(text).notes.map(({ message }) => message);
}

describe('forwardings', () => {
  test.each([
    ['ssh -N -L 8080:10.0.0.5:80 gw', ['in tcp 127.0.0.1:8080 -> 10.0.0.5:80']],
    ['ssh -NL8080:a:80 -L81:b:81 gw', ['in tcp 127.0.0.1:8080 -> a:80', 'in tcp 127.0.0.1:81 -> b:81']],
    ['ssh gw -fNL 8080:a:80', ['in tcp 127.0.0.1:8080 -> a:80']],
    ['ssh -L [::1]:2222:host:22 gw', ['in tcp [::1]:2222 -> host:22']],
    ['ssh -L 10.0.0.1:80:[2001:db8::5]:80 gw', ['in tcp 10.0.0.1:80 -> [2001:db8::5]:80']],
    ["ssh -L '*:80:a:80' gw", ['in tcp 80 -> a:80']],
    ['ssh -L \\*:80:a:80 gw', ['in tcp 80 -> a:80']],
    ['ssh -L :80:a:80 gw', ['in tcp 80 -> a:80']],
    ['ssh -L 80:a:80 -g gw', ['in tcp 80 -> a:80']],
    ['ssh -gL localhost:80:a:80 gw', ['in tcp 127.0.0.1:80 -> a:80']],
    ['ssh -o GatewayPorts=yes -L 80:a:80 gw', ['in tcp 80 -> a:80']],
    ['ssh -o GatewayPorts=no -L 80:a:80 gw', ['in tcp 127.0.0.1:80 -> a:80']],
    [
      'ssh -L 0.0.0.0:80:a:80 -L [::]:81:a:81 gw',
      ['in tcp 0.0.0.0/0:80 -> a:80', 'in tcp [::]/0:81 -> a:81'],
    ],
    ['ssh -oLocalForward="80 a:80" gw', ['in tcp 127.0.0.1:80 -> a:80']],
    ["ssh -o 'localforward = [::1]:80 a:80' gw", ['in tcp [::1]:80 -> a:80']],
    ['ssh -p 22 -i key -l me -J jump -L 80:a:80 gw tail -L x', ['in tcp 127.0.0.1:80 -> a:80']],
    ['$ sudo nohup /usr/bin/ssh -L 80:a:80 gw &', ['in tcp 127.0.0.1:80 -> a:80']],
    ['"C:\\OpenSSH\\ssh.exe" -L 80:a:80 gw', ['in tcp 127.0.0.1:80 -> a:80']],
    ['autossh -M 20000 -L 80:a:80 gw', ['in tcp 127.0.0.1:80 -> a:80']],
    ['ssh -M -L 80:a:80 gw', ['in tcp 127.0.0.1:80 -> a:80']],
    [
      'ssh -L 80:a:80 \\\n  -L 81:a:81 gw; ssh -L 82:a:82 gw',
      [80, 81, 82].map((port) => `in tcp 127.0.0.1:${port} -> a:${port}`),
    ],
    ['# ssh -L 80:a:80 gw\n', []],
  ])('%s', (command, expected) => {
    expect(rules(command)).toEqual(expected);
  });

  test.each([
    ['localhost', 'me@gw.example', 'gw.example:80'],
    ['127.0.0.1', 'gw.example', 'gw.example:80'],
    ['[::1]', 'ssh://me@gw.example:2222', 'gw.example:80'],
    ['localhost', 'ssh://[2001:db8::2]/', '[2001:db8::2]:80'],
    ['localhost', '2001:db8::2', '[2001:db8::2]:80'],
  ])('%s is the server itself of %s', (host, destination, target) => {
    const command = `ssh -L 80:${host}:80 ${destination}`;
    expect(rules(command)).toEqual([`in tcp 127.0.0.1:80 -> ${target}`]);
    expect(notes(command)).toContainEqual(
      expect.stringContaining('is the ssh server itself, so that the rule goes to'),
    );
  });

  test('have the line that they stand on', () => {
    expect(importSsh('#!/bin/sh\nssh -N \\\r\n -L "80:a:80" \\\r\n gw\r\n').rules).toEqual([
      { line: 3, text: 'in tcp 127.0.0.1:80 -> a:80' },
    ]);
  });
});

describe('notes', () => {
  test('say that nothing goes through the ssh server', () => {
    expect(notes('ssh -L *:80:a:80 gw')).toEqual([
      'natward connects to the targets directly and not through the ssh server: nothing is encrypted by ssh any more, ' +
        'and the targets must be reachable from here.',
    ]);
  });

  test('say where ssh listens on ::1 as well', () => {
    expect(notes('ssh -L 80:a:80 gw')).toContainEqual(expect.stringContaining('ssh listens on ::1 as well'));
    expect(notes('ssh -L 127.0.0.1:80:a:80 gw')).toHaveLength(1);
  });

  test('say that nothing was taken over, and which files were not read', () => {
    expect(notes('ssh gw')).toEqual(['This ssh command has no -L, and nothing was taken over from it.']);
    expect(notes('ssh -F conf gw')).toContainEqual(
      expect.stringMatching(/^-F: the forwardings in that file were not read/),
    );
  });
});

describe('errors', () => {
  test.each([
    [
      'ssh -R 80:a:80 gw',
      '-R listens on the ssh server, where natward does not run; natward takes over -L only',
    ],
    ['ssh -D 1080 gw', '-D is a SOCKS proxy, whose clients choose the target'],
    ['ssh -o "DynamicForward 1080" gw', '-D is a SOCKS proxy'],
    ['ssh -W a:80 gw', "-W connects ssh's own input and output"],
    ['ssh -w 0:0 gw', '-w joins two tunnel interfaces'],
    ['ssh -L/run/x.sock:a:80 gw', 'is of a Unix socket, and rules are of ports; write PORT:HOST:HOSTPORT'],
    ['ssh -L 80:/run/x.sock gw', 'is of a Unix socket'],
    [
      'ssh -L 80 gw',
      '-L "80" is no forwarding; write [BIND:]PORT:HOST:HOSTPORT, with IPv6 addresses in brackets',
    ],
    ['ssh -L 80:2001:db8::1:80 gw', 'is no forwarding'],
    ['ssh -L http:a:80 gw', '"http" is the name of a service'],
    ['ssh -L 0:a:80 gw', 'port 0 is out of range'],
    ['ssh -L 80:a_!:80 gw', '"a_!" is neither an address nor a host name'],
    [
      'ssh -L 80:localhost:80',
      "localhost is the ssh server's own; write the server's name after the options",
    ],
    [
      'ssh -L 80:$HOST:80 gw',
      '"80:$HOST:80" has a $, which only a shell can follow; write out what it stands for',
    ],
    ['ssh -L "80:`cat host`:80" gw', 'has a `, which only a shell can follow'],
    ['ssh -L 80:a:80 gw 2>/dev/null', 'has a >, which only a shell can follow'],
    ["ssh -L '80:a:80 gw", "' has no end here; close it"],
    ['ssh gw -L', '-L has no value; write what belongs to it'],
    ['ssh -Z gw', '"-Z" has no option of ssh at its character 2; leave it out'],
    ['sleep 5', '"sleep" begins no ssh command; leave the line out'],
  ])('%s', (command, message) => {
    expect(() => rules(`# c\n${command}`)).toThrow('ssh:2: ');
    expect(() => rules(`# c\n${command}`)).toThrow(message);
  });

  test('quotes in quotes are no shell’s business', () => {
    expect(rules(`ssh -L '80:a:80' gw 'echo $HOME > "x"'`)).toEqual(['in tcp 127.0.0.1:80 -> a:80']);
    expect(rules('ssh -L 80:a:80 gw "echo \\$HOME \\"x\\""')).toEqual(['in tcp 127.0.0.1:80 -> a:80']);
  });
});
