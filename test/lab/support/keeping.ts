/** natward while it keeps leases: started in a place, its events read, and what it restores timed. */

import { setTimeout as delay } from 'node:timers/promises';
import type { AgentEvent } from '../../../src/control/protocol.ts';
import type { HostOptions, Lab, NatRule, NatwardOptions } from './lab.ts';
import type { LabProcess, Result } from './processes.ts';
import { freshHome, rule } from './suite.ts';

/** Bounds correctness, not speed: how long something took is printed. */
const PATIENCE_MS = 30_000;
const POLL_MS = 20;

/**
 * A gateway that lived shorter may start again unseen: RFC 6886, section 3.6, forgives its clock two seconds and an
 * eighth of the time since the last check (ten seconds, and a tenth), and it tells whole seconds. natward's first look
 * at a new gateway, which comes early, is then over as well.
 */
const SETTLED_MS = 5_000;

/** What is hoped for where the gateway announces itself, and where it says nothing. */
const GOAL_MS = { announced: 2_000, silent: 15_000 } as const;

/** A `natward keep` or `natward agent` that tells what happens as JSON. */
export class Keeping {
  readonly process: LabProcess;

  constructor(process: LabProcess) {
    this.process = process;
  }

  get events(): readonly AgentEvent[] {
    const lines = this.process.stdout.split('\n').slice(0, -1);
    return lines.map((line): AgentEvent => JSON.parse(line));
  }

  /** How much has been told by now: `event` can look at what comes after. */
  get told(): number {
    return this.events.length;
  }

  /** Those of one type, after so many of any type. */
  eventsOf<Type extends AgentEvent['type']>(
    type: Type,
    after: number = 0,
  ): readonly (AgentEvent & { readonly type: Type })[] {
    const isIt = (event: AgentEvent): event is AgentEvent & { readonly type: Type } => event.type === type;
    return this.events.slice(after).filter(isIt);
  }

  /** The first of them; rejects where none comes. */
  async event<Type extends AgentEvent['type']>(
    type: Type,
    after: number = 0,
  ): Promise<AgentEvent & { readonly type: Type }> {
    await until(`an event of type ${type}`, async () => {
      const found = this.eventsOf(type, after).length > 0;
      if (!found && !this.process.running) throw new Error(`ended:\n${this.process.output}`);
      return found;
    }).catch((error: Error) => {
      throw new Error(`${error.message}\n${this.process.output}`);
    });
    return this.eventsOf(type, after)[0] as AgentEvent & { readonly type: Type };
  }

  /** As the person at the terminal ends it. */
  async end(signal: NodeJS.Signals = 'SIGINT'): Promise<Result> {
    this.process.signal(signal);
    return this.process.exited;
  }
}

/** Starts a keep in a terminal, with a memory of its own unless one is named. */
export function startKeep(lab: Lab, args: readonly string[], options?: NatwardOptions): Keeping {
  return new Keeping(lab.spawnNatward(['keep', ...args, '--json'], options ?? freshHome()));
}

/** Resolves when a restart of the gateway would show. */
export function settled(): Promise<void> {
  return delay(SETTLED_MS);
}

/** Polls until `done`; rejects when it takes longer than anybody would wait. */
export async function until(
  what: string,
  done: () => Promise<boolean>,
  limitMs: number = PATIENCE_MS,
): Promise<void> {
  const endMs = Date.now() + limitMs;
  while (!(await done())) {
    if (Date.now() > endMs) throw new Error(`not within ${limitMs} ms: ${what}`);
    await delay(POLL_MS);
  }
}

/** Resolves when the gateway's kernel has these redirects and no others. */
export async function untilRules(
  lab: Lab,
  wanted: readonly NatRule[],
  options: HostOptions & { readonly limitMs?: number } = {},
): Promise<void> {
  const { limitMs, ...where } = options;
  let rules: readonly NatRule[] = [];
  const same = async () => {
    rules = await lab.natRules(where);
    return JSON.stringify(rules) === JSON.stringify(wanted);
  };
  await until('the redirects that are wanted', same, limitMs).catch((error: Error) => {
    throw new Error(`${error.message}\nwanted ${JSON.stringify(wanted)}\nthere is ${JSON.stringify(rules)}`);
  });
}

/** Begins to measure how long it takes until something is as it should be; what was measured is printed. */
export function stopwatch(scenario: string, goal: keyof typeof GOAL_MS): (what: string) => void {
  const startMs = performance.now();
  return (what) => {
    const tookMs = performance.now() - startMs;
    const verdict = tookMs <= GOAL_MS[goal] ? '' : ` MISSED ${GOAL_MS[goal] / 1000} s`;
    console.log(`restored after ${(tookMs / 1000).toFixed(2)} s: ${scenario}, ${what}${verdict}`);
  };
}

/** Waits until the gateway's kernel has each of these, by its name, and tells the watch of each. */
export async function untilEach(
  lab: Lab,
  wanted: Readonly<Record<string, NatRule>>,
  watch: (what: string) => void,
  where: HostOptions = {},
): Promise<void> {
  const missing = new Map(Object.entries(wanted).map(([name, one]) => [name, JSON.stringify(one)]));
  const look = async () => {
    const rules = new Set((await lab.natRules(where)).map((one) => JSON.stringify(one)));
    for (const [name, one] of missing) {
      if (!rules.has(one)) continue;
      watch(name);
      missing.delete(name);
    }
    return missing.size === 0;
  };
  await until('each of the redirects', look).catch((error: Error) => {
    throw new Error(`${error.message}: missing ${[...missing.keys()].join(', ')}`);
  });
}

/** Ways to keep: over each protocol by name, and over whatever answers first. */
export const WAYS = ['pcp', 'natpmp', 'upnp', 'any'] as const;
export type Way = (typeof WAYS)[number];

/** A port for each way, so that keeps can stand side by side; the one after it is free, where a gateway looks next. */
export const PORT_OF: Readonly<Record<Way, number>> = { pcp: 8100, natpmp: 8200, upnp: 8300, any: 8400 };

export const RULE_OF: Readonly<Record<Way, NatRule>> = {
  pcp: rule('tcp', PORT_OF.pcp),
  natpmp: rule('tcp', PORT_OF.natpmp),
  upnp: rule('tcp', PORT_OF.upnp),
  any: rule('tcp', PORT_OF.any),
};

export function keepArguments(way: Way): string[] {
  return way === 'any' ? [String(PORT_OF.any)] : [String(PORT_OF[way]), '--via', way];
}

/** Starts an agent that tells what happens as JSON; resolves when it answers on its socket. */
export async function startAgent(
  lab: Lab,
  options: NatwardOptions,
  args: readonly string[] = [],
): Promise<Keeping> {
  const agent = new Keeping(lab.spawnNatward(['agent', ...args, '--json'], options));
  const { mountsOf = options.first === undefined ? undefined : agent.process } = options;
  const { first: _, ...client } = { ...options, ...(mountsOf && { mountsOf }) };
  await until('the agent answers', async () => {
    if (!agent.process.running) throw new Error(`the agent ended:\n${agent.process.output}`);
    return (await lab.natward(['status', '--json'], client)).code === 0;
  });
  return agent;
}
