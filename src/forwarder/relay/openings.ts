/**
 * The places where an engine listens, moved from one table to the next as a whole: what is new is opened first, and only
 * when all of it is open does anything close. What is in the way of a new place, on another address of the same
 * port, has to go before it, and comes back where the move fails.
 *
 * A place that takes nothing new may live on for what runs there (UDP), and be taken up again.
 */

import { NatwardError } from '../../errors.ts';
import { ANY_IPV4, ANY_IPV6, family } from '../../net/address.ts';
import { formatEndpoint } from '../../net/endpoint.ts';
import type { TransportProtocol } from '../../net/protocol.ts';
import { type Place, placeKey } from './places.ts';

/** A place that is open. */
export interface Open {
  readonly place: Place;
  /** Nothing new begins there; what runs goes on. */
  readonly retire: () => void;
  /** Reports whether it takes new ones again. */
  readonly revive: () => boolean;
  readonly close: () => void;
  readonly isClosed: () => boolean;
}

/** Places opened without a look at what else waits. */
const BATCH = 500;

export class Openings<O extends Open> {
  readonly #make: (place: Place) => Promise<O>;
  readonly #lost: (error: NatwardError) => void;
  readonly #open = new Map<string, O>();
  /** They live as long as the last that runs there. */
  readonly #retired = new Map<string, O>();

  /** `lost` hears of a place that was open before a move that failed, and could not be opened again. */
  constructor(make: (place: Place) => Promise<O>, lost: (error: NatwardError) => void) {
    this.#make = make;
    this.#lost = lost;
  }

  get size(): number {
    return this.#open.size;
  }

  /** What is open at the place. */
  at(place: Place): O | undefined {
    return this.#open.get(placeKey(place));
  }

  /** All places that are open. */
  places(): Place[] {
    return [...this.#open.values()].map(({ place }) => place);
  }

  /** Opens those that are not open, and closes what is open of the others. Throws with all as it was. */
  async move(wanted: readonly Place[], unwanted: readonly Place[]): Promise<void> {
    const going = unwanted.flatMap((place) => {
      const [key, open] = [placeKey(place), this.at(place)];
      return open === undefined ? [] : [[key, open] as const];
    });
    const opened = new Map<string, O>();
    const swapped = new Set<O>();
    try {
      await this.#openNew(wanted, this.#leaving(going), opened, swapped);
    } catch (error) {
      for (const [key, open] of opened) {
        if (this.#retired.get(key) === open) open.retire();
        else open.close();
      }
      for (const [key, open] of going) if (swapped.has(open)) await this.#reopen(key, open.place);
      throw error;
    }
    for (const [key, open] of this.#retired) {
      if (swapped.has(open) || opened.has(key) || open.isClosed()) this.#retired.delete(key);
    }
    for (const [key, open] of going) {
      this.#open.delete(key);
      if (!swapped.has(open)) this.#retire(key, open);
    }
    for (const [key, open] of opened) this.#open.set(key, open);
  }

  /** What is not to be there any more, or only for what runs there, by its port. */
  #leaving(going: readonly (readonly [string, O])[]): ReadonlyMap<string, readonly O[]> {
    const leaving = new Map<string, O[]>();
    for (const open of [...going.map(([, open]) => open), ...this.#retired.values()]) {
      const key = portKey(open.place);
      leaving.set(key, [...(leaving.get(key) ?? []), open]);
    }
    return leaving;
  }

  /** Fills `opened`, and `swapped` with what had to go for it. */
  async #openNew(
    places: readonly Place[],
    leaving: ReadonlyMap<string, readonly O[]>,
    opened: Map<string, O>,
    swapped: Set<O>,
  ): Promise<void> {
    for (const place of places) {
      const key = placeKey(place);
      if (this.#open.has(key)) continue;
      const retired = this.#retired.get(key);
      if (retired?.revive()) {
        opened.set(key, retired);
        continue;
      }
      for (const inTheWay of leaving.get(portKey(place)) ?? []) {
        if (!overlap(inTheWay.place, place)) continue;
        swapped.add(inTheWay);
        inTheWay.close();
      }
      opened.set(key, await this.#make(place));
      if (opened.size % BATCH === 0) await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #retire(key: string, open: O): void {
    open.retire();
    if (open.place.protocol === 'udp') this.#retired.set(key, open);
  }

  async #reopen(key: string, place: Place): Promise<void> {
    try {
      this.#open.set(key, await this.#make(place));
    } catch (error) {
      this.#open.delete(key);
      this.#lost(error as NatwardError);
    }
  }

  /** Nothing new begins anywhere. */
  retire(): void {
    for (const [key, open] of this.#open) this.#retire(key, open);
    this.#open.clear();
  }

  close(): void {
    for (const open of [...this.#open.values(), ...this.#retired.values()]) open.close();
    this.#open.clear();
  }
}

/** Reports whether it listens on every address. */
export function isWild({ address }: Place): boolean {
  return address === ANY_IPV6 || address === ANY_IPV4;
}

/** Reports whether one socket cannot listen at both, which have one port. */
function overlap(a: Place, b: Place): boolean {
  if (a.address === b.address || a.address === ANY_IPV6 || b.address === ANY_IPV6) return true;
  return (isWild(a) || isWild(b)) && family(a.address) === family(b.address);
}

function portKey({ protocol, port }: Place): string {
  return `${protocol} ${port}`;
}

/** Another program listens there. `what` puts the place in words. */
export function portTaken(protocol: TransportProtocol, port: number, what: string): NatwardError {
  const flag = protocol === 'tcp' ? 't' : 'u';
  return new NatwardError('CONFLICT', `another program listens on ${what}`, {
    advice: `ss -l${flag}np 'sport = :${port}' shows which; let it listen on 127.0.0.1 alone, or choose another port.`,
  });
}

/** Why a place cannot be listened on, by the system's word. */
export function listenFailure({ protocol, address, port, rules: [rule] }: Place, code: string): NatwardError {
  const what = `${protocol.toUpperCase()} ${formatEndpoint({ address, port })}, for rule ${rule?.id}`;
  switch (code) {
    case 'EADDRINUSE':
      return portTaken(protocol, port, what);
    case 'EACCES':
      return new NatwardError(
        'NOT_AUTHORIZED',
        `this user may not listen on ${what}: ports below 1024 are privileged`,
        {
          advice: `Run the agent as a service (natward service install), or: sysctl net.ipv4.ip_unprivileged_port_start=${port}`,
        },
      );
    case 'EADDRNOTAVAIL':
      return new NatwardError('FAILED', `this host does not have the address of ${what}`, {
        advice: 'ip address shows those it has.',
      });
    case 'EMFILE':
    case 'ENFILE':
      return new NatwardError('NO_RESOURCES', `no file handle is left to listen on ${what}`, {
        advice: 'Raise the limit: LimitNOFILE= in the systemd unit, or ulimit -Hn.',
      });
    default:
      return new NatwardError('FAILED', `cannot listen on ${what}: ${code}`);
  }
}
