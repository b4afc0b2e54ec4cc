/**
 * Transmission's port, by its RPC (docs/rpc-spec.md of Transmission 4.0 and before; 4.1 still takes it). A
 * request needs the session's id, which the answer to one without it tells (HTTP 409).
 */

import * as v from 'valibot';
import { NatwardError } from '../../../errors.ts';
import type { WebResponse } from '../../../system/web.ts';
import { below, checkStatus, readJson, type Service } from '../service.ts';

const SESSION_ID = 'X-Transmission-Session-Id';

const answerSchema = v.object({ result: v.string(), arguments: v.optional(v.unknown()) });
const sessionSchema = v.object({ 'peer-port': v.number() });

/** Throws where the port does not hold afterwards. */
export async function setTransmissionPort(service: Service, url: string, port: number): Promise<void> {
  let sessionId = '';
  const post = (body: string): Promise<WebResponse> =>
    service.ask({
      method: 'POST',
      url: endpointOf(url),
      headers: {
        'Content-Type': 'application/json',
        ...(sessionId === '' ? {} : { [SESSION_ID]: sessionId }),
      },
      body,
    });
  const call = async (method: string, args: unknown): Promise<unknown> => {
    const body = JSON.stringify({ method, arguments: args });
    let response = await post(body);
    if (response.status === 409) {
      sessionId = response.headers.get(SESSION_ID) ?? '';
      response = await post(body);
    }
    checkHost(response);
    checkStatus(response);
    const { result, arguments: answer } = readJson(answerSchema, response.body);
    if (result !== 'success') throw new NatwardError('REFUSED', `it says: ${result.slice(0, 100)}`);
    return answer;
  };

  // A port that was random at each start would be another one after the next.
  await call('session-set', { 'peer-port': port, 'peer-port-random-on-start': false });
  const session = v.safeParse(sessionSchema, await call('session-get', { fields: ['peer-port'] }));
  const actual = session.success ? session.output['peer-port'] : 'it does not tell';
  if (actual !== port) throw new NatwardError('REFUSED', `it stays at port ${actual}`);
}

/** The RPC is at /transmission/rpc, unless the person says more than where the host is. */
function endpointOf(url: string): string {
  const { pathname } = new URL(url);
  if (pathname.endsWith('/rpc')) return url;
  return below(new URL(url), pathname === '/' ? 'transmission/rpc' : 'rpc');
}

function checkHost({ status }: WebResponse): void {
  if (status !== 421) return;
  throw new NatwardError('NOT_AUTHORIZED', 'it does not answer to the host name of its URL (HTTP 421)', {
    advice: 'Write its IP address, or add the name to its rpc-host-whitelist.',
  });
}
