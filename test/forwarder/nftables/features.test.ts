/** What is asked of a kernel, and which rules are not for one that lacks something. */

import { describe, expect, test } from 'vitest';
import {
  type Feature,
  featureShortcoming,
  missingFeatures,
} from '../../../src/forwarder/nftables/features.ts';
import type { Rule } from '../../../src/forwarder/rule.ts';
import { parseRule } from '../../../src/forwarder/text.ts';

/** A kernel that knows none of these words, and how often it was asked. */
function kernelWithout(...words: readonly string[]) {
  const asked: string[] = [];
  return {
    asked,
    accepts: async (text: string) => {
      asked.push(text);
      return !words.some((word) => text.includes(word));
    },
  };
}

describe('missingFeatures', () => {
  test('a kernel that lacks nothing is asked once', async () => {
    const kernel = kernelWithout();
    expect(await missingFeatures(kernel)).toEqual(new Set());
    expect(kernel.asked).toHaveLength(1);
  });

  test('what is missing is found, each by a question of its own', async () => {
    const missing = await missingFeatures(kernelWithout('ct timeout', 'egress'));
    expect(missing).toEqual(new Set(['timeouts', 'egress']));
  });

  test('without what every rule needs there is no engine, in one sentence', async () => {
    await expect(missingFeatures(kernelWithout('dnat'))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringMatching(
        /^the kernel’s engine cannot run: this kernel, or its nft, has no transl/,
      ),
      advice: expect.stringMatching(/modprobe -a nft_chain_nat .* choose auto or relay/),
    });
  });

  test('the batches name tables that nobody else has, each its own', async () => {
    const kernel = kernelWithout('nat');
    await missingFeatures(kernel).catch(() => undefined);
    const [all = ''] = kernel.asked;
    const names = [...all.matchAll(/^table (\S+ \S+) \{$/gm)].map(([, name]) => name ?? '');
    expect(new Set(names).size).toBe(names.length);
    expect(names.every((name) => / natward_probe_\w+$/.test(name))).toBe(true);
  });
});

describe('featureShortcoming', () => {
  const short = (line: string, ...missing: readonly Feature[]): string | undefined => {
    const rule: Rule = { ...parseRule(line), id: 'r', enabled: true };
    return featureShortcoming(rule, new Set(missing))?.field;
  };
  const ALL: readonly Feature[] = ['timeouts', 'counts', 'rates', 'quotas', 'copies', 'rejects', 'egress'];

  test.for([
    ['in tcp 80 -> refuse', 'rejects', 'refuse'],
    ['in tcp 80 -> :81 allow 10.0.0.0/8', 'rejects', 'allow'],
    ['in tcp 80 -> :81 deny 10.0.0.0/8', 'rejects', 'deny'],
    ['in udp 80 -> :81 idle 60s', 'timeouts', 'idle'],
    ['in udp 80 -> :81 new 10/s', 'rates', 'new'],
    ['in udp 80 -> :81 rate 1MB/s', 'rates', 'rate'],
    ['in udp 80 -> :81 open 10', 'counts', 'open'],
    ['in udp 80 -> :81 open 10', 'rejects', 'open'],
    ['in udp 80 -> :81 per-client 10', 'counts', 'per-client'],
    ['in udp 80 -> :81 quota 5GB', 'quotas', 'quota'],
    ['in udp 80 -> :81 clone 10.0.0.9', 'copies', 'clone'],
    ['in udp 80 on eth0 -> reflect plain', 'copies', 'reflect'],
    ['in tcp 80 -> 10.0.0.9:80 via eth1 source-mac 02:00:00:00:00:09', 'egress', 'source-mac'],
  ] as const)('%s needs %s, for its clause %s', ([line, feature, field]) => {
    expect(short(line, feature)).toBe(field);
    expect(short(line)).toBeUndefined();
  });

  test.for([
    'in tcp 80 -> 10.0.0.9:8080',
    'in tcp+udp 1000-2000 from 10.0.0.0/8 on eth0 -> 10.0.0.9:+0 as client',
    'in tcp 80 -> monitor',
    'in udp 80 -> drop',
    'in tcp 80 -> 10.0.0.9:80 via eth1 target-mac 02:00:00:00:00:09',
    'out tcp 198.51.100.1:80 -> :8080 reflect plain',
  ])('%s needs none of them', (line) => {
    expect(short(line, ...ALL)).toBeUndefined();
  });

  test('it says what is missing, how it may come, and who else can', () => {
    const rule: Rule = { ...parseRule('in udp 80 -> :81 rate 1MB/s'), id: 'r', enabled: true };
    expect(featureShortcoming(rule, new Set(['rates']))).toEqual({
      field: 'rate',
      reason: 'this kernel, or its nft, has no limits of rates',
      advice:
        'Load what is missing (modprobe -a nft_limit) and start natward again, or leave the engine to natward: the relay can.',
    });
  });
});
