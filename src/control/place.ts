/** Where an agent remembers, and where its control socket is: for those who open it and those who look for it. */

import { createHash } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { isAbsolute, join, resolve } from 'node:path';

/** The socket of the agent that runs as the system's service, as systemd places it (RuntimeDirectory=natward). */
const SERVICE_PLACE = '/run/natward/control.sock';
/** Where that agent remembers (StateDirectory=natward). */
export const SERVICE_STATE = '/var/lib/natward';
const NAME = 'control.sock';
const CONFIG_NAME = 'config.toml';

/** NATWARD_HOME, a service's own directory as systemd names it, or the platform's place. */
export async function stateDirectory(): Promise<string> {
  const home = ofEnvironment('NATWARD_HOME') ?? firstOf('STATE_DIRECTORY');
  if (home !== undefined) return home;
  const { default: envPaths } = await import('env-paths');
  return envPaths('natward', { suffix: '' }).data;
}

/** Where its configuration file is: likewise. */
export async function configFile(): Promise<string> {
  const directory = ofEnvironment('NATWARD_HOME') ?? firstOf('CONFIGURATION_DIRECTORY');
  if (directory !== undefined) return join(resolve(directory), CONFIG_NAME);
  const { default: envPaths } = await import('env-paths');
  return join(envPaths('natward', { suffix: '' }).config, CONFIG_NAME);
}

/**
 * Where an agent of this user opens its socket (the first), and where it may have opened it under another
 * environment: a login has a runtime directory, cron has none.
 */
export async function ownPlaces(): Promise<readonly [string, ...string[]]> {
  const state = resolve(await stateDirectory());
  if (process.platform === 'win32') return [pipeOf(state)];
  const home = ofEnvironment('NATWARD_HOME');
  if (home !== undefined) return [join(resolve(home), NAME)];
  const places = [firstOf('RUNTIME_DIRECTORY'), userRuntime(), state].flatMap((directory) =>
    directory === undefined ? [] : [join(directory, NAME)],
  );
  return [...new Set(places)] as [string, ...string[]];
}

/** Where to look for an agent, in this order. NATWARD_HOME means its own agent and no other. */
export async function clientPlaces(): Promise<readonly string[]> {
  const own = await ownPlaces();
  const alone = process.platform === 'win32' || ofEnvironment('NATWARD_HOME') !== undefined;
  return alone ? own : [...new Set([...own, SERVICE_PLACE])];
}

/** Of the state directory, so that each user and each NATWARD_HOME has its own. */
function pipeOf(directory: string): string {
  const hash = createHash('sha256').update(directory.toLowerCase()).digest('hex');
  return `\\\\.\\pipe\\natward-${hash.slice(0, 16)}`;
}

/** Set by a login, or known by its place; undefined where there is none, or where it is somebody else's (su). */
function userRuntime(): string | undefined {
  const user = process.getuid?.();
  const runtime = ofEnvironment('XDG_RUNTIME_DIR') ?? `/run/user/${user}`;
  if (!isAbsolute(runtime) || !existsSync(runtime)) return undefined;
  return statSync(runtime).uid === user ? join(runtime, 'natward') : undefined;
}

function ofEnvironment(name: string): string | undefined {
  return process.env[name] || undefined;
}

/** systemd puts colons between several. */
function firstOf(name: string): string | undefined {
  return ofEnvironment(name)?.split(':', 1)[0];
}
