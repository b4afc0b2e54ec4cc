/**
 * Finds UPnP gateways with SSDP (UDA 2.0, section 1.3): searches to the multicast group from one interface,
 * and straight to the default gateway, for routers whose multicast is broken. The unicast socket is
 * connected, so that a gateway without UPnP is known by its ICMP refusal and not by silence. Answers are
 * used as they come; each description is fetched once.
 */

import { type IpAddress, withoutZone } from '../net/address.ts';
import { type Endpoint, formatEndpoint } from '../net/endpoint.ts';
import { fired } from '../system/clock.ts';
import type { System } from '../system/system.ts';
import type { UdpSocket } from '../system/udp.ts';
import { decodeSsdp, encodeSsdp, SSDP_IPV4, SSDP_IPV6, SSDP_PORT, type SsdpResponse } from '../wire/ssdp.ts';
import type { describe } from './describe.ts';
import type { Gateway, UpnpDevice } from './gateway.ts';

const SEARCH_TARGETS = [
  'urn:schemas-upnp-org:device:InternetGatewayDevice:2',
  'urn:schemas-upnp-org:device:InternetGatewayDevice:1',
  'urn:schemas-upnp-org:service:WANIPConnection:2',
  'urn:schemas-upnp-org:service:WANIPConnection:1',
  'urn:schemas-upnp-org:service:WANPPPConnection:1',
  'upnp:rootdevice',
] as const;

const GATEWAY_TARGET =
  /:(?:InternetGatewayDevice|WANIPConnection|WANPPPConnection|WANDevice|WANConnectionDevice):\d/i;

/** UDA 2.0, section 1.3.2: 1 to 5. Devices answer within it; one second is what a person waits. */
const MAX_WAIT_SECONDS = 1;
interface Wave {
  readonly atMs: number;
  readonly targets: readonly string[];
}

/** Multicast is lossy: section 1.3.2 recommends to send more than once, spread. */
const MULTICAST_WAVES: readonly Wave[] = [0, 250, 800].map((atMs) => ({ atMs, targets: SEARCH_TARGETS }));
/** PCP and NAT-PMP answer by then, and the network is left in peace. */
const MULTICAST_AFTER_MS = 10;
/** One first: hosts answer only so many packets with ICMP, and the refusal is wanted of every command. */
const UNICAST_WAVES: readonly Wave[] = [
  { atMs: 0, targets: SEARCH_TARGETS.slice(0, 1) },
  { atMs: 40, targets: SEARCH_TARGETS.slice(1) },
  ...MULTICAST_WAVES.slice(1),
];
/** The last search and its MX, and some room for a busy router. */
const SILENCE_MS = 2000;
/** Where the gateway itself has refused, one MX: only some other device could still answer. */
const SILENCE_AFTER_REFUSAL_MS = 1000;
/** How long a description that is under way may take beyond that. */
const FETCH_GRACE_MS = 700;
const OTHER_ROUTER_DELAY_MS = 300;
const MULTICAST_HOPS = 2;
/** How many descriptions are fetched in one network, and of one device: nobody can crowd the gateway out. */
const MAX_DESCRIPTIONS = 64;
const MAX_DESCRIPTIONS_A_DEVICE = 4;

export interface SearchReport {
  /** Datagrams that were no answer to a search. */
  readonly dropped: number;
  /** Why answers were not used, one entry a description. */
  readonly rejected: readonly Error[];
}

/**
 * Searches from the gateway's interface until `signal` fires or everything that can answer has had its time.
 * Never throws for what the network does.
 */
export async function search(
  system: System,
  gateway: Gateway,
  onDevice: (device: UpnpDevice) => void,
  signal: AbortSignal,
): Promise<SearchReport> {
  const seen = new Map<string, IpAddress>();
  const rejected: Error[] = [];
  const fetches: Promise<void>[] = [];
  const tooLate = new AbortController();
  const fetching = AbortSignal.any([signal, tooLate.signal]);
  let dropped = 0;

  // An access point that was a router once answers too: the gateway itself has a moment to go first.
  const report = async (device: UpnpDevice) => {
    if (device.host !== gateway.address)
      await system.clock.sleep(OTHER_ROUTER_DELAY_MS, signal).catch(() => undefined);
    if (!signal.aborted) onDevice(device);
  };

  const receive = (data: Uint8Array, source: Endpoint) => {
    const answer = decodeAnswer(data);
    if (answer === undefined || !isWorthFetching(answer, source, gateway)) {
      dropped++;
      return;
    }
    if (seen.has(answer.location) || !hasRoom(seen, source.address, gateway)) return;
    seen.set(answer.location, source.address);
    const fetch = describeLazily(system, gateway, answer.location, source.address, fetching);
    fetches.push(fetch.then(report).catch((error: Error) => void rejected.push(error)));
  };

  // Fires when nobody can be expected to answer any more.
  const over = new AbortController();
  const end = () => over.abort();
  const endAfter = (delayMs: number) =>
    void system.clock.sleep(delayMs, over.signal).then(end, () => undefined);
  let refused = false;
  const refuse = () => {
    if (!refused) endAfter(SILENCE_AFTER_REFUSAL_MS);
    refused = true;
  };

  const common = { family: gateway.family, localAddress: gateway.localAddress, onDatagram: receive };
  const peer = { address: gateway.address, port: gateway.ports.ssdp };
  const searchGateway = async () => {
    await using socket = await system.openUdp({ ...common, peer, onRefused: refuse });
    await sendWaves(system, UNICAST_WAVES, over.signal, (target) => {
      if (!refused) socket.send(unicastSearch(target, gateway));
    });
    await fired(over.signal);
  };
  const searchNetwork = async () => {
    await system.clock.sleep(MULTICAST_AFTER_MS, over.signal).catch(() => undefined);
    if (over.signal.aborted) return;
    await using socket = await openMulticast(system, gateway, common);
    await sendWaves(system, MULTICAST_WAVES, over.signal, (target) => {
      for (const group of groups(gateway)) {
        socket?.send(multicastSearch(target, group), { address: group, port: SSDP_PORT });
      }
    });
    await fired(over.signal);
  };

  if (signal.aborted) end();
  signal.addEventListener('abort', end, { once: true });
  endAfter(SILENCE_MS);
  try {
    await Promise.all([searchGateway(), searchNetwork()]);
  } finally {
    end();
    signal.removeEventListener('abort', end);
  }
  await finished(system, fetches, tooLate);
  return { dropped, rejected };
}

