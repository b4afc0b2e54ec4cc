/** Brings one NOTIFY to its subscriber: one connection, a few seconds, and nothing read but the answer's first line. */

import { connect } from 'node:net';
import type { Endpoint } from '../../net/endpoint.ts';
import { type IpAddress, withoutZone } from '../../net/address.ts';
import { type Clock, OVER } from '../../system/clock.ts';

const DELIVERY_MS = 5_000;
const MAX_LINE_CHARS = 256;

/** Resolves with the status that the subscriber answered; undefined where none came. */
export function deliver(
  message: string,
  to: Endpoint,
  from: IpAddress,
  { clock, closing }: { readonly clock: Clock; readonly closing: AbortSignal },
): Promise<number | undefined> {
  return new Promise((resolve) => {
    const over = new AbortController();
    const localAddress = to.address.includes('%') ? from : withoutZone(from);
    const socket = connect({ host: to.address, port: to.port, localAddress, noDelay: true });
    const cut = () => socket.destroy();
    let heard = '';
    socket.on('connect', () => socket.write(message));
    socket.on('data', (chunk) => {
      heard += chunk.toString('latin1', 0, MAX_LINE_CHARS);
      if (heard.includes('\n') || heard.length > MAX_LINE_CHARS) cut();
    });
    socket.on('error', cut);
    socket.on('end', cut);
    socket.on('close', () => {
      over.abort(OVER);
      closing.removeEventListener('abort', cut);
      const status = /^HTTP\/1\.[01] (\d{3})[^\d]/.exec(heard)?.[1];
      resolve(status === undefined ? undefined : Number(status));
    });
    closing.addEventListener('abort', cut, { once: true });
    clock.sleep(DELIVERY_MS, over.signal).then(cut, () => undefined);
    if (closing.aborted) cut();
  });
}
