/**
 * The agent as seen from another process: the same interface as a keeper in this one, carried over the control
 * socket. Each question has a connection of its own, so nothing needs to be closed.
 */

import { lstatSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { createParser, type EventSourceMessage } from 'eventsource-parser';
import type { GenericSchema } from 'valibot';
import type { AgentEvent } from '../agent/events.ts';
import type { DropOptions, DropReport, DropSelector, KeepOptions, LeaseKeeping } from '../agent/keeping.ts';
import type { Intent, KeepRequest, LeaseStatus } from '../agent/lease.ts';
import type {
  EditOptions,
  EditReport,
  ExplainReport,
  RuleEdit,
  RuleKeeping,
  RuleStatus,
} from '../agent/rule-keeping.ts';
import type { PauseReport } from '../agent/rule-pause.ts';
import { isNatwardError, NatwardError } from '../errors.ts';
import type { FirstPacket } from '../forwarder/decide.ts';
import type { Conversation, EngineEvent } from '../forwarder/engine.ts';
import { ask, call, type Question } from './call.ts';
import { fromFailure } from './failure.ts';
import { clientPlaces } from './place.ts';
import {
  conversationsAnswerSchema,
  editReportSchema,
  engineEventSchema,
  explainReportSchema,
  pauseReportSchema,
  type RulesAnswer,
  rulesAnswerSchema,
} from './rule-schema.ts';
import {
  type AgentFacts,
  dropAnswerSchema,
  END_EVENT,
  eventSchema,
  failureSchema,
  intentsAnswerSchema,
  keepAnswerSchema,
  PATHS,
  parseDocument,
  type StatusAnswer,
  statusSchema,
} from './schema.ts';
import { fitsSocket, isNobody, whoHolds } from './socket.ts';

/** How long an agent may take beyond what the question itself takes. */
const ANSWER_MS = 15_000;
/** A thousand leases of a gateway that hardly answers. */
const DROP_MS = 600_000;
/** Sixty thousand rules, checked and carried out. */
const EDIT_MS = 120_000;
/** Three heartbeats. */
const STREAM_SILENCE_MS = 45_000;
/** In characters. A lease takes a thousand. */
const MAX_EVENT_LENGTH = 2 ** 20;

const EVENT_TYPES: Readonly<Record<AgentEvent['type'], true>> = {
  granted: true,
  renewed: true,
  changed: true,
  lost: true,
  refused: true,
  released: true,
  'gateway-up': true,
  'gateway-down': true,
  'address-changed': true,
  warning: true,
};

const CONVERSATION_EVENTS: Readonly<Record<EngineEvent['type'], true>> = {
  opened: true,
  closed: true,
  refused: true,
};

export interface ClientOptions {
  /** False: whoever follows what happens keeps no process alive by that. */
  readonly keepsAlive?: boolean;
}

/**
 * The agent of this user, else the system's service; undefined where none runs. Throws FAILED where one runs
 * that this user may not ask, or that does not answer as an agent does.
 */
export async function connectAgent(
  places?: readonly string[],
  options?: ClientOptions,
): Promise<AgentClient | undefined> {
  for (const place of places ?? (await clientPlaces())) {
    const agent = await reach(place, options);
    if (agent !== undefined) return agent;
  }
  return undefined;
}

async function reach(place: string, options?: ClientOptions): Promise<AgentClient | undefined> {
  // No agent could have opened it; the system might cut the path and find another socket.
  if (!fitsSocket(place)) return undefined;
  try {
    refuseStranger(place);
    return new AgentClient(place, await whoHolds(place), options);
  } catch (error) {
    if (isNobody(error)) return undefined;
    if (isForbidden(error)) throw forbidden(place, error);
    const what = (error as Error).message;
    throw new NatwardError('FAILED', `the agent at ${place} does not answer as it should: ${what}`, {
      cause: error,
      advice: 'Restart it.',
    });
  }
}

export class AgentClient implements LeaseKeeping, RuleKeeping {
  readonly place: string;
  readonly agent: AgentFacts;
  readonly #keepsAlive: boolean;

  /** `agent` is who answered at `place`. */
  constructor(place: string, agent: AgentFacts, { keepsAlive = true }: ClientOptions = {}) {
    this.place = place;
    this.agent = agent;
    this.#keepsAlive = keepsAlive;
  }

  async keep(requests: readonly KeepRequest[], options: KeepOptions): Promise<readonly LeaseStatus[]> {
    const { owner, timeoutMs, signal } = options;
    const question = {
      method: 'POST',
      path: PATHS.leases,
      body: { requests, owner, timeoutMs },
      silenceMs: timeoutMs + ANSWER_MS,
      signal,
    } as const;
    return (await this.#call(question, keepAnswerSchema)).leases;
  }

  async drop(selectors: readonly DropSelector[], { signal }: DropOptions): Promise<DropReport> {
    const question = {
      method: 'POST',
      path: PATHS.drop,
      body: { selectors },
      silenceMs: DROP_MS,
      signal,
    } as const;
    return await this.#call(question, dropAnswerSchema);
  }

  async status(): Promise<StatusAnswer> {
    return await this.#call({ method: 'GET', path: PATHS.status, silenceMs: ANSWER_MS }, statusSchema);
  }

  async wanted(): Promise<readonly Intent[]> {
    const question = { method: 'GET', path: PATHS.intents, silenceMs: ANSWER_MS } as const;
    return (await this.#call(question, intentsAnswerSchema)).intents;
  }

  async rules(): Promise<readonly RuleStatus[]> {
    return (await this.table()).rules;
  }

  /** The rules, and whether they are off. */
  async table(): Promise<RulesAnswer> {
    const question = { method: 'GET', path: PATHS.rules, silenceMs: ANSWER_MS } as const;
    return await this.#call(question, rulesAnswerSchema);
  }

  /** As RulePause has it. */
  async pause(): Promise<PauseReport> {
    const question = { method: 'POST', path: PATHS.panic, silenceMs: EDIT_MS } as const;
    return await this.#call(question, pauseReportSchema);
  }

  async resume(): Promise<PauseReport> {
    const question = { method: 'POST', path: PATHS.resume, silenceMs: EDIT_MS } as const;
    return await this.#call(question, pauseReportSchema);
  }

  async edit(edit: RuleEdit, options: EditOptions): Promise<EditReport> {
    const question = {
      method: 'POST',
      path: PATHS.rules,
      body: { edit, ...options },
      silenceMs: EDIT_MS,
    } as const;
    return await this.#call(question, editReportSchema);
  }

  async explain(packet: FirstPacket): Promise<ExplainReport> {
    const question = { method: 'POST', path: PATHS.explain, body: packet, silenceMs: ANSWER_MS } as const;
    return await this.#call(question, explainReportSchema);
  }

  async conversations(): Promise<readonly Conversation[]> {
    const question = { method: 'GET', path: PATHS.conversations, silenceMs: ANSWER_MS } as const;
    return (await this.#call(question, conversationsAnswerSchema)).conversations;
  }

  /** As RuleKeeping has it. Throws as `events` does. */
  follow(signal: AbortSignal, ruleId?: string): AsyncIterable<EngineEvent> {
    const query = ruleId === undefined ? '' : `?rule=${encodeURIComponent(ruleId)}`;
    return this.#stream(`${PATHS.conversationEvents}${query}`, signal, {}, (type, data) =>
      Object.hasOwn(CONVERSATION_EVENTS, type) ? parseDocument(engineEventSchema, data) : undefined,
    );
  }

  /** As LeaseKeeping has it. Throws FAILED when the agent goes, or the reader is too slow for what happens. */
  events(signal: AbortSignal, since?: number): AsyncIterable<AgentEvent> {
    const headers: Record<string, string> = since === undefined ? {} : { 'last-event-id': String(since) };
    // A newer agent may tell what this program does not know.
    return this.#stream(PATHS.events, signal, headers, (type, data) =>
      Object.hasOwn(EVENT_TYPES, type) ? parseDocument(eventSchema, data) : undefined,
    );
  }

  #stream<T>(
    path: string,
    signal: AbortSignal,
    headers: Readonly<Record<string, string>>,
    read: (type: string, data: string) => T | undefined,
  ): AsyncIterable<T> {
    const asked = ask(this.place, {
      method: 'GET',
      path,
      headers,
      silenceMs: STREAM_SILENCE_MS,
      keepsAlive: this.#keepsAlive,
      signal,
    });
    // Told to whoever reads, also when he comes later.
    asked.catch(() => undefined);
    return this.#readEvents(asked, signal, read);
  }

  async *#readEvents<T>(
    asked: Promise<AsyncIterable<Buffer>>,
    signal: AbortSignal,
    read: (type: string, data: string) => T | undefined,
  ): AsyncGenerator<T> {
    const messages: EventSourceMessage[] = [];
    const parser = createParser({
      maxBufferSize: MAX_EVENT_LENGTH,
      onEvent: (message) => messages.push(message),
      onError(error) {
        if (error.type === 'max-buffer-size-exceeded')
          throw new NatwardError('MALFORMED', 'an event without an end');
      },
    });
    const decoder = new TextDecoder();
    try {
      for await (const chunk of await asked) {
        parser.feed(decoder.decode(chunk, { stream: true }));
        for (const { event = '', data } of messages.splice(0)) {
          if (event === END_EVENT) throw fromFailure(parseDocument(failureSchema, data));
          const told = read(event, data);
          if (told !== undefined) yield told;
        }
      }
      throw this.#gone();
    } catch (error) {
      if (!signal.aborted) throw this.#explained(error);
    }
  }

  async #call<T>(question: Question, schema: GenericSchema<unknown, T>): Promise<T> {
    try {
      return await call(this.place, question, schema);
    } catch (error) {
      throw this.#explained(error);
    }
  }

  #explained(error: unknown): unknown {
    if (isNatwardError(error, 'MALFORMED')) {
      return new NatwardError(
        'MALFORMED',
        `natward does not understand the agent at ${this.place} (natward ${this.agent.version}): ${error.message}`,
        { cause: error, advice: 'Restart the agent where it is of another version than this program.' },
      );
    }
    return isConnectionError(error) ? this.#gone(error) : error;
  }

  #gone(cause?: unknown): NatwardError {
    return new NatwardError('FAILED', `the agent (pid ${this.agent.pid}) at ${this.place} is gone`, {
      cause,
      advice: 'What it kept stays open until its lifetime ends. Start it again, and it goes on.',
    });
  }
}

