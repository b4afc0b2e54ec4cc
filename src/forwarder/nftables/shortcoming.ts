/** What the kernel cannot carry, by the rule's own words: it sees packets, no names and no streams. Pure. */

import { type Family, family, isLoopback, parseAddress } from '../../net/address.ts';
import { type AccessList, needsNames } from '../access.ts';
import type { Shortcoming } from '../engine.ts';
import type { Rule } from '../rule.ts';
import { keepsPort } from './rewrite.ts';

/** Linux has no longer ones. */
const MAX_ADAPTER = 15;

type Need = (field: string, reason: string, advice: string) => Shortcoming;

const need: Need = (field, reason, advice) => ({ field, reason, advice });
/** What the kernel's shortcomings advise where another engine is the way out. */
export const RELAY = 'The relay can: leave the engine to natward.';

export function kernelShortcoming(rule: Rule): Shortcoming | undefined {
  return (
    streamShortcoming(rule) ?? clientShortcoming(rule) ?? placeShortcoming(rule) ?? copyShortcoming(rule)
  );
}

/** What takes somebody who connects by himself. */
function streamShortcoming(rule: Rule): Shortcoming | undefined {
  if (rule.targets.length > 1) return need('else', 'the kernel does not see that a target is gone', RELAY);
  if (rule.connectSeconds !== undefined) return need('connect', 'the kernel does not connect', RELAY);
  if (rule.proxy !== undefined) return need('proxy', 'the kernel writes no headers into a stream', RELAY);
  if (rule.acceptProxy !== undefined) {
    return need('accept-proxy', 'the kernel reads no headers from a stream', RELAY);
  }
  const [target] = rule.targets;
  const address = target?.host === undefined ? undefined : parseAddress(target.host);
  if (address === '::1') {
    return need('target', 'the kernel takes nothing from outside to ::1', `Write another address. ${RELAY}`);
  }
  if (address !== undefined) {
    if (!asksFor(rule, family(address))) {
      return need('target', 'the kernel does not make IPv4 of IPv6, nor the other way', RELAY);
    }
    const from = rule.source?.address;
    if (from !== undefined && from !== 'client' && family(from) !== family(address)) {
      return need(
        'as',
        `${from} and ${address} are not of one family`,
        'Write an address of the same family.',
      );
    }
  }
  if (rule.source?.address === 'client' && typeof rule.source.port === 'number') {
    return need('as', 'a client’s own address goes with its own port', 'Write "as client".');
  }
  return undefined;
}

/** By the addresses that the rule names; what names stand for nobody knows here. */
function asksFor({ to }: Rule, of: Family): boolean {
  if (to.addresses.length === 0) return true;
  return to.addresses.some((one) => one.kind === 'name' || family(one.address) === of);
}

function clientShortcoming({ from, access, macs, direction }: Rule): Shortcoming | undefined {
  const isNamed = (list: AccessList | undefined) => list !== undefined && needsNames(list);
  const named = isNamed(from.clients)
    ? 'from'
    : isNamed(access.allow)
      ? 'allow'
      : isNamed(access.deny)
        ? 'deny'
        : undefined;
  if (named !== undefined) return need(named, 'the kernel knows clients by address, not by name', RELAY);
  if (access.hosts !== undefined) return need('hosts', 'the kernel reads no /etc/hosts.allow', RELAY);
  if (macs.length > 0 && direction === 'out') {
    return need('mac', 'no neighbour sent what this host sends', 'Leave it out, or write the rule for "in".');
  }
  return undefined;
}

function placeShortcoming(rule: Rule): Shortcoming | undefined {
  const { adapters, via, reflection, direction, targets } = rule;
  const isLong = (name: string) => name.length > MAX_ADAPTER;
  const long = adapters.find(isLong) ?? (via !== undefined && isLong(via.adapter) ? via.adapter : undefined);
  if (long !== undefined) {
    return need('on', `no interface of Linux has a name as long as ${long}`, 'ip link shows their names.');
  }
  if (adapters.includes('lo')) {
    return need('on', 'what this host sends to itself has no interface for the kernel', RELAY);
  }
  if (reflection === undefined) return undefined;
  const [target] = targets;
  const isBack = reflection === 'route' || (reflection === 'plain' && direction === 'in');
  if (isBack && direction === 'out') {
    return need('reflect', 'what goes out leaves by that side as it is', 'Leave it out.');
  }
  if (isBack && adapters.length !== 1) {
    return need('reflect', 'it takes one side to go back to', 'Say the interface before the arrow: on eth0.');
  }
  if (reflection === 'plain' && direction === 'in' && target !== undefined) {
    return need(
      'reflect',
      'what goes back as it came has no target',
      'Write "reflect mirror" or "reflect route".',
    );
  }
  if (
    target !== undefined &&
    target.host === undefined &&
    target.port.kind !== 'one' &&
    !keepsPort(target.port)
  ) {
    return need('target', 'what is reflected goes to one port', 'Write one port.');
  }
  return undefined;
}

function copyShortcoming({ clone, protocols, direction }: Rule): Shortcoming | undefined {
  if (clone === undefined) return undefined;
  const host = clone.host === undefined ? undefined : parseAddress(clone.host);
  if (clone.host === undefined || clone.host === 'localhost' || (host !== undefined && isLoopback(host))) {
    return need(
      'clone',
      'the kernel sends copies to other hosts',
      `Write the address of another host. ${RELAY}`,
    );
  }
  if (protocols.includes('tcp') && clone.port.kind !== 'same') {
    const advice =
      'Write "clone HOST", which copies the packets as they are for one who listens on the wire.';
    return need(
      'clone',
      'a copy of a TCP stream takes a connection of its own',
      direction === 'in' ? RELAY : advice,
    );
  }
  if (clone.port.kind !== 'one' && !keepsPort(clone.port)) {
    return need('clone', 'the kernel sends copies to one port', `Write one port. ${RELAY}`);
  }
  return undefined;
}
