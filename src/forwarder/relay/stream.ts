/**
 * TCP connections as the relay needs them: read into a buffer that is used again, written from that very buffer, with
 * FIN and RST told apart. Two makers keep this contract: handles.ts, Node's own handles without what node:net puts
 * around them, and sockets.ts, node:net itself, where the handles are not to be had.
 */

import type { Endpoint } from '../../net/endpoint.ts';

/** Hears what becomes of a stream. None of it is called again after `failed`, or after the owner has closed it. */
export interface StreamOwner {
  /**
   * The chunk is valid until this returns; where it was written on and is pending there, until that is drained, and
   * the owner has stopped this stream.
   */
  received(stream: Stream, chunk: Uint8Array): void;
  /** The other end will send no more. */
  ended(stream: Stream): void;
  /** All that was pending has gone. */
  drained(stream: Stream): void;
  /** It is closed. `code` is the system's word: ECONNRESET, ETIMEDOUT. */
  failed(stream: Stream, code: string): void;
}

export interface Stream {
  owner: StreamOwner;
  readonly remote: Endpoint | undefined;
  readonly local: Endpoint | undefined;
  /** Begins to read, or goes on. */
  start(): void;
  stop(): void;
  /** Gives the chunk to the kernel. `pending`: a part waits, and nothing more may be written until `drained`. */
  write(chunk: Uint8Array): 'sent' | 'pending';
  /** Sends FIN, once what is pending has gone. */
  end(): void;
  /** Sends RST and closes. */
  reset(): void;
  /** What is pending is lost. */
  close(): void;
  /** It has been quiet for a while: its buffer may be small again. */
  rest(): void;
}

export interface StreamListener {
  /** Where it really listens. */
  readonly endpoint: Endpoint;
  close(): void;
}

export interface Dial {
  readonly to: Endpoint;
  /** Where it comes from; undefined: as the machine sees fit. */
  readonly from: { readonly address: string | undefined; readonly port: number | undefined } | undefined;
  /** Called once, with a stream that has not been started, or the system's word for why not. */
  readonly done: (stream: Stream | undefined, code: string | undefined) => void;
}

export interface Streams {
  /** Throws a SystemError's code as `ListenError`. `accepted` gets streams that have not been started. */
  listen(
    at: { readonly address: string; readonly port: number },
    accepted: (stream: Stream) => void,
    failed: (code: string) => void,
  ): StreamListener | Promise<StreamListener>;
  /** Returns how to give up. */
  connect(dial: Dial): () => void;
}

/** A client that says nothing for so long is asked whether it is still there. */
export const KEEP_ALIVE_SECONDS = 120;

/** A port that cannot be listened on, by the system's word. */
export class ListenError extends Error {
  readonly code: string;

  constructor(code: string) {
    super(code);
    this.code = code;
  }
}

/** Owns what has no owner yet. */
export const NOBODY: StreamOwner = { received: ignore, ended: ignore, drained: ignore, failed: ignore };

export function ignore(): void {
  // What happens to nobody's stream, and after the end.
}
