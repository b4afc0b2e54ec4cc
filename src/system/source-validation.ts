/**
 * Which interfaces take in packets whose source belongs behind another one. IPv4 has the setting rp_filter, and the
 * larger of an interface's own and that of all holds: 1 is strict, 2 (systemd's default) asks for any route back, 0 for
 * none. IPv6 has no such setting. Linux.
 */

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Family } from '../net/address.ts';
import { interfaceNames } from './interface-names.ts';
import { type Sysctls, sysctlPath } from './sysctl.ts';

export interface Laxity {
  readonly interfaces: readonly string[];
  /** What makes IPv4 strict on all of them, `net.ipv4.conf.all.rp_filter=1`. */
  readonly settings: readonly string[];
}

const STRICT = 1;
const LOOSE = 2;
const IFF_UP = 1;

/** Of these interfaces. One whose setting cannot be read is passed over. */
export function laxityOf(of: Family, names: readonly string[], { read }: Pick<Sysctls, 'read'>): Laxity {
  if (of === 6) return { interfaces: names, settings: [] };
  const filterOf = (name: string): number => Number(read(filterName(name)) ?? Number.NaN);
  const all = filterOf('all');
  const lax = names.filter((name) => {
    const effective = Math.max(all, filterOf(name));
    return !Number.isNaN(effective) && effective !== STRICT;
  });
  // The larger one holds: what says 2 by itself has to be told by itself.
  const own = lax.filter((name) => filterOf(name) >= LOOSE);
  const isOfAll = all >= LOOSE || own.length < lax.length;
  return {
    interfaces: lax,
    settings: [...(isOfAll ? ['all'] : []), ...own].map((name) => `${writable(name)}=${STRICT}`),
  };
}

/** Those that hosts can send IP by: up, not the loopback, and no port of a bridge, which has the bridge's settings. */
export function linkNames(
  names: readonly string[] = interfaceNames(),
  root: string = '/sys/class/net',
): readonly string[] {
  return names.filter(
    (name) => name !== 'lo' && isUp(join(root, name)) && !existsSync(join(root, name, 'brport')),
  );
}

/** Also where the machine does not tell. */
function isUp(directory: string): boolean {
  try {
    return (Number(readFileSync(join(directory, 'flags'), 'latin1')) & IFF_UP) !== 0;
  } catch {
    return true;
  }
}

function filterName(name: string): string {
  return `net.ipv4.conf.${name}.rp_filter`;
}

/** As sysctl(8) takes it: a dot in an interface's name has it want slashes. */
function writable(name: string): string {
  return name.includes('.') ? sysctlPath(filterName(name)) : filterName(name);
}
