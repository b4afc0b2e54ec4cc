/** The conversations of natward's marks, asked of the kernel and heard from it: flows.ts knows them. */

import { NatwardError } from '../../errors.ts';
import { type Clock, OVER } from '../../system/clock.ts';
import type { FollowProgram } from '../../system/follow-program.ts';
import type { RunProgram } from '../../system/program.ts';
import type { Conversation, EngineEvent } from '../engine.ts';
import type { Rule } from '../rule.ts';
import { eventsCommand, type Flow, listCommand, parseFlow } from './flow.ts';
import { cutFlows } from './flow-cut.ts';
import { Flows } from './flows.ts';
import { FIRST_MARK, type MarkBook } from './mark-book.ts';
import { OWN_MASK } from './marks.ts';
import type { Around } from './rewrite.ts';
import { forgetCommand, streamsFor } from './streams.ts';
import { runConntrack } from './tools.ts';

export interface KernelFlowsOptions {
  readonly clock: Clock;
  readonly runProgram: RunProgram;
  readonly followProgram: FollowProgram;
  readonly marks: MarkBook;
  /** What does not go well, and is tried again. */
  readonly say: (key: string, error: unknown) => void;
}

const PICKED_BIT = FIRST_MARK * 0x1_0000;
const MAX_LINE_BYTES = 4096;
const RETRY_MS = 1000;
/** A listing this young serves for who asks again. */
const YOUNG_MS = 200;

export class KernelFlows {
  readonly #options: KernelFlowsOptions;
  readonly #flows: Flows;
  #following: { readonly over: AbortController; listeners: number } | undefined;
  #listedAtMs = Number.NEGATIVE_INFINITY;

  constructor(options: KernelFlowsOptions) {
    this.#options = options;
    this.#flows = new Flows({ ruleOf: (mark) => options.marks.idOf(mark), now: () => options.clock.now() });
  }

  get isHeard(): boolean {
    return this.#following !== undefined;
  }

  /** Asks the kernel. */
  async list(): Promise<void> {
    const { clock, marks, runProgram } = this.#options;
    this.#flows.expectListing();
    const isPicked = [marks.marked, marks.retired].every((all) =>
      all.every(({ mark }) => mark >= FIRST_MARK),
    );
    const only = isPicked ? { mark: PICKED_BIT, mask: PICKED_BIT } : undefined;
    const lines = await runConntrack(runProgram, listCommand(only));
    this.#flows.replace(lines.flatMap((line) => (line.includes(' mark=0 ') ? [] : (parseFlow(line) ?? []))));
    this.#listedAtMs = clock.steady();
  }

  /** How many are open under each mark, now or a moment ago. */
  async openByMark(): Promise<ReadonlyMap<number, number>> {
    if (this.#options.clock.steady() - this.#listedAtMs > YOUNG_MS) await this.list();
    return this.#flows.openByMark();
  }

  conversations(): readonly Conversation[] {
    return this.#flows.conversations();
  }

  /** Ends those with these marks. Answers how many there were in the kernel. */
  async cut(marks: ReadonlySet<number>, reason: string): Promise<void> {
    for (const mark of marks) this.#flows.cut(mark, reason);
    if (marks.size > 0) await cutFlows(this.#options.runProgram, marks);
    this.#listedAtMs = Number.NEGATIVE_INFINITY;
  }

  /** Streams of datagrams that run already come to these rules from now on. */
  async takeStreams(rules: readonly Rule[], around: Around): Promise<void> {
    const { runProgram, clock } = this.#options;
    const concerned = rules.filter(({ protocols }) => protocols.includes('udp'));
    if (concerned.length === 0) return;
    const lines = await runConntrack(runProgram, listCommand({ mark: 0, mask: OWN_MASK }));
    const flows = lines.flatMap((line): Flow[] | Flow =>
      line.includes(' udp ') ? (parseFlow(line) ?? []) : [],
    );
    for (const flow of streamsFor(concerned, flows, around, new Date(clock.now()))) {
      await runConntrack(runProgram, forgetCommand(flow));
    }
  }

  listen(listener: (event: EngineEvent) => void): () => void {
    const stop = this.#flows.listen(listener);
    this.#following ??= { over: new AbortController(), listeners: 0 };
    const following = this.#following;
    following.listeners++;
    if (following.listeners === 1) void this.#follow(following.over.signal);
    return () => {
      stop();
      following.listeners--;
      if (following.listeners > 0) return;
      following.over.abort(OVER);
      if (this.#following === following) this.#following = undefined;
    };
  }

  /** Hears what the kernel tells, as long as somebody listens. */
  async #follow(signal: AbortSignal): Promise<void> {
    const { clock, followProgram, say } = this.#options;
    while (!signal.aborted) {
      try {
        const request = { command: eventsCommand(), signal, maxLineBytes: MAX_LINE_BYTES };
        for await (const lines of followProgram(request)) {
          for (const line of lines) {
            const flow = line.includes(' mark=0 ') ? undefined : parseFlow(line);
            if (flow !== undefined) this.#flows.heard(flow);
          }
        }
      } catch (error) {
        if (!(error instanceof NatwardError)) throw error;
        say('events', error);
        await clock.sleep(RETRY_MS, signal).catch(() => undefined);
      }
    }
  }

  close(): void {
    this.#following?.over.abort(OVER);
  }
}
