/** natward's agent in the router, as a user starts it, with either engine. */

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { LabProcess } from '../../test/lab/support/processes.ts';
import { NATWARD as PROGRAM } from '../peers.ts';
import { type Network, ROUTER, SERVER } from '../relay/network.ts';
import { type Forward, lines, single } from '../relay/programs.ts';
import { answerOf, carried, type Question } from './control.ts';
import type { KernelProgram, Table } from './programs.ts';

type Engine = 'nftables' | 'relay';

const READY_LIMIT_MS = 120_000;
const APPLY_LIMIT_MS = 120_000;

export interface Agent {
  readonly process: LabProcess;
  readonly socket: string;
  readonly env: Readonly<Record<string, string>>;
  readonly startedAtMs: number;
}

/** Starts an agent, whose configuration is these lines; it remembers what the one before was told. */
export function startAgent(network: Network, engine: Engine, configuration: string): Agent {
  const home = join(network.directory, 'natward');
  mkdirSync(home, { mode: 0o700, recursive: true });
  const file = join(network.directory, 'config.toml');
  writeFileSync(file, configuration);
  const env = { NATWARD_HOME: home };
  const startedAtMs = performance.now();
  const process = network.start('router', command('agent', '--engine', engine, '--config', file), { env });
  return { process, socket: join(home, 'control.sock'), env, startedAtMs };
}

/** Resolves when the control API shows that many rules carried, all by this engine. */
export async function ready({ process, socket }: Agent, engine: Engine, rules: number): Promise<void> {
  const giveUpAtMs = performance.now() + READY_LIMIT_MS;
  for (;;) {
    const askedAtMs = performance.now();
    const state = await carried(socket).catch((error: Error) => error.message);
    if (typeof state !== 'string') {
      const others = state.engines.filter((name) => name !== engine);
      if (others.length > 0) throw new Error(`${others.join(', ')} carries rules, not ${engine}`);
      if (state.rules === rules && state.waiting === undefined) return;
    }
    if (!process.running || performance.now() > giveUpAtMs) {
      const seen = typeof state === 'string' ? state : `${state.rules} rules, ${state.waiting}`;
      throw new Error(`the agent does not carry ${rules} rules: ${seen}: ${process.output.trim()}`);
    }
    // A listing of many rules is work: the agent has at least half of the time for its own.
    await delay(Math.max(20, performance.now() - askedAtMs));
  }
}

function command(...args: string[]): string[] {
  return [globalThis.process.execPath, PROGRAM, ...args];
}

const line = ({ protocol }: Forward, port: string | number, serverPort: number, clauses: string): string =>
  `in ${protocol} ${ROUTER}:${port} -> ${SERVER}:${serverPort}${clauses}`;

function tomlRules(forward: Forward, clauses: string = ''): string {
  return lines(forward, (port) => `[[rule]]\nrule = "${line(forward, port, forward.serverPort, clauses)}"\n`);
}

export function documents(forward: Forward, clauses: string = ''): { rule: string }[] {
  return Array.from({ length: forward.ports }, (_, at) => ({
    rule: line(forward, forward.port + at, forward.serverPort, clauses),
  }));
}

/** All rules that there are to be: more than a configuration file may hold. Milliseconds. */
export async function replace({ socket }: Agent, rules: readonly { rule: string }[]): Promise<number> {
  const edit = { kind: 'replace', rules };
  return (await answerOf(socket, { method: 'POST', path: '/v1/rules', body: { edit } })).ms;
}

function natward(name: string, engine: Engine, clauses: string): KernelProgram {
  return {
    name,
    protocols: ['tcp', 'udp'],
    many: ['rules'],
    commandLine: `natward agent --engine ${engine} --config FILE | ${tomlRules(
      single('tcp', 7000, 5000),
      clauses,
    )
      .trim()
      .replace('\n', ' | ')}`,
    async start(network, forward) {
      const one = forward.ports === 1;
      const agent = startAgent(network, engine, one ? tomlRules(forward, clauses) : '');
      const told = one
        ? ready(agent, engine, 1)
        : ready(agent, engine, 0)
            .then(() => replace(agent, documents(forward, clauses)))
            .then(() => ready(agent, engine, forward.ports));
      return { host: ROUTER, port: forward.port, process: agent.process, toldAtMs: agent.startedAtMs, told };
    },
    // Thousands of rules are the kernel's.
    ...(engine === 'relay' ? {} : { open: (network: Network) => open(network, engine, clauses) }),
  };
}

async function open(network: Network, engine: Engine, clauses: string): Promise<Table> {
  const agent = startAgent(network, engine, '');
  await ready(agent, engine, 0);
  const ask = async (question: Question): Promise<number> => (await answerOf(agent.socket, question)).ms;
  const change = (edit: object): Promise<number> =>
    ask({ method: 'POST', path: '/v1/rules', body: { edit } });
  const list = (): Promise<number> => ask({ method: 'GET', path: '/v1/rules' });
  return {
    async apply(forward) {
      const file = join(network.directory, 'rules.toml');
      writeFileSync(file, tomlRules(forward, clauses));
      const startedMs = performance.now();
      const { code, stderr } = await network.run('router', command('apply', file), APPLY_LIMIT_MS, {
        env: agent.env,
      });
      const ms = performance.now() - startedMs;
      if (code !== 0) throw new Error(`natward apply: exit ${code}: ${stderr.slice(0, 400)}`);
      await ready(agent, engine, forward.ports);
      return ms;
    },
    async ask(forward) {
      await replace(agent, []);
      return await replace(agent, documents(forward, clauses));
    },
    edit: (forward, at, serverPort) =>
      change({
        kind: 'edit',
        name: String(at + 1),
        rule: line(forward, forward.port + at, serverPort, clauses),
      }),
    read: list,
    async readIdle() {
      const { ids } = await carried(agent.socket);
      await change({ kind: 'disable', names: ids });
      const ms = await list();
      await change({ kind: 'enable', names: ids });
      return ms;
    },
  };
}

export const NATWARD_KERNEL: KernelProgram = natward('natward-kernel', 'nftables', '');
/** The target sees the client: no source address is changed. */
export const NATWARD_KERNEL_CLIENT: KernelProgram = natward(
  'natward-kernel, as client',
  'nftables',
  ' as client',
);
export const NATWARD_RELAY: KernelProgram = natward('natward-relay', 'relay', ' per-client 100000');
