/** What gateways there are and what they hold: looks, and changes nothing. */

import type { Offer } from '../discovery/gateway.ts';
import { NatwardError } from '../errors.ts';
import type { ListedMapping } from '../mapping/mapping.ts';
import { family, type IpAddress, kindOf } from '../net/address.ts';
import type { MappingProtocol } from '../net/protocol.ts';
import type { Clock } from '../system/clock.ts';
import type { Session } from './session.ts';
import type { RememberedMapping } from './store.ts';

export type VerdictCode = 'OK' | 'DOUBLE_NAT' | 'CGNAT' | 'NO_EXTERNAL_ADDRESS' | 'IPV6';

/** Whether the internet can reach what is mapped here. */
export interface Verdict {
  readonly code: VerdictCode;
  readonly message: string;
}

export interface GatewayReport {
  readonly address: IpAddress;
  readonly interface: string;
  readonly externalAddress: IpAddress | undefined;
  readonly protocols: readonly MappingProtocol[];
  readonly upnp:
    | {
        readonly location: string;
        readonly serviceType: string;
        readonly controlUrl: string;
        readonly model: string;
      }
    | undefined;
  readonly verdict: Verdict;
}

/** How long PCP, where it has answered, leaves the others the first word about the external address. */
const PCP_PATIENCE_MS = 500;

export interface OwnMapping extends ListedMapping {
  /** Made by natward on this host. */
  readonly own: boolean;
}

/** Reports the gateway as soon as all is known; undefined where it offers nothing. */
export async function reportOf(
  session: Session,
  clock: Clock,
  signal: AbortSignal,
  onGateway: (report: GatewayReport) => void,
): Promise<GatewayReport | undefined> {
  await session.discovered;
  const { gateway, offers } = session;
  if (offers.length === 0) return undefined;
  const upnp = offers.find((offer) => offer.protocol === 'upnp')?.device;
  // Over IPv6 there is none: nothing is translated.
  const externalAddress = gateway.family === 6 ? undefined : await externalAddressOf(session, clock, signal);
  const report: GatewayReport = {
    address: gateway.address,
    interface: gateway.interface,
    externalAddress,
    protocols: protocolsOf(offers),
    upnp: upnp && {
      location: upnp.location,
      serviceType: upnp.connection.serviceType,
      controlUrl: upnp.connection.controlUrl,
      model: upnp.model,
    },
    verdict: gateway.family === 6 ? IPV6_VERDICT : verdictOf(externalAddress),
  };
  onGateway(report);
  return report;
}

function protocolsOf(offers: readonly Offer[]): readonly MappingProtocol[] {
  const spoken = new Set(offers.map(({ protocol }) => protocol));
  return (['pcp', 'natpmp', 'upnp'] as const).filter((protocol) => spoken.has(protocol));
}

/**
 * The first answer of NAT-PMP or UPnP, which only have to be asked; PCP, which has to map a port to tell, comes last.
 * Undefined where the gateway does not know it. Throws NO_GATEWAY where nobody answers.
 */
export async function externalAddressOf(
  session: Session,
  clock: Clock,
  signal: AbortSignal,
): Promise<IpAddress | undefined> {
  const told = new AbortController();
  const patience = clock
    .sleep(PCP_PATIENCE_MS, AbortSignal.any([signal, told.signal]))
    .catch(() => undefined);
  try {
    return await firstToTell(session, patience, signal);
  } finally {
    told.abort();
  }
}

async function firstToTell(
  session: Session,
  patience: Promise<void>,
  signal: AbortSignal,
): Promise<IpAddress | undefined> {
  const asked = new Set<MappingProtocol>();
  for (;;) {
    const easy = session.mapper(({ protocol }) => protocol !== 'pcp' && !asked.has(protocol));
    const mapper =
      (await Promise.race([easy, patience.then(() => undefined)])) ??
      session.race.mappers.find(({ protocol }) => !asked.has(protocol)) ??
      (await easy);
    if (mapper === undefined) break;
    asked.add(mapper.protocol);
    const address = await mapper.externalAddress(signal).catch(() => undefined);
    if (address !== undefined) return address;
  }
  if (asked.size === 0) throw await session.noOffer();
  return undefined;
}

