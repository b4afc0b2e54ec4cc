/**
 * What the kernel makes of a rule's traffic: where it goes instead, from whom it then comes, by which way. Pure; what a
 * name stands for and which addresses are this host's is handed in.
 */

import { type Family, family, type IpAddress, isLoopback, parseAddress } from '../../net/address.ts';
import type { Rule, TargetPort } from '../rule.ts';
import { portsOf } from '../decide.ts';
import { targetNames, targetPortOf } from '../target.ts';

/** The same value as long as nothing in it changes: what was worked out with it is kept. */
export interface Around {
  /** What a name stands for just now, the first first. */
  readonly addressesOf: (name: string) => readonly IpAddress[];
  readonly ownAddresses: ReadonlySet<IpAddress>;
}

export type ByFamily<T> = { readonly [F in Family]?: T };

export type NewDestination =
  | { readonly kind: 'kept' }
  | { readonly kind: 'address'; readonly addresses: ByFamily<IpAddress> }
  /** Whoever sent the first packet. */
  | { readonly kind: 'sender' };

export type NewSource =
  | { readonly kind: 'kept' }
  /** This host's, on the way out. */
  | { readonly kind: 'host' }
  | { readonly kind: 'address'; readonly address: IpAddress }
  /** Where the first packet was sent to. */
  | { readonly kind: 'destination' };

/** By which adapter, to whose MAC address, from whose. */
export interface Way {
  readonly adapter: string;
  readonly sourceMac: string | undefined;
  readonly targetMac: string | undefined;
}

export interface Rewrite {
  readonly destination: NewDestination;
  readonly port: TargetPort;
  readonly source: NewSource;
  /** Undefined: any, the client's own where it is free. */
  readonly sourcePort: number | undefined;
  readonly way: Way | undefined;
  /** The families that the kernel can carry like this. */
  readonly families: readonly Family[];
  /** It ends at this host. */
  readonly staysHere: boolean;
}

const BOTH: readonly Family[] = [4, 6];
const SAME: TargetPort = { kind: 'same' };

export function rewriteOf(rule: Rule, around: Around): Rewrite {
  const [target] = rule.targets;
  const aim = target?.host === undefined ? undefined : addressesOf(target.host, around);
  const isTurned =
    aim === undefined &&
    (rule.reflection === 'mirror' || (rule.reflection === 'plain' && rule.direction === 'out'));
  const destination: NewDestination = isTurned
    ? { kind: 'sender' }
    : aim === undefined
      ? { kind: 'kept' }
      : { kind: 'address', addresses: aim };
  const aimed = BOTH.filter((one) => aim === undefined || aim[one] !== undefined);
  const address = rule.source?.address;
  const from = address === undefined || address === 'client' ? undefined : address;
  const staysHere = isHere(rule, aim, around);
  const port = rule.source?.port;
  return {
    destination,
    port: target?.port ?? SAME,
    source: sourceOf(rule, destination, staysHere),
    sourcePort: typeof port === 'number' ? port : undefined,
    way: wayOf(rule),
    families: aimed.filter((one) => from === undefined || family(from) === one),
    staysHere,
  };
}

/** Thousands of rules may lead to one host. */
const KNOWN = new WeakMap<Around, Map<string, ByFamily<IpAddress>>>();

/** The first address of each family. */
function addressesOf(host: string, around: Around): ByFamily<IpAddress> {
  let known = KNOWN.get(around);
  if (known === undefined) KNOWN.set(around, (known = new Map()));
  let addresses = known.get(host);
  if (addresses === undefined) known.set(host, (addresses = resolved(host, around)));
  return addresses;
}

/** `::1` cannot be reached from outside. */
function resolved(host: string, { addressesOf: look }: Around): ByFamily<IpAddress> {
  if (host === 'localhost') return { 4: '127.0.0.1' };
  const literal = parseAddress(host);
  const all = literal === undefined ? look(host).filter((one) => !isLoopback(one)) : [literal];
  const four = all.find((one) => family(one) === 4);
  const six = all.find((one) => family(one) === 6 && one !== '::1');
  return { ...(four === undefined ? {} : { 4: four }), ...(six === undefined ? {} : { 6: six }) };
}

function isHere(rule: Rule, aim: ByFamily<IpAddress> | undefined, { ownAddresses }: Around): boolean {
  if (aim === undefined) return rule.direction === 'in' && rule.reflection === undefined;
  const all = Object.values(aim);
  return all.length > 0 && all.every((one) => isLoopback(one) || ownAddresses.has(one));
}

function sourceOf(rule: Rule, destination: NewDestination, staysHere: boolean): NewSource {
  const address = rule.source?.address;
  if (address === 'client') return { kind: 'kept' };
  if (address !== undefined) return { kind: 'address', address };
  if (destination.kind === 'sender') {
    return rule.reflection === 'mirror' ? { kind: 'destination' } : { kind: 'kept' };
  }
  if (rule.reflection === 'route') return { kind: 'kept' };
  // What leaves by another adapter than it was sent for has another one's address.
  if (rule.via !== undefined) return { kind: 'host' };
  return destination.kind === 'address' && !staysHere ? { kind: 'host' } : { kind: 'kept' };
}

/** By which it leaves; undefined: as the routes say. */
export function wayOf({ via, reflection, direction, adapters }: Rule): Way | undefined {
  if (via !== undefined) {
    return { adapter: via.adapter, sourceMac: via.sourceMac, targetMac: via.targetMac };
  }
  const [adapter] = adapters;
  return reflection === 'route' && direction === 'in' && adapter !== undefined
    ? { adapter, sourceMac: undefined, targetMac: undefined }
    : undefined;
}

export function wayKey({ adapter, sourceMac = '', targetMac = '' }: Way): string {
  return `${adapter} ${sourceMac} ${targetMac}`;
}

/** Which port becomes which, where each becomes one of its own. */
export function portPairs(rule: Rule, port: TargetPort): readonly (readonly [from: number, to: number])[] {
  const ranges = portsOf(rule);
  return ranges.flatMap(({ first, last }) =>
    Array.from({ length: last - first + 1 }, (_, at) => {
      return [first + at, targetPortOf(port, ranges, first + at)] as const;
    }),
  );
}

/** A port that stays as it is, whatever the rule's words for it. */
export function keepsPort({ kind, ...port }: TargetPort): boolean {
  return kind === 'same' || (kind === 'shift' && 'by' in port && port.by === 0);
}

/** The names that the rule asks for. */
export function namesOf({ to, targets, clone }: Rule): readonly string[] {
  const sentTo = targetNames({ targets, clone });
  if (sentTo.length === 0 && !to.addresses.some(({ kind }) => kind === 'name')) return sentTo;
  const asked = to.addresses.flatMap((one) => (one.kind === 'name' ? [one.name] : []));
  return [...asked, ...sentTo].filter((name) => name !== 'localhost');
}
