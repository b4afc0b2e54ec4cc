/**
 * One mapped TCP port. Each side may finish sending while it still receives, as over a real NAT, and a
 * connection that breaks on one side is reset on the other, so that nobody takes a break for an end.
 */

import { connect, createServer, type Socket } from 'node:net';
import { family } from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';
import type { Budget } from './budget.ts';
import type { Listener, Route } from './relay.ts';

/** A host that does not answer by then is off. */
const CONNECT_TIMEOUT_MS = 10_000;
/** Finds peers that vanished, which would otherwise keep their place for ever. */
const KEEP_ALIVE_MS = 60_000;

/** Rejects where the port cannot be had. */
export function listenTcp(at: Endpoint, route: Route, connections: Budget): Promise<Listener> {
  const open = new Set<Socket>();
  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (inbound) => {
    inbound.on('error', ignore);
    const { remoteAddress, remotePort } = inbound;
    const known = remoteAddress !== undefined && remotePort !== undefined;
    const target = known ? route({ address: remoteAddress, port: remotePort }) : undefined;
    if (target === undefined || !connections.take()) {
      inbound.resetAndDestroy();
      return;
    }
    const outbound = connect({ host: target.address, port: target.port, allowHalfOpen: true });
    join(inbound, outbound);
    for (const socket of [inbound, outbound]) {
      open.add(socket);
      socket.once('close', () => open.delete(socket));
    }
    inbound.once('close', () => connections.give());
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    const ipv6Only = family(at.address) === 6;
    server.listen({ host: at.address, port: at.port, exclusive: true, ipv6Only }, () => {
      server.off('error', reject);
      server.on('error', ignore);
      resolve({
        close: () =>
          new Promise((closed) => {
            server.close(() => closed());
            for (const socket of open) socket.resetAndDestroy();
          }),
      });
    });
  });
}

function join(inbound: Socket, outbound: Socket): void {
  outbound.on('error', ignore);
  outbound.setTimeout(CONNECT_TIMEOUT_MS, () => outbound.destroy());
  outbound.once('connect', () => outbound.setTimeout(0));
  inbound.pipe(outbound);
  outbound.pipe(inbound);
  for (const [one, other] of [
    [inbound, outbound],
    [outbound, inbound],
  ] as const) {
    one.setKeepAlive(true, KEEP_ALIVE_MS);
    one.setNoDelay(true);
    one.once('close', () => {
      if (!one.readableEnded || !one.writableFinished) other.resetAndDestroy();
    });
  }
}

function ignore(): void {}
