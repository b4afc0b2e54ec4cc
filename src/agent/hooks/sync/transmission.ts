/**
 * Transmission's port, by its RPC (docs/rpc-spec.md of Transmission 4.0 and before; 4.1 still takes it). A
 * request needs the session's id, which the answer to one without it tells (HTTP 409).
 */

import * as v from 'valibot';
import { NatwardError } from '../../../errors.ts';
import type { WebResponse } from '../../../system/web.ts';
import { below, checkStatus, readJson, readValue, type Service } from '../service.ts';

const SESSION_ID = 'X-Transmission-Session-Id';

/** Since 4.0 */
const MOVES_UDP = 17;

const answerSchema = v.object({ result: v.string(), arguments: v.optional(v.unknown()) });
const sessionSchema = v.object({
  'peer-port': v.number(),
  'rpc-version': v.number(),
  'dht-enabled': v.boolean(),
});

type Session = v.InferOutput<typeof sessionSchema>;

/** Throws where the port does not hold afterwards. */
export async function setTransmissionPort(service: Service, url: string, port: number): Promise<void> {
  const rpc = new Rpc(service, endpointOf(url));
  const before = await rpc.session();
  // A port that was random at each start would be another one after the next.
  await rpc.call('session-set', { 'peer-port': port, 'peer-port-random-on-start': false });
  const { 'peer-port': actual } = await rpc.session();
  if (actual !== port) throw new NatwardError('REFUSED', `it stays at port ${actual}`);
  if (before['peer-port'] !== port) await moveUdp(rpc, before);
}

/**
 * Before 4.0 only the TCP socket moves (transmission issue 973); the UDP socket, which carries DHT and uTP, is
 * opened anew when DHT is switched. Where the person has DHT off, it is left off, and UDP where it is.
 */
async function moveUdp(rpc: Rpc, before: Session): Promise<void> {
  if (before['rpc-version'] >= MOVES_UDP || !before['dht-enabled']) return;
  await rpc.call('session-set', { 'dht-enabled': false });
  await rpc.call('session-set', { 'dht-enabled': true }).catch((cause: unknown) => {
    throw new NatwardError(
      'FAILED',
      'its DHT was switched off, to move its UDP port, and does not come back',
      {
        advice: 'Switch DHT on again in its settings.',
        cause,
      },
    );
  });
}

class Rpc {
  readonly #service: Service;
  readonly #url: string;
  #sessionId = '';

  constructor(service: Service, url: string) {
    this.#service = service;
    this.#url = url;
  }

  async session(): Promise<Session> {
    const answer = await this.call('session-get', { fields: Object.keys(sessionSchema.entries) });
    return readValue(sessionSchema, answer);
  }

  async call(method: string, args: unknown): Promise<unknown> {
    const body = JSON.stringify({ method, arguments: args });
    let response = await this.#post(body);
    if (response.status === 409) {
      this.#sessionId = response.headers.get(SESSION_ID) ?? '';
      response = await this.#post(body);
    }
    checkHost(response);
    checkStatus(response);
    const { result, arguments: answer } = readJson(answerSchema, response.body);
    if (result !== 'success') throw new NatwardError('REFUSED', `it says: ${result.slice(0, 100)}`);
    return answer;
  }

  #post(body: string): Promise<WebResponse> {
    const session = this.#sessionId === '' ? {} : { [SESSION_ID]: this.#sessionId };
    const headers = { 'Content-Type': 'application/json', ...session };
    return this.#service.ask({ method: 'POST', url: this.#url, headers, body });
  }
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
