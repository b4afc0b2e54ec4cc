/** The user's kept requests, made to be just those that a file says: what that changes, and the changing. */

import { isDeepStrictEqual } from 'node:util';
import type { ConfiguredKeep } from '../agent/config.ts';
import { intentOf } from '../agent/intent.ts';
import { checkNoConflict } from '../agent/intents.ts';
import type { DropFailure, LeaseKeeping } from '../agent/keeping.ts';
import { type Intent, type KeepRequest, type LeaseStatus, USER_OWNER } from '../agent/lease.ts';
import { resolveSpec } from '../agent/spec.ts';
import type { IpAddress } from '../net/address.ts';
import { portCount } from '../net/port-range.ts';

export interface KeepChanges {
  readonly added: readonly Intent[];
  /** The same ports, asked for otherwise; as they are to be. */
  readonly changed: readonly Intent[];
  readonly removed: readonly Intent[];
  /** How many stay as they are. */
  readonly unchanged: number;
}

export interface KeepOutcome {
  /** Of what was added and changed. */
  readonly leases: readonly LeaseStatus[];
  /** Of what was removed, as it stood. */
  readonly released: readonly LeaseStatus[];
  readonly failures: readonly DropFailure[];
}

/** What one call may ask for: see schema.ts. Some of the megabyte is the document around the requests. */
const CALL = { items: 1000, leases: 10_000, bytes: 1_000_000 } as const;

/**
 * Looks names up, and changes nothing. Throws USAGE for a name without an address, CONFLICT where requests contradict
 * each other or what others want kept.
 */
export async function keepChanges(
  agent: Pick<LeaseKeeping, 'wanted'>,
  keeps: readonly ConfiguredKeep[],
  resolve: (name: string) => Promise<readonly IpAddress[]>,
): Promise<KeepChanges> {
  const known = await agent.wanted();
  const intents = new Map<string, Intent>();
  for (const keep of keeps) {
    const request: KeepRequest = { ...keep, ...(await resolveSpec(keep, resolve)) };
    const intent = intentOf(request, USER_OWNER);
    intents.set(intent.id, intent);
  }
  const wanted = [...intents.values()];
  checkNoConflict(
    wanted,
    known.filter(({ owner }) => owner !== USER_OWNER),
  );
  const own = new Map(known.filter(({ owner }) => owner === USER_OWNER).map((one) => [one.id, one] as const));
  const staying = wanted.filter(({ id }) => own.has(id));
  const changed = staying.filter((intent) => !isAlike(intent, own.get(intent.id) as Intent));
  return {
    added: wanted.filter(({ id }) => !own.has(id)),
    changed,
    removed: [...own.values()].filter(({ id }) => !intents.has(id)),
    unchanged: staying.length - changed.length,
  };
}

/** Of two with one id, which says what the rest of them is; how it was written does not matter. */
function isAlike(one: Intent, other: Intent): boolean {
  return isDeepStrictEqual(optionsOf(one), optionsOf(other));
}

function optionsOf({ lifetimeSeconds, choice, description, remotePeer, hooks }: Intent): unknown {
  return JSON.parse(JSON.stringify({ lifetimeSeconds, choice, description, remotePeer, hooks }));
}

/** What is no longer wanted goes first: what is wanted instead may need its port. Throws as `keep` and `drop` do. */
export async function carryOut(
  agent: Pick<LeaseKeeping, 'keep' | 'drop'>,
  { added, changed, removed }: KeepChanges,
  { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<KeepOutcome> {
  const released: LeaseStatus[] = [];
  const failures: DropFailure[] = [];
  for (let at = 0; at < removed.length; at += CALL.items) {
    const selectors = removed
      .slice(at, at + CALL.items)
      .map(({ id, spec }) => ({ kind: 'id', text: spec, id }) as const);
    const report = await agent.drop(selectors, { signal });
    released.push(...report.released);
    failures.push(...report.failures);
  }
  const leases: LeaseStatus[] = [];
  for (const requests of calls([...added, ...changed].map(requestOf))) {
    leases.push(...(await agent.keep(requests, { owner: USER_OWNER, timeoutMs, signal })));
  }
  return { leases, released, failures };
}

function requestOf({ id: _id, owner: _owner, ...request }: Intent): KeepRequest {
  return request;
}

/** In their order, as few calls as take them. */
function* calls(requests: readonly KeepRequest[]): Generator<readonly KeepRequest[]> {
  let call: KeepRequest[] = [];
  let [leases, bytes] = [0, 0];
  for (const request of requests) {
    const more = portCount(request.internal) * request.protocols.length;
    const size = Buffer.byteLength(JSON.stringify(request)) + 1;
    const fits = call.length < CALL.items && leases + more <= CALL.leases && bytes + size <= CALL.bytes;
    if (!fits && call.length > 0) {
      yield call;
      call = [];
      [leases, bytes] = [0, 0];
    }
    call.push(request);
    leases += more;
    bytes += size;
  }
  if (call.length > 0) yield call;
}
