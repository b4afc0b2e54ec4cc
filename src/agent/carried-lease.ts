/**
 * Asks for a lease whose traffic comes by a rule of this host: the gateway maps to this host alone, or only to the
 * same number, and a carrier takes on what arrives there. The rule is there before the mapping is.
 */

import { isNatwardError, NatwardError } from '../errors.ts';
import { formatEndpoint } from '../net/endpoint.ts';
import type { Carrier } from './carrier.ts';
import type { Line } from './gateway-watch.ts';
import type { Holding, LeaseRecord } from './lease-record.ts';
import type { Granted } from './port.ts';
import { isSilence } from './silence.ts';
import { releaseOwn } from './unmap.ts';

export interface CarryContext {
  /** Left out: nobody carries, and what the gateway will not map it does not. */
  readonly carrier?: Carrier | undefined;
  readonly line: Line;
  /** What this gateway has granted for the lease before. */
  readonly own: readonly Holding[];
  readonly signal: AbortSignal;
}

/** SamePortValuesRequired (WANIPConnection:1, section 2.4.16). */
const SAME_PORTS_ONLY = 'UPnP 724';

/**
 * `ask` asks the gateway for `lease.port` as it is then. By a rule: what came by one before, what is to come by one in any
 * case, and what the gateway refuses otherwise. Throws what `ask` does, and where nothing can carry it on.
 */
export async function askOrCarry(
  lease: LeaseRecord,
  ask: () => Promise<readonly Granted[]>,
  context: CarryContext,
): Promise<readonly Granted[]> {
  if (lease.carriedTo !== undefined) {
    await carry(lease, context);
    await releaseMoved(lease, context);
  }
  try {
    return lease.intent.carry === 'always' && lease.carriedTo === undefined
      ? await askCarried(lease, ask, context)
      : await ask();
  } catch (error) {
    if (context.carrier === undefined || !wouldCarryHelp(lease, error)) throw error;
    return askCarried(lease, ask, context);
  }
}

/** The gateway will not map to there, and may map to here. */
function wouldCarryHelp({ port, carriedTo, dropped, intent }: LeaseRecord, error: unknown): boolean {
  if (carriedTo !== undefined || dropped || intent.carry !== undefined) return false;
  if (!isNatwardError(error) || isSilence(error)) return false;
  return port.host !== undefined || (error.protocolCode === SAME_PORTS_ONLY && port.externalPort !== 0);
}

async function askCarried(
  lease: LeaseRecord,
  ask: () => Promise<readonly Granted[]>,
  context: CarryContext,
): Promise<readonly Granted[]> {
  const { port } = lease;
  await carry(lease, context);
  try {
    return await ask();
  } catch (error) {
    // Not to here either: next time it is asked for as it was wanted.
    if (!lease.dropped) context.carrier?.release(lease.carryKey);
    lease.carriedTo = undefined;
    lease.port = port;
    throw error;
  }
}

async function carry(lease: LeaseRecord, { carrier, line }: CarryContext): Promise<void> {
  const { port, intent, carryTarget: target } = lease;
  // What maps only to the same number is asked for just that.
  const isFixed = intent.host === undefined;
  try {
    const internalPort = await carrier?.carry(lease.carryKey, {
      protocols: port.protocols,
      // A client behind this host has no say in which of this host's ports it is.
      port: isFixed ? port.externalPort : intent.carry === 'always' ? undefined : port.internalPort,
      isFixed,
      target,
      description: intent.spec,
    });
    if (internalPort !== undefined) lease.carry(internalPort);
  } catch (cause) {
    if (!isNatwardError(cause)) throw cause;
    const { code, message, advice } = cause;
    const only = isFixed ? `the same port of this host, ${port.externalPort}` : 'this host';
    throw new NatwardError(
      code,
      `${line.gateway.address} maps only to ${only}, and nothing carries it on to ${formatEndpoint(target)}: ${message}`,
      advice === undefined ? { cause } : { advice, cause },
    );
  }
}

/** It is carried from another port than before: what leads there would keep its external port to itself. */
async function releaseMoved({ port }: LeaseRecord, { line, own, signal }: CarryContext): Promise<void> {
  const moved = own.filter(({ mapping }) => mapping.internalPort !== port.internalPort);
  try {
    await releaseOwn(
      moved.map(({ mapping }) => mapping),
      { session: line.session, signal },
    );
  } catch (error) {
    // What it will not give back, it will not give again: another external port it may.
    if (!isNatwardError(error) || isSilence(error)) throw error;
  }
}
