/** What the relay cannot do: it listens, and sees addresses and bytes, not packets. Pure. */

import type { Shortcoming } from '../engine.ts';
import type { Rule } from '../rule.ts';

/** `kernelCan` says who could carry the rule, and what that would take here. */
export function relayShortcoming(rule: Rule, kernelCan: string): Shortcoming | undefined {
  const needs = (field: string, reason: string, advice = `${kernelCan}.`): Shortcoming => ({
    field,
    reason,
    advice,
  });
  if (rule.direction === 'out') return needs('out', 'the relay does not see what this host sends');
  if (rule.to.addresses.some(({ kind }) => kind === 'name')) {
    return needs('to', 'the relay listens on addresses, not on names', 'Write the address.');
  }
  if (rule.macs.length > 0) return needs('mac', 'the relay does not see MAC addresses');
  if (rule.via !== undefined)
    return needs(
      'via',
      'the relay does not choose interfaces',
      `Write "as ADDRESS" with an address of that interface; ${kernelCan}.`,
    );
  if (rule.reflection !== undefined) return needs('reflect', 'the relay does not send packets back');
  if (rule.source?.address === 'client') {
    return needs(
      'as',
      'the relay cannot send from the client’s address',
      `"proxy v2" tells a target that knows it; ${kernelCan}.`,
    );
  }
  if (rule.verdict === 'drop' && rule.protocols.includes('tcp')) {
    return needs(
      'drop',
      'the relay cannot leave a TCP connection unanswered',
      `Write "refuse", which answers with a reset; ${kernelCan}.`,
    );
  }
  if (rule.protocols.includes('udp')) {
    if (rule.proxy === 'v1')
      return needs(
        'proxy',
        'version 1 of the PROXY protocol has no UDP',
        'Write "proxy v2", or make the rule for TCP alone.',
      );
    if (rule.acceptProxy !== undefined) {
      return needs(
        'accept-proxy',
        'the relay hears the PROXY protocol over TCP alone',
        'Make the rule for TCP alone.',
      );
    }
  }
  return undefined;
}
