/**
 * Installs the agent as a service of this machine or of this user, takes it away again, and tells how it does: by
 * systemctl and journalctl on Linux, by launchctl on macOS.
 */

import {
  existsSync,
  mkdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { constants, homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { NatwardError } from '../../errors.ts';
import type { RunProgram } from '../../system/program.ts';
import { AGENT_LABEL, launchdPlist } from './launchd.ts';
import { MARK, systemdUnit, UNIT_NAME } from './systemd.ts';

export type Scope = 'system' | 'user';

export interface ServiceHost {
  readonly platform: NodeJS.Platform;
  readonly scope: Scope;
  /** Absolute paths: the interpreter, then the program. */
  readonly command: readonly [string, string];
  readonly run: RunProgram;
  /** Where the system's units are; a test has its own. */
  readonly systemUnits: string;
  readonly home: string;
  readonly user: number;
  /** systemd is what runs this machine. */
  readonly isBooted: boolean;
}

export interface ServiceStatus {
  readonly state: 'not-installed' | 'running' | 'starting' | 'stopped' | 'failed';
  readonly enabled: boolean;
  readonly pid: number | null;
  /** As the service manager words it. */
  readonly detail: string;
  readonly file: string;
}

type Command = readonly [string, ...string[]];

const TIME_LIMIT_MS = 60_000;
const OUTPUT_BYTES = 2 ** 20;
const NO_BUS =
  'A user’s services run where he has logged in himself: by su and sudo he has not. Or install it for the machine, as root.';
const NOT_HERE = 'Run natward agent by another service manager, or in a terminal.';

/** This machine, for whoever runs this program. Root's service is the machine's, unless `user` is asked for. */
export function serviceHost(run: RunProgram, wanted: { readonly user: boolean }): ServiceHost {
  const user = process.getuid?.() ?? -1;
  return {
    platform: process.platform,
    scope: user === 0 && !wanted.user ? 'system' : 'user',
    // npm's link to the program may lie in another directory, which the service does not see.
    command: [process.execPath, realpathSync(process.argv[1] ?? '.')],
    run,
    systemUnits: '/etc/systemd/system',
    home: homedir(),
    user,
    isBooted: existsSync('/run/systemd/system'),
  };
}

/** For who only looks: the machine's service, where he has none of his own and the machine has one. */
export function lookedAt(host: ServiceHost): ServiceHost {
  if (host.platform !== 'linux' || !host.isBooted || existsSync(fileOf(host))) return host;
  const machine: ServiceHost = { ...host, scope: 'system' };
  return existsSync(fileOf(machine)) ? machine : host;
}

/** Writes the file and starts the service. Resolves with what to know about it. Throws FAILED, USAGE or UNSUPPORTED. */
export async function installService(host: ServiceHost): Promise<{ file: string; notes: readonly string[] }> {
  const file = fileOf(host);
  if (existsSync(file) && !isOurs(file)) {
    throw new NatwardError('FAILED', `${file} was not written by natward, and is left as it is`, {
      advice: 'Move it away, and install again.',
    });
  }
  if (/[\\/]_npx[\\/]/.test(host.command[1])) {
    throw new NatwardError('USAGE', `${host.command[1]} is in the cache of npx, and will be gone one day`, {
      advice: 'Install natward first: npm install --global natward.',
    });
  }
  const before = existsSync(file) ? readFileSync(file, 'utf8') : undefined;
  if (host.platform === 'darwin') {
    const logFile = logFileOf(host);
    mkdirSync(dirname(logFile), { recursive: true });
    write(file, launchdPlist({ command: host.command, logFile }));
    const start = async () => {
      // What ran before runs by the old file.
      await quietly(host, ['launchctl', 'bootout', `${domainOf(host)}/${AGENT_LABEL}`]);
      await must(host, ['launchctl', 'bootstrap', domainOf(host), file]);
    };
    await orAsBefore(file, before, start, async () => rmSync(file, { force: true }));
    return { file, notes: [`it writes to ${logFile}`] };
  }
  write(file, systemdUnit({ command: host.command, scope: host.scope }));
  const start = async () => {
    await systemctl(host, 'daemon-reload');
    await systemctl(host, 'enable', UNIT_NAME);
    await must(host, systemctlOf(host, 'restart', UNIT_NAME), `To see why: ${journalOf(host).join(' ')}`);
  };
  await orAsBefore(file, before, start, async () => {
    // Otherwise systemd goes on trying, by what it has read, and finds a link to nothing at the next boot.
    await quietly(host, systemctlOf(host, 'disable', '--now', UNIT_NAME));
    rmSync(file, { force: true });
    await quietly(host, systemctlOf(host, 'daemon-reload'));
    await quietly(host, systemctlOf(host, 'reset-failed', UNIT_NAME));
  });
  const linger = 'it ends when you log out, unless: loginctl enable-linger';
  return { file, notes: host.scope === 'user' ? [linger] : [] };
}

/** Stops the service and removes its file. Throws NOT_FOUND where none is installed. */
export async function uninstallService(host: ServiceHost): Promise<{ file: string }> {
  const file = fileOf(host);
  if (!existsSync(file)) throw new NatwardError('NOT_FOUND', `no service is installed: there is no ${file}`);
  if (!isOurs(file)) {
    throw new NatwardError('NOT_OWN', `${file} was not written by natward, and is left as it is`);
  }
  if (host.platform === 'darwin') {
    await quietly(host, ['launchctl', 'bootout', `${domainOf(host)}/${AGENT_LABEL}`]);
    rmSync(file);
    return { file };
  }
  await systemctl(host, 'disable', '--now', UNIT_NAME);
  rmSync(file);
  await systemctl(host, 'daemon-reload');
  return { file };
}

export async function serviceStatus(host: ServiceHost): Promise<ServiceStatus> {
  const file = fileOf(host);
  if (!existsSync(file)) {
    return { state: 'not-installed', enabled: false, pid: null, detail: 'not installed', file };
  }
  if (host.platform === 'darwin') {
    const { exitCode, stdout } = await host.run(
      programOf(['launchctl', 'print', `${domainOf(host)}/${AGENT_LABEL}`]),
    );
    const pid = Number(/^\s*pid = (\d+)/m.exec(stdout)?.[1] ?? 0);
    const state = exitCode !== 0 || pid === 0 ? 'stopped' : 'running';
    return { state, enabled: exitCode === 0, pid: pid || null, detail: state, file };
  }
  const text = await systemctl(
    host,
    'show',
    UNIT_NAME,
    '--property=ActiveState,SubState,MainPID,UnitFileState,StatusText',
  );
  const facts = new Map(text.split('\n').map((line) => line.split(/=(.*)/s, 2) as [string, string]));
  const active = facts.get('ActiveState') ?? 'unknown';
  const pid = Number(facts.get('MainPID') ?? 0);
  return {
    state: STATES[active] ?? 'stopped',
    enabled: facts.get('UnitFileState') === 'enabled',
    pid: pid || null,
    detail: [`${active} (${facts.get('SubState')})`, facts.get('StatusText')].filter(Boolean).join(': '),
    file,
  };
}

const STATES: Readonly<Record<string, ServiceStatus['state']>> = {
  active: 'running',
  reloading: 'running',
  activating: 'starting',
  deactivating: 'stopped',
  inactive: 'stopped',
  failed: 'failed',
};

/** The program that shows what the service has said, for the terminal to run. Throws NOT_FOUND, UNSUPPORTED. */
export function logCommand(
  host: ServiceHost,
  { lines, follow }: { readonly lines: number; readonly follow: boolean },
): readonly [string, ...string[]] {
  if (!existsSync(fileOf(host)))
    throw new NatwardError('NOT_FOUND', 'no service is installed', { advice: 'natward service install' });
  const count = ['-n', String(lines)];
  if (host.platform === 'darwin') return ['tail', ...count, ...(follow ? ['-F'] : []), logFileOf(host)];
  return [...journalOf(host), '--no-pager', ...count, ...(follow ? ['--follow'] : [])];
}

/** In `--user` journalctl reads a user's own files only, which there are none of where the journal is kept in memory. */
function journalOf({ scope }: ServiceHost): Command {
  return ['journalctl', scope === 'user' ? '--user-unit' : '--unit', UNIT_NAME];
}

function fileOf({ platform, scope, systemUnits, home, isBooted }: ServiceHost): string {
  if (platform === 'darwin') {
    if (scope === 'user') return join(home, 'Library', 'LaunchAgents', `${AGENT_LABEL}.plist`);
    throw new NatwardError('UNSUPPORTED', 'on macOS the service is a user’s', {
      advice: 'Run it as that user: natward service install --user.',
    });
  }
  if (platform !== 'linux') {
    throw new NatwardError('UNSUPPORTED', `natward knows no service manager of ${platform}`, {
      advice: NOT_HERE,
    });
  }
  if (!isBooted) {
    throw new NatwardError('UNSUPPORTED', 'this machine is not run by systemd', { advice: NOT_HERE });
  }
  return scope === 'system'
    ? join(systemUnits, UNIT_NAME)
    : join(home, '.config', 'systemd', 'user', UNIT_NAME);
}

function logFileOf({ home }: ServiceHost): string {
  return join(home, 'Library', 'Logs', 'natward.log');
}

function domainOf({ user }: ServiceHost): string {
  return `gui/${user}`;
}

function isOurs(file: string): boolean {
  return readFileSync(file, 'utf8').slice(0, 1024).includes(MARK.replace('# ', ''));
}

/** Whole, or not at all. */
function write(file: string, text: string): void {
  try {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(`${file}.new`, text, { mode: 0o644 });
    renameSync(`${file}.new`, file);
  } catch (cause) {
    throw new NatwardError('FAILED', `cannot write ${file}: ${(cause as Error).message}`, { cause });
  }
}

/** A service that cannot be started is not left half installed: the one before runs again, or there is none. */
async function orAsBefore(
  file: string,
  before: string | undefined,
  start: () => Promise<unknown>,
  takeAway: () => Promise<unknown>,
): Promise<void> {
  try {
    await start();
  } catch (error) {
    try {
      if (before === undefined) await takeAway();
      else {
        write(file, before);
        await start();
      }
    } catch {
      // Why the new one does not start is what the person has to know.
    }
    throw error;
  }
}

function systemctl(host: ServiceHost, ...words: readonly string[]): Promise<string> {
  return must(host, systemctlOf(host, ...words));
}

function systemctlOf({ scope }: ServiceHost, ...words: readonly string[]): Command {
  return ['systemctl', ...(scope === 'user' ? ['--user'] : []), ...words];
}

/** Whether it can be done or not: it is clearing up. */
async function quietly({ run }: ServiceHost, command: Command): Promise<void> {
  await run(programOf(command)).catch(() => undefined);
}

async function must(host: ServiceHost, command: Command, advice?: string): Promise<string> {
  const { exitCode, stdout, stderr, cut } = await host.run(programOf(command));
  if (exitCode === 0) return stdout;
  const said =
    cut === 'time' ? 'it took too long' : stderr.trim().split('\n')[0] || `it ended with ${exitCode}`;
  const next = host.scope === 'user' && / to bus\b/.test(said) ? NO_BUS : advice;
  throw new NatwardError(
    'FAILED',
    `${command.join(' ')}: ${said}`,
    next === undefined ? {} : { advice: next },
  );
}

function programOf(command: Command): Parameters<RunProgram>[0] {
  return { command, timeLimitMs: TIME_LIMIT_MS, keptBytes: OUTPUT_BYTES, floodBytes: 4 * OUTPUT_BYTES };
}

/** Runs a program on this terminal, as a shell would, and resolves with its exit code. */
export async function runInTerminal([program, ...words]: readonly [string, ...string[]]): Promise<number> {
  const { spawn } = await import('node:child_process');
  const child = spawn(program, words, { stdio: 'inherit' });
  // Ctrl-C the terminal sends to both.
  const end = () => void child.kill('SIGTERM');
  process.on('SIGTERM', end);
  try {
    return await new Promise((resolve, reject) => {
      child.on('error', (cause) =>
        reject(new NatwardError('FAILED', `cannot run ${program}: ${cause.message}`, { cause })),
      );
      child.on('exit', (code, signal) => resolve(code ?? 128 + (signal ? constants.signals[signal] : 0)));
    });
  } finally {
    process.off('SIGTERM', end);
  }
}
