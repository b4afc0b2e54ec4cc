/**
 * What happens, as Server-Sent Events for one reader. A reader that is slower than what happens is cut before
 * its backlog fills the memory: it still gets the backlog, and then learns why there is no more. The same when
 * the agent stops.
 */

import { NatwardError } from '../errors.ts';
import type { Clock } from '../system/clock.ts';
import { toFailure } from './failure.ts';
import { END_EVENT } from './schema.ts';

/** What is told: by its type, and with its number where it can be asked for again. */
interface Told {
  readonly id?: number;
  readonly type: string;
}

export interface EventStreamOptions {
  /** Asked once, at once. What has happened before its signal fires is still told. */
  readonly events: (signal: AbortSignal) => AsyncIterable<Told>;
  readonly clock: Clock;
  /** The server closes. */
  readonly closing: AbortSignal;
  readonly maxBacklogBytes: number;
  /** The last was said; nothing more is added. */
  readonly onEnd: () => void;
}

/** A comment now and then, so that a reader knows a quiet agent from a dead one. */
export const HEARTBEAT_MS = 15_000;

const encoder = new TextEncoder();
const HEARTBEAT = encoder.encode(': alive\n\n');
/** All readers are sent the same bytes. */
const frames = new WeakMap<Told, Uint8Array>();

export function eventStream(options: EventStreamOptions): ReadableStream<Uint8Array> {
  const { closing, maxBacklogBytes } = options;
  const over = new AbortController();
  const stop = () => over.abort();
  let gone = false;
  closing.addEventListener('abort', stop, { once: true });
  if (closing.aborted) stop();

  const run = async (controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> => {
    const why = await pump(controller, over.signal, options);
    stop();
    closing.removeEventListener('abort', stop);
    if (gone) return;
    controller.enqueue(encoder.encode(`event: ${END_EVENT}\ndata: ${JSON.stringify(toFailure(why))}\n\n`));
    controller.close();
    options.onEnd();
  };
  return new ReadableStream(
    {
      start(controller) {
        controller.enqueue(HEARTBEAT);
        void beat(controller, over.signal, options.clock);
        void run(controller);
      },
      cancel() {
        gone = true;
        stop();
      },
    },
    { highWaterMark: maxBacklogBytes, size: (frame) => frame.byteLength },
  );
}

/** Resolves with why it is over. */
async function pump(
  controller: ReadableStreamDefaultController<Uint8Array>,
  signal: AbortSignal,
  { events }: EventStreamOptions,
): Promise<unknown> {
  try {
    for await (const event of events(signal)) {
      if ((controller.desiredSize ?? 0) <= 0) {
        return new NatwardError(
          'NO_RESOURCES',
          'events came faster than they were read: the stream was cut',
          {
            advice: 'Read the status, and the stream again from its lastEventId on.',
          },
        );
      }
      controller.enqueue(frameOf(event));
    }
    return new NatwardError('ABORTED', 'the agent stops');
  } catch (error) {
    return error;
  }
}

async function beat(
  controller: ReadableStreamDefaultController<Uint8Array>,
  signal: AbortSignal,
  clock: Clock,
): Promise<void> {
  while (!signal.aborted) {
    const waited = await clock.sleep(HEARTBEAT_MS, signal).then(
      () => true,
      () => false,
    );
    if (waited && !signal.aborted) controller.enqueue(HEARTBEAT);
  }
}

function frameOf(event: Told): Uint8Array {
  let frame = frames.get(event);
  if (frame === undefined) {
    const id = event.id === undefined ? '' : `id: ${event.id}\n`;
    frame = encoder.encode(`${id}event: ${event.type}\ndata: ${JSON.stringify(event)}\n\n`);
    frames.set(event, frame);
  }
  return frame;
}
