/**
 * What `natward mac` does: shows the adapters, gives one another address, and gives the original back. The original
 * is remembered before the first change and forgotten when the adapter has it again.
 */

import { NatwardError } from '../errors.ts';
import { isLocallyAdministered, type MacAddress, whyNotAnAdapters } from '../net/mac-address.ts';
import { changeAddress } from '../system/adapter-address.ts';
import { type Adapter, readAdapters } from '../system/adapters.ts';
import { randomOf } from '../system/random.ts';
import type { System } from '../system/system.ts';
import { AdapterBook, type AdapterEntry } from './adapter-book.ts';
import { loadVendors, randomAddress, type Vendors } from './vendors.ts';

export interface KnownAddress {
  readonly address: MacAddress;
  /** Null where its prefix is nobody's. */
  readonly vendor: string | null;
  readonly locallyAdministered: boolean;
}

export interface AdapterReport {
  readonly adapter: string;
  readonly current: KnownAddress;
  /** Of the hardware: null where it is the current one, or the system does not tell. */
  readonly permanent: KnownAddress | null;
  /** What it had before natward changed it; null where natward has not. */
  readonly original: KnownAddress | null;
}

export interface AddressChange {
  readonly adapter: string;
  readonly before: KnownAddress;
  readonly current: KnownAddress;
  readonly original: KnownAddress | null;
  /** What its owner should know of the way there. */
  readonly notes: readonly string[];
}

type Ethernet = Adapter & { readonly address: MacAddress };

export class Adapters {
  readonly #system: Pick<System, 'runProgram' | 'fillRandom'>;
  readonly #book: AdapterBook;
  readonly #platform: NodeJS.Platform;

  /** `directory` is where natward remembers; `warn` hears of a broken file there. */
  constructor(
    system: Pick<System, 'runProgram' | 'fillRandom'>,
    directory: string,
    warn: (error: NatwardError) => void,
    platform: NodeJS.Platform = process.platform,
  ) {
    this.#system = system;
    this.#book = new AdapterBook(directory, warn);
    this.#platform = platform;
  }

