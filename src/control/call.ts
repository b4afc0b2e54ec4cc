/**
 * One question over a control socket, and its answer: HTTP on node's own client. What fails in the connection
 * comes as node's error; what the agent refuses comes as the NatwardError that it told.
 */

import { type IncomingMessage, request } from 'node:http';
import type { GenericSchema } from 'valibot';
import { NatwardError } from '../errors.ts';
import { aborted } from '../system/clock.ts';
import { fromFailure } from './failure.ts';
import { failureSchema, parseDocument } from './schema.ts';

export interface Question {
  readonly method: 'GET' | 'POST';
  readonly path: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  /** How long the agent may be silent before it counts as dead. */
  readonly silenceMs: number;
  /** False: waiting for the answer keeps no process alive. */
  readonly keepsAlive?: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** A status of every port of a gateway, TCP and UDP. */
const MAX_ANSWER_BYTES = 128 * 2 ** 20;

/**
 * Asks, and resolves with the body as it comes when the answer is 200. Throws what the agent told, ABORTED
 * when the signal fires, FAILED after too long a silence, and node's error where the connection fails; so does
 * the reading of the body.
 */
export async function ask(place: string, question: Question): Promise<AsyncIterable<Buffer>> {
  const body = question.body === undefined ? undefined : Buffer.from(JSON.stringify(question.body));
  const { signal, silenceMs } = question;
  if (signal?.aborted) throw aborted(signal);
  const asked = request({
    socketPath: place,
    method: question.method,
    path: question.path,
    agent: false,
    headers: {
      host: 'localhost',
      ...question.headers,
      ...(body && { 'content-type': 'application/json', 'content-length': body.length }),
    },
  });
  // Whoever reads an answer that is cut hears only that it was cut.
  let why: NatwardError | undefined;
  const stop = (error: NatwardError) => {
    why ??= error;
    asked.destroy(error);
  };
  const onAbort = () => stop(aborted(signal as AbortSignal));
  signal?.addEventListener('abort', onAbort, { once: true });
  asked.on('close', () => signal?.removeEventListener('abort', onAbort));
  asked.setTimeout(silenceMs, () => {
    stop(
      new NatwardError('FAILED', `nothing was heard for ${silenceMs / 1000} s from the agent at ${place}`),
    );
  });
  if (question.keepsAlive === false) asked.on('socket', (socket) => socket.unref());
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    asked.on('error', reject).on('response', resolve).end(body);
  });

  async function* chunks(): AsyncGenerator<Buffer> {
    try {
      for await (const chunk of answer as AsyncIterable<Buffer>) yield chunk;
    } catch (error) {
      throw why ?? error;
    } finally {
      asked.destroy();
    }
  }
  if (answer.statusCode === 200) return chunks();
  throw refusalOf(answer.statusCode, await textOf(chunks()));
}

/** The whole answer as a document. Throws as `ask` does, and MALFORMED where it is not what the schema says. */
export async function call<T>(
  place: string,
  question: Question,
  schema: GenericSchema<unknown, T>,
): Promise<T> {
  return parseDocument(schema, await textOf(await ask(place, question)));
}

function refusalOf(status: number | undefined, text: string): NatwardError {
  try {
    return fromFailure(parseDocument(failureSchema, text));
  } catch (cause) {
    return new NatwardError('MALFORMED', `HTTP ${status}, without a reason that natward knows`, { cause });
  }
}

async function textOf(answer: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of answer) {
    bytes += chunk.length;
    if (bytes > MAX_ANSWER_BYTES) throw new NatwardError('MALFORMED', 'an answer without an end');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}
