/** One command's question to every gateway that may answer: their sessions, under one time limit. */

import { setMaxListeners } from 'node:events';
import type { GatewayChoice } from '../discovery/route.ts';
import { NatwardError } from '../errors.ts';
import type { MappingProtocol } from '../net/protocol.ts';
import type { System } from '../system/system.ts';
import type { Session } from './session.ts';
import { nobody } from './survey.ts';

export interface AskOptions extends GatewayChoice {
  /** Speak this protocol only. */
  readonly via?: MappingProtocol;
  /** Give up when nothing has happened for this long. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** What is on its way when a person stops the program has this long to come back. */
const LATE_MS = 1000;

export class Asking implements AsyncDisposable {
  readonly sessions: readonly Session[];
  readonly signal: AbortSignal;
  /** Fires a moment after a person's `signal`: whoever has asked for a mapping still hears whether he got it. */
  readonly lateSignal: AbortSignal;
  readonly #system: System;
  readonly #timeoutMs: number;
  readonly #idle = new AbortController();
  readonly #late = new AbortController();
  readonly #over = new AbortController();
  #lastProgressMs: number;

  constructor(system: System, options: AskOptions, open: (signal: AbortSignal) => readonly Session[]) {
    this.#system = system;
    this.#timeoutMs = options.timeoutMs;
    this.#lastProgressMs = system.clock.now();
    this.signal = AbortSignal.any([options.signal, this.#idle.signal]);
    this.lateSignal = AbortSignal.any([this.#late.signal, this.#idle.signal]);
    setMaxListeners(0, this.signal, this.lateSignal); // As many as there are requests under way.
    options.signal.addEventListener('abort', () => void this.#endLate(options.signal), {
      once: true,
      signal: this.#over.signal,
    });
    this.sessions = open(this.signal);
    void this.#watch();
  }

  /** Resolves when the first probes have been sent. */
  get asked(): Promise<unknown> {
    return Promise.all(this.sessions.map(({ asked }) => asked));
  }

  progress(): void {
    this.#lastProgressMs = this.#system.clock.now();
  }

  async #endLate({ reason }: AbortSignal): Promise<void> {
    await this.#system.clock.sleep(LATE_MS, this.#over.signal).catch(() => undefined);
    this.#late.abort(reason);
  }

  async #watch(): Promise<void> {
    const { clock } = this.#system;
    try {
      for (;;) {
        const leftMs = this.#lastProgressMs + this.#timeoutMs - clock.now();
        if (leftMs <= 0) break;
        await clock.sleep(leftMs, this.#over.signal);
      }
      const seconds = this.#timeoutMs / 1000;
      this.#idle.abort(
        new NatwardError('TIMEOUT', `nothing came back for ${seconds} s`, {
          advice: 'Give it longer: --timeout.',
        }),
      );
    } catch {
      // Disposed of in time.
    }
  }

  /** The session of the best route that offers something. Throws NO_GATEWAY where none does. */
  async firstAnswering(): Promise<Session> {
    for (const session of this.sessions) {
      if ((await session.mapper(() => true)) !== undefined) return session;
    }
    throw await nobody(this.sessions);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.sessions.map((session) => session[Symbol.asyncDispose]()));
    this.#over.abort();
  }
}
