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
const KEPT: NewDestination = { kind: 'kept' };
const SENDER: NewDestination = { kind: 'sender' };
const AS_IT_IS: NewSource = { kind: 'kept' };
const HOST: NewSource = { kind: 'host' };

/** A host that rules lead to. */
interface Aim {
  readonly destination: NewDestination;
  readonly families: readonly Family[];
  readonly isHere: boolean;
}

export function rewriteOf(rule: Rule, around: Around): Rewrite {
  const { direction, reflection } = rule;
  const [target] = rule.targets;
  const aim = target?.host === undefined ? undefined : aimAt(target.host, around);
  const isTurned = reflection === 'mirror' || (reflection === 'plain' && direction === 'out');
  const destination = aim?.destination ?? (isTurned ? SENDER : KEPT);
  const aimed = aim?.families ?? BOTH;
  const address = rule.source?.address;
  const from = address === undefined || address === 'client' ? undefined : family(address);
  const staysHere = aim?.isHere ?? (direction === 'in' && reflection === undefined);
  const port = rule.source?.port;
  return {
    destination,
    port: target?.port ?? SAME,
    source: sourceOf(rule, destination, staysHere),
    sourcePort: typeof port === 'number' ? port : undefined,
    way: wayOf(rule),
    families: from === undefined ? aimed : aimed.filter((one) => one === from),
    staysHere,
  };
}

/** Thousands of rules may lead to one host. */
const KNOWN = new WeakMap<Around, Map<string, Aim>>();

function aimAt(host: string, around: Around): Aim {
  let known = KNOWN.get(around);
  if (known === undefined) KNOWN.set(around, (known = new Map()));
  let aim = known.get(host);
  if (aim === undefined) {
    const addresses = addressesOf(host, around);
    const all = Object.values(addresses);
    aim = {
      destination: { kind: 'address', addresses },
      families: BOTH.filter((one) => addresses[one] !== undefined),
      isHere: all.length > 0 && all.every((one) => isLoopback(one) || around.ownAddresses.has(one)),
    };
    known.set(host, aim);
  }
  return aim;
}

/** The first address of each family. `::1` cannot be reached from outside. */
function addressesOf(host: string, { addressesOf: look }: Around): ByFamily<IpAddress> {
  if (host === 'localhost') return { 4: '127.0.0.1' };
  const literal = parseAddress(host);
  const all = literal === undefined ? look(host).filter((one) => !isLoopback(one)) : [literal];
  const four = all.find((one) => family(one) === 4);
  const six = all.find((one) => family(one) === 6 && one !== '::1');
  return { ...(four === undefined ? {} : { 4: four }), ...(six === undefined ? {} : { 6: six }) };
}

function sourceOf(rule: Rule, destination: NewDestination, staysHere: boolean): NewSource {
  const address = rule.source?.address;
  if (address === 'client') return AS_IT_IS;
  if (address !== undefined) return { kind: 'address', address };
  if (destination.kind === 'sender') {
    return rule.reflection === 'mirror' ? { kind: 'destination' } : AS_IT_IS;
  }
  if (rule.reflection === 'route') return AS_IT_IS;
  // What leaves by another adapter than it was sent for has another one's address.
  if (rule.via !== undefined) return HOST;
  return destination.kind === 'address' && !staysHere ? HOST : AS_IT_IS;
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
