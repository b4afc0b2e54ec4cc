/**
 * Client lists in the manner of hosts_access(5): who may begin a conversation. A list names clients by
 * address, network, host name or domain, separated by commas or blanks; `EXCEPT` takes some of them out
 * again, and a further `EXCEPT` some of those: `a EXCEPT b EXCEPT c` is `a EXCEPT (b EXCEPT c)`.
 *
 * What is stricter than there: a network's address has no bits below its mask (libwrap lets such a pattern
 * match nobody), and a word that is neither address nor name is an error. IPv4 and IPv6 are apart: `::/0`
 * has no IPv4 client in it. A client's zone does not matter. Names are the client's own claim until somebody
 * has looked them up both ways; that somebody is the caller, and who has no such name matches no name.
 */

import ipaddr from 'ipaddr.js';
import { NatwardError } from '../errors.ts';
import {
  addressBytes,
  type Family,
  family,
  type IpAddress,
  kindOf,
  parseAddress,
  sameNetwork,
} from '../net/address.ts';

export type AccessPattern =
  | { readonly kind: 'all' }
  /** This host: a loopback address, or a name without a dot. */
  | { readonly kind: 'local' }
  /** Of the address's own family: 0..32 or 0..128. One host has all the bits. */
  | { readonly kind: 'network'; readonly address: IpAddress; readonly prefixLength: number }
  /** In lower case. */
  | { readonly kind: 'name'; readonly name: string }
  /** Every name that ends in a dot and this, in lower case. */
  | { readonly kind: 'domain'; readonly domain: string };

/** The first list, EXCEPT the second, EXCEPT the third, and so on. None is empty. */
export interface AccessList {
  readonly lists: readonly (readonly AccessPattern[])[];
}

export interface AccessClient {
  readonly address: IpAddress;
  /** Names that lead back to the address: in lower case, without the trailing dot. */
  readonly names?: readonly string[];
}

export type AccessMatcher = (client: AccessClient) => boolean;

const MAX_PATTERNS = 10_000;
const MAX_NAME_LENGTH = 253;
const FULL_LENGTH = { 4: 32, 6: 128 } as const;

