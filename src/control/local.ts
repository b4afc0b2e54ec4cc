/** An agent inside the caller's own process: what a one-shot command runs on. */

import { Agent } from '../agent/agent.ts';
import { realSystem, type System } from '../system/system.ts';

/**
 * Starts one that remembers under NATWARD_HOME or, where that is not set, under the platform's own place.
 * Nothing runs until it is asked for something, so there is nothing to stop.
 */
export async function localAgent(system: System = realSystem): Promise<Agent> {
  return new Agent(system, await stateDirectory());
}

async function stateDirectory(): Promise<string> {
  const home = process.env['NATWARD_HOME'];
  if (home !== undefined && home !== '') return home;
  const { default: envPaths } = await import('env-paths');
  return envPaths('natward', { suffix: '' }).data;
}
