/** Questions to an agent over its control socket, timed as it answers: nothing of the answer is checked meanwhile. */

import { ask, type Question as ControlQuestion } from '../../src/control/call.ts';

export type Question = Omit<ControlQuestion, 'silenceMs'>;

const SILENCE_MS = 120_000;

/** From the question to the answer's last byte. */
export async function answerOf(socket: string, question: Question): Promise<{ ms: number; text: string }> {
  const startedMs = performance.now();
  const chunks: Buffer[] = [];
  for await (const chunk of await ask(socket, { ...question, silenceMs: SILENCE_MS })) chunks.push(chunk);
  return { ms: performance.now() - startedMs, text: Buffer.concat(chunks).toString() };
}

interface RulesDocument {
  readonly rules: readonly {
    readonly id: string;
    readonly engine: string;
    readonly waiting: string | null;
  }[];
}

export interface Carried {
  readonly rules: number;
  readonly ids: readonly string[];
  readonly engines: readonly string[];
  /** Why the first one that waits does. */
  readonly waiting: string | undefined;
}

/** The agent's rules, as its API shows them. Rejects where nobody answers yet. */
export async function carried(socket: string): Promise<Carried> {
  const { rules }: RulesDocument = JSON.parse(
    (await answerOf(socket, { method: 'GET', path: '/v1/rules' })).text,
  );
  return {
    rules: rules.length,
    ids: rules.map(({ id }) => id),
    engines: [...new Set(rules.map(({ engine }) => engine))],
    waiting: rules.find(({ waiting }) => waiting !== null)?.waiting ?? undefined,
  };
}
