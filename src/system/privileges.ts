/** What this process may do to the machine's network. Linux. */

import { readFileSync } from 'node:fs';

/** capabilities(7) */
const CAP_NET_ADMIN = 12n;

/** Reports whether it may change tables, routes and settings. False on other systems. */
export function mayAdministerNetwork(file: string = '/proc/self/status'): boolean {
  try {
    const [, bits] = /^CapEff:\s*([0-9a-f]{1,16})$/m.exec(readFileSync(file, 'latin1')) ?? [];
    return bits !== undefined && ((BigInt(`0x${bits}`) >> CAP_NET_ADMIN) & 1n) === 1n;
  } catch {
    return false;
  }
}
