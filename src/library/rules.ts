/** The rules of an app's agent: where what arrives goes on to. docs/rules.md says how they are written. */

import type { EditedRule, ExplainReport, RuleKeeping, RuleStatus } from '../agent/rule-keeping.ts';
import type { FirstPacket } from '../forwarder/decide.ts';
import type { Conversation, EngineEvent } from '../forwarder/engine.ts';
import { aborted } from '../system/clock.ts';

export interface Stoppable {
  /** Gives up: the promise rejects with ABORTED. */
  readonly signal?: AbortSignal | undefined;
}

export interface RuleOptions extends Stoppable {
  /** Default: one of its own making. */
  readonly id?: string | undefined;
  readonly description?: string | undefined;
  /** Above the rule with this id. Default: below all others. */
  readonly before?: string | undefined;
}

/** What carries rules out is loaded and begun with the first of these calls. */
export class Rules {
  readonly #steering: () => Promise<RuleKeeping>;
  readonly #during: <T>(work: Promise<T>) => Promise<T>;

  /** `during` keeps the process alive while somebody waits. */
  constructor(steering: () => Promise<RuleKeeping>, during: <T>(work: Promise<T>) => Promise<T>) {
    this.#steering = steering;
    this.#during = during;
  }

  /**
   * Adds `in tcp 8080 -> 127.0.0.1:3000`, and resolves when it is carried out, or waits for what its `waiting` says. Throws
   * USAGE for what is no rule, CONFLICT where its port is taken, UNSUPPORTED where the engine cannot.
   */
  add(rule: string, { id, description, before, signal }: RuleOptions = {}): Promise<EditedRule> {
    return this.#do(signal, async (steering) => {
      const edit = { kind: 'add', rules: [{ id, rule, description }], before } as const;
      const { rules } = await steering.edit(edit, { conversations: 'drain', dryRun: false });
      const [added] = rules;
      if (signal?.aborted && added !== undefined) await remove(steering, added.id);
      return added as EditedRule;
    });
  }

  /** All of them, from the top, with their activity. */
  list({ signal }: Stoppable = {}): Promise<readonly RuleStatus[]> {
    return this.#do(signal, (steering) => steering.rules());
  }

  /** Conversations that run under it go on. Throws NOT_FOUND, or NOT_OWN for one that a lease needs. */
  remove(id: string, { signal }: Stoppable = {}): Promise<void> {
    return this.#do(signal, (steering) => remove(steering, id));
  }

  /** Which rule decides for such a packet, and why none above it does. */
  explain(packet: FirstPacket, { signal }: Stoppable = {}): Promise<ExplainReport> {
    return this.#do(signal, (steering) => steering.explain(packet));
  }

  /** Those that run. */
  conversations({ signal }: Stoppable = {}): Promise<readonly Conversation[]> {
    return this.#do(signal, (steering) => steering.conversations());
  }

  /** What happens to conversations from now on, of one rule or of all; until `signal` fires, or the loop is left. */
  async *follow({ id, signal }: Stoppable & { readonly id?: string } = {}): AsyncGenerator<EngineEvent> {
    const over = new AbortController();
    const stop = () => over.abort(signal?.reason);
    if (signal?.aborted) stop();
    signal?.addEventListener('abort', stop, { once: true });
    try {
      yield* (await this.#during(this.#steering())).follow(over.signal, id);
    } finally {
      signal?.removeEventListener('abort', stop);
      over.abort();
    }
  }

  async #do<T>(signal: AbortSignal | undefined, work: (steering: RuleKeeping) => Promise<T>): Promise<T> {
    if (signal?.aborted) throw aborted(signal);
    const done = await this.#during(this.#steering().then(work));
    if (signal?.aborted) throw aborted(signal);
    return done;
  }
}

async function remove(steering: RuleKeeping, id: string): Promise<void> {
  await steering.edit({ kind: 'remove', names: [id] }, { conversations: 'drain', dryRun: false });
}
