/** The agent of a scene asked without a program in between, which takes a millisecond. */

import { join } from 'node:path';
import { type AgentClient, connectAgent } from '../../../../src/control/client.ts';
import type { Activity, RuleStatus } from '../../../../src/control/protocol.ts';
import type { RuleLine, Scene } from './topology.ts';

const HOME = 'asked';

export class AskedAgent {
  readonly client: AgentClient;

  private constructor(client: AgentClient) {
    this.client = client;
  }

  /** Starts the scene's agent, in place of the one before. */
  static async start(scene: Scene): Promise<AskedAgent> {
    await scene.startAgent({ home: HOME });
    const client = await connectAgent([join(scene.directory, HOME, 'control.sock')]);
    if (client === undefined) throw new Error('the agent does not answer');
    return new AskedAgent(client);
  }

  /** Makes this the table, from the top. Throws where a rule waits. */
  async rules(...lines: readonly RuleLine[]): Promise<void> {
    const rules = lines.map((line) => {
      const { rule, id, enabled = true } = typeof line === 'string' ? { rule: line } : line;
      return { id, rule, description: undefined, enabled };
    });
    await this.client.edit({ kind: 'replace', rules }, { dryRun: false, conversations: 'drain' });
    const waiting = (await this.client.rules()).find((rule) => rule.enabled && rule.waiting !== null);
    if (waiting !== undefined) throw new Error(`${waiting.text}: ${waiting.waiting}`);
  }

  /** Has a rule say something else. */
  async change(name: string, rule: string, conversations: 'drain' | 'cut' = 'drain'): Promise<void> {
    const edit = { kind: 'edit', name, rule, description: undefined } as const;
    await this.client.edit(edit, { dryRun: false, conversations });
  }

  async rule(id: string): Promise<RuleStatus> {
    const found = (await this.client.rules()).find((rule) => rule.id === id);
    if (found === undefined) throw new Error(`there is no rule ${id}`);
    return found;
  }

  async activity(id: string): Promise<Activity> {
    return (await this.rule(id)).activity;
  }
}
