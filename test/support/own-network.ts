/**
 * A network namespace of its own, with nothing in it but the loopback interface: for what loads rules into a kernel.
 * A running process cannot go there; it is started there, and the namespace goes with it.
 */

import { spawnSync } from 'node:child_process';
import { readlinkSync } from 'node:fs';

/** The command that runs `command` in one, under the pid that is started. */
export function inOwnNetwork(command: readonly string[]): [string, ...string[]] {
  return ['unshare', '--net', '--', 'sh', '-c', 'ip link set lo up && exec "$0" "$@"', ...command];
}

/** Why none can be had here; undefined where it can. */
export function ownNetworkUnavailable(): string | undefined {
  const [program, ...args] = inOwnNetwork(['nft', 'list', 'ruleset']);
  const { status } = spawnSync(program, args, { stdio: 'ignore' });
  return status === 0 ? undefined : 'it takes root on Linux, and nft: npm run lab:install';
}

/** Whether this process has another one than the process that started it. */
export function isInOwnNetwork(): boolean {
  const [own, parents] = [process.pid, process.ppid].map(networkOf);
  return own !== undefined && parents !== undefined && own !== parents;
}

function networkOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return undefined;
  }
}