const IPV6_VERDICT: Verdict = { code: 'IPV6', message: 'opens pinholes for IPv6; nothing is translated' };

function verdictOf(external: IpAddress | undefined): Verdict {
  if (external === undefined) {
    return { code: 'NO_EXTERNAL_ADDRESS', message: 'does not tell its external address: it may be offline' };
  }
  switch (kindOf(external)) {
    case 'public':
      return { code: 'OK', message: 'has an address of the internet: mapped ports can be reached' };
    case 'cgnat':
      return {
        code: 'CGNAT',
        message: `its own address, ${external}, belongs to the provider’s NAT: mapped ports cannot be reached from the internet`,
      };
    default:
      return {
        code: 'DOUBLE_NAT',
        message: `its own address, ${external}, is not one of the internet: another router stands before it, and must map the port too`,
      };
  }
}

/**
 * The gateway's table with this host's own rows marked; where the gateway cannot list, the rows that are
 * remembered. Throws NO_GATEWAY where nobody answers, and whatever the listing throws.
 */
export async function listMappings(
  session: Session,
  remembered: readonly RememberedMapping[],
  clock: Clock,
  signal: AbortSignal,
): Promise<readonly OwnMapping[]> {
  const own = remembered.filter((one) => one.gateway === session.gateway.address && !isPinhole(one));
  const lister = await session.mapper((mapper) => mapper.list !== undefined);
  if (lister?.list === undefined) {
    if (session.race.mappers.length === 0) throw await session.noOffer();
    return own.map((one) => asOwn(one, clock));
  }
  // miniupnpd describes a PCP mapping by its nonce: our own rows have our own words.
  const descriptions = new Map(own.map((one) => [keyOf(one), one.description]));
  const rows = await lister.list(signal);
  return rows
    .map((row) => {
      const description = descriptions.get(keyOf(row));
      return { ...row, description: description ?? row.description, own: description !== undefined };
    })
    .sort((a, b) => a.protocol.localeCompare(b.protocol) || a.externalPort - b.externalPort);
}

/** No protocol lists pinholes: the ones that are remembered of these gateways. */
export function listPinholes(
  remembered: readonly RememberedMapping[],
  gateways: ReadonlySet<IpAddress>,
  clock: Clock,
): readonly OwnMapping[] {
  return remembered
    .filter((one) => isPinhole(one) && gateways.has(one.gateway))
    .map((one) => asOwn(one, clock));
}

function isPinhole({ internalClient }: RememberedMapping): boolean {
  return family(internalClient) === 6;
}

function asOwn(one: RememberedMapping, clock: Clock): OwnMapping {
  return { ...asListed(one, clock), own: true };
}

function asListed(one: RememberedMapping, clock: Clock): ListedMapping {
  const { protocol, externalPort, internalClient, internalPort, description } = one;
  const leftMs = one.expiresAtMs === null ? 0 : one.expiresAtMs - clock.now();
  return {
    protocol,
    externalPort,
    internalClient,
    internalPort,
    description,
    remainingSeconds: Math.ceil(leftMs / 1000),
    enabled: true,
  };
}

function keyOf(
  row: Pick<ListedMapping, 'protocol' | 'externalPort' | 'internalClient' | 'internalPort'>,
): string {
  return `${row.protocol} ${row.externalPort} ${row.internalClient} ${row.internalPort}`;
}

/** Said when several gateways were asked and none offers anything. */
export async function nobody(sessions: readonly Session[]): Promise<NatwardError> {
  const errors = await Promise.all(sessions.map((session) => session.noOffer()));
  const first = errors[0];
  if (errors.length === 1 && first !== undefined) return first;
  return new NatwardError('NO_GATEWAY', errors.map(({ message }) => message).join('; '), {
    advice: 'Switch UPnP or NAT-PMP on in the gateway’s settings, or name another gateway: --gateway ADDR.',
  });
}
