/** Tells a web service of an event: a POST with the event as JSON, tried again while it may help. */

import { NatwardError } from '../../errors.ts';
import type { HookedEvent, WebhookHook } from './hook.ts';
import type { Rest } from './lanes.ts';
import { checkStatus, mayPass, type Reach, Service } from './service.ts';

/** Five minutes in all: a service that is being restarted misses nothing. */
const RETRY_SECONDS = [1, 2, 4, 8, 16, 32, 60, 60, 60, 60];

/** Throws as the last try did. A service may hear of the same event twice: `id` and `at` tell. */
export async function callWebhook(
  reach: Reach,
  hook: WebhookHook,
  event: HookedEvent,
  rest: Rest,
): Promise<void> {
  const body = JSON.stringify(event);
  for (let tries = 0; ; tries++) {
    try {
      const response = await new Service(reach, hook).ask({
        method: 'POST',
        url: hook.url,
        headers: { 'Content-Type': 'application/json' },
        body,
      });
      checkStatus(response);
      return;
    } catch (error) {
      const seconds = RETRY_SECONDS[tries];
      if (!(error instanceof NatwardError) || !mayPass(error) || seconds === undefined) throw error;
      if (!(await rest(seconds * 1000))) throw error;
    }
  }
}
