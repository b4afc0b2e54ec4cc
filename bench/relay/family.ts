/** What a program and all its children have used, as the kernel says it (proc(5)). */

import { readdirSync, readFileSync } from 'node:fs';

const TICKS_PER_SECOND = 100;
/** It only stands between this process and the program (programs.ts). */
const WRAPPER = 'unshare';

interface Member {
  readonly pid: number;
  readonly name: string;
  /** User and system, its own and that of the children that it has collected. */
  readonly cpuTicks: number;
}

/** User and system time since the start, with the children that have ended. */
export function cpuSecondsOf(root: number): number {
  return family(root).reduce((sum, { cpuTicks }) => sum + cpuTicks, 0) / TICKS_PER_SECOND;
}

/** One process: its resident set. Several: the sum of their proportional sets, as they share most of it. */
export function memoryMbOf(root: number): number {
  const members = family(root).filter(({ name }) => name !== WRAPPER);
  const only = members.length === 1 ? members[0] : undefined;
  if (only !== undefined) return kilobytes(only.pid, 'status', 'VmRSS') / 1024;
  return members.reduce((sum, { pid }) => sum + kilobytes(pid, 'smaps_rollup', 'Pss'), 0) / 1024;
}

export function processesOf(root: number): number {
  return family(root).filter(({ name }) => name !== WRAPPER).length;
}

function family(root: number): Member[] {
  const children = new Map<number, Member[]>();
  let first: Member | undefined;
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const text = read(`/proc/${entry}/stat`);
    // The second field is the program's name in brackets, with anything in it.
    const end = text.lastIndexOf(') ');
    const fields = text.slice(end + 2).split(' ');
    const member = {
      pid: Number(entry),
      name: text.slice(text.indexOf('(') + 1, end),
      cpuTicks: fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0),
    };
    if (member.pid === root) first = member;
    const parent = Number(fields[1]);
    const siblings = children.get(parent);
    if (siblings === undefined) children.set(parent, [member]);
    else siblings.push(member);
  }
  const found = first === undefined ? [] : [first];
  for (const { pid } of found) found.push(...(children.get(pid) ?? []));
  return found;
}

/** 0 where the process has ended meanwhile. */
function kilobytes(pid: number, file: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(read(`/proc/${pid}/${file}`))?.[1] ?? 0);
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
