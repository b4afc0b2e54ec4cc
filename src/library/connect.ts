/** The way to the natward agent that runs on this host. */

import { NatwardError } from '../errors.ts';
import { Agent, type AgentOptions } from './agent.ts';
import { AgentHolder } from './agent-holder.ts';

/**
 * An agent that hands leases and rules to the natward agent that runs on this host: they outlive this process until they
 * are released, and several apps share one conversation with the gateway. `directory`, `engine`, `ports` and `timeoutMs`
 * then concern only what this process asks by itself (`map`, `gateways`, ...). Throws FAILED where no agent runs, or where
 * this user may not ask it.
 */
export async function connect(options: AgentOptions = {}): Promise<Agent> {
  const { connectAgent } = await import('../control/client.ts');
  const client = await connectAgent(undefined, { keepsAlive: false });
  if (client === undefined) {
    throw new NatwardError('FAILED', 'no natward agent runs on this host', {
      advice:
        'Start one (natward agent, or natward service install), or keep leases in this process: new Agent().',
    });
  }
  return new Agent(options, (own) => new AgentHolder(client, own));
}