/** Words of hosts_access(5) that are not taken, and why. */
const REFUSED: readonly (readonly [word: RegExp, reason: string])[] = [
  [/^(KNOWN|UNKNOWN|PARANOID)$/i, 'it is about how a look-up went; name the hosts, or list the addresses'],
  [/^@/, 'natward reads no netgroups; list the addresses'],
  [/@/, 'natward asks no client for its user; leave out what is before the @'],
  [/%/, "a zone is not the client's; leave it out"],
  [/^\//, 'natward reads no pattern files; list the patterns'],
  [/[*?]/, 'natward has no * and ?; write a network, or a domain like .example.org'],
];

/** Throws USAGE and names the word that is off. */
export function parseAccessList(text: string): AccessList {
  const lists: AccessPattern[][] = [[]];
  let count = 0;
  for (const [word] of text.matchAll(/[^\s,]+/g)) {
    const current = lists.at(-1) as AccessPattern[];
    if (/^EXCEPT$/i.test(word)) {
      if (current.length === 0) throw usage('a client list has EXCEPT with nothing before it');
      lists.push([]);
      continue;
    }
    count++;
    if (count > MAX_PATTERNS) throw usage(`a client list has more than ${MAX_PATTERNS} patterns`);
    current.push(parsePattern(word));
  }
  if (count === 0) throw usage('a client list is empty; write ALL for everybody');
  if (lists.at(-1)?.length === 0) throw usage('a client list ends in EXCEPT; say whom to except');
  return { lists };
}

/** Reads back as an equal list. */
export function formatAccessList(list: AccessList): string {
  return list.lists.map((patterns) => patterns.map(formatPattern).join(',')).join(' EXCEPT ');
}

/** Reports whether the answer may depend on the client's names, so that they are worth a look. */
export function needsNames(list: AccessList): boolean {
  return list.lists.some(
    (patterns) =>
      !patterns.some(({ kind }) => kind === 'all') &&
      patterns.some(({ kind }) => kind === 'local' || kind === 'name' || kind === 'domain'),
  );
}

/** For one question. Who asks more often compiles the list. */
export function matchesAccess(list: AccessList, client: AccessClient): boolean {
  return verdict(list.lists, (patterns) => patterns.some((pattern) => matchesPattern(pattern, client)));
}

/** The same answers, without going through the list for each. */
export function compileAccess(list: AccessList): AccessMatcher {
  const matchers = list.lists.map(compilePatterns);
  return (client) => verdict(matchers, (matches) => matches(client));
}

/** Where the run of lists that have the client ends: in the first only, it is in; in the second as well, out. */
function verdict<T>(lists: readonly T[], has: (list: T) => boolean): boolean {
  const without = lists.findIndex((list) => !has(list));
  return (without < 0 ? lists.length : without) % 2 === 1;
}

function parsePattern(word: string): AccessPattern {
  if (/^ALL$/i.test(word)) return { kind: 'all' };
  if (/^LOCAL$/i.test(word)) return { kind: 'local' };
  const refused = REFUSED.find(([shape]) => shape.test(word));
  if (refused !== undefined) throw usage(`${quoted(word)} cannot be in a client list: ${refused[1]}`);
  if (isHostName(word)) return { kind: 'name', name: word.toLowerCase() };
  if (word.startsWith('.') && isHostName(word.slice(1))) {
    return { kind: 'domain', domain: word.slice(1).toLowerCase() };
  }
  return parseFieldPrefix(word) ?? parseNetwork(word);
}

/** Not what could be an address with a slip: the last label of a name has a letter (RFC 3696, section 2). */
function isHostName(name: string): boolean {
  return name.length <= MAX_NAME_LENGTH && /^([\w-]{1,63}\.)*(?=[\d-]*[A-Za-z_])[\w-]{1,63}$/.test(name);
}

/** `131.155.`: the first fields of an IPv4 address. */
function parseFieldPrefix(word: string): AccessPattern | undefined {
  if (!/^(\d+\.){1,3}$/.test(word)) return undefined;
  const fields = word.split('.').length - 1;
  const address = parseAddress(word + Array.from({ length: 4 - fields }, () => '0').join('.'));
  return address === undefined ? undefined : { kind: 'network', address, prefixLength: fields * 8 };
}

/** An address, bracketed or not, and what may follow it: `/24`, `/255.255.255.0`. */
function parseNetwork(word: string): AccessPattern {
  const [, inBrackets, bare, mask] = /^(?:\[([^\]]*)\]|([^/[\]]*))(?:\/(.*))?$/.exec(word) ?? [];
  const addressText = inBrackets ?? bare ?? '';
  const address = parseAddress(addressText);
  if (address === undefined) {
    const what = 'neither an address, a network, a host name nor a .domain';
    throw usage(`${quoted(word)} cannot be in a client list: it is ${what}`);
  }
  const bits = FULL_LENGTH[family(address)];
  const colons = addressText.includes(':');
  // `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
  const mappedBits = colons && bits === FULL_LENGTH[4] ? 96 : 0;
  const prefixLength = mask === undefined ? bits : prefixLengthOf(mask, { dotted: !colons }) - mappedBits;
  if (!(prefixLength >= 0 && prefixLength <= bits)) {
    throw usage(`${quoted(word)} cannot be in a client list: "/${shortened(mask ?? '')}" is no mask of it`);
  }
  const network = cutAt(address, prefixLength);
  if (network !== address) {
    const meant = formatNetwork(network, prefixLength);
    throw usage(`${quoted(word)} cannot be in a client list: it has bits below its mask; write ${meant}`);
  }
  return { kind: 'network', address, prefixLength };
}

/** NaN where the text is no length, and no mask in one piece. */
function prefixLengthOf(mask: string, { dotted }: { dotted: boolean }): number {
  if (/^\d{1,3}$/.test(mask)) return Number(mask);
  const readable = dotted && ipaddr.IPv4.isValidFourPartDecimal(mask);
  return (readable ? ipaddr.IPv4.parse(mask).prefixLengthFromSubnetMask() : null) ?? Number.NaN;
}