/** Loaded when the first answer comes: where PCP or NAT-PMP is quicker, XML and HTTP never are. */
export const describeLazily: typeof describe = async (...wanted) =>
  (await import('./describe.ts')).describe(...wanted);

async function sendWaves(
  system: System,
  waves: readonly Wave[],
  over: AbortSignal,
  send: (target: string) => void,
): Promise<void> {
  let elapsedMs = 0;
  for (const { atMs, targets } of waves) {
    if (atMs > elapsedMs) await system.clock.sleep(atMs - elapsedMs, over).catch(() => undefined);
    elapsedMs = atMs;
    if (over.aborted) return;
    for (const target of targets) send(target);
  }
}

/** Waits for the descriptions that are under way, but not for a device that never finishes one. */
async function finished(
  system: System,
  fetches: readonly Promise<void>[],
  tooLate: AbortController,
): Promise<void> {
  const done = new AbortController();
  const cut = system.clock.sleep(FETCH_GRACE_MS, done.signal).then(
    () => tooLate.abort(),
    () => undefined,
  );
  await Promise.all(fetches);
  done.abort();
  await cut;
}

function hasRoom(seen: ReadonlyMap<string, IpAddress>, source: IpAddress, gateway: Gateway): boolean {
  const ofDevice = [...seen.values()].filter((address) => address === source).length;
  const room = seen.size < MAX_DESCRIPTIONS || source === gateway.address;
  return room && ofDevice < MAX_DESCRIPTIONS_A_DEVICE;
}

type Receiver = Pick<Parameters<System['openUdp']>[0], 'family' | 'localAddress' | 'onDatagram'>;

/** An interface without multicast (a VPN's, often) is searched by unicast alone. */
async function openMulticast(
  system: System,
  gateway: Gateway,
  common: Receiver,
): Promise<UdpSocket | undefined> {
  const multicast = {
    interface: gateway.family === 6 ? `::%${gateway.interface}` : gateway.localAddress,
    hops: MULTICAST_HOPS,
    join: [],
  };
  return system.openUdp({ ...common, multicast }).catch(() => undefined);
}

/** The multicast groups of the gateway's family, on its interface. */
function groups(gateway: Gateway): readonly IpAddress[] {
  return gateway.family === 6 ? SSDP_IPV6.map((group) => `${group}%${gateway.interface}`) : [SSDP_IPV4];
}

function unicastSearch(searchTarget: string, gateway: Gateway): Uint8Array {
  const host = formatEndpoint({ address: withoutZone(gateway.address), port: gateway.ports.ssdp });
  return encodeSsdp({ kind: 'search', searchTarget, host, maxWaitSeconds: 0 });
}

function multicastSearch(searchTarget: string, group: IpAddress): Uint8Array {
  const host = formatEndpoint({ address: withoutZone(group), port: SSDP_PORT });
  return encodeSsdp({ kind: 'search', searchTarget, host, maxWaitSeconds: MAX_WAIT_SECONDS });
}

function decodeAnswer(data: Uint8Array): SsdpResponse | undefined {
  try {
    const message = decodeSsdp(data);
    return message.kind === 'response' ? message : undefined;
  } catch {
    return undefined; // MALFORMED is all that the decoder throws; the caller counts it.
  }
}

/** Televisions and printers answer for `upnp:rootdevice` too: from them only the gateway's own word counts. */
function isWorthFetching(answer: SsdpResponse, source: Endpoint, gateway: Gateway): boolean {
  if (gateway.chosenBy === 'named' && withoutZone(source.address) !== withoutZone(gateway.address))
    return false;
  if (GATEWAY_TARGET.test(answer.searchTarget) || GATEWAY_TARGET.test(answer.usn)) return true;
  return source.address === gateway.address && answer.searchTarget === 'upnp:rootdevice';
}
