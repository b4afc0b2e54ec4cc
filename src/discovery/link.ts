/**
 * One UDP conversation with port 5351 of a gateway, which PCP and NAT-PMP share. Requests are sent again
 * until an answer is accepted, the schedule ends, or the gateway's host refuses. Every datagram is read
 * once; one from elsewhere, one that cannot be read and one that answers nothing are dropped and counted.
 */

import { NatwardError } from '../errors.ts';
import { withoutZone } from '../net/address.ts';
import { type Endpoint, formatEndpoint } from '../net/endpoint.ts';
import { aborted, type Clock, OVER } from '../system/clock.ts';
import type { System } from '../system/system.ts';
import type { UdpSocket } from '../system/udp.ts';
import { decodeNatpmpResponse, NATPMP_VERSION, type NatpmpResponse } from '../wire/natpmp.ts';
import { decodePcpResponse, PCP_MAX_BYTES, type PcpResponse } from '../wire/pcp.ts';
import type { Gateway } from './gateway.ts';

export type LinkMessage =
  | ({ readonly version: 0 } & NatpmpResponse)
  | ({ readonly version: 2 } & PcpResponse);

/**
 * When a request is sent, and when its sender gives up: milliseconds from the first sending, stretched where
 * the gateway is known to take longer.
 */
export interface Schedule {
  readonly sendAtMs: readonly number[];
  readonly deadlineMs: number;
}

/**
 * A person waits for the answer: a probe is repeated sooner than RFC 6887, section 8.1.1 (3 s) and RFC 6886,
 * section 3.1 (250 ms) say, and five packets are all.
 */
export const PROBE_SCHEDULE: Schedule = { sendAtMs: [0, 100, 300, 700, 1300], deadlineMs: 2000 };

/**
 * A grant is work for the gateway, each copy of the request again: miniupnpd walks its permissions port by
 * port. So RFC 6886, section 3.1: 250 ms, doubling.
 */
export const GRANT_SCHEDULE: Schedule = { sendAtMs: [0, 250, 750, 1750], deadlineMs: 3000 };

/** Nobody waits: RFC 6886, section 3.1, 250 ms, doubling, nine in all. */
export const NATPMP_BACKGROUND_SCHEDULE: Schedule = {
  sendAtMs: [0, 250, 750, 1750, 3750, 7750, 15_750, 31_750, 63_750],
  deadlineMs: 127_750,
};

/**
 * Nobody waits: RFC 6887, section 8.1.1, 3 s, doubling, each wait up to a tenth longer or shorter. The RFC
 * knows no last try; here the next protocol is asked after the fourth. `random` is 0 to 1.
 */
export function pcpBackgroundSchedule(random: () => number): Schedule {
  const sendAtMs = [0];
  let waitMs = 3000 * (0.9 + 0.2 * random());
  let atMs = 0;
  for (let sent = 1; sent <= 4; sent++) {
    atMs += waitMs;
    sendAtMs.push(atMs);
    waitMs *= 1.9 + 0.2 * random();
  }
  return { sendAtMs: sendAtMs.slice(0, 4), deadlineMs: atMs };
}

export interface Stops {
  /** Gives up. */
  readonly signal?: AbortSignal | undefined;
  /** Nothing more is sent; an answer to what was sent is still taken. */
  readonly enough?: AbortSignal | undefined;
}

interface Pending {
  readonly offer: (message: LinkMessage) => boolean;
  readonly fail: (error: NatwardError) => void;
}

export class GatewayLink implements AsyncDisposable {
  readonly remote: Endpoint;
  /** Datagrams that were no answer to anything asked. */
  dropped = 0;
  readonly #pending = new Set<Pending>();
  readonly #pace = new Pace();
  #refusal: NatwardError | undefined;
  #socket: UdpSocket | undefined;
  readonly #clock: Clock;

  private constructor(remote: Endpoint, clock: Clock) {
    this.remote = remote;
    this.#clock = clock;
  }

