/** Servers for rules to point at: ones that a case speaks for, and ones that echo. */

import { createServer } from 'node:net';
import type { Context } from './context.ts';
import { CHUNK_BYTES } from './pattern.ts';
import type { Endpoint } from './program.ts';
import { TcpPeer } from './tcp-peer.ts';

const LIMIT_MS = 5000;
/** The longest that a timer can. */
const FOR_EVER_MS = 2 ** 31 - 1;

export interface TcpTarget {
  readonly endpoint: Endpoint;
  /** How many conversations have arrived. */
  readonly count: number;
  /** The next conversation that arrives. */
  accepted(withinMs?: number): Promise<TcpPeer>;
}

/** A server for a rule to point at. With `serve` it does that with each conversation; otherwise the case does. */
export async function tcpTarget(
  context: Context,
  serve?: (peer: TcpPeer) => void,
  endpoint: Endpoint = { address: '127.0.0.1', port: 0 },
): Promise<TcpTarget> {
  const arrived: TcpPeer[] = [];
  let [count, wake] = [0, (): void => {}];
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    const peer = new TcpPeer(socket, context);
    count++;
    if (serve === undefined) arrived.push(peer);
    else serve(peer);
    wake();
  });
  context.defer(() => server.close());
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host: endpoint.address, port: endpoint.port, backlog: 4096 }, resolve);
  });
  const bound = server.address();
  return {
    endpoint: { address: endpoint.address, port: typeof bound === 'object' ? (bound?.port ?? 0) : 0 },
    get count() {
      return count;
    },
    accepted: async (withinMs = LIMIT_MS) => {
      const next = arrived.shift();
      if (next !== undefined) return next;
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(
          () => reject(new Error(`no conversation reached the target in ${withinMs} ms`)),
          withinMs,
        );
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      const peer = arrived.shift();
      if (peer === undefined) throw new Error('no conversation reached the target');
      return peer;
    },
  };
}

/** A server that sends back what it gets. */
export function echoTarget(context: Context, endpoint?: Endpoint): Promise<TcpTarget> {
  // Where it cannot, its client gets too little, and says so.
  return tcpTarget(context, (peer) => void echo(peer).catch(() => {}), endpoint);
}

async function echo(peer: TcpPeer): Promise<void> {
  for (;;) {
    const part = await peer.some(CHUNK_BYTES, FOR_EVER_MS);
    if (part.length === 0) break;
    await peer.write(part, FOR_EVER_MS);
  }
  peer.socket.end();
}
