/** The tables whose rulesets are kept in fixtures/nftables/golden, by the files' names. */

import { KernelRule } from '../../../src/forwarder/nftables/kernel-rule.ts';
import type { MarkedRule } from '../../../src/forwarder/nftables/mark-book.ts';
import { replacement } from '../../../src/forwarder/nftables/change.ts';
import { type RulesetInput, rulesetOf } from '../../../src/forwarder/nftables/ruleset.ts';
import { rule } from '../arbitraries.ts';
import { inputOf, tableOf } from './scene.ts';

export const GOLDEN_FOLDER = 'fixtures/nftables/golden';

interface Golden {
  readonly lines: readonly string[];
  /** What the machine has beside the rules, with the words for it. */
  readonly other?: Partial<RulesetInput>;
  readonly note?: string;
}

const RETIRED = new KernelRule(
  rule('in tcp 8000 -> 192.168.1.9:80 rate 1MB/s clone 192.168.1.7', 'r9'),
  0x8009,
) as MarkedRule;

export const GOLDEN: Readonly<Record<string, Golden>> = {
  empty: { lines: [] },
  // The examples of the reference.
  'example-1-local-port': { lines: ['in tcp 80 -> :8080'] },
  'example-2-outgoing-to-a-name': { lines: ['out tcp verigio.com:25 -> :8025'] },
  'example-3-monitor': { lines: ['out tcp :80,443 -> monitor'] },
  'example-4-chosen-adapter': {
    lines: [
      'out tcp+udp 198.51.100.7:* -> via eth1 source-mac 02:00:00:00:00:01 target-mac 02:00:00:00:00:02 as 192.168.1.1',
    ],
  },
  'example-5-another-server': { lines: ['in tcp 80 -> 192.168.1.8:8080'] },
  // What a selector says.
  ports: {
    lines: [
      'in tcp 80 -> :8080',
      'in tcp 81,83 -> :8080',
      'in tcp 2000-2003,~2001 -> :8080',
      'in udp 3000-5000,~3010-3020 -> :8080',
      'in udp * -> :9',
    ],
  },
  protocols: { lines: ['in tcp 80 -> :1', 'in udp 81 -> :2', 'in tcp+udp 82 -> :3'] },
  'destination-addresses': {
    lines: [
      'in tcp 203.0.113.1:80 -> :8080',
      'in tcp 203.0.113.0/24,192.168.1.1:81 -> :8080',
      'in tcp [2001:db8::1]:80,82 -> :8080',
      'in tcp nas.lan:83 -> :8080',
      'in tcp nobody.example:84 -> :8080',
      'in tcp 127.0.0.1:85 -> :8080',
    ],
  },
  senders: {
    lines: [
      'in tcp 80 from 192.168.0.0/16 -> :1',
      'in tcp 80 from 10.0.0.0/8 EXCEPT 10.1.0.0/16, 10.2.0.7 -> :2',
      'in tcp 80 from [2001:db8::]/32 -> :3',
      'in tcp 80 from ALL EXCEPT 198.51.100.7 -> :4',
      'in udp 80 port 1024-65535,~5353 -> :5',
      'in udp 81 from 10.0.0.9 port 53 -> :6',
    ],
  },
  neighbours: {
    lines: [
      'in tcp 80 on eth0 -> :1',
      'in tcp 81 on eth0,eth1 -> :2',
      'in udp 82 mac 02:00:00:00:00:01 -> :3',
    ],
  },
  outgoing: {
    lines: [
      'out tcp :25 -> 192.168.1.8:2525',
      'out udp 198.51.100.0/24:53 on eth0 -> :5353',
      'out tcp * -> monitor',
    ],
  },
  // What becomes of it.
  targets: {
    lines: [
      'in tcp 80 -> 192.168.1.8:8080',
      'in tcp 81 -> 192.168.1.8',
      'in tcp 82 -> [2001:db8::8]:8080',
      'in tcp 83 -> nas.lan:8080',
      'in tcp 84 -> 127.0.0.1:8080',
      'in tcp 85 -> 192.168.1.1:8080',
      'in tcp 86 -> localhost:8080',
    ],
  },
  'port-by-port': {
    lines: [
      'in tcp 80-82 -> :+1000',
      'in tcp 90-92 -> 192.168.1.8:+0',
      'in tcp 100-102 -> 192.168.1.8:7000-7002',
      'in tcp 110,112 -> nas.lan:-10',
    ],
  },
  verdicts: { lines: ['in tcp 80 -> monitor', 'in tcp+udp 81 -> refuse', 'in tcp+udp 82 -> drop'] },
  sources: {
    lines: [
      'in tcp 80 -> 192.168.1.8:8080 as client',
      'in tcp 81 -> 192.168.1.8:8080 as 192.168.1.1',
      'in udp 82 -> 192.168.1.8:8080 as 192.168.1.1:4000',
      'in udp 83 -> 192.168.1.8:8080 as :4000',
      'in udp 84 -> :8080 as :4000',
      'in tcp 85 -> [2001:db8::8]:8080 as [2001:db8::1]',
    ],
  },
  'ways-out': {
    lines: [
      'in tcp 80 -> 192.168.1.8:8080 via eth1',
      'in tcp 81 -> 192.168.1.8:8080 via eth1 target-mac 02:00:00:00:00:02',
      'out udp 198.51.100.0/24:53 -> via eth1 source-mac 02:00:00:00:00:01',
      'out udp 198.51.101.0/24:53 -> via eth1',
    ],
  },
  'reflect-plain': {
    lines: ['in udp 7 on eth0 -> reflect plain', 'out tcp 198.51.100.7:80 -> :8080 reflect plain'],
  },
  'reflect-mirror': {
    lines: [
      'in tcp 7 -> reflect mirror',
      'in tcp 8 -> :80 reflect mirror',
      'out tcp 198.51.100.7:80 -> reflect mirror',
    ],
  },
  'reflect-route': {
    lines: ['in tcp 80 on eth0 -> 192.168.1.8 reflect route', 'in udp 81 on eth0 -> reflect route'],
  },
  clones: {
    lines: [
      'in tcp 80 -> 192.168.1.8:8080 clone 192.168.1.7',
      'in udp 81 -> :5000 clone 192.168.1.7:5000',
      'in udp 82 -> monitor clone [2001:db8::7]:5000',
      'out udp 198.51.100.0/24:53 -> monitor clone nas.lan',
    ],
  },
  access: {
    lines: [
      'in tcp 80 -> :1 allow 192.168.0.0/16',
      'in tcp 81 -> :2 deny 192.168.1.7, 2001:db8::/32',
      'in tcp 82 -> :3 allow 10.0.0.0/8 deny 10.0.0.7',
      'in tcp 83 -> :4 deny ALL',
    ],
  },
  limits: {
    lines: [
      'in tcp 80 -> :1 new 10/s',
      'in tcp 81 -> :2 open 100',
      'in tcp 82 -> :3 per-client 20',
      'in tcp 83 -> :4 rate 10MB/s',
      'in tcp 84 -> :5 quota 5GB',
      'in tcp 85 -> :6 new 1/s open 2 per-client 1 rate 1MB/s quota 1MB allow 10.0.0.0/8 idle 60s',
    ],
    other: { used: new Map([[0x8005, 1_234_567]]) },
    note: 'Of the quota of the fifth rule 1234567 bytes are used up.',
  },
  idle: { lines: ['in tcp+udp 80 -> :1 idle 60s', 'in tcp 81 -> :2 idle 2h'] },
  // Several together.
  order: {
    lines: [
      'in tcp 80 from 10.0.0.0/8 -> :1',
      'in tcp 1-1000 -> :2',
      'in tcp 80,81 -> :3',
      'in tcp 203.0.113.1:1-500 -> refuse',
      'in tcp 2000 -> :4',
      'in tcp * -> :5',
      'in tcp 80 -> refuse',
      'in udp 2000 -> :6',
    ],
  },
  'with-the-relay': {
    lines: [
      'in tcp 22 from ALL EXCEPT .example.org -> refuse',
      'in tcp 22 -> :2222',
      'in tcp 443 -> nas.lan:8443 else 10.0.0.6:8443 proxy v2',
      'in tcp 443 from 10.0.0.0/8 -> :8443',
      'in tcp 203.0.113.1:443 -> refuse',
      'in tcp 1-1000 -> :9',
      'in tcp [::]/0:8080 -> 192.168.1.8:80',
      'in tcp 8080 -> 192.168.1.8:80',
    ],
  },
  'loopback-and-the-relay': {
    lines: [
      'in tcp 80 -> nas.lan:80 connect 5s',
      'in tcp 127.0.0.0/8,203.0.113.1:80 -> :8080',
      'in tcp 80 -> :8081',
    ],
  },
  'families-apart': {
    lines: ['in tcp 80 -> 192.168.1.8:80', 'in tcp 80 -> [2001:db8::8]:80', 'in tcp 81 -> [2001:db8::8]:80'],
  },
  'marks-of-others': {
    lines: ['in tcp 80 -> :8080', 'in tcp 81 -> 192.168.1.8:8080'],
    other: { keepsMarks: true },
    note: 'Another program marks connections as well.',
  },
  'what-was-changed': {
    lines: ['in tcp 80 -> 127.0.0.1:8080'],
    other: {
      retired: [RETIRED],
      guardedForwarding: { 4: ['eth0'], 6: ['eth0', 'eth1'] },
      guardsLoopback: true,
      records: ['net.ipv4.conf.all.route_localnet=0>1'],
    },
    note: 'Conversations run under a rule that is gone; natward made the machine forward.',
  },
};

export function goldenText(name: string): string {
  const { lines, other = {}, note } = GOLDEN[name] as Golden;
  const head = [...(note === undefined ? [] : [note]), ...lines].map((line) => `# ${line}\n`).join('');
  return `${head}\n${replacement(rulesetOf(inputOf(tableOf(lines), other)))}`;
}