  static async open(system: System, gateway: Gateway): Promise<GatewayLink> {
    const link = new GatewayLink({ address: gateway.address, port: gateway.ports.pcp }, system.clock);
    link.#socket = await system.openUdp({
      family: gateway.family,
      localAddress: gateway.localAddress,
      peer: link.remote,
      onDatagram: (data, source) => link.#receive(data, source),
      onRefused: (cause) => link.#refuse(cause),
    });
    return link;
  }

  /** This host's address as the gateway sees it, unless a NAT is between. */
  get localAddress(): string {
    return withoutZone((this.#socket as UdpSocket).local.address);
  }

  /**
   * Sends `packet` by the schedule until `accept` returns a value for a message. `accept` throws to
   * turn a message into a refusal. Rejects with TIMEOUT, UNREACHABLE, ABORTED, or what `accept` threw.
   */
  request<T>(
    packet: Uint8Array,
    accept: (message: LinkMessage) => T | undefined,
    schedule: Schedule,
    { signal, enough }: Stops,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      const stopSending = new AbortController();
      const settle = (act: () => void) => {
        this.#pending.delete(pending);
        signal?.removeEventListener('abort', stop);
        stopSending.abort(OVER);
        act();
      };
      const sent = { atMs: this.#clock.now(), times: 0 };
      const pending: Pending = {
        offer: (message) => {
          try {
            const value = accept(message);
            if (value === undefined) return false;
            this.#pace.answered(this.#clock.now() - sent.atMs, sent.times);
            settle(() => resolve(value));
          } catch (error) {
            settle(() => reject(error));
          }
          return true;
        },
        fail: (error) => settle(() => reject(error)),
      };
      const stop = () => pending.fail(aborted(signal as AbortSignal));
      if (signal?.aborted) return stop();
      if (this.#refusal !== undefined) return pending.fail(this.#refusal);
      signal?.addEventListener('abort', stop, { once: true });
      this.#pending.add(pending);
      void this.#send(packet, this.#pace.stretch(schedule), pending, sent, stopSending.signal, enough);
    });
  }

  async #send(
    packet: Uint8Array,
    schedule: Schedule,
    pending: Pending,
    sent: { times: number },
    signal: AbortSignal,
    enough?: AbortSignal,
  ): Promise<void> {
    try {
      let elapsedMs = 0;
      for (const atMs of schedule.sendAtMs) {
        if (atMs > elapsedMs) await this.#clock.sleep(atMs - elapsedMs, signal);
        elapsedMs = atMs;
        if (enough?.aborted) continue;
        this.#socket?.send(packet);
        sent.times++;
      }
      await this.#clock.sleep(schedule.deadlineMs - elapsedMs, signal);
    } catch {
      return; // Settled meanwhile: the sleep was cut.
    }
    const seconds = Math.round(schedule.deadlineMs / 100) / 10;
    pending.fail(
      new NatwardError('TIMEOUT', `${formatEndpoint(this.remote)} did not answer within ${seconds} s`),
    );
  }

  #receive(data: Uint8Array, source: Endpoint): void {
    const message = this.#isRemote(source) ? decode(data) : undefined;
    if (message !== undefined) {
      for (const pending of this.#pending) if (pending.offer(message)) return;
    }
    this.dropped++;
  }

  #isRemote(source: Endpoint): boolean {
    return (
      source.port === this.remote.port && withoutZone(source.address) === withoutZone(this.remote.address)
    );
  }

  #refuse(cause: NodeJS.ErrnoException): void {
    const why =
      cause.code === 'ECONNREFUSED' ? 'nothing listens there (ICMP port unreachable)' : cause.message;
    this.#refusal = new NatwardError('UNREACHABLE', `${formatEndpoint(this.remote)} refused: ${why}`, {
      cause,
    });
    for (const pending of this.#pending) pending.fail(this.#refusal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#refusal = new NatwardError(
      'ABORTED',
      `the conversation with ${formatEndpoint(this.remote)} is over`,
    );
    for (const pending of this.#pending) pending.fail(this.#refusal);
    await this.#socket?.[Symbol.asyncDispose]();
  }
}

/**
 * How long this gateway takes, in the manner of RFC 6298. miniupnpd takes 50 ms a mapping, one after the
 * other: packets repeated by the clock alone would keep it busy with copies.
 */
class Pace {
  #smoothedMs: number | undefined;
  #variationMs = 0;

  /** Answers to repeated requests say nothing (Karn): which copy was answered is not known. */
  answered(durationMs: number, timesSent: number): void {
    if (timesSent !== 1) return;
    if (this.#smoothedMs === undefined) {
      this.#smoothedMs = durationMs;
      this.#variationMs = durationMs / 2;
      return;
    }
    this.#variationMs += (Math.abs(durationMs - this.#smoothedMs) - this.#variationMs) / 4;
    this.#smoothedMs += (durationMs - this.#smoothedMs) / 8;
  }

  stretch(schedule: Schedule): Schedule {
    const firstRetryMs = schedule.sendAtMs[1] ?? schedule.deadlineMs;
    const factor = ((this.#smoothedMs ?? 0) + 4 * this.#variationMs) / firstRetryMs;
    if (factor <= 1) return schedule;
    return {
      sendAtMs: schedule.sendAtMs.map((atMs) => atMs * factor),
      deadlineMs: schedule.deadlineMs * factor,
    };
  }
}

function decode(data: Uint8Array): LinkMessage | undefined {
  if (data.length > PCP_MAX_BYTES) return undefined;
  try {
    return data[0] === NATPMP_VERSION
      ? { version: 0, ...decodeNatpmpResponse(data) }
      : { version: 2, ...decodePcpResponse(data) };
  } catch {
    return undefined; // MALFORMED is all that the decoders throw; the caller counts it.
  }
}
