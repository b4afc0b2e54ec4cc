/**
 * What nat-upnp exports as `ssdp`: a search that tells of devices as it finds them. It finds gateways, as natward's
 * discovery does, and no other device.
 */

import { EventEmitter } from 'node:events';
import { Agent, type AgentOptions } from '../library/agent.ts';
import { ownAddressOn } from './own-address.ts';

/** What the listener of `device` is told, with this host's address towards it. */
export interface DeviceInfo {
  /** The URL of its description. */
  readonly location: string;
  /** What was searched for. */
  readonly st: string;
}

/** Emits `device` (DeviceInfo, address) for each gateway; `end`, which the searcher emits, ends it. */
export type Search = EventEmitter<{ device: [DeviceInfo, string]; end: [] }>;

const GATEWAY = /:device:InternetGatewayDevice:\d+$/;

export class Ssdp {
  readonly #options: AgentOptions;
  readonly #closing = new AbortController();

  constructor(options: AgentOptions = {}) {
    this.#options = options;
  }

  search(type: string): Search {
    const search: Search = new EventEmitter();
    if (GATEWAY.test(type)) {
      const ended = new AbortController();
      search.once('end', () => ended.abort());
      const signal = AbortSignal.any([ended.signal, this.#closing.signal]);
      void this.#look(type, search, signal).catch(() => undefined); // As if there were none.
    }
    return search;
  }

  close(): void {
    this.#closing.abort();
  }

  async #look(type: string, search: Search, signal: AbortSignal): Promise<void> {
    await using agent = new Agent(this.#options);
    for await (const { upnp, interface: name } of agent.gateways({ signal })) {
      if (upnp === undefined || signal.aborted) continue;
      const info = { location: upnp.location, st: type };
      // Outside of the promise: what a listener throws is not lost.
      process.nextTick(() => search.emit('device', info, ownAddressOn(name) ?? ''));
    }
  }
}

export const ssdp: { create(options?: AgentOptions): Ssdp } = { create: (options) => new Ssdp(options) };
