/**
 * Wires discovery, mapping and memory together for whoever asks: one command, later the daemon. Chooses the
 * gateways, opens a session with each, and remembers what came of it.
 */

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Offer } from '../discovery/gateway.ts';
import { chooseGateways, noRoute } from '../discovery/route.ts';
import { isNatwardError, type NatwardError } from '../errors.ts';
import { type Family, family, type IpAddress } from '../net/address.ts';
import { MAPPING_PROTOCOLS, type MappingProtocol } from '../net/protocol.ts';
import type { System } from '../system/system.ts';
import { Asking, type AskOptions } from './asking.ts';
import { type MapAsk, type MapFailure, type MapReport, mapAll } from './map.ts';
import { type Granted, type MapOptions, Nonces } from './port.ts';
import { KnownDevices, rememberGateways, Session } from './session.ts';
import { placeOf, type RememberedMapping, type State, type Store, toRemembered } from './store.ts';
import {
  externalAddressOf,
  type GatewayReport,
  listMappings,
  listPinholes,
  nobody,
  type OwnMapping,
  reportOf,
} from './survey.ts';
import { type UnmapReport, unmapAll } from './unmap.ts';

export interface ProgressOptions {
  readonly onProgress?: (done: number, total: number) => void;
  /** Something that did not go well and does not change the result: a full sentence. */
  readonly onWarning: (warning: NatwardError) => void;
}

type UnmapOptions = AskOptions & ProgressOptions & { readonly others: 'refuse' | 'force' };

/** A FRITZ!Box stumbles over searches in both families at once: by now it has heard all of the IPv4 one. */
const IPV6_AFTER_MS = 900;

export interface SurveyOptions {
  /** Each protocol of each gateway, as it answers. */
  readonly onOffer: (offer: Offer) => void;
  /** Each gateway, when all is known about it. */
  readonly onGateway: (report: GatewayReport) => void;
}

export class OneShot implements AsyncDisposable {
  readonly #saving = new Set<Promise<void>>();
  readonly #devices = new KnownDevices();
  readonly #system: System;
  readonly #store: Store;
  readonly #directory: string | undefined;

  /** `directory` is where an agent in the background may remember as well. */
  constructor(system: System, store: Store, directory?: string) {
    this.#system = system;
    this.#directory = directory;
    this.#store = store;
  }

  /**
   * Maps every port of every ask. Refusals are in the report; throws NO_ROUTE, NO_GATEWAY or USAGE where
   * nothing could be asked at all.
   */
  async map(asks: readonly MapAsk[], options: MapOptions & AskOptions & ProgressOptions): Promise<MapReport> {
    const reports = await eachFamily<MapReport>(asks, options, {
      run: (of, group) => this.#mapFamily(of, group, options),
      failed: (failures) => ({ mappings: [], failures }),
    });
    return {
      mappings: reports.flatMap(({ mappings }) => mappings),
      failures: reports.flatMap(({ failures }) => failures),
    };
  }

