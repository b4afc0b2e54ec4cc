/**
 * Whose prefix a MAC address has, by the IEEE's three lists (MA-L, MA-M, MA-S), and which prefixes a vendor has. The
 * lists are 5 MB: only who asks for a vendor loads them (docs/decisions/0013-mac-addresses.md).
 */

import { isLocallyAdministered, type MacAddress, whyNotAnAdapters } from '../net/mac-address.ts';

/** Hex digits of a prefix: the smallest block decides whose it is. */
const PREFIX_LENGTHS = [9, 7, 6] as const;
const ADDRESS_LENGTH = 12;

/** Holders who are no vendors: unnamed ones, and the one who divides a block among others. */
const NOBODY = new Set(['Private', 'IEEE Registration Authority']);
/** Its prefix is that of VRRP and of multicast: a router may have the address. */
const PROTOCOLS = 'ICANN, IANA Department';

export class Vendors {
  readonly #names: ReadonlyMap<string, string>;

  /** The first line of what the list says of a prefix is the name; a postal address follows. */
  constructor(list: Readonly<Record<string, string>>) {
    const named = Object.entries(list).map(
      ([prefix, text]) => [prefix, text.split('\n', 1)[0] ?? ''] as const,
    );
    this.#names = new Map(named);
  }

  /** Undefined where nobody has it, or does not say so. */
  of(address: MacAddress): string | undefined {
    const digits = digitsOf(address);
    for (const length of PREFIX_LENGTHS) {
      const name = this.#names.get(digits.slice(0, length));
      if (name !== undefined) return NOBODY.has(name) ? undefined : name;
    }
    return undefined;
  }

  /** Prefixes, in hex digits, from which an adapter may get an address: those of one vendor, or of all. */
  prefixes(isWanted: (vendor: string) => boolean = () => true): readonly string[] {
    const found: string[] = [];
    for (const [prefix, name] of this.#names) {
      if (!NOBODY.has(name) && name !== PROTOCOLS && isWanted(name) && isForAdapters(prefix))
        found.push(prefix);
    }
    return found;
  }

  /**
   * The vendors that somebody means by `text`: those whose name begins with these words (`intel`: Intel Corporate and
   * Intel Corporation), else those that have them inside. Case and punctuation do not matter.
   */
  named(text: string): ReadonlySet<string> {
    const wanted = wordsOf(text);
    if (wanted.trim() === '') return new Set();
    const inside = [...new Set(this.#names.values())].filter((name) => wordsOf(name).includes(wanted));
    const first = inside.filter((name) => wordsOf(name).startsWith(wanted));
    return new Set(first.length > 0 ? first : inside);
  }

  /** Names that are written like `text`, a few, for whoever mistyped. */
  like(text: string): readonly string[] {
    const wanted = lettersOf(text);
    if (wanted === '') return [];
    const names = new Set(this.#names.values());
    return [...names].filter((name) => lettersOf(name).includes(wanted)).slice(0, 5);
  }
}

let loaded: Promise<Vendors> | undefined;

export function loadVendors(): Promise<Vendors> {
  loaded ??= import('oui-data', { with: { type: 'json' } }).then(({ default: list }) => new Vendors(list));
  return loaded;
}

/** An address with this prefix, of which nobody can guess the rest. `fill` as System's fillRandom. */
export function randomAddress(prefix: string, fill: (bytes: Uint8Array<ArrayBuffer>) => void): MacAddress {
  const bytes = new Uint8Array(ADDRESS_LENGTH / 2);
  fill(bytes);
  const digits = prefix + Buffer.from(bytes).toString('hex').slice(prefix.length);
  return digits.toLowerCase().replace(/(..)(?!$)/g, '$1:');
}

/** A few prefixes of the 1980s have the bit of addresses that software makes up. */
function isForAdapters(prefix: string): boolean {
  const address = prefix.slice(0, 2);
  return whyNotAnAdapters(address) === undefined && !isLocallyAdministered(address);
}

function digitsOf(address: MacAddress): string {
  return address.replaceAll(':', '').toUpperCase();
}

/** `TP-LINK TECHNOLOGIES CO.,LTD.` is ` tp link technologies co ltd `. */
function wordsOf(text: string): string {
  return ` ${text
    .toLowerCase()
    .replace(/[^\p{L}\p{N}]+/gu, ' ')
    .trim()} `;
}

function lettersOf(text: string): string {
  return wordsOf(text).replaceAll(' ', '');
}
