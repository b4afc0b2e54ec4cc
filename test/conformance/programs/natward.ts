/** natward, by each of its engines: an agent with a home of its own, told its rules by `natward apply`. */

import { spawn } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { untilListening } from '../listening.ts';
import type { Endpoint, Forwarder, ForwardRule, Program } from '../program.ts';
import { ProgramProcess, usageOf } from './process.ts';

const PROGRAM = fileURLToPath(new URL('../../../dist/bin/natward.cjs', import.meta.url));
const READY_LIMIT_MS = 15_000;

export const natward: Program = {
  name: 'natward',
  file: PROGRAM,
  lacks: { 'ICMP errors': 'no relay without raw sockets can send ICMP' },
  setting: 'the relay, defaults',
  start: (rules, directory) => start('relay', rules, directory),
};

export const natwardKernel: Program = {
  name: 'natward-kernel',
  file: PROGRAM,
  lacks: {
    'connect timeout': 'the kernel does not connect: the client does, to the target',
    'idle TCP closed': 'the kernel forgets an idle conversation and tells neither side',
  },
  setting: 'the nftables engine, defaults; all in a network namespace of its own',
  isAlone: true,
  start: (rules, directory) => start('nftables', rules, directory),
};

async function start(
  engine: 'relay' | 'nftables',
  rules: readonly ForwardRule[],
  directory: string,
): Promise<Forwarder> {
  const file = join(directory, 'rules.toml');
  const env = { NATWARD_HOME: join(directory, 'home') };
  const running = new ProgramProcess([process.execPath, PROGRAM, 'agent', '--engine', engine], env);
  let current: readonly ForwardRule[] = [];
  const reload = async (next: readonly ForwardRule[]): Promise<void> => {
    await writeFile(file, next.map((rule) => `[[rule]]\nrule = ${JSON.stringify(line(rule))}\n`).join('\n'));
    const { code, output } = await run(['apply', file], env);
    if (code !== 0) throw new Error(`natward apply: exit ${code}: ${output}`);
    // What the kernel carries has no listener: it is carried once `apply` has ended.
    if (engine === 'relay') await untilListening(next, current);
    current = next;
  };
  try {
    await running.said('listens on', 1, READY_LIMIT_MS);
    await running.meanwhile(reload(rules));
  } catch (error) {
    running.kill();
    throw error;
  }
  return {
    pid: running.pid,
    usage: () => usageOf([running.pid]),
    reload: (next) => running.meanwhile(reload(next)),
    stop: ({ drain }) => running.stop('SIGTERM', drain ? 60_000 : 5000),
    kill: () => running.kill(),
  };
}

function line({ protocol, listen, target, allow, idleMs, connectTimeoutMs }: ForwardRule): string {
  return [
    `in ${protocol} ${text(listen)} -> ${text(target)}`,
    ...(allow === undefined ? [] : [`allow ${allow.join(',')}`]),
    ...(idleMs === undefined ? [] : [`idle ${idleMs / 1000}s`]),
    ...(connectTimeoutMs === undefined ? [] : [`connect ${connectTimeoutMs / 1000}s`]),
  ].join(' ');
}

function text({ address, port }: Endpoint): string {
  return `${address}:${port}`;
}

function run(
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<{ readonly code: number | null; readonly output: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [PROGRAM, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding('utf8').on('data', (said: string) => {
        output += said;
      });
    }
    child.once('error', reject).once('close', (code) => resolve({ code, output: output.trim() }));
  });
}
