/** The same port on two addresses: what a gateway of both families needs, where any port will do. */

import type { IpAddress } from '../net/address.ts';
import type { Endpoint } from '../net/endpoint.ts';

export interface Opened<T> {
  readonly port: number;
  readonly value: T;
  close(): Promise<void>;
}

/** A free port of one address may be taken on the other: so many are tried. */
const TRIES = 20;

/** Opens one on each address, all at one port, 0 for any. Rejects as `open` does, with nothing left open. */
export async function openOnOnePort<T>(
  addresses: readonly IpAddress[],
  port: number,
  open: (at: Endpoint) => Promise<Opened<T>>,
): Promise<T[]> {
  for (let tries = 1; ; tries++) {
    const opened: Opened<T>[] = [];
    try {
      for (const address of addresses) opened.push(await open({ address, port: opened[0]?.port ?? port }));
      return opened.map(({ value }) => value);
    } catch (error) {
      await Promise.all(opened.map((one) => one.close()));
      if (port !== 0 || opened.length === 0 || tries === TRIES) throw error;
    }
  }
}
