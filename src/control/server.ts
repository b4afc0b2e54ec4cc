/**
 * The agent's API: HTTP over the control socket. It reads questions, checks them by the schema, hands them to
 * whoever keeps the leases, and writes down the answers. Who may connect is the socket's affair: the file
 * system lets in this user (and root) alone, so there is no other password.
 *
 * A client is believed to be who it is and not to be well: sizes, counts and times are bounded.
 */

import { createServer, type IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { getRequestListener, type HttpBindings, RequestError } from '@hono/node-server';
import { type Context, Hono } from 'hono';
import { HTTPException } from 'hono/http-exception';
import type { GenericSchema } from 'valibot';
import type { LeaseKeeping } from '../agent/keeping.ts';
import type { RespondingStatus } from '../agent/responder-status.ts';
import type { EditReport, ExplainReport, RuleKeeping } from '../agent/rule-keeping.ts';
import type { PauseReport, RulePause } from '../agent/rule-pause.ts';
import { type ErrorCode, isNatwardError, NatwardError } from '../errors.ts';
import type { Clock } from '../system/clock.ts';
import { type EventStreamOptions, eventStream } from './event-stream.ts';
import { type Failure, HTTP_STATUS, toFailure } from './failure.ts';
import {
  type ConversationsAnswer,
  editBodySchema,
  firstPacketSchema,
  type RulesAnswer,
} from './rule-schema.ts';
import {
  type AgentAnswer,
  type AgentFacts,
  dropBodySchema,
  type IntentsAnswer,
  type KeepAnswer,
  keepBodySchema,
  PATHS,
  parseDocument,
  type StatusAnswer,
} from './schema.ts';
import { holdSocket } from './socket.ts';

export interface ControlLimits {
  readonly bodyBytes: number;
  /** Of a table of rules. */
  readonly tableBytes: number;
  /** Of one reader's event stream. */
  readonly backlogBytes: number;
  readonly connections: number;
  /** Fewer than connections: a question always finds a place. */
  readonly streams: number;
  readonly headersMs: number;
  readonly requestMs: number;
  /** How long a reader that was cut, or a client at the server's end, has to take what is left. */
  readonly graceMs: number;
}

export interface ControlServerOptions {
  /** Or a promise of it: who makes it when the socket is his knows that he is the only agent. */
  readonly keeping: LeaseKeeping | Promise<LeaseKeeping>;
  readonly steering: (RuleKeeping & RulePause) | Promise<RuleKeeping & RulePause>;
  readonly responding: RespondingStatus | Promise<RespondingStatus>;
  /** See `ownPlaces`. */
  readonly place: string;
  /** Where else an agent of this user may already run. */
  readonly rivals?: readonly string[];
  readonly facts: AgentFacts;
  readonly clock: Clock;
  /** Held while rules change: in a table of thousands that is work. */
  readonly hurry?: () => Disposable;
  /** What natward did not expect; the client was told FAILED. Must not throw. */
  readonly onError: (error: unknown) => void;
  readonly limits?: Partial<ControlLimits>;
}

export interface ControlServer extends AsyncDisposable {
  readonly place: string;
}

const LIMITS: ControlLimits = {
  // A thousand requests of the longest kind would be more; of those that people write it is a thousand.
  bodyBytes: 2 ** 20,
  tableBytes: 16 * 2 ** 20,
  // All leases of a full table may be lost in one moment: that alone is no reason to cut a reader.
  backlogBytes: 8 * 2 ** 20,
  connections: 64,
  streams: 32,
  headersMs: 5000,
  requestMs: 10_000,
  graceMs: 2000,
};
const MAX_HEADER_BYTES = 8192;
const MAX_HEADERS = 64;
/** How often Node looks for connections that are late. */
const CHECK_MS = 1000;

/** HTTP's refusals that have nothing to do with leases. */
type RefusalStatus = 400 | 403 | 404 | 405 | 408 | 413 | 415 | 431 | 503;

/**
 * Opens the socket and serves. Throws FAILED where another agent holds it, saying which. Disposing it ends the
 * event streams, gives what is being answered a moment, and takes the socket away.
 */
export async function startControlServer(options: ControlServerOptions): Promise<ControlServer> {
  const limits = { ...LIMITS, ...options.limits };
  const closing = new AbortController();
  const api = controlApi({ ...options, limits, closing: closing.signal });
  const listener = getRequestListener(api.fetch, {
    hostname: 'localhost',
    // The agent's process is not ours alone.
    overrideGlobalObjects: false,
    errorHandler: (error) => unreadable(error, options.onError),
  });
  const server = createServer(
    {
      headersTimeout: limits.headersMs,
      requestTimeout: limits.requestMs,
      connectionsCheckingInterval: Math.min(CHECK_MS, limits.headersMs),
      maxHeaderSize: MAX_HEADER_BYTES,
      requireHostHeader: false,
    },
    (incoming, outgoing) => void listener(incoming, outgoing),
  );
  server.maxConnections = limits.connections;
  server.maxHeadersCount = MAX_HEADERS;
  server.on('clientError', refuseRaw);
  const held = await holdSocket(server, options.place, options.rivals ?? []);
  server.on('error', options.onError);

  return {
    place: options.place,
    async [Symbol.asyncDispose]() {
      await held.release();
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      closing.abort(new NatwardError('ABORTED', 'the agent stops'));
      const done = new AbortController();
      void closed.then(() => done.abort());
      await options.clock.sleep(limits.graceMs, done.signal).catch(() => undefined);
      server.closeAllConnections();
      await closed;
    },
  };
}

interface ApiOptions extends ControlServerOptions {
  readonly limits: ControlLimits;
  readonly closing: AbortSignal;
}

type Asked = Context<{ Bindings: HttpBindings }>;

function controlApi(options: ApiOptions): Hono<{ Bindings: HttpBindings }> {
  const { facts, limits } = options;
  const api = new Hono<{ Bindings: HttpBindings }>();
  let streams = 0;

  api.use(async (c, next) => {
    // No web page has any business here, whatever led its browser to this socket.
    if (c.req.header('origin') !== undefined) refuse(403, 'a web page may not ask the agent');
    await next();
    c.header('cache-control', 'no-store');
    // What was not read of a body would be taken for the next question.
    if (c.res.status === 413 || options.closing.aborted) c.header('connection', 'close');
  });

  api.get(PATHS.agent, (c) => {
    onlyGet(c);
    return c.json<AgentAnswer>({ agent: facts });
  });

  api.get(PATHS.status, async (c) => {
    onlyGet(c);
    const keeping = await options.keeping;
    const steering = await options.steering;
    const responding = await options.responding;
    const [status, rules] = [await keeping.status(), await steering.rules()];
    const responders = responding.statuses(status.leases);
    return long(c, {
      agent: facts,
      ...status,
      rulesPaused: steering.isPaused,
      rules,
      responders,
    });
  });

  api.post(PATHS.leases, async (c) => {
    const { requests, owner, timeoutMs } = await documentOf(c, keepBodySchema, limits.bodyBytes);
    const keeping = await options.keeping;
    const leases = await keeping.keep(requests, { owner, timeoutMs, signal: goneOf(c, options.closing) });
    return c.json<KeepAnswer>({ leases });
  });

  api.post(PATHS.drop, async (c) => {
    const { selectors } = await documentOf(c, dropBodySchema, limits.bodyBytes);
    const keeping = await options.keeping;
    return c.json(await keeping.drop(selectors, { signal: goneOf(c, options.closing) }));
  });

  api.get(PATHS.intents, async (c) => {
    onlyGet(c);
    const keeping = await options.keeping;
    return c.json<IntentsAnswer>({ intents: await keeping.wanted() });
  });

  api.get(PATHS.rules, async (c) => {
    onlyGet(c);
    const steering = await options.steering;
    return long(c, { isPaused: steering.isPaused, rules: await steering.rules() });
  });

  api.post(PATHS.rules, async (c) => {
    using _hurry = options.hurry?.();
    const { edit, conversations, dryRun } = await documentOf(c, editBodySchema, limits.tableBytes);
    const steering = await options.steering;
    return long(c, await steering.edit(edit, { conversations, dryRun }));
  });

  api.post(PATHS.explain, async (c) => {
    const packet = await documentOf(c, firstPacketSchema, limits.bodyBytes);
    const steering = await options.steering;
    return c.json<ExplainReport>(await steering.explain(packet));
  });

  // What stops everything asks for nothing that could be wrong.
  api.post(PATHS.panic, async (c) => c.json<PauseReport>(await (await options.steering).pause()));
  api.post(PATHS.resume, async (c) => c.json<PauseReport>(await (await options.steering).resume()));

  api.get(PATHS.conversations, async (c) => {
    onlyGet(c);
    const steering = await options.steering;
    return c.json<ConversationsAnswer>({ conversations: await steering.conversations() });
  });

  api.get(PATHS.events, async (c) => {
    onlyGet(c);
    const since = sinceOf(c);
    const keeping = await options.keeping;
    return stream(c, (signal) => keeping.events(signal, since));
  });

  api.get(PATHS.conversationEvents, async (c) => {
    onlyGet(c);
    const steering = await options.steering;
    return stream(c, (signal) => steering.follow(signal, c.req.query('rule')));
  });

  function stream(c: Asked, events: EventStreamOptions['events']): Response {
    if (streams >= limits.streams) refuse(503, `${limits.streams} programs follow the events already`);
    streams++;
    const left = new AbortController();
    onceClosed(c, () => {
      streams--;
      left.abort();
    });
    const body = eventStream({
      events,
      clock: options.clock,
      closing: options.closing,
      maxBacklogBytes: limits.backlogBytes,
      onEnd: () => void cutAfterGrace(c, left.signal),
    });
    return c.body(body, 200, { 'content-type': 'text/event-stream', connection: 'close' });
  }

  async function cutAfterGrace(c: Asked, left: AbortSignal): Promise<void> {
    await options.clock.sleep(limits.graceMs, left).catch(() => undefined);
    if (!left.aborted) c.env.outgoing.destroy();
  }

  for (const [path, method] of [
    [PATHS.agent, 'GET'],
    [PATHS.status, 'GET'],
    [PATHS.leases, 'POST'],
    [PATHS.drop, 'POST'],
    [PATHS.intents, 'GET'],
    [PATHS.events, 'GET'],
    [PATHS.rules, 'GET, POST'],
    [PATHS.explain, 'POST'],
    [PATHS.panic, 'POST'],
    [PATHS.resume, 'POST'],
    [PATHS.conversations, 'GET'],
    [PATHS.conversationEvents, 'GET'],
  ] as const) {
    api.all(path, (c) => {
      c.header('allow', method);
      return refuse(405, `${path} takes ${method} alone`);
    });
  }
  api.notFound((c) => c.json(failure('NOT_FOUND', `the agent has no ${c.req.path.slice(0, 100)}`), 404));
  api.onError((error, c) => {
    if (error instanceof HTTPException) return c.json(failure('USAGE', error.message), error.status);
    if (!isNatwardError(error)) options.onError(error);
    const told = toFailure(error);
    return c.json(told, HTTP_STATUS[told.error.code]);
  });
  return api;
}

function refuse(status: RefusalStatus, message: string): never {
  throw new HTTPException(status, { message });
}

function failure(code: ErrorCode, message: string): Failure {
  return toFailure(new NatwardError(code, message));
}

/** Hono answers HEAD as GET and leaves the body away: a stream would begin that nobody reads. */
function onlyGet(c: Asked): void {
  if (c.req.method === 'GET') return;
  c.header('allow', 'GET');
  refuse(405, `${c.req.path} takes GET alone`);
}

function sinceOf(c: Asked): number | undefined {
  const text = c.req.header('last-event-id');
  if (text === undefined || text === '') return undefined;
  if (!/^\d{1,15}$/.test(text)) refuse(400, 'Last-Event-ID is not the id of an event');
  return Number(text);
}

/** Fires when the client has gone, and when the server closes. */
function goneOf(c: Asked, closing: AbortSignal): AbortSignal {
  const gone = new AbortController();
  const stop = () => gone.abort(closing.reason);
  closing.addEventListener('abort', stop, { once: true });
  if (closing.aborted) stop();
  onceClosed(c, () => {
    closing.removeEventListener('abort', stop);
    gone.abort();
  });
  return gone.signal;
}

/** The client may have gone while its question was read. */
function onceClosed({ env: { outgoing } }: Asked, run: () => void): void {
  if (outgoing.destroyed) run();
  else outgoing.once('close', run);
}

/** As `c.json`, of what may be megabytes: text would be gone through twice more on its way. */
function long(c: Asked, document: StatusAnswer | RulesAnswer | EditReport): Response {
  return c.body(Buffer.from(JSON.stringify(document)), 200, { 'content-type': 'application/json' });
}

async function documentOf<T>(c: Asked, schema: GenericSchema<unknown, T>, maxBytes: number): Promise<T> {
  const type = c.req.header('content-type')?.split(';', 1)[0]?.trim().toLowerCase();
  if (type !== 'application/json') refuse(415, 'the body must be JSON: Content-Type: application/json');
  if (c.req.header('content-encoding') !== undefined) refuse(415, 'the body must not be compressed');
  const bytes = await bodyOf(c.env.incoming, maxBytes);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    refuse(400, 'the body is not UTF-8');
  }
  return parseDocument(schema, text);
}

