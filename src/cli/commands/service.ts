/** `natward service`: the agent, run at boot. */

import {
  installService,
  logCommand,
  lookedAt,
  runInTerminal,
  serviceHost,
  serviceStatus,
  uninstallService,
} from '../../control/service/service.ts';
import { realSystem } from '../../system/system.ts';
import { EXIT } from '../exit.ts';
import { print, printJson } from '../output.ts';

export interface ServiceFlags {
  readonly user?: true;
  readonly json?: true;
  readonly lines?: number;
  readonly follow?: true;
}

export async function install({ user }: ServiceFlags): Promise<void> {
  const { file, notes } = await installService(hostOf(user));
  print(`installed and started by ${file}`);
  for (const note of notes) print(`note: ${note}`);
}

export async function uninstall({ user }: ServiceFlags): Promise<void> {
  const { file } = await uninstallService(hostOf(user));
  print(`stopped, and removed ${file}`);
}

export async function status({ user, json }: ServiceFlags): Promise<void> {
  const found = await serviceStatus(hostToShow(user));
  if (json) printJson(found);
  else {
    print(`${found.state}: ${found.detail}`);
    if (found.pid !== null) print(`pid ${found.pid}`);
    if (found.state !== 'not-installed') {
      print(`${found.enabled ? 'starts' : 'does not start'} at boot, by ${found.file}`);
    }
  }
  process.exitCode = found.state === 'running' ? EXIT.done : EXIT.failed;
}

export async function logs({ user, lines = 100, follow }: ServiceFlags): Promise<void> {
  process.exitCode = await runInTerminal(logCommand(hostToShow(user), { lines, follow: follow === true }));
}

function hostOf(user: true | undefined): ReturnType<typeof serviceHost> {
  return serviceHost(realSystem.runProgram, { user: user === true });
}

function hostToShow(user: true | undefined): ReturnType<typeof serviceHost> {
  return user ? hostOf(user) : lookedAt(hostOf(user));
}