function cutAt(address: IpAddress, prefixLength: number): IpAddress {
  const cidr = `${address}/${prefixLength}`;
  const { IPv4, IPv6 } = ipaddr;
  return (
    family(address) === 4 ? IPv4.networkAddressFromCIDR(cidr) : IPv6.networkAddressFromCIDR(cidr)
  ).toString();
}

function formatPattern(pattern: AccessPattern): string {
  switch (pattern.kind) {
    case 'all':
      return 'ALL';
    case 'local':
      return 'LOCAL';
    case 'name':
      return pattern.name;
    case 'domain':
      return `.${pattern.domain}`;
    case 'network':
      return formatNetwork(pattern.address, pattern.prefixLength);
  }
}

function formatNetwork(address: IpAddress, prefixLength: number): string {
  return prefixLength === FULL_LENGTH[family(address)] ? address : `${address}/${prefixLength}`;
}

function matchesPattern(pattern: AccessPattern, { address, names = [] }: AccessClient): boolean {
  switch (pattern.kind) {
    case 'all':
      return true;
    case 'local':
      return isLocal({ address, names });
    case 'name':
      return names.includes(pattern.name);
    case 'domain':
      return names.some((name) => name.endsWith(`.${pattern.domain}`));
    case 'network':
      return sameNetwork(address, pattern.address, pattern.prefixLength);
  }
}

function isLocal({ address, names = [] }: AccessClient): boolean {
  return kindOf(address) === 'loopback' || names.some((name) => !name.includes('.'));
}

function compilePatterns(patterns: readonly AccessPattern[]): AccessMatcher {
  if (patterns.some(({ kind }) => kind === 'all')) return () => true;
  const local = patterns.some(({ kind }) => kind === 'local');
  const names = new Set(patterns.flatMap((pattern) => (pattern.kind === 'name' ? [pattern.name] : [])));
  const domains = new Set(patterns.flatMap((pattern) => (pattern.kind === 'domain' ? [pattern.domain] : [])));
  const ranges = { 4: rangesOf(patterns, 4), 6: rangesOf(patterns, 6) };
  return (client) =>
    isInRanges(ranges[family(client.address)], numberOf(client.address)) ||
    (local && isLocal(client)) ||
    (client.names ?? []).some(
      (name) =>
        names.has(name) || (domains.size > 0 && domainsOf(name).some((domain) => domains.has(domain))),
    );
}

/** `b.c` and `c` of `a.b.c`. */
function domainsOf(name: string): string[] {
  return [...name.matchAll(/\./g)].map(({ index }) => name.slice(index + 1));
}

export interface AddressRange {
  readonly first: bigint;
  readonly last: bigint;
}

/** In order, none overlapping another. */
function rangesOf(patterns: readonly AccessPattern[], of: Family): AddressRange[] {
  const ranges = patterns.flatMap((pattern): AddressRange[] => {
    if (pattern.kind !== 'network' || family(pattern.address) !== of) return [];
    const first = numberOf(pattern.address);
    return [{ first, last: first + (1n << BigInt(FULL_LENGTH[of] - pattern.prefixLength)) - 1n }];
  });
  ranges.sort((a, b) => Number(a.first - b.first) || Number(b.last - a.last));
  // Networks lie within each other or apart: one that is not within the last kept is apart from all.
  const kept: AddressRange[] = [];
  for (const range of ranges) {
    const before = kept.at(-1);
    if (before === undefined || range.first > before.last) kept.push(range);
  }
  return kept;
}

function isInRanges(ranges: readonly AddressRange[], value: bigint): boolean {
  let [low, high] = [0, ranges.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((ranges[middle] as AddressRange).first <= value) low = middle + 1;
    else high = middle;
  }
  const candidate = ranges[low - 1];
  return candidate !== undefined && value <= candidate.last;
}

export function numberOf(address: IpAddress): bigint {
  return BigInt(`0x${Buffer.from(addressBytes(address)).toString('hex')}`);
}

function quoted(word: string): string {
  return `"${shortened(word)}"`;
}

/** Long enough for any address or what people call a host. */
function shortened(word: string): string {
  return word.length > 80 ? `${word.slice(0, 80)}...` : word;
}

function usage(what: string): NatwardError {
  return new NatwardError('USAGE', what);
}
