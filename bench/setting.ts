/** What every benchmark needs around its measurements: numbers from its options, what it ran on, and a clean end. */

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { fileURLToPath } from 'node:url';
import { type ParseArgsConfig, parseArgs } from 'node:util';
import { createLab, type Lab, labUnavailable } from '../test/lab/support/lab.ts';
import type { NetworkOptions } from '../test/lab/support/namespaces.ts';
import { NATWARD, NATWARD_LIBRARY } from './peers.ts';

const HERE = fileURLToPath(new URL('.', import.meta.url));

/** An option's default: a number from 1 up, a text, or texts, one for each time that it is given. */
type Default = number | string | readonly string[];

export type Options<Defaults> = {
  readonly [Name in keyof Defaults]: Defaults[Name] extends number
    ? number
    : Defaults[Name] extends string
      ? string
      : readonly string[];
} & { readonly json: string | undefined };

/** What was chosen of these, and of `--json FILE`. undefined: help was asked for, and printed. Throws for what is not there. */
export function optionsOf<const Defaults extends Readonly<Record<string, Default>>>(
  args: readonly string[],
  usage: string,
  defaults: Defaults,
): Options<Defaults> | undefined {
  const names = Object.keys(defaults);
  const options: NonNullable<ParseArgsConfig['options']> = Object.fromEntries(
    names.map((name) => [name, { type: 'string', multiple: Array.isArray(defaults[name]) }] as const),
  );
  options['json'] = { type: 'string' };
  options['help'] = { type: 'boolean', short: 'h' };
  const { values } = parseArgs({ args: [...args], options });
  if (values['help'] === true) {
    console.log(usage);
    return undefined;
  }
  const read = names.map((name) => {
    const text = values[name];
    const isNumber = typeof defaults[name] === 'number';
    return [
      name,
      isNumber && text !== undefined ? count(`--${name}`, String(text)) : (text ?? defaults[name]),
    ];
  });
  return { ...Object.fromEntries(read), json: values['json'] } as Options<Defaults>;
}

/** A number of an option. Throws where it is none from 1 up. */
export function count(option: string, text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1)
    throw new Error(`${option} ${text}: a number from 1 up is wanted`);
  return value;
}

/** The parts that `names` choose, in that order. Throws for one that is not there. */
export function chosen<Part>(
  option: string,
  names: readonly string[],
  parts: ReadonlyMap<string, Part>,
): Part[] {
  return names.map((name) => {
    const part = parts.get(name);
    if (part === undefined) throw new Error(`${option} ${name}: there is ${[...parts.keys()].join(', ')}`);
    return part;
  });
}

/** Throws where the built program is not there. */
export function checkBuilt(): void {
  for (const file of [NATWARD, NATWARD_LIBRARY]) {
    if (!existsSync(file)) throw new Error(`${file} is not there: npm run build`);
  }
}

/** Runs `measure` in a lab, which goes on Ctrl-C as well. Throws where no lab can be. */
export async function inLab<T>(measure: (lab: Lab) => Promise<T>, options: NetworkOptions = {}): Promise<T> {
  const missing = labUnavailable();
  if (missing !== undefined) throw new Error(missing);
  const lab = await createLab(options);
  const release = releaseOnSignal(lab);
  try {
    return await measure(lab);
  } finally {
    release();
    await lab[Symbol.asyncDispose]();
  }
}

/** On Ctrl-C the lab goes first; the answer takes the handler away. */
function releaseOnSignal(lab: Lab): () => void {
  const stop = () => {
    // What is being measured breaks off, and need not be told.
    process.on('uncaughtException', () => {});
    void lab[Symbol.asyncDispose]().finally(() => process.exit(130));
  };
  process.once('SIGINT', stop).once('SIGTERM', stop);
  return () => process.off('SIGINT', stop).off('SIGTERM', stop);
}

/** The peers that are no devDependencies of the project have a tree of their own. */
export function installPeers(): void {
  if (existsSync(`${HERE}node_modules`)) return;
  console.error('bench: installing the peers');
  execFileSync('npm', ['ci', '--prefix', HERE, '--no-audit', '--no-fund'], { stdio: ['ignore', 2, 2] });
}

/** This program, and the machine. */
export function ownConditions(): string {
  const [cpu] = cpus();
  return `natward ${versionAt('..')}, Node ${process.version}, ${cpus().length} x ${cpu?.model ?? 'unknown processor'}, load ${loadavg()[0]?.toFixed(1)}`;
}

/** Debian's packages and npm's, with their versions. */
export function peerConditions(debian: readonly string[], npm: readonly string[]): string {
  const packages = npm.map((name) => `${name} ${npmVersion(name)}`);
  return `${debian.map((name) => `${name} ${debianVersion(name)}`).join(', ')}; ${packages.join(', ')}`;
}

function npmVersion(name: string): string {
  const place = ['../node_modules', 'node_modules'].find((folder) => existsSync(`${HERE}${folder}/${name}`));
  return versionAt(`${place ?? 'node_modules'}/${name}`);
}

function versionAt(path: string): string {
  const manifest: { version?: string } = JSON.parse(readFileSync(`${HERE}${path}/package.json`, 'utf8'));
  return manifest.version ?? '?';
}

function debianVersion(name: string): string {
  return spawnSync('dpkg-query', ['-W', '-f', '${Version}', name], { encoding: 'utf8' }).stdout || '?';
}

/** `--json FILE`: every sample. What took longer than was waited for is null. */
export function writeJson(file: string | undefined, document: object): void {
  if (file !== undefined) writeFileSync(file, `${JSON.stringify(document, undefined, 2)}\n`);
}
