/**
 * The kernel's settings of the network, `net.ipv4.conf.eth0.rp_filter`, which are files below /proc/sys/net. An adapter's
 * name may hold dots itself (`eth0.100`). CAP_NET_ADMIN is enough to write them, whoever the user is.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { NatwardError } from '../errors.ts';

export interface Sysctls {
  /** Undefined where this kernel has none of that name, or the adapter is not there. */
  read(name: string): string | undefined;
  /** Throws UNSUPPORTED (there is none) or FAILED. */
  write(name: string, value: string): void;
}

const OF_ADAPTER = /^net\.(ipv[46])\.(conf|neigh)\.(.+)\.([a-z0-9_]+)$/;
const PLAIN = /^net(\.[a-z0-9_-]+)+$/;
/** What the kernel lets an adapter be called. */
const ADAPTER = /^(?!\.{1,2}$)[^/\s\0]{1,15}$/;

/** The adapter that a setting belongs to; undefined where it is of all (`all`, `default`) or of none. */
export function adapterOfSysctl(name: string): string | undefined {
  const adapter = OF_ADAPTER.exec(name)?.[3];
  return adapter === 'all' || adapter === 'default' ? undefined : adapter;
}

/** Where a setting is, below /proc/sys. Throws USAGE for what is no setting of the network. */
export function sysctlPath(name: string): string {
  const [, family, kind, adapter, setting] = OF_ADAPTER.exec(name) ?? [];
  if (adapter !== undefined && ADAPTER.test(adapter)) return `net/${family}/${kind}/${adapter}/${setting}`;
  if (adapter === undefined && PLAIN.test(name)) return name.replaceAll('.', '/');
  throw new NatwardError('USAGE', `"${name}" is no setting of the kernel's network`);
}

export function createSysctls(root: string = '/proc/sys'): Sysctls {
  return {
    read(name) {
      try {
        return readFileSync(join(root, sysctlPath(name)), 'latin1').trim();
      } catch (cause) {
        if (isAbsent(cause)) return undefined;
        throw failed(`cannot read ${name}`, cause);
      }
    },
    write(name, value) {
      try {
        // Never made: a name that is not there is an answer.
        writeFileSync(join(root, sysctlPath(name)), value, { flag: 'r+' });
      } catch (cause) {
        if (isAbsent(cause)) throw new NatwardError('UNSUPPORTED', ...absence(name));
        throw failed(`cannot set ${name} to ${value}`, cause);
      }
    },
  };
}

export const systemSysctls: Sysctls = createSysctls();

function isAbsent(cause: unknown): boolean {
  return (cause as NodeJS.ErrnoException).code === 'ENOENT';
}

function absence(name: string): [message: string, details: { advice: string }] {
  const advice = name.startsWith('net.netfilter.nf_conntrack')
    ? 'The module is not loaded: `modprobe nf_conntrack` loads it.'
    : 'This kernel is older than the setting, or was built without it.';
  return [`the kernel has no ${name}`, { advice }];
}

function failed(what: string, cause: unknown): NatwardError {
  if (cause instanceof NatwardError) return cause;
  const { code, message } = cause as NodeJS.ErrnoException;
  if (code === 'EACCES' || code === 'EPERM' || code === 'EROFS') {
    const advice =
      'It takes CAP_NET_ADMIN, and /proc/sys/net must be writable: a container or a service may have it read-only.';
    return new NatwardError('FAILED', `${what}: not permitted (${code})`, { advice, cause });
  }
  return new NatwardError('FAILED', `${what}: ${message}`, { cause });
}