/** Whoever can put a socket into our way could listen to what we ask; root can do that anyway. */
function refuseStranger(place: string): void {
  const user = process.getuid?.();
  if (user === undefined || user === 0) return;
  const { uid } = lstatSync(place);
  if (uid !== user && uid !== 0) throw new NatwardError('FAILED', `it is of another user (uid ${uid})`);
}

function isForbidden(error: unknown): boolean {
  return ['EACCES', 'EPERM'].includes(String((error as NodeJS.ErrnoException).code));
}

function isConnectionError(error: unknown): boolean {
  return error instanceof Error && !isNatwardError(error) && 'code' in error;
}

function forbidden(place: string, cause: unknown): NatwardError {
  const owner = ownerOf(place);
  const [who, advice] =
    owner === undefined || owner === 0
      ? ['root', 'Use sudo.']
      : [`the user with uid ${owner}`, 'Run it as that user.'];
  return new NatwardError('FAILED', `the agent at ${place} belongs to ${who}`, { cause, advice });
}

/** Of the socket, or of the directory that hides it. */
function ownerOf(place: string): number | undefined {
  for (const path of [place, dirname(place)]) {
    try {
      return statSync(path).uid;
    } catch {
      // Hidden: its directory is asked.
    }
  }
  return undefined;
}
