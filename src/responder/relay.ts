/**
 * Carries what arrives at the outer address to the hosts inside: one listener for each mapped port. It knows
 * ports; where each one leads it asks for every connection and every datagram, so that a changed mapping
 * leads elsewhere at once. Connections that are already open end with their listener.
 */

import type { Endpoint } from '../net/endpoint.ts';
import type { TransportProtocol } from '../net/protocol.ts';
import type { Clock } from '../system/clock.ts';
import { Budget } from './budget.ts';
import type { ResolvedSettings } from './settings.ts';
import { listenTcp } from './tcp-listener.ts';
import { listenUdp } from './udp-listener.ts';

export interface Listener {
  close(): Promise<void>;
}

/** Where traffic from `peer` goes; undefined: nowhere. */
export type Route = (peer: Endpoint) => Endpoint | undefined;

export class Relay {
  readonly #settings: ResolvedSettings;
  readonly #clock: Clock;
  readonly #target: (protocol: TransportProtocol, port: number, peer: Endpoint) => Endpoint | undefined;
  readonly #listeners = new Map<string, Listener>();
  readonly #connections: Budget;
  readonly #conversations: Budget;

  constructor(
    settings: ResolvedSettings,
    clock: Clock,
    target: (protocol: TransportProtocol, port: number, peer: Endpoint) => Endpoint | undefined,
  ) {
    this.#settings = settings;
    this.#clock = clock;
    this.#target = target;
    this.#connections = new Budget(settings.maxConnections);
    this.#conversations = new Budget(settings.maxConversations);
  }

  /** Resolves with false where the port cannot be had: another program listens there, or the host forbids it. */
  async open(protocol: TransportProtocol, port: number): Promise<boolean> {
    const key = `${protocol} ${port}`;
    if (!this.#settings.carriesTraffic || this.#listeners.has(key)) return true;
    const at: Endpoint = { address: this.#settings.outerAddress, port };
    const route: Route = (peer) => this.#route(protocol, port, peer);
    try {
      const listener =
        protocol === 'tcp'
          ? await listenTcp(at, route, this.#connections)
          : await listenUdp(at, route, this.#conversations, this.#settings.idleMs, this.#clock);
      this.#listeners.set(key, listener);
      return true;
    } catch {
      return false;
    }
  }

  async shut(protocol: TransportProtocol, port: number): Promise<void> {
    const listener = this.#listeners.get(`${protocol} ${port}`);
    this.#listeners.delete(`${protocol} ${port}`);
    await listener?.close();
  }

  async close(): Promise<void> {
    const listeners = [...this.#listeners.values()];
    this.#listeners.clear();
    await Promise.all(listeners.map((listener) => listener.close()));
  }

  #route(protocol: TransportProtocol, port: number, peer: Endpoint): Endpoint | undefined {
    const target = this.#target(protocol, port, peer);
    // A mapping that leads to a port of this relay would carry its own traffic round for ever.
    const own =
      target?.address === this.#settings.outerAddress && this.#listeners.has(`${protocol} ${target.port}`);
    return own ? undefined : target;
  }
}
