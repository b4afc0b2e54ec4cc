/**
 * Takes mappings back: the ones that this host made and remembers, by the protocol that made them; with
 * force also somebody else's, as far as the gateway lets us.
 */

import { isNatwardError, NatwardError } from '../errors.ts';
import type { ListedMapping, MappingKey, PortMapper } from '../mapping/mapping.ts';
import { family, type IpAddress } from '../net/address.ts';
import { portCount } from '../net/port-range.ts';
import type { MappingProtocol, TransportProtocol } from '../net/protocol.ts';
import type { MapAsk, MapFailure } from './map.ts';
import type { Session } from './session.ts';
import type { RememberedMapping } from './store.ts';

/** What was taken back. */
export interface Released {
  readonly protocol: TransportProtocol;
  readonly externalPort: number;
  readonly internalClient: IpAddress;
  readonly internalPort: number;
  readonly gateway: IpAddress;
}

export interface UnmapReport {
  readonly released: readonly Released[];
  readonly failures: readonly MapFailure[];
}

export interface UnmapContext {
  readonly session: Session;
  readonly remembered: readonly RememberedMapping[];
  /** What the agent in the background holds: it would make it again. */
  readonly kept: readonly RememberedMapping[];
  readonly others: 'refuse' | 'force';
  readonly signal: AbortSignal;
  readonly onProgress: (done: number, total: number) => void;
}

/** UPnP can look whether the row is there; NAT-PMP says yes to whatever it is asked to end. */
const FALLBACKS: readonly MappingProtocol[] = ['upnp', 'natpmp'];

/** One port and protocol to take back; either port may be left open by the spec. */
interface Target {
  readonly spec: string;
  readonly protocol: TransportProtocol;
  readonly externalPort: number | undefined;
  readonly internalPort: number;
  readonly host: IpAddress | undefined;
}

export async function unmapAll(asks: readonly MapAsk[], context: UnmapContext): Promise<UnmapReport> {
  const released: Released[] = [];
  const failures: MapFailure[] = [];
  const targets = asks.flatMap(eachTarget);
  let done = 0;
  const own = targets.map((target) => {
    const meant = context.remembered.filter((one) => matches(one, target));
    return meant.length > 0 ? meant : context.remembered.filter((one) => wasAskedAs(one, target));
  });
  const next = targets.entries();
  const worker = async () => {
    for (const [at, target] of next) {
      try {
        if (context.others === 'refuse') refuseKept(target, context.kept);
        const held = own[at] ?? [];
        const found = held.length > 0 ? await releaseOwn(held, context) : await releaseOther(target, context);
        released.push(...found);
      } catch (error) {
        if (!isNatwardError(error)) throw error;
        failures.push({ spec: target.spec, error });
      }
      done++;
      context.onProgress(done, targets.length);
    }
  };
  const window = own.flat().some(({ via }) => via === 'natpmp') ? 1 : 4;
  await Promise.all(Array.from({ length: Math.min(window, targets.length) }, worker));
  return { released, failures };
}

function refuseKept(target: Target, kept: readonly RememberedMapping[]): void {
  const one = kept.find((candidate) => matches(candidate, target));
  if (one === undefined) return;
  throw new NatwardError(
    'NOT_OWN',
    `${one.protocol.toUpperCase()} ${one.externalPort} on ${one.gateway} is kept by the agent that runs here`,
    { advice: 'natward status shows it by its id; natward drop ID ends and releases it.' },
  );
}

function eachTarget(ask: MapAsk): Target[] {
  const { external, internal } = ask;
  const single = portCount(internal) === 1;
  return Array.from({ length: portCount(internal) }, (_, at) => at).flatMap((at) =>
    ask.protocols.map((protocol) => ({
      spec: single ? ask.spec : `${internal.first + at}/${protocol}`,
      protocol,
      externalPort: external === 'any' ? undefined : external.first + at,
      internalPort: internal.first + at,
      host: ask.host,
    })),
  );
}

/** As it was asked for, or as it was granted: people copy either. */
function matches(one: RememberedMapping, target: Target): boolean {
  if (one.protocol !== target.protocol) return false;
  if (target.host !== undefined && one.internalClient !== target.host) return false;
  const { externalPort, internalPort } = target;
  if (one.internalPort === internalPort) {
    return externalPort === undefined || [one.externalPort, one.requestedExternalPort].includes(externalPort);
  }
  return one.externalPort === internalPort && externalPort === internalPort;
}

/** `map 81:9081` that became 1024:9081, named by the 81. */
function wasAskedAs(one: RememberedMapping, { protocol, externalPort, internalPort, host }: Target): boolean {
  return (
    one.protocol === protocol &&
    one.requestedExternalPort === internalPort &&
    externalPort === internalPort &&
    (host === undefined || host === one.internalClient)
  );
}

/**
 * By the protocol that made it, and where that one refuses or is silent, by the others: a gateway with one
 * table may have forgotten whose a mapping is (miniupnpd, when a second protocol refreshed it).
 */
