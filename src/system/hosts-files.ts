/** /etc/hosts.allow and /etc/hosts.deny: who may use which daemon (hosts_access(5)). */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { NatwardError } from '../errors.ts';

/** Their texts; empty where they are absent. Throws FAILED where one is there and cannot be read. */
export function readHostsFiles(directory: string = '/etc'): {
  readonly allow: string;
  readonly deny: string;
} {
  return { allow: textOf(join(directory, 'hosts.allow')), deny: textOf(join(directory, 'hosts.deny')) };
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException;
    if (code === 'ENOENT') return '';
    throw new NatwardError('FAILED', `cannot read ${path}: ${message}`, {
      cause,
      advice: 'Nobody is let in by a rule that asks it: make it readable, or take "hosts" out of the rule.',
    });
  }
}