/** Read by its events: whoever leaves its iterator early ends the connection, and nobody hears why. */
function bodyOf(incoming: IncomingMessage, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const take = (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes <= maxBytes) {
        chunks.push(chunk);
        return;
      }
      incoming.off('data', take).pause();
      reject(new HTTPException(413, { message: `a body of more than ${maxBytes} bytes` }));
    };
    incoming.on('data', take);
    incoming.on('end', () => resolve(Buffer.concat(chunks)));
    incoming.on('close', () => reject(new HTTPException(400, { message: 'the body broke off' })));
  });
}

function unreadable(error: unknown, onError: (error: unknown) => void): Response {
  if (error instanceof RequestError) {
    return Response.json(failure('USAGE', `not a request: ${error.message}`), { status: 400 });
  }
  onError(error);
  return Response.json(toFailure(error), { status: 500 });
}

const RAW: Readonly<Record<string, readonly [status: RefusalStatus, reason: string]>> = {
  HPE_HEADER_OVERFLOW: [431, 'Request Header Fields Too Large'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'Request Timeout'],
};

/** What Node could not read as HTTP never comes to Hono. */
function refuseRaw(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const [status, words] = RAW[error.code ?? ''] ?? [400, 'Bad Request'];
  const body = JSON.stringify(failure('USAGE', `not a request: ${words.toLowerCase()}`));
  socket.end(
    `HTTP/1.1 ${status} ${words}\r\nConnection: close\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
  );
  // Not before it is sent, and without waiting for the other side to go.
  socket.destroySoon();
}
