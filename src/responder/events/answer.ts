/**
 * Answers SUBSCRIBE and UNSUBSCRIBE. A subscriber is told at its own address and nowhere else: one that could name
 * another would have the gateway call whomever it likes (CallStranger, CVE-2020-12695).
 */

import { isLoopback, withoutZone } from '../../net/address.ts';
import type { Callback } from '../../wire/gena.ts';
import { decodeGena } from '../../wire/gena.ts';
import { type HttpAnswer, type HttpRequest, plainAnswer } from '../http-reply.ts';
import type { Service } from '../services.ts';
import type { Site } from '../site.ts';
import type { Publisher } from './publisher.ts';
import type { Subscription } from './subscriptions.ts';

/** A subscriber reads the answer on one connection, and the message on another. */
const FIRST_MESSAGE_MS = 200;
const HTTP_PORT = 80;
/** Below are services that the hosts behind a NAT, which is one address, would not want called for each other. */
const FIRST_FREE_PORT = 1024;

export function answerGena(
  request: HttpRequest,
  service: Service,
  publisher: Publisher,
  site: Site,
): HttpAnswer {
  const { method, header, source } = request;
  if (method !== 'SUBSCRIBE' && method !== 'UNSUBSCRIBE') {
    return plainAnswer(405, { Allow: 'SUBSCRIBE, UNSUBSCRIBE' });
  }
  const wish = decodeGena(method, header);
  const { subscriptions } = publisher;
  const accepted = (subscription: Subscription, sent?: () => void): HttpAnswer => ({
    ...plainAnswer(200, {
      SID: subscription.sid,
      TIMEOUT: `Second-${subscriptions.secondsLeft(subscription)}`,
    }),
    ...(sent === undefined ? {} : { sent }),
  });
  switch (wish.kind) {
    case 'refused':
      return plainAnswer(wish.status);
    case 'subscribe': {
      const callbacks = wish.callbacks.filter((callback) => mayBeCalled(callback, request, site));
      if (callbacks.length === 0) return plainAnswer(412);
      const called = callbacks.map((callback) => ({ ...callback, address: request.peer }));
      const place = { service, source, ownAddress: request.address, callbacks: called };
      const subscription = subscriptions.add(place, wish.timeoutSeconds);
      if (subscription === undefined) return plainAnswer(503);
      // UDA 2.0, section 4.1.2: the first message comes after this answer, and GUPnP loses one that it reads before.
      return accepted(subscription, () => {
        site.clock.sleep(FIRST_MESSAGE_MS, site.closing).then(
          () => {
            if (subscriptions.has(subscription)) publisher.tell(subscription);
          },
          () => undefined, // It closes.
        );
      });
    }
    default: {
      const subscription = subscriptions.find(wish.sid, service, source);
      if (subscription === undefined) return plainAnswer(412);
      if (wish.kind === 'unsubscribe') {
        subscriptions.delete(subscription);
        return plainAnswer(200);
      }
      subscriptions.renew(subscription, wish.timeoutSeconds);
      return accepted(subscription);
    }
  }
}

function mayBeCalled({ address, port }: Callback, { source }: HttpRequest, { settings }: Site): boolean {
  if (address !== source || (port < FIRST_FREE_PORT && port !== HTTP_PORT)) return false;
  const isOwn = settings.addresses.some((own) => withoutZone(own) === source);
  return !isOwn || isLoopback(source);
}