  async #mapFamily(
    of: Family | undefined,
    asks: readonly MapAsk[],
    options: MapOptions & AskOptions & ProgressOptions,
  ): Promise<MapReport> {
    await using asking = await this.#ask(of, options);
    // While the probes are under way, what the first request takes is made ready.
    await asking.asked;
    const nonces = new Nonces(this.#system);
    const remembered = [...this.#store.read().mappings, ...(await this.#kept())];
    const session = await asking.firstAnswering();
    const report = await mapAll(asks, options, {
      nonces,
      session,
      remembered,
      signal: asking.signal,
      lateSignal: asking.lateSignal,
      onProgress: (done, total) => {
        asking.progress();
        options.onProgress?.(done, total);
      },
    });
    session.stopAsking();
    this.#devices.keep(session, report.mappings[0]?.via);
    this.#save(this.#remember(report.mappings), options.onWarning);
    this.#save(rememberGateways(this.#store, [session]));
    return report;
  }

  /** Lets a write go on while its caller already has the answer. */
  #save(write: Promise<void>, onWarning: (warning: NatwardError) => void = () => undefined): void {
    const saving = write
      .catch((error: unknown) => {
        if (!isNatwardError(error)) throw error;
        onWarning(error);
      })
      .finally(() => this.#saving.delete(saving));
    this.#saving.add(saving);
  }

  /** Waits until all that is to be remembered is on disk; warnings about it have come by then. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#saving);
  }

  async #remember(granted: readonly Granted[]): Promise<void> {
    if (granted.length === 0) return;
    const fresh = granted.map(toRemembered);
    const places = new Set(fresh.map(placeOf));
    await this.#store.update((state) => ({
      ...state,
      mappings: [...state.mappings.filter((old) => !places.has(placeOf(old))), ...fresh],
    }));
  }

  /** Takes mappings back. Throws as `map` does. */
  async unmap(asks: readonly MapAsk[], options: UnmapOptions): Promise<UnmapReport> {
    const reports = await eachFamily<UnmapReport>(asks, options, {
      run: (of, group) => this.#unmapFamily(of, group, options),
      failed: (failures) => ({ released: [], failures }),
    });
    return {
      released: reports.flatMap(({ released }) => released),
      failures: reports.flatMap(({ failures }) => failures),
    };
  }

  async #unmapFamily(
    of: Family | undefined,
    asks: readonly MapAsk[],
    options: UnmapOptions,
  ): Promise<UnmapReport> {
    await using asking = await this.#ask(of, options);
    const session = await asking.firstAnswering();
    const report = await unmapAll(asks, {
      session,
      remembered: this.#store.read().mappings.filter(({ gateway }) => gateway === session.gateway.address),
      kept: await this.#kept(),
      others: options.others,
      signal: asking.signal,
      onProgress: (done, total) => {
        asking.progress();
        options.onProgress?.(done, total);
      },
    });
    session.stopAsking();
    const gone = new Set(report.released.map(placeOf));
    if (gone.size > 0) {
      const forget = (state: State) => ({
        ...state,
        mappings: state.mappings.filter((one) => !gone.has(placeOf(one))),
      });
      this.#save(this.#store.update(forget), options.onWarning);
    }
    return report;
  }

  /**
   * The table of the first gateway that answers, and the pinholes opened from here. Throws NO_ROUTE,
   * NO_GATEWAY or a refusal.
   */
  async list(options: AskOptions): Promise<readonly OwnMapping[]> {
    await using asking = await this.#ask(undefined, options);
    const session = await asking.firstAnswering();
    const remembered = [...this.#store.read().mappings, ...(await this.#kept())];
    const rows = await listMappings(session, remembered, this.#system.clock, asking.signal);
    session.stopAsking();
    this.#save(rememberGateways(this.#store, [session]));
    const addresses = new Set(
      chooseGateways(await this.#system.network(), options).map((gateway) => gateway.address),
    );
    return [...rows, ...listPinholes(remembered, addresses, this.#system.clock)];
  }

  /**
   * Every gateway there is, reported as soon as it is known. Throws NO_ROUTE, or NO_GATEWAY where none
   * offers anything.
   */
  async gateways(options: AskOptions & SurveyOptions): Promise<void> {
    let found = 0;
    const survey = async (of: Family): Promise<NatwardError | undefined> => {
      try {
        await using asking = await this.#ask(of, options, options.onOffer);
        const reports = await Promise.all(
          asking.sessions.map((session) =>
            reportOf(session, this.#system.clock, asking.signal, options.onGateway),
          ),
        );
        this.#save(rememberGateways(this.#store, asking.sessions));
        const offered = reports.filter((report) => report !== undefined).length;
        found += offered;
        return offered === 0 ? await nobody(asking.sessions) : undefined;
      } catch (error) {
        if (!isNatwardError(error, 'NO_ROUTE')) throw error;
        return error;
      }
    };
    const asked = survey(4);
    const answered = new AbortController();
    const end = () => answered.abort();
    void asked.then(end, end);
    await this.#system.clock.sleep(IPV6_AFTER_MS, answered.signal).catch(() => undefined);
    const [ipv4, ipv6] = await Promise.all([asked, survey(6)]);
    const error = ipv4 ?? ipv6;
    if (found === 0 && error !== undefined) throw error;
  }

  /** The external address of the first gateway that answers; undefined where it does not know it. */
  async externalAddress(options: AskOptions): Promise<IpAddress | undefined> {
    await using asking = await this.#ask(undefined, options);
    const session = await asking.firstAnswering();
    return await externalAddressOf(session, this.#system.clock, asking.signal);
  }

  /** What the agent in the background holds, where one remembers in the same place. */
  async #kept(): Promise<readonly RememberedMapping[]> {
    if (this.#directory === undefined || !existsSync(join(this.#directory, 'ledger.json'))) return [];
    const { readHoldings } = await import('./ledger.ts');
    return readHoldings(this.#directory).map(({ mapping }) => mapping);
  }

  /** Begins to ask the gateways of one family; undefined: IPv4 where there is a way out, else IPv6. */
  async #ask(of: Family | undefined, options: AskOptions, onOffer?: (offer: Offer) => void): Promise<Asking> {
    const gateways = chooseGateways(await this.#system.network(), options);
    const wanted = of ?? (gateways.some((gateway) => gateway.family === 4) ? 4 : 6);
    const asked = gateways.filter((gateway) => gateway.family === wanted);
    if (asked.length === 0) {
      throw noRoute(wanted);
    }
    const protocols = new Set<MappingProtocol>(options.via === undefined ? MAPPING_PROTOCOLS : [options.via]);
    return new Asking(this.#system, options, (signal) =>
      asked.map(
        (gateway) =>
          new Session(this.#system, this.#store, gateway, {
            protocols,
            signal,
            knownDevice: onOffer === undefined ? this.#devices.of(gateway) : undefined,
            ...(onOffer && { onOffer }),
          }),
      ),
    );
  }
}

/** IPv4 and IPv6 asks go to different gateways: an ask for an IPv6 address is a pinhole. */
function byFamily(asks: readonly MapAsk[]): ReadonlyMap<Family | undefined, readonly MapAsk[]> {
  const groups = new Map<Family | undefined, MapAsk[]>();
  for (const ask of asks) {
    const of = ask.host === undefined ? undefined : family(ask.host);
    groups.set(of, [...(groups.get(of) ?? []), ask]);
  }
  return groups;
}

/** Runs a command for each family; what fails for one family as a whole is a failure of its asks alone. */
async function eachFamily<Report>(
  asks: readonly MapAsk[],
  { signal }: AskOptions,
  work: {
    readonly run: (of: Family | undefined, group: readonly MapAsk[]) => Promise<Report>;
    readonly failed: (failures: readonly MapFailure[]) => Report;
  },
): Promise<Report[]> {
  const groups = byFamily(asks);
  const reports: Report[] = [];
  for (const [of, group] of groups) {
    try {
      reports.push(await work.run(of, group));
    } catch (error) {
      if (groups.size === 1 || !isNatwardError(error) || signal.aborted) throw error;
      reports.push(work.failed(group.map(({ spec }) => ({ spec, error }))));
    }
  }
  return reports;
}
