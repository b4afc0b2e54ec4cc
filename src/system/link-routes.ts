/**
 * The IPv4 routes through a link that was taken down and up again. The kernel puts back those of the link's own
 * addresses; the others, the default route among them, are gone unless somebody remembers them.
 */

import { failureOf, runIp } from './adapters.ts';
import type { RunProgram } from './program.ts';

/** Flags that `ip` shows and does not read. */
const SHOWN_ONLY = new Set(['linkdown', 'dead', 'offload', 'trap', 'rt_offload', 'rt_trap']);

/** Of the main table, a line each, as `ip route add` takes them but for the link. */
export async function mainRoutes(run: RunProgram, name: string): Promise<readonly string[]> {
  const result = await runIp(run, ['-4', 'route', 'show', 'table', 'main', 'dev', name]);
  return failureOf(result) === undefined ? parseRoutes(result.stdout) : [];
}

/** Those on the link come first: the others' gateways are reached by them. */
export function parseRoutes(text: string): readonly string[] {
  const routes = text
    .split('\n')
    .map((line) => line.split(/\s+/).filter((word) => word !== '' && !SHOWN_ONLY.has(word)))
    .filter((words) => words.length > 0);
  const isBehindAGateway = (words: readonly string[]) => Number(words.includes('via'));
  return routes.toSorted((a, b) => isBehindAGateway(a) - isBehindAGateway(b)).map((words) => words.join(' '));
}

/** Puts back those of `before` that are no longer there; resolves with what could not be. */
export async function putBackRoutes(
  run: RunProgram,
  name: string,
  before: readonly string[],
): Promise<readonly { readonly route: string; readonly why: string }[]> {
  const there = new Set(await mainRoutes(run, name));
  const lost: { route: string; why: string }[] = [];
  for (const route of before.filter((one) => !there.has(one))) {
    const why = failureOf(await runIp(run, ['-4', 'route', 'add', ...route.split(' '), 'dev', name]));
    if (why !== undefined) lost.push({ route, why });
  }
  return lost;
}
