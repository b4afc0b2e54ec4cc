/** The names of this machine's network interfaces, whether or not they have addresses or are up. Linux. */

import { readFileSync } from 'node:fs';

/** None where the system does not tell. */
export function interfaceNames(file: string = '/proc/self/net/dev'): readonly string[] {
  try {
    return [...readFileSync(file, 'latin1').matchAll(/^\s*([^\s:]+):/gm)].map(([, name]) => name as string);
  } catch {
    return [];
  }
}
