/**
 * The ways in which a drop-in asks, in order: over one protocol, or over whatever answers first (undefined). There is an
 * Agent for each, made when it is wanted; where one way fails the next is tried, and what worked is tried first from
 * then on.
 */

import { isNatwardError, NatwardError } from '../errors.ts';
import { Agent, type AgentOptions } from '../library/agent.ts';
import type { MappingProtocol } from '../net/protocol.ts';

export type Way = MappingProtocol | undefined;

/** Another protocol of the same gateway would meet the same. */
const FINAL = ['USAGE', 'ABORTED', 'NO_ROUTE', 'FAILED', 'CONFLICT', 'NOT_FOUND', 'NOT_OWN'] as const;

export class Ways implements AsyncDisposable {
  readonly #options: AgentOptions;
  readonly #agents = new Map<Way, Agent>();
  #order: readonly Way[];

  constructor(ways: readonly Way[], options: AgentOptions) {
    this.#options = options;
    this.#order = ways;
  }

  /** What the first way that works answers. Rejects with the last way's error. */
  async first<Result>(ask: (agent: Agent) => Promise<Result>): Promise<Result> {
    let last = new NatwardError('UNSUPPORTED', 'every protocol is switched off', {
      advice: 'Enable UPnP or NAT-PMP.',
    });
    for (const way of this.#order) {
      try {
        const result = await ask(this.#agent(way));
        this.#order = [way, ...this.#order.filter((other) => other !== way)];
        return result;
      } catch (error) {
        if (!isNatwardError(error) || isNatwardError(error, ...FINAL)) throw error;
        last = error;
      }
    }
    throw last;
  }

  #agent(way: Way): Agent {
    let agent = this.#agents.get(way);
    if (agent === undefined) {
      agent = new Agent({ ...this.#options, ...(way !== undefined && { via: way }) });
      this.#agents.set(way, agent);
    }
    return agent;
  }

  /** Releases every lease that was kept. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#agents.values()].map((agent) => agent[Symbol.asyncDispose]()));
  }
}
