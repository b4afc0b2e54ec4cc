/**
 * Keeps a BitTorrent client at the port that was granted. A client listens on one port for TCP and UDP, and has
 * to announce it: so the external port is set, and the lease's internal one follows it.
 */

import { isNatwardError, NatwardError } from '../../../errors.ts';
import type { AgentEvent } from '../../events.ts';
import type { LeaseStatus } from '../../lease.ts';
import { eventsOf, type SyncClient, type SyncHook } from '../hook.ts';
import type { Setback } from '../lanes.ts';
import { mayPass, type Reach, Service } from '../service.ts';
import { setDelugePort } from './deluge.ts';
import { setQbittorrentPort } from './qbittorrent.ts';
import { setTransmissionPort } from './transmission.ts';

const SET_PORT: Readonly<Record<SyncClient, (service: Service, url: string, port: number) => Promise<void>>> =
  {
    qbittorrent: setQbittorrentPort,
    transmission: setTransmissionPort,
    deluge: setDelugePort,
  };

/** Three minutes in which a client may start, with nobody told. */
const RETRY_SECONDS = [1, 2, 4, 8, 16, 32, 60, 60];
/** After that: a desktop's client may be started hours later. */
const SLOW_RETRY_SECONDS = 300;

/** Resolves with undefined when the client listens on `port`. Never rejects. */
export async function syncPort(
  reach: Reach,
  hook: SyncHook,
  port: number,
  tries: number,
): Promise<Setback | undefined> {
  try {
    await SET_PORT[hook.client](new Service(reach, hook), hook.url, port);
    return undefined;
  } catch (cause) {
    const error = cause instanceof NatwardError ? cause : new NatwardError('FAILED', String(cause));
    // Wrong passwords are counted, and the one who tells them is banned.
    if (isNatwardError(error, 'NOT_AUTHORIZED')) return { error, retryMs: null, isWorthTelling: true };
    const seconds = RETRY_SECONDS[tries] ?? SLOW_RETRY_SECONDS;
    return {
      error,
      retryMs: seconds * 1000,
      isWorthTelling: !mayPass(error) || tries >= RETRY_SECONDS.length,
    };
  }
}

interface Followed {
  readonly intentId: string;
  readonly spec: string;
  readonly port: number;
  /** The lower one leads. */
  readonly rank: number;
}

/** Which port to set, of the leases that a sync is told of. */
export class FollowedPorts {
  readonly #hook: SyncHook;
  /** By id of the lease, the one heard of last at the end. */
  readonly #leases = new Map<string, Followed>();

  constructor(hook: SyncHook) {
    this.#hook = hook;
  }

  /** Takes note of an event, and answers whether it may have changed the port. */
  note(event: AgentEvent): boolean {
    if (event.type === 'lost' || event.type === 'released') return this.#leases.delete(event.lease.id);
    if (event.type !== 'granted' && event.type !== 'changed') return false;
    if (!eventsOf(this.#hook).includes(event.type) || event.lease.externalPort === null) return false;
    const { id, intentId, spec, externalPort: port } = event.lease;
    this.#leases.delete(id);
    this.#leases.set(id, { intentId, spec, port, rank: rankOf(event.lease) });
    return true;
  }

  /** Of the intent that was heard of last: its TCP port, where UDP has another; the first one of a range. */
  get port(): number | undefined {
    const all = [...this.#leases.values()];
    const intentId = all.at(-1)?.intentId;
    const own = all.filter((one) => one.intentId === intentId);
    return own.sort((a, b) => a.rank - b.rank || a.port - b.port)[0]?.port;
  }

  /** The specs that pull at the same client, where they are not one. */
  get rivals(): readonly string[] {
    const specs = new Map([...this.#leases.values()].map(({ intentId, spec }) => [intentId, spec]));
    return specs.size > 1 ? [...specs.values()] : [];
  }
}

function rankOf({ protocol, family }: LeaseStatus): number {
  return (family === 4 ? 0 : 2) + (protocol === 'tcp' ? 0 : 1);
}
