/** What an app asks for one port: checked, and put into the words of the floors beneath. */

import type { Intent, KeepRequest } from '../agent/lease.ts';
import type { MapAsk } from '../agent/map.ts';
import type { MapOptions } from '../agent/port.ts';
import type { GatewayChoice } from '../discovery/route.ts';
import { NatwardError } from '../errors.ts';
import { bracketed, type Family, type IpAddress, parseAddress } from '../net/address.ts';
import type { RemotePeer } from '../net/endpoint.ts';
import type { MappingProtocol, TransportProtocol } from '../net/protocol.ts';

/** `tcp+udp`: both, at one number, or neither. */
export type PortProtocol = TransportProtocol | 'tcp+udp';

/** One port, by its end on this host or on another one. */
export interface PortEnd {
  /** Where traffic is to arrive. 1..65535. */
  readonly internalPort: number;
  /** Default: the internal port's number. 0: any. */
  readonly externalPort?: number | undefined;
  /** Default: `tcp`. */
  readonly protocol?: PortProtocol | undefined;
  /** Another host, or this one by a certain address. Default: this host. */
  readonly host?: IpAddress | undefined;
}

export interface PortRequest extends PortEnd {
  /** `exact`: this external port or none. Default: `any`, where another one will do. */
  readonly choice?: 'exact' | 'any' | undefined;
  /** What the gateway is asked for; it may grant less. 1..604800, default 7200. */
  readonly lifetimeSeconds?: number | undefined;
  /** What the gateway's table shows, where it has room for words. */
  readonly description?: string | undefined;
  /** Only traffic from there is let in, where the gateway can tell. Default: from anywhere. */
  readonly remotePeer?: RemotePeer | undefined;
  /** Gives up waiting: the promise rejects with ABORTED, and what was granted meanwhile is given back. */
  readonly signal?: AbortSignal | undefined;
}

export interface KeepPortRequest extends PortRequest {
  /** Default: the IPv4 mapping, and the IPv6 pinhole as well where it can be had. */
  readonly family?: Family | undefined;
  /**
   * `true`: resolves however it stands after the first answer, and goes on asking until it is granted. Default `false`:
   * rejects where it is not granted, and nothing is kept.
   */
  readonly retry?: boolean | undefined;
}

/** Which gateway, and by what. */
export interface AskChoice extends GatewayChoice {
  readonly via?: MappingProtocol;
}

const DEFAULT_LIFETIME_SECONDS = 7200;
const LONGEST_LIFETIME_SECONDS = 604_800;
const MAX_DESCRIPTION_LENGTH = 250;
const MAX_PORT = 65_535;

/** Throws USAGE. */
export function askOf({
  internalPort,
  externalPort = internalPort,
  protocol = 'tcp',
  host,
}: PortEnd): MapAsk {
  checkInteger('internalPort', internalPort, 1, MAX_PORT);
  checkInteger('externalPort', externalPort, 0, MAX_PORT);
  if (protocol !== 'tcp' && protocol !== 'udp' && protocol !== 'tcp+udp') {
    throw usage(`protocol ${JSON.stringify(protocol)} is none of tcp, udp and tcp+udp`);
  }
  const target = host === undefined ? undefined : parseAddress(host);
  if (host !== undefined && target === undefined)
    throw usage(`host ${JSON.stringify(host)} is no IP address`);
  const outside = externalPort === internalPort ? '' : `${externalPort || '*'}:`;
  return {
    spec: `${outside}${target === undefined ? '' : `${bracketed(target)}:`}${internalPort}/${protocol}`,
    protocols: protocol === 'tcp+udp' ? ['tcp', 'udp'] : [protocol],
    external: externalPort === 0 ? 'any' : { first: externalPort, last: externalPort },
    internal: { first: internalPort, last: internalPort },
    host: target,
  };
}

/** Throws USAGE. `name` describes what has no description of its own. */
export function mapOptionsOf(request: PortRequest, name: string | undefined): MapOptions {
  const {
    lifetimeSeconds = DEFAULT_LIFETIME_SECONDS,
    choice = 'any',
    description = name,
    remotePeer,
  } = request;
  checkInteger('lifetimeSeconds', lifetimeSeconds, 1, LONGEST_LIFETIME_SECONDS);
  if (choice !== 'exact' && choice !== 'any') {
    throw usage(`choice ${JSON.stringify(choice)} is neither exact nor any`);
  }
  if (description !== undefined && description.length > MAX_DESCRIPTION_LENGTH) {
    throw usage(`the description is longer than ${MAX_DESCRIPTION_LENGTH} characters`);
  }
  return { lifetimeSeconds, choice, description, remotePeer };
}

/** Throws USAGE. */
export function keepRequestOf(
  request: KeepPortRequest,
  name: string | undefined,
  { via, gateway, interface: networkInterface }: AskChoice,
): KeepRequest {
  return {
    ...askOf(request),
    ...mapOptionsOf(request, name),
    via,
    gateway,
    interface: networkInterface,
    family: request.family,
    hooks: [],
  };
}

/** Its protocols, as they are asked for. */
export function protocolOf({ protocols: [first = 'tcp', second] }: Pick<Intent, 'protocols'>): PortProtocol {
  return second === undefined ? first : 'tcp+udp';
}

function checkInteger(name: string, value: number, least: number, most: number): void {
  if (Number.isInteger(value) && value >= least && value <= most) return;
  throw usage(`${name} ${String(value)} is no whole number from ${least} to ${most}`);
}

function usage(message: string): NatwardError {
  return new NatwardError('USAGE', message);
}
