/**
 * The second target of a rule that clones: it gets what the client sends, as long as it keeps up. Whatever it does, the
 * conversation itself never waits for it; what it answers is thrown away.
 */

import type { PortRange } from '../../net/port-range.ts';
import type { Endpoint } from '../../net/endpoint.ts';
import type { Target } from '../rule.ts';
import { Attempt, type Dialing } from './dial.ts';
import type { Stream, StreamOwner } from './stream.ts';

/** Of what waits for it; then it has lost. */
const MAX_WAITING_BYTES = 2 ** 20;
const CONNECT_MS = 10_000;
/** After the client's last byte it has so long to take what waits and to finish. */
const LINGER_MS = 10_000;

export class Tap implements StreamOwner {
  #stream: Stream | undefined;
  #attempt: Attempt | undefined;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  #isPending = false;
  #hasEnded = false;
  #isOver = false;
  #closeAtMs: number | undefined;

  constructor(
    target: Target,
    where: { readonly local: Endpoint; readonly ports: readonly PortRange[] },
    dialing: Dialing,
  ) {
    this.#attempt = new Attempt(
      {
        ...where,
        targets: [target],
        from: undefined,
        limitMs: CONNECT_MS,
        done: (stream) => this.#dialed(stream),
      },
      dialing,
    );
    this.#attempt.begin();
  }

  #dialed(stream: Stream | undefined): void {
    this.#attempt = undefined;
    if (stream === undefined) {
      this.close();
      return;
    }
    this.#stream = stream;
    stream.owner = this;
    stream.start();
    this.#go();
  }

  /** Copies: the chunk is the conversation's. */
  write(chunk: Uint8Array): void {
    if (this.#isOver) return;
    this.#waitingBytes += chunk.length;
    if (this.#waitingBytes > MAX_WAITING_BYTES) {
      this.close();
      return;
    }
    this.#waiting.push(Uint8Array.from(chunk));
    this.#go();
  }

  end(): void {
    this.#hasEnded = true;
    this.#go();
  }

  #go(): void {
    const stream = this.#stream;
    if (stream === undefined || this.#isPending || this.#isOver) return;
    if (this.#waiting.length > 0) {
      const chunk = Buffer.concat(this.#waiting);
      this.#waiting = [];
      this.#waitingBytes = 0;
      this.#isPending = stream.write(chunk) === 'pending';
    }
    if (this.#hasEnded && !this.#isPending) stream.end();
  }

  close(): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#attempt?.giveUp();
    this.#waiting = [];
    this.#stream?.close();
  }

  /** Gives up what takes too long. Reports whether it is over. */
  look(nowMs: number): boolean {
    this.#attempt?.look(nowMs);
    if (this.#closeAtMs === undefined && this.#hasEnded) this.#closeAtMs = nowMs + LINGER_MS;
    if (this.#closeAtMs !== undefined && nowMs >= this.#closeAtMs) this.close();
    return this.#isOver;
  }

  received(): void {
    // Nobody wants its answers.
  }

  ended(): void {
    // Until then it still gets what the client sends.
    if (this.#hasEnded && !this.#isPending) this.close();
  }

  drained(): void {
    this.#isPending = false;
    this.#go();
  }

  failed(): void {
    this.close();
  }
}
