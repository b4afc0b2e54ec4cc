/** /etc/hosts.allow and /etc/hosts.deny: who may use which daemon (hosts_access(5)). */

import { readFileSync } from 'node:fs';

/** Their texts; empty where they are absent. Throws where one is there and cannot be read. */
export function readHostsFiles(): { readonly allow: string; readonly deny: string } {
  return { allow: textOf('/etc/hosts.allow'), deny: textOf('/etc/hosts.deny') };
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}
