import { describe, expect, test } from 'vitest';
import { assign, type Engines, shortcomingOf } from '../../src/forwarder/assignment.ts';
import { kernelShortcoming } from '../../src/forwarder/nftables/shortcoming.ts';
import { relayShortcoming } from '../../src/forwarder/relay/shortcoming.ts';
import { rule, table } from './arbitraries.ts';

const engines: Engines = {
  kernel: kernelShortcoming,
  relay: (one) => relayShortcoming(one, 'the kernel can'),
};

function assigned(...lines: readonly string[]): unknown[] {
  return [...assign(table(...lines), engines).values()];
}

test('the kernel carries what it can, the relay the rest', () => {
  expect(
    assigned('in tcp 80 -> :8080', 'in tcp 443 -> nas.lan:443 proxy v2', 'out tcp :25 -> :8025'),
  ).toEqual(['nftables', 'relay', 'nftables']);
});

test('a rule that is off is nobody’s', () => {
  expect(assign([rule('in tcp 80 -> :81', 'a', false)], engines).size).toBe(0);
});

describe('beneath a rule that goes by the names of clients', () => {
  const NAMED = 'in tcp 80-90 from .example.org -> :1';

  test('what is for the same ports is the relay’s', () => {
    expect(
      assigned(NAMED, 'in tcp 90 -> :2', 'in tcp 91 -> :2', 'in udp 90 -> :2', 'out tcp :90 -> :2'),
    ).toEqual(['relay', 'relay', 'nftables', 'nftables', 'nftables']);
  });

  test('what stands above it is not', () => {
    expect(assigned('in tcp 90 -> :2', NAMED)).toEqual(['nftables', 'relay']);
  });

  test('what the relay cannot carry is told, with what would help', () => {
    const [, short] = assigned(NAMED, 'in tcp 85 -> 192.168.1.8:80 as client');
    expect(short).toMatchObject({
      field: 'as',
      reason: expect.stringMatching(/^a rule above it goes by the names of clients/),
      advice: expect.stringContaining('Move it above that rule'),
    });
  });
});

test('names that decide who may pass do not decide for whom the rule is', () => {
  expect(assigned('in tcp 80 -> :1 allow .example.org', 'in tcp 80-90 -> :2')).toEqual(['relay', 'nftables']);
});

test('what is too much for both is told with both reasons', () => {
  const both = rule('in tcp 80 -> 192.168.1.8:80 as client proxy v2', 'a');
  const short = shortcomingOf(both, engines);
  expect(short?.field).toBe('proxy');
  expect(short?.reason).toMatch(/writes no headers into a stream, and the relay cannot send/);
  expect(assigned('in tcp 80 -> 192.168.1.8:80 as client proxy v2')).toEqual([short]);
  expect(shortcomingOf(rule('in tcp 80 -> :81', 'a'), engines)).toBeUndefined();
});

test('what would let the kernel carry a rule is advised, where the relay could not in any case', () => {
  const advised = (line: string) => shortcomingOf(rule(line, 'a'), engines)?.advice;
  expect(advised('in tcp 80 -> reflect route')).toBe('Say the interface before the arrow: on eth0.');
  expect(advised('out tcp 80 -> 10.0.0.1:80 proxy v2')).toMatch(/split it into two rules/);
});
