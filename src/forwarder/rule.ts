/**
 * A rule: which traffic, and what it becomes. A value; text.ts reads and writes it as one line, table.ts knows the
 * rules together. The first packet of a conversation chooses the rule, and both ways of it belong to that rule.
 */

import type { IpAddress } from '../net/address.ts';
import type { PortRange } from '../net/port-range.ts';
import type { PortSet } from '../net/port-set.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import type { AccessList } from './access.ts';
import type { Schedule } from './schedule.ts';

export type Direction = 'in' | 'out';

/** A network (one address is a network of one), or a host name that stands for all of its addresses. */
export type AddressPattern =
  | { readonly kind: 'network'; readonly address: IpAddress; readonly prefixLength: number }
  | { readonly kind: 'name'; readonly name: string };

/** What a port becomes: one for all, moved by so much, or the port at the same place of a range as long. */
export type TargetPort =
  | { readonly kind: 'same' }
  | { readonly kind: 'one'; readonly port: number }
  | { readonly kind: 'shift'; readonly by: number }
  | { readonly kind: 'range'; readonly range: PortRange };

export interface Target {
  /** An IpAddress or a host name; undefined: the address stays as it is, which of what comes in is this host. */
  readonly host: string | undefined;
  readonly port: TargetPort;
}

/** From which address and port the rewritten traffic comes, as its target sees it. */
export interface Source {
  /** An IpAddress, or `client`: the first sender's own, which the target then sees. Undefined: this host's. */
  readonly address: string | undefined;
  /** `same`: the client's port. Undefined: any. */
  readonly port: number | 'same' | undefined;
}

export type Verdict = 'forward' | 'monitor' | 'refuse' | 'drop';
export type Reflection = 'plain' | 'mirror' | 'route';
export type ProxyVersion = 'v1' | 'v2';

/** At most so many at once, so fast, so much; undefined: the engine's own limit. */
export interface Limits {
  readonly newPerSecond: number | undefined;
  readonly open: number | undefined;
  readonly openPerClient: number | undefined;
  /** Both ways together. */
  readonly bytesPerSecond: number | undefined;
  /** In all, both ways together; then the rule refuses. Counted anew when the rule changes. */
  readonly quotaBytes: number | undefined;
}

/** Who may, of those that the selector lets through. Where a list is given, others may not. */
export interface Access {
  readonly allow: AccessList | undefined;
  readonly deny: AccessList | undefined;
  /** Read /etc/hosts.allow and /etc/hosts.deny under this daemon's name. */
  readonly hosts: string | undefined;
}

/** A rule without its identity: what its line says. */
export interface RuleSpec {
  readonly direction: Direction;
  /** At least one. */
  readonly protocols: readonly TransportProtocol[];
  /** Where the first packet goes: this host for `in`, the other for `out`. No address: any. */
  readonly to: { readonly addresses: readonly AddressPattern[]; readonly ports: PortSet };
  /** Who sends the first packet. Undefined: anybody. */
  readonly from: { readonly clients: AccessList | undefined; readonly ports: PortSet };
  /** Names of interfaces; none: any. */
  readonly adapters: readonly string[];
  /** Of the neighbour that sent the frame, `aa:bb:cc:dd:ee:ff`; none: any. */
  readonly macs: readonly string[];
  readonly schedule: Schedule | undefined;

  readonly verdict: Verdict;
  /** The first, and those to turn to when it cannot be reached. Only of `forward`, where none means unchanged. */
  readonly targets: readonly Target[];
  readonly source: Source | undefined;
  /** Leave by this interface, with these MAC addresses. */
  readonly via:
    | { readonly adapter: string; readonly sourceMac?: string; readonly targetMac?: string }
    | undefined;
  readonly reflection: Reflection | undefined;
  readonly clone: Target | undefined;
  /** Tell the target who the client is, by this version of the PROXY protocol. */
  readonly proxy: ProxyVersion | undefined;
  /** These peers tell who the client is, by the PROXY protocol: nobody else is believed. */
  readonly acceptProxy: AccessList | undefined;

  readonly access: Access;
  readonly limits: Limits;
  /** Without a byte either way for so long, a conversation ends. Undefined: the engine's default. */
  readonly idleSeconds: number | undefined;
  /** For so long a target may take to answer the first packet. */
  readonly connectSeconds: number | undefined;
  /** Any text without control characters, at most 250 characters. */
  readonly description: string;
}

export interface Rule extends RuleSpec {
  /** Never changes while the rule lives: 1..64 of `a-z A-Z 0-9 . _ -`. */
  readonly id: string;
  readonly enabled: boolean;
}

export const NO_ACCESS: Access = { allow: undefined, deny: undefined, hosts: undefined };
export const NO_LIMITS: Limits = {
  newPerSecond: undefined,
  open: undefined,
  openPerClient: undefined,
  bytesPerSecond: undefined,
  quotaBytes: undefined,
};
