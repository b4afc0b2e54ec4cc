/**
 * Asks for one port of one spec, TCP and UDP together or not at all. What this host holds already is refreshed,
 * not mapped again; its nonce and its external port are kept.
 */

import type { HeldMapping, Mapping, MappingRequest } from '../mapping/mapping.ts';
import type { Race } from '../mapping/race.ts';
import type { IpAddress } from '../net/address.ts';
import type { RemotePeer } from '../net/endpoint.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import type { System } from '../system/system.ts';
import { PCP_NONCE_BYTES } from '../wire/pcp.ts';
import type { RememberedMapping } from './store.ts';

/** One port of one spec, with its one or two protocols. */
export interface Port {
  readonly protocols: readonly TransportProtocol[];
  readonly host: IpAddress | undefined;
  readonly spec: string;
  readonly internalPort: number;
  /** 0: any. */
  readonly externalPort: number;
}

export interface MapOptions {
  readonly lifetimeSeconds: number;
  readonly choice: 'exact' | 'any';
  readonly description: string | undefined;
  /** Only traffic from there is let in, where the gateway can tell; left out: from anywhere. */
  readonly remotePeer?: RemotePeer | undefined;
}

/** A mapping and the external port that was asked for; 0: any. */
export interface Granted extends Mapping {
  readonly requestedExternalPort: number;
}

export interface PortContext {
  readonly race: Race;
  /** This host's address towards the gateway. */
  readonly localAddress: IpAddress;
  readonly nonces: Nonces;
  /** What this host holds at this gateway for the same internal port, whatever the protocol. */
  readonly own: readonly RememberedMapping[];
  /** Gives up what was asked for. */
  readonly signal: AbortSignal;
  /** Where any external port will do, the one that would be best; left out: whatever the gateway gives. */
  readonly bestExternalPort?: number;
  /** Nobody waits: see MappingRequest. */
  readonly pace?: 'background';
}

const NONCES_A_DRAW = 64;

/** TCP and UDP of one port: both or none. Throws the refusal. */
export async function mapPort(
  port: Port,
  options: MapOptions,
  context: PortContext,
): Promise<readonly Granted[]> {
  const granted: { readonly mapping: Mapping; readonly isNew: boolean }[] = [];
  // Whoever writes * has no port in mind that could be missed.
  const choice = port.externalPort === 0 ? 'any' : options.choice;
  const best = context.bestExternalPort ?? 0;
  try {
    for (const protocol of port.protocols) {
      const internalClient = port.host ?? context.localAddress;
      const own = context.own.filter((one) => one.protocol === protocol);
      // What leads to another host is another mapping; what leads to this one by an old address is the same.
      const same = own.find(
        (one) =>
          one.requestedExternalPort === port.externalPort &&
          (port.host === undefined || one.internalClient === port.host),
      );
      // The second protocol takes the number that the first one got.
      const wanted = granted[0]?.mapping.externalPort ?? port.externalPort;
      const request: MappingRequest = {
        protocol,
        internalClient,
        internalPort: port.internalPort,
        suggestedExternalPort: choice === 'exact' ? wanted : (same?.externalPort ?? (wanted || best)),
        choice,
        lifetimeSeconds: options.lifetimeSeconds,
        description: options.description ?? `natward ${port.internalPort}/${protocol}`,
        remotePeer: options.remotePeer,
        nonce: nonceOf(own, context.nonces),
        held: same && toHeld(same),
        ...(context.pace && { pace: context.pace }),
      };
      const mapping = await context.race.map(request, context.signal, same?.via);
      granted.push({
        mapping: withNote(mapping, port.externalPort || wanted),
        isNew: same === undefined,
      });
    }
    return granted.map(({ mapping }) => ({ ...mapping, requestedExternalPort: port.externalPort }));
  } catch (error) {
    await takeBack(
      granted.filter(({ isNew }) => isNew).map(({ mapping }) => mapping),
      context,
    );
    throw error;
  }
}

/** Says what a person may miss: another port than asked for. `wanted` 0: any would do. */
function withNote(mapping: Mapping, wanted: number): Mapping {
  if (wanted === 0 || mapping.externalPort === wanted) return mapping;
  const note = `external port ${wanted} was not to be had: the gateway gave ${mapping.externalPort}`;
  return { ...mapping, notes: [note, ...mapping.notes] };
}

/** The other protocol of the same port failed: nothing stays behind. What cannot be taken back ends by itself. */
async function takeBack(mappings: readonly Mapping[], context: PortContext): Promise<void> {
  for (const mapping of mappings) {
    const mapper = context.race.mappers.find(({ protocol }) => protocol === mapping.via);
    await mapper?.unmap(mapping).catch(() => undefined);
  }
}

function toHeld({
  internalClient,
  externalPort,
  lifetimeSeconds,
  pinholeId,
}: RememberedMapping): HeldMapping {
  return { internalClient, externalPort, lifetimeSeconds, pinholeId: pinholeId ?? undefined };
}

/** PCP knows a mapping by its internal side and nonce: what is held for the port keeps its nonce. */
function nonceOf(own: readonly RememberedMapping[], nonces: Nonces): Uint8Array {
  const known = own.find((one) => one.nonce !== null)?.nonce;
  return known === undefined || known === null ? nonces.next() : Uint8Array.from(Buffer.from(known, 'hex'));
}

/** Fresh nonces, drawn many at a time and the first ones before they are wanted. */
export class Nonces {
  readonly #system: System;
  #bytes = new Uint8Array(0);

  constructor(system: System) {
    this.#system = system;
    this.#draw();
  }

  #draw(): void {
    this.#bytes = new Uint8Array(NONCES_A_DRAW * PCP_NONCE_BYTES);
    this.#system.fillRandom(this.#bytes);
  }

  next(): Uint8Array {
    if (this.#bytes.length === 0) this.#draw();
    const nonce = this.#bytes.subarray(0, PCP_NONCE_BYTES);
    this.#bytes = this.#bytes.subarray(PCP_NONCE_BYTES);
    return nonce;
  }
}
