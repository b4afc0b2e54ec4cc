/** What happens to an engine's conversations, as it happens, for one reader. */

import { NatwardError } from '../errors.ts';
import type { EngineEvent, ForwardEngine } from './engine.ts';

/** Of events that wait for a slow reader. */
const MAX_BACKLOG = 10_000;

/** From now until `signal` fires, of one rule or of all. Throws NO_RESOURCES where the reader is too slow. */
export async function* followEngine(
  engine: Pick<ForwardEngine, 'listen'>,
  signal: AbortSignal,
  ruleId?: string,
): AsyncGenerator<EngineEvent> {
  const backlog: EngineEvent[] = [];
  let wake: () => void = () => undefined;
  let lost = 0;
  const stop = engine.listen((event) => {
    const id = 'conversation' in event ? event.conversation.ruleId : event.ruleId;
    if (ruleId !== undefined && id !== ruleId) return;
    if (backlog.length < MAX_BACKLOG) backlog.push(event);
    else lost++;
    wake();
  });
  const onAbort = () => wake();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    while (!signal.aborted) {
      yield* backlog.splice(0);
      if (lost > 0)
        throw new NatwardError('NO_RESOURCES', `more happens than can be told: ${lost} events were lost`);
      if (backlog.length === 0 && !signal.aborted) await new Promise<void>((resolve) => (wake = resolve));
    }
  } finally {
    stop();
    signal.removeEventListener('abort', onAbort);
  }
}
