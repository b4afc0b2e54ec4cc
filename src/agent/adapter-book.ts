/**
 * The original MAC addresses of adapters that natward changed, on disk: `adapters/NAME.json`. A file for each, so that
 * two processes that change two adapters at once do not write over each other.
 */

import { mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import * as v from 'valibot';
import { isNatwardError, NatwardError } from '../errors.ts';
import { type MacAddress, parseMacAddress } from '../net/mac-address.ts';
import { loadConf } from './conf-file.ts';
import { freeName } from './file-store.ts';

export interface AdapterEntry {
  /** What it had before natward first changed it. */
  readonly original: MacAddress;
  /** By which a real adapter is told from another that has its name: the permanent address where there is one. */
  readonly hardware: MacAddress;
  /** What natward gave it last. */
  readonly given: MacAddress;
}

const VERSION = 1;

const address = v.pipe(
  v.string(),
  v.check((text) => parseMacAddress(text) === text, 'not a MAC address'),
);
const entrySchema = v.object({
  version: v.literal(VERSION),
  original: address,
  hardware: address,
  given: address,
});

export class AdapterBook {
  readonly #directory: string;
  readonly #warn: (error: NatwardError) => void;

  /** `directory` is natward's own, which need not exist yet. `warn` hears of broken files, which are set aside. */
  constructor(directory: string, warn: (error: NatwardError) => void) {
    this.#directory = join(directory, 'adapters');
    this.#warn = warn;
  }

  /** `name` as the system has it: a file name without a slash, so far as Linux goes. */
  #file(name: string): string {
    return join(this.#directory, `${name}.json`);
  }

  load(name: string): AdapterEntry | undefined {
    const file = this.#file(name);
    let text: string;
    try {
      text = readFileSync(file, 'utf8');
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new NatwardError('FAILED', `cannot read ${file}: ${(cause as Error).message}`, { cause });
    }
    try {
      const document: unknown = JSON.parse(text);
      refuseNewer(file, document);
      const { original, hardware, given } = v.parse(entrySchema, document);
      return { original, hardware, given };
    } catch (cause) {
      if (isNatwardError(cause)) throw cause;
      const aside = setAside(file);
      const what = `${file} is broken and was set aside as ${aside}: ${(cause as Error).message}`;
      const advice = `What it remembers is the original address of ${name}.`;
      this.#warn(new NatwardError('FAILED', what, { cause, advice }));
      return undefined;
    }
  }

  async save(name: string, entry: AdapterEntry): Promise<void> {
    try {
      mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
      const Conf = await loadConf();
      const conf = new Conf<Record<string, unknown>>({
        cwd: this.#directory,
        configName: name,
        configFileMode: 0o600,
        serialize: (value) => `${JSON.stringify(value, null, 2)}\n`,
      });
      conf.store = { version: VERSION, ...entry };
    } catch (cause) {
      throw cannotWrite(this.#file(name), cause, 'The address was not changed: its original would be lost.');
    }
  }

  forget(name: string): void {
    try {
      rmSync(this.#file(name), { force: true });
    } catch (cause) {
      throw cannotWrite(this.#file(name), cause, 'Remove it: what it remembers is no longer so.');
    }
  }
}

function cannotWrite(file: string, cause: unknown, advice: string): NatwardError {
  return new NatwardError('FAILED', `cannot write ${file}: ${(cause as Error).message}`, { cause, advice });
}

function refuseNewer(file: string, document: unknown): void {
  const found = v.safeParse(v.object({ version: v.number() }), document);
  if (!found.success || found.output.version <= VERSION) return;
  const { version } = found.output;
  throw new NatwardError(
    'FAILED',
    `cannot read ${file}: it is of version ${version}, and this natward knows up to ${VERSION}`,
    { advice: 'A newer natward wrote it: run that one.' },
  );
}

function setAside(file: string): string {
  const aside = freeName(`${file}.broken`);
  try {
    renameSync(file, aside);
  } catch (cause) {
    const what = `${file} is broken, and cannot be set aside: ${(cause as Error).message}`;
    throw new NatwardError('FAILED', what, { cause, advice: 'Move it away, or make it writable.' });
  }
  return aside;
}