  /** Those that have a MAC address of their own; the loopback has none. */
  async list(): Promise<readonly AdapterReport[]> {
    const [adapters, vendors] = await Promise.all([this.#read(), loadVendors()]);
    return adapters.filter(isEthernet).map((adapter) => this.#report(adapter, vendors));
  }

  /** Throws NOT_FOUND or UNSUPPORTED, as the methods below do. */
  async show(name: string): Promise<AdapterReport> {
    return this.#report(await this.#find(name), await loadVendors());
  }

  /** Throws USAGE where no adapter may have the address, and what changeAddress rejects with. */
  async set(name: string, address: MacAddress): Promise<AddressChange> {
    const why = whyNotAnAdapters(address);
    if (why !== undefined) {
      const advice = 'An address of your own begins with 02, and is used by nobody else on the network.';
      throw new NatwardError('USAGE', `${address} is ${why}: no adapter may have it`, { advice });
    }
    return this.#change(await this.#find(name), address);
  }

  /**
   * An address with the prefix of a real vendor: the one that `vendorName` means, else the one whose prefix the adapter
   * has now or had, else any. Throws NOT_FOUND where no vendor is called so.
   */
  async randomize(name: string, vendorName?: string): Promise<AddressChange> {
    const [adapter, vendors] = await Promise.all([this.#find(name), loadVendors()]);
    const entry = this.#entryOf(adapter);
    const prefixes =
      vendorName === undefined
        ? prefixesLike(vendors, [adapter.address, entry?.original, adapter.permanentAddress])
        : prefixesNamed(vendors, vendorName);
    for (;;) {
      const prefix = prefixes[Math.floor(randomOf(this.#system) * prefixes.length)] as string;
      const address = randomAddress(prefix, this.#system.fillRandom);
      const had = address === adapter.address || address === entry?.original;
      if (!had && whyNotAnAdapters(address) === undefined) return this.#change(adapter, address);
    }
  }

  /** Gives the original back. Throws NOT_FOUND where none is remembered. */
  async restore(name: string): Promise<AddressChange> {
    const adapter = await this.#find(name);
    const entry = this.#entryOf(adapter);
    if (entry !== undefined) return this.#change(adapter, entry.original);
    const other = this.#book.load(name);
    throw other === undefined ? nothingRemembered(adapter) : anotherAdapter(adapter, other);
  }

  async #change(adapter: Ethernet, address: MacAddress): Promise<AddressChange> {
    const { name } = adapter;
    const before = this.#book.load(name);
    const entry = this.#entryOf(adapter);
    const original = entry?.original ?? adapter.address;
    const notes: string[] = [];
    if (before !== undefined && entry === undefined && address !== adapter.address) {
      notes.push(
        `what was remembered was of another adapter called ${name}, and is forgotten: ${before.original}`,
      );
    }
    if (address !== adapter.address) {
      // Before the change: what happens in between must not lose the original.
      await this.#book.save(name, { original, hardware: hardwareOf(adapter, entry), given: address });
      try {
        notes.push(...(await changeAddress(this.#system.runProgram, name, address)));
      } catch (error) {
        await this.#putBack(adapter, before);
        throw error;
      }
    }
    const isRestored = address === original;
    if (isRestored && (entry !== undefined || address !== adapter.address)) this.#book.forget(name);
    const vendors = await loadVendors();
    return {
      adapter: name,
      before: known(adapter.address, vendors),
      current: known(address, vendors),
      original: isRestored ? null : known(original, vendors),
      notes,
    };
  }

  /** After a change that failed, unless it has left another address behind. */
  async #putBack({ name, address }: Ethernet, entry: AdapterEntry | undefined): Promise<void> {
    const now = (await this.#read()).find((adapter) => adapter.name === name);
    if (now?.address !== address) return;
    if (entry === undefined) this.#book.forget(name);
    else await this.#book.save(name, entry);
  }

  /** What is remembered of this adapter, not of another one that had its name. */
  #entryOf(adapter: Ethernet): AdapterEntry | undefined {
    const entry = this.#book.load(adapter.name);
    return entry !== undefined && isOf(entry, adapter) ? entry : undefined;
  }

  #report(adapter: Ethernet, vendors: Vendors): AdapterReport {
    const original = this.#entryOf(adapter)?.original;
    const { name, address, permanentAddress } = adapter;
    return {
      adapter: name,
      current: known(address, vendors),
      permanent: permanentAddress === undefined ? null : known(permanentAddress, vendors),
      original: original === undefined ? null : known(original, vendors),
    };
  }

  #read(): Promise<readonly Adapter[]> {
    return readAdapters(this.#system.runProgram, this.#platform);
  }

  async #find(name: string): Promise<Ethernet> {
    const adapters = await this.#read();
    const found = adapters.find((adapter) => adapter.name === name);
    if (found === undefined) throw noSuchAdapter(name, adapters.filter(isEthernet));
    if (isEthernet(found)) return found;
    const what = `${name} has no MAC address that could be changed: it is of type ${found.type}`;
    throw new NatwardError('UNSUPPORTED', what, { advice: 'natward mac shows those that have one.' });
  }
}

function isEthernet(adapter: Adapter): adapter is Ethernet {
  return adapter.address !== undefined;
}

function known(address: MacAddress, vendors: Vendors): KnownAddress {
  return {
    address,
    vendor: vendors.of(address) ?? null,
    locallyAdministered: isLocallyAdministered(address),
  };
}

/**
 * The system tells the permanent address of real hardware whenever it is not the current one, so that this is one that
 * never changes. Of a virtual adapter it is the current address when natward first saw it.
 */
function hardwareOf(adapter: Ethernet, entry: AdapterEntry | undefined): MacAddress {
  return adapter.permanentAddress ?? entry?.hardware ?? adapter.address;
}

/** Names move: another USB adapter is `wlan1` today. */
function isOf(entry: AdapterEntry, { address, permanentAddress }: Ethernet): boolean {
  if (permanentAddress !== undefined) return permanentAddress === entry.hardware;
  return [entry.hardware, entry.original, entry.given].includes(address);
}

function prefixesLike(vendors: Vendors, addresses: readonly (MacAddress | undefined)[]): readonly string[] {
  for (const address of addresses) {
    const vendor = address === undefined ? undefined : vendors.of(address);
    const prefixes = vendor === undefined ? [] : vendors.prefixes((name) => name === vendor);
    if (prefixes.length > 0) return prefixes;
  }
  return vendors.prefixes();
}

function prefixesNamed(vendors: Vendors, text: string): readonly string[] {
  const names = vendors.named(text);
  const prefixes = vendors.prefixes((name) => names.has(name));
  if (prefixes.length > 0) return prefixes;
  const like = vendors.like(text);
  const advice =
    like.length > 0
      ? `Perhaps one of these: ${like.join('; ')}.`
      : 'Any words that its name begins with do: intel, "tp-link", "hewlett packard".';
  throw new NatwardError('NOT_FOUND', `no vendor on the IEEE's list has a name with "${text}"`, { advice });
}

function noSuchAdapter(name: string, adapters: readonly Adapter[]): NatwardError {
  const names = adapters.map((adapter) => adapter.name).join(', ');
  const advice = names === '' ? 'There is none with a MAC address.' : `There are: ${names}.`;
  return new NatwardError('NOT_FOUND', `there is no network adapter called ${name}`, { advice });
}

function nothingRemembered({ name, permanentAddress }: Ethernet): NatwardError {
  const what = `natward remembers no original address of ${name}: it has not changed it, or has restored it`;
  if (permanentAddress === undefined) return new NatwardError('NOT_FOUND', what);
  const advice = `Its permanent address is ${permanentAddress}: natward mac ${name} --set ${permanentAddress}`;
  return new NatwardError('NOT_FOUND', what, { advice });
}

function anotherAdapter({ name, address }: Ethernet, { original }: AdapterEntry): NatwardError {
  return new NatwardError(
    'NOT_FOUND',
    `the original address that natward remembers, ${original}, seems to be of another adapter that was called ${name}: this one has ${address}, which natward did not give it`,
    { advice: `If it is the same one: natward mac ${name} --set ${original}` },
  );
}
