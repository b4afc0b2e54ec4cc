/**
 * The conversations that the kernel carries for our rules, from its listings and its events: which began, which are
 * open, which have ended and why. Asking the kernel is the caller's.
 *
 * An event is quick and may be lost; a listing has everything and is late. So both are taken: an event opens and closes
 * at once, a listing brings the counts and corrects what was missed. A TCP flow that is over stays in the kernel's
 * table for another two minutes and its DESTROY is as late: it is closed as soon as a listing shows it so.
 */

import type { Conversation, EngineEvent } from '../engine.ts';
import type { Flow } from './flow.ts';

export interface FlowsOptions {
  /** The rule whose mark has this number, in its upper half; undefined for what is not ours. */
  readonly ruleOf: (mark: number) => string | undefined;
  /** Unix milliseconds. */
  readonly now: () => number;
}

interface Open {
  readonly id: number;
  readonly mark: number;
  readonly ruleId: string;
  readonly beganAtMs: number;
  flow: Flow;
  /** The last listing that had it. */
  listing: number;
}

/** As many as the kernel has by default at most. */
const MAX_FLOWS = 262_144;
/** Their counts are final. In LAST_ACK and before, something may still come, if only again. */
const OVER: ReadonlySet<string | undefined> = new Set(['TIME_WAIT', 'CLOSE']);

export class Flows {
  readonly #options: FlowsOptions;
  readonly #open = new Map<string, Open>();
  readonly #openByMark = new Map<number, number>();
  readonly #listeners = new Set<(event: EngineEvent) => void>();
  /** What was heard while a listing was on its way, which is newer than the listing. */
  #heardSince: Set<string> | undefined;
  /** Told as closed, and still to be deleted by the kernel or to be heard of as deleted. */
  #cut = new Set<string>();
  #lastId = 0;
  #listing = 0;

  constructor(options: FlowsOptions) {
    this.#options = options;
  }

  /** More than so many are not followed. */
  get isFull(): boolean {
    return this.#open.size >= MAX_FLOWS;
  }

  listen(listener: (event: EngineEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** To be called before the kernel is asked for the listing that `replace` is given. */
  expectListing(): void {
    this.#heardSince = new Set();
  }

  /** Takes a full listing: what it does not have is over. */
  replace(flows: Iterable<Flow>): void {
    const newer = this.#heardSince;
    this.#heardSince = undefined;
    this.#listing++;
    const stillCut = new Set<string>();
    for (const flow of flows) {
      const ruleId = this.#options.ruleOf(numberOf(flow));
      if (ruleId === undefined) continue;
      const key = keyOf(flow);
      if (this.#cut.has(key)) stillCut.add(key);
      if (this.#cut.has(key)) continue;
      const known = this.#open.get(key);
      const isOver = OVER.has(flow.state);
      if (newer?.has(key)) {
        // It has ended since, or has begun: of that the listing knows more than the event, if it has it.
        if (known !== undefined && !isOver) known.flow = flow;
        continue;
      }
      if (known !== undefined) {
        known.flow = flow;
        known.listing = this.#listing;
        if (isOver) this.#close(key, known, reasonOf(flow));
      } else if (!isOver) {
        this.#begin(key, ruleId, flow);
      }
    }
    this.#cut = stillCut;
    for (const [key, known] of this.#open) {
      if (known.listing !== this.#listing && !newer?.has(key)) this.#close(key, known, 'it ended unseen');
    }
  }

  heard(flow: Flow): void {
    const ruleId = this.#options.ruleOf(numberOf(flow));
    const key = keyOf(flow);
    const known = this.#open.get(key);
    if (flow.event !== 'new' && flow.event !== 'destroy') return;
    this.#cut.delete(key);
    if (ruleId === undefined && known === undefined) return;
    if (this.#heardSince !== undefined && this.#heardSince.size < MAX_FLOWS) this.#heardSince.add(key);
    if (flow.event === 'new') {
      // A listing may have been quicker, and knows more.
      if (known === undefined && ruleId !== undefined) this.#begin(key, ruleId, flow);
    } else if (known !== undefined) {
      known.flow = flow;
      this.#close(key, known, reasonOf(flow));
    }
  }

  /** To be called before the kernel deletes the flows with this mark, whose events say no reason. Answers how many are open. */
  cut(mark: number, reason: string): number {
    let count = 0;
    for (const [key, known] of this.#open) {
      if (known.mark !== mark) continue;
      this.#cut.add(key);
      this.#close(key, known, reason);
      count++;
    }
    return count;
  }

  conversations(): Conversation[] {
    return [...this.#open.values()].map(conversationOf);
  }

  /** By the number of the mark. */
  openByMark(): ReadonlyMap<number, number> {
    return this.#openByMark;
  }

  #begin(key: string, ruleId: string, flow: Flow): void {
    if (this.isFull) return;
    const { heardAtMs, ageSeconds = 0 } = flow;
    const id = ++this.#lastId;
    const beganAtMs = heardAtMs ?? this.#options.now() - ageSeconds * 1000;
    const begun = { id, mark: numberOf(flow), ruleId, beganAtMs, flow, listing: this.#listing };
    this.#open.set(key, begun);
    this.#count(begun.mark, 1);
    if (this.#listeners.size > 0) this.#tell({ type: 'opened', conversation: conversationOf(begun) });
  }

  #close(key: string, known: Open, reason: string): void {
    this.#open.delete(key);
    this.#count(known.mark, -1);
    if (this.#listeners.size > 0) this.#tell({ type: 'closed', conversation: conversationOf(known), reason });
  }

  #count(mark: number, by: 1 | -1): void {
    const count = (this.#openByMark.get(mark) ?? 0) + by;
    if (count > 0) this.#openByMark.set(mark, count);
    else this.#openByMark.delete(mark);
  }

  #tell(event: EngineEvent): void {
    for (const listener of this.#listeners) listener(event);
  }
}

/** Of its rule: the upper half of the mark. */
function numberOf(flow: Flow): number {
  return flow.mark >>> 16;
}

/** With the id alone, eight pairs of a full table would be taken for one another: it has 32 bits. */
function keyOf({ id, protocol, client, local }: Flow): string {
  return `${id} ${protocol} ${client.address} ${client.port} ${local.address} ${local.port}`;
}

function conversationOf({ id, ruleId, beganAtMs, flow }: Open): Conversation {
  const { protocol, client, local, replySource: target, bytesIn, bytesOut } = flow;
  return { id, ruleId, protocol, client, local, target, beganAtMs, bytesIn, bytesOut };
}

/** Of a flow that is over. */
function reasonOf({ state, isAnswered, timeoutSeconds }: Flow): string {
  if (state === 'TIME_WAIT') return 'finished';
  if (state === 'CLOSE') return isAnswered ? 'one side has reset it' : 'the target has refused it';
  if (timeoutSeconds !== undefined) return 'it was taken out of the kernel’s table';
  return state === 'SYN_SENT' ? 'the target has not answered' : 'silent for too long';
}
