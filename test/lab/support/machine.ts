/**
 * A machine that systemd runs, on the network of the lab: systemd itself is process 1 of a process namespace, on an
 * overlay of this machine's files, so that what it writes is gone with it. It has the units named here and no other.
 */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Lab } from './lab.ts';
import { LabProcess, type Result } from './processes.ts';

const UNITS = [
  ['basic.target', 'sysinit.target', 'multi-user.target', 'network-online.target', 'shutdown.target'],
  ['systemd-journald.service', 'systemd-journald.socket', 'systemd-journald-dev-log.socket'],
].flat();

// $1 directory, $2 the program's directory, then the units. In a mount namespace of its own. The first part makes a
// cgroup, by whose namespace the second sees nothing of the rest.
const CAGE = `
  mkdir "$1/cgroup" && mount -t cgroup2 none "$1/cgroup" && mkdir "$1/cgroup/\${1##*/}" || exit
  echo $$ >"$1/cgroup/\${1##*/}/cgroup.procs" || exit
  exec unshare --kill-child=KILL --pid --fork --ipc --uts --cgroup bash -c "$0" boot "$@"
`;
const BOOT = `
  set -e
  directory=$1 program=$2; shift 2
  umount "$directory/cgroup"
  mount -t tmpfs tmpfs "$directory"
  mkdir "$directory/upper" "$directory/work" "$directory/root"
  mount -t overlay overlay -o "lowerdir=/,upperdir=$directory/upper,workdir=$directory/work" "$directory/root"
  cd "$directory/root"
  mount -t proc proc proc
  mount -t sysfs sysfs sys
  mount -t cgroup2 none sys/fs/cgroup
  mount -t tmpfs -o mode=755 tmpfs run
  mount -t tmpfs -o mode=1777 tmpfs tmp
  mount --rbind /dev dev
  rm -rf etc/systemd/system var/log/journal
  mkdir -p etc/systemd/system opt/natward run/lock
  cp -r "$program/." opt/natward/
  for unit; do cp "lib/systemd/system/$unit" etc/systemd/system/; done
  mkdir etc/systemd/system/multi-user.target.d
  printf '[Unit]\\nWants=systemd-journald.service\\n' >etc/systemd/system/multi-user.target.d/lab.conf
  mkdir old
  pivot_root . old
  exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_UNIT_PATH=/etc/systemd/system \\
    /lib/systemd/systemd --system --unit=multi-user.target --show-status=no
`;
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
const BOOT_SECONDS = 20;

export class Machine implements AsyncDisposable {
  readonly #directory: string;
  readonly #cage: LabProcess;
  #init = 0;

  private constructor(directory: string, cage: LabProcess) {
    this.#directory = directory;
    this.#cage = cage;
  }

  /** `program` is a directory, which the machine has as /opt/natward. Resolves when systemd has started all. */
  static async boot(lab: Lab, program: string): Promise<Machine> {
    const directory = mkdtempSync(join(tmpdir(), 'natward-machine-'));
    const script = ['bash', '-c', CAGE, BOOT, directory, program, ...UNITS];
    const cage = lab.spawn('lan', ['unshare', '--mount', ...script]);
    const machine = new Machine(directory, cage);
    try {
      await machine.#booted();
      return machine;
    } catch (error) {
      await machine[Symbol.asyncDispose]();
      throw error;
    }
  }

  async #booted(): Promise<void> {
    const wait = `for try in $(seq ${BOOT_SECONDS * 10}); do
      child=$(cat /proc/$1/task/$1/children) && [ -n "$child" ] || { sleep 0.1; continue; }
      [ "$(cat /proc/\${child% }/comm)" = systemd ] && [ -S /proc/\${child% }/root/run/systemd/private ] &&
        echo $child && exit
      sleep 0.1
    done; exit 1`;
    const { code, stdout } = await new LabProcess(['bash', '-c', wait, 'wait', String(this.#cage.pid)])
      .exited;
    if (code !== 0) throw new Error(`the machine did not start: ${this.#cage.output}`);
    this.#init = Number(stdout);
    const { stdout: state } = await this.exec(['systemctl', 'is-system-running', '--wait']);
    if (state.trim() !== 'running') {
      const { stdout: failed } = await this.exec(['systemctl', '--failed', '--no-pager']);
      throw new Error(`the machine is ${state}${failed}`);
    }
  }

  /** Runs a program on it, as root. */
  exec(command: readonly string[]): Promise<Result> {
    const into = ['nsenter', '--target', String(this.#init), '--all', '--root', '--wd'];
    return new LabProcess([...into, 'env', '-i', `PATH=${PATH}`, 'HOME=/root', ...command]).exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Its child, process 1, goes with it, and all others with that.
    await this.#cage.stop('SIGKILL');
    const name = this.#directory.slice(this.#directory.lastIndexOf('/') + 1);
    const clear = `mount -t cgroup2 none "$1" && cd "$1" && [ -d "$2" ] || exit 0
      for try in $(seq 50); do find "$2" -depth -type d -exec rmdir {} + 2>/dev/null && exit; sleep 0.1; done`;
    await new LabProcess(['unshare', '--mount', 'bash', '-c', clear, 'clear', this.#directory, name]).exited;
    rmSync(this.#directory, { recursive: true, force: true });
  }
}
