/** Both ends of a TCP conversation through a forwarder. Nothing is read that no case asked for. */

import { connect, type Socket } from 'node:net';
import type { Context } from './context.ts';
import { CHUNK_BYTES, type Pattern } from './pattern.ts';
import type { Endpoint } from './program.ts';

/** How the other side ended its direction: in order, or with a reset. */
export type Ending = 'FIN' | 'RST';

const LIMIT_MS = 5000;

export class TcpPeer {
  readonly socket: Socket;
  #ending: Ending | undefined;
  readonly #waiting = new Set<() => void>();

  constructor(socket: Socket, context: Context) {
    this.socket = socket;
    context.defer(() => socket.destroy());
    socket.setNoDelay(true);
    socket.on('readable', () => this.#changed());
    socket.on('drain', () => this.#changed());
    socket.on('end', () => {
      this.#ending ??= 'FIN';
      this.#changed();
    });
    socket.on('error', () => {
      this.#ending ??= 'RST';
      this.#changed();
    });
    socket.on('close', () => this.#changed());
  }

  /** Writes all of it, and waits while the forwarder takes no more. */
  async write(bytes: Buffer | string, withinMs: number = LIMIT_MS): Promise<void> {
    if (this.socket.write(bytes)) return;
    await this.#until(
      () => !this.socket.writableNeedDrain || this.socket.destroyed,
      withinMs,
      () => {
        return `nothing more was taken for ${withinMs} ms`;
      },
    );
    if (this.socket.destroyed) throw new Error(`the conversation was cut (${this.#ending ?? 'closed'})`);
  }

  /** Writes `count` bytes of the pattern, from `offset` on. */
  async pour(
    pattern: Pattern,
    count: number,
    offset: number = 0,
    withinMs: number = LIMIT_MS,
  ): Promise<void> {
    for (let done = 0; done < count; done += CHUNK_BYTES)
      await this.write(pattern.bytes(offset + done, Math.min(CHUNK_BYTES, count - done)), withinMs);
  }

  /** The next bytes, at least one and at most `limit`; nothing where the other side has ended. */
  async some(limit: number, withinMs: number = LIMIT_MS): Promise<Buffer> {
    let bytes: Buffer | null = null;
    await this.#until(
      () => {
        const ready = Math.min(limit, this.socket.readableLength);
        // A read of nothing starts the next one from the kernel.
        bytes = this.socket.read(ready) as Buffer | null;
        return bytes !== null || this.#over();
      },
      withinMs,
      () => `nothing arrived for ${Math.round(withinMs)} ms`,
    );
    return bytes ?? Buffer.alloc(0);
  }

  /** Exactly `count` bytes. */
  async read(count: number, withinMs: number = LIMIT_MS): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let missing = count; missing > 0; ) {
      const part = await this.some(missing, withinMs);
      if (part.length === 0) throw new Error(this.#cut(count - missing, count));
      parts.push(part);
      missing -= part.length;
    }
    return Buffer.concat(parts);
  }

  /** Reads `count` bytes that have to be the pattern's. */
  async drink(
    pattern: Pattern,
    count: number,
    offset: number = 0,
    withinMs: number = LIMIT_MS,
  ): Promise<void> {
    for (let done = 0; done < count; ) {
      const part = await this.some(Math.min(CHUNK_BYTES, count - done), withinMs);
      if (part.length === 0) throw new Error(this.#cut(done, count));
      pattern.check(offset + done, part);
      done += part.length;
    }
  }

  /** How the other side ends. What arrives before is thrown away. */
  async ending(withinMs: number = LIMIT_MS): Promise<Ending> {
    const deadlineMs = performance.now() + withinMs;
    const stillOpen = (): never => {
      throw new Error(`the conversation was still open after ${withinMs} ms`);
    };
    while ((await this.some(CHUNK_BYTES, deadlineMs - performance.now()).catch(stillOpen)).length > 0);
    return this.#ending ?? 'RST';
  }

  /** The other side ends in order, and before that nothing arrives. */
  async expectEnd(withinMs: number = LIMIT_MS): Promise<void> {
    const rest = await this.some(CHUNK_BYTES, withinMs);
    if (rest.length > 0) throw new Error(`${rest.length} bytes too many arrived`);
    if (this.#ending !== 'FIN') throw new Error('a reset arrived where an end should');
  }

  #over(): boolean {
    return this.#ending !== undefined || this.socket.destroyed;
  }

  #cut(arrived: number, wanted: number): string {
    return `only ${arrived} of ${wanted} bytes arrived before ${this.#ending ?? 'the end'}`;
  }

  #changed(): void {
    for (const wake of this.#waiting) wake();
  }

  async #until(reached: () => boolean, withinMs: number, otherwise: () => string): Promise<void> {
    if (reached()) return;
    await new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(look);
        reject(new Error(otherwise()));
      }, withinMs);
      const look = (): void => {
        if (!reached()) return;
        clearTimeout(timer);
        this.#waiting.delete(look);
        resolve();
      };
      this.#waiting.add(look);
    });
  }
}

/** A client's conversation with whatever listens at `endpoint`. */
export function openTcp(context: Context, endpoint: Endpoint, from?: string): Promise<TcpPeer> {
  return new Promise((resolve, reject) => {
    const { address: host, port } = endpoint;
    // A local address that is named takes a port for itself alone, and they run out.
    const localAddress = from === undefined ? {} : { localAddress: from };
    const socket = connect({ host, port, ...localAddress, allowHalfOpen: true });
    context.defer(() => socket.destroy());
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.removeListener('error', reject);
      resolve(new TcpPeer(socket, context));
    });
  });
}

/** What becomes of a client that should not get through: when, and how it learns of it. */
export async function turnedAway(
  context: Context,
  endpoint: Endpoint,
  withinMs: number,
  from?: string,
): Promise<{ readonly how: 'refused' | Ending; readonly afterMs: number }> {
  const startedMs = performance.now();
  const afterMs = () => performance.now() - startedMs;
  let peer: TcpPeer;
  try {
    peer = await openTcp(context, endpoint, from);
  } catch {
    return { how: 'refused', afterMs: afterMs() };
  }
  const how = await peer.ending(withinMs);
  return { how, afterMs: afterMs() };
}
