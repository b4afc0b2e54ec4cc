/**
 * One mapped UDP port. Each peer outside gets a socket of its own towards the inside, so that the answers
 * find their way back; it is closed after a silence (RFC 4787, section 4.3), and their number is bounded.
 */

import type { Socket } from 'node:dgram';
import { type Endpoint, formatEndpoint } from '../net/endpoint.ts';
import { ANY_IPV4, ANY_IPV6, family } from '../net/address.ts';
import type { Clock } from '../system/clock.ts';
import type { Budget } from './budget.ts';
import { bindDatagram, closeDatagram, sendDatagram } from './datagram.ts';
import type { Listener, Route } from './relay.ts';

interface Conversation {
  readonly target: Endpoint;
  readonly socket: Promise<Socket>;
  readonly ended: AbortController;
  lastMs: number;
}

/** Rejects where the port cannot be had. */
export async function listenUdp(
  at: Endpoint,
  route: Route,
  budget: Budget,
  idleMs: number,
  clock: Clock,
): Promise<Listener> {
  const outer = await bindDatagram(at);
  const conversations = new Map<string, Conversation>();

  const end = async (key: string) => {
    const conversation = conversations.get(key);
    if (conversation === undefined) return;
    conversations.delete(key);
    conversation.ended.abort();
    budget.give();
    await conversation.socket.then(closeDatagram, () => undefined);
  };

  const begin = (peer: Endpoint, target: Endpoint): Conversation => {
    const any = family(target.address) === 6 ? ANY_IPV6 : ANY_IPV4;
    const conversation: Conversation = {
      target,
      socket: bindDatagram({ address: any, port: 0 }),
      ended: new AbortController(),
      lastMs: clock.now(),
    };
    conversation.socket.then(
      (socket) =>
        socket.on('message', (packet, from) => {
          if (from.address !== target.address || from.port !== target.port) return;
          conversation.lastMs = clock.now();
          void sendDatagram(outer, packet, peer);
        }),
      ignore,
    );
    return conversation;
  };

  const untilIdle = async (key: string, conversation: Conversation) => {
    for (;;) {
      const leftMs = conversation.lastMs + idleMs - clock.now();
      if (leftMs <= 0) return end(key);
      await clock.sleep(leftMs, conversation.ended.signal);
    }
  };

  outer.on('message', (packet, from) => {
    const peer: Endpoint = { address: from.address, port: from.port };
    const key = formatEndpoint(peer);
    const target = route(peer);
    let conversation = conversations.get(key);
    const moved = conversation !== undefined && !same(conversation.target, target);
    if (moved) {
      void end(key);
      conversation = undefined;
    }
    if (target === undefined) return;
    if (conversation === undefined) {
      if (!budget.take()) return;
      conversation = begin(peer, target);
      conversations.set(key, conversation);
      untilIdle(key, conversation).catch(ignore);
    }
    conversation.lastMs = clock.now();
    conversation.socket.then(
      (socket) => sendDatagram(socket, packet, target),
      () => end(key),
    );
  });

  return {
    async close() {
      await Promise.all([...conversations.keys()].map((key) => end(key)));
      await closeDatagram(outer);
    },
  };
}

function same(a: Endpoint, b: Endpoint | undefined): boolean {
  return a.address === b?.address && a.port === b.port;
}

function ignore(): void {}