export async function releaseOwn(
  held: readonly RememberedMapping[],
  { session, signal }: Pick<UnmapContext, 'session' | 'signal'>,
): Promise<Released[]> {
  const released: Released[] = [];
  for (const one of held) {
    const key: MappingKey = {
      ...one,
      nonce: one.nonce === null ? undefined : Uint8Array.from(Buffer.from(one.nonce, 'hex')),
      pinholeId: one.pinholeId ?? undefined,
    };
    const order = [one.via, ...FALLBACKS.filter((protocol) => protocol !== one.via)];
    let first: NatwardError | undefined;
    for (const protocol of order) {
      const mapper = await session.mapper((candidate) => candidate.protocol === protocol);
      try {
        if (mapper === undefined) throw await silent(session, protocol);
        const seen =
          protocol === one.via
            ? await stillOurs(mapper, key, signal)
            : await lookUp(mapper, one, first, signal);
        if (seen === 'not-ours') continue;
        if (seen === 'ours') await mapper.unmap(key, signal);
        released.push(releasedOf(one, session));
        first = undefined;
        break;
      } catch (error) {
        if (!isNatwardError(error) || signal.aborted) throw error;
        first ??= error;
      }
    }
    if (first !== undefined) throw first;
  }
  return released;
}

/**
 * UPnP deletes whatever has the external port, and not every gateway asks whose it is: another host may have taken
 * it since (miniupnpd with secure_mode=no). PCP and NAT-PMP delete by this host's own end.
 */
async function stillOurs(mapper: PortMapper, key: MappingKey, signal: AbortSignal): Promise<'ours' | 'gone'> {
  if (mapper.holds === undefined || key.pinholeId !== undefined) return 'ours';
  try {
    return (await mapper.holds(key, signal)) ? 'ours' : 'gone';
  } catch (error) {
    if (!isNatwardError(error) || isNatwardError(error, 'TIMEOUT', 'UNREACHABLE', 'ABORTED')) throw error;
    return 'ours'; // It cannot tell, and can delete all the same.
  }
}

/**
 * What another protocol sees of it: its own table tells. NAT-PMP has none and says yes to anything, so it may
 * delete only where the protocol that made the mapping says that it has become somebody else's.
 */
async function lookUp(
  mapper: PortMapper,
  one: RememberedMapping,
  refusal: NatwardError | undefined,
  signal: AbortSignal,
): Promise<'ours' | 'not-ours' | 'gone'> {
  if (family(one.internalClient) === 6) return 'not-ours'; // No table shows pinholes.
  if (mapper.list === undefined) return refusal?.code === 'NOT_AUTHORIZED' ? 'ours' : 'not-ours';
  const row = (await mapper.list(signal)).find(
    ({ protocol, externalPort }) => protocol === one.protocol && externalPort === one.externalPort,
  );
  if (row === undefined) return 'gone';
  return row.internalClient === one.internalClient && row.internalPort === one.internalPort
    ? 'ours'
    : 'not-ours';
}

async function silent(session: Session, via: string): Promise<NatwardError> {
  if (session.race.mappers.length === 0) return session.noOffer();
  const { address } = session.gateway;
  return new NatwardError(
    'TIMEOUT',
    `${address} granted this mapping over ${via} and no longer answers to it`,
    {
      advice:
        'It ends by its lifetime; natward unmap --force deletes it over UPnP where the gateway has that.',
    },
  );
}

/** Not remembered: somebody else's, or made by this host in another way. */
async function releaseOther(target: Target, context: UnmapContext): Promise<Released[]> {
  const { session, signal, others } = context;
  const lister = await session.mapper((mapper) => mapper.list !== undefined);
  const rows = lister === undefined ? [] : await listed(lister, signal);
  const row = rows.find(
    (candidate) =>
      candidate.protocol === target.protocol &&
      candidate.externalPort === (target.externalPort ?? target.internalPort),
  );
  if (others === 'refuse') throw notOwn(target, row, session);
  if (row !== undefined && lister !== undefined) {
    await lister.unmap({ ...row, nonce: undefined, pinholeId: undefined }, signal);
    return [releasedOf(row, session)];
  }
  if (lister !== undefined) throw notFound(target, session);
  // Without a table to look at, NAT-PMP deletes what this host has on that port, whoever asked for it.
  const natpmp = await session.mapper(({ protocol }) => protocol === 'natpmp');
  if (natpmp === undefined)
    throw session.race.mappers.length === 0 ? await session.noOffer() : notFound(target, session);
  const key = {
    protocol: target.protocol,
    externalPort: target.externalPort ?? target.internalPort,
    internalClient: session.gateway.localAddress,
    internalPort: target.internalPort,
    nonce: undefined,
    pinholeId: undefined,
  };
  await natpmp.unmap(key, signal);
  return [releasedOf(key, session)];
}

async function listed(lister: PortMapper, signal: AbortSignal): Promise<readonly ListedMapping[]> {
  return (await lister.list?.(signal)) ?? [];
}

function releasedOf(one: Omit<Released, 'gateway'>, session: Session): Released {
  const { protocol, externalPort, internalClient, internalPort } = one;
  return { protocol, externalPort, internalClient, internalPort, gateway: session.gateway.address };
}

function notOwn(target: Target, row: ListedMapping | undefined, session: Session): NatwardError {
  if (row === undefined) return notFound(target, session);
  const what = `${row.protocol.toUpperCase()} ${row.externalPort}`;
  return new NatwardError(
    'NOT_OWN',
    `${what} on ${session.gateway.address} goes to ${row.internalClient}:${row.internalPort} (“${row.description}”) and was not made by natward here`,
    { advice: `To delete it all the same: natward unmap --force ${target.spec}` },
  );
}

function notFound(target: Target, session: Session): NatwardError {
  const what = `${target.protocol.toUpperCase()} ${target.externalPort ?? target.internalPort}`;
  return new NatwardError('NOT_FOUND', `no mapping of ${what} is known on ${session.gateway.address}`, {
    advice: 'natward list shows what there is.',
  });
}
