/** The agent that runs on this machine, for the commands that have nothing to do without it. */

import { connectAgent } from '../control/client.ts';
import type { AgentClient } from '../control/protocol.ts';
import { NatwardError } from '../errors.ts';

/** Throws FAILED where none runs. */
export async function runningAgent(): Promise<AgentClient> {
  const agent = await connectAgent();
  if (agent !== undefined) return agent;
  throw new NatwardError('FAILED', 'no agent runs here', {
    advice: 'Start one: natward agent, or natward service install.',
  });
}
