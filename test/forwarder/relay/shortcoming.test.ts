import { expect, test } from 'vitest';
import { relayShortcoming } from '../../../src/forwarder/relay/shortcoming.ts';
import { named } from './support.ts';

test.each([
  ['out tcp 80 -> :8080', 'out'],
  ['in tcp web.example:80 -> :8080', 'to'],
  ['in tcp 80 mac 02:00:00:00:00:01 -> :8080', 'mac'],
  ['in tcp 80 -> 10.0.0.1 via eth1', 'via'],
  ['in tcp 80 -> :8080 reflect mirror', 'reflect'],
  ['in tcp 80 -> 10.0.0.1 as client', 'as'],
  ['in tcp+udp 80 -> drop', 'drop'],
  ['in tcp+udp 80 -> 10.0.0.1 proxy v1', 'proxy'],
  ['in udp 80 -> 10.0.0.1 accept-proxy 10.0.0.2', 'accept-proxy'],
])('%s: the relay says what is too much for it (%s), why, and what would help', (line, field) => {
  expect(relayShortcoming(named('r', line), 'the kernel’s engine can')).toEqual({
    field,
    reason: expect.stringMatching(/^(the relay|version 1) .*[^.]$/),
    advice: expect.stringMatching(/\.$/),
  });
});

test.each([
  'in tcp+udp 2000-5000,~3000 from 192.168.0.0/16 on eth0 when mon-fri 08:00-18:00 -> nas.example:+0 else 10.0.0.5',
  'in tcp 80 -> 10.0.0.1 as 10.0.0.2:same clone 10.0.0.9 proxy v1 accept-proxy 10.0.0.3',
  'in udp 80 -> drop',
  'in udp 80 -> 10.0.0.1 proxy v2',
  'in tcp+udp 80 -> monitor clone 10.0.0.9',
  'in tcp 80 -> refuse',
])('%s: the relay carries it', (line) => {
  expect(relayShortcoming(named('r', line), 'the kernel’s engine can')).toBeUndefined();
});
