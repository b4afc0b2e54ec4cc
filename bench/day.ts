/**
 * A keeper's day in a minute: keeper and embedded gateway in this process, on one clock that jumps from timer to
 * timer as soon as no request is under way. Real sockets on loopback; what is counted are the gateway's requests
 * and the keeper's events.
 */

import { setImmediate as turn } from 'node:timers/promises';
// Loaded when they are wanted; here already, so that no virtual time passes meanwhile.
import '../src/discovery/describe.ts';
import '../src/mapping/upnp.ts';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Keeper } from '../src/agent/keeper.ts';
import { type LedgerState, type Memory, NOTHING } from '../src/agent/ledger.ts';
import { FileStore } from '../src/agent/file-store.ts';
import { renewalWindow } from '../src/mapping/schedule.ts';
import type { MappingProtocol } from '../src/net/protocol.ts';
import { startGateway } from '../src/responder/gateway.ts';
import { aborted, type Clock } from '../src/system/clock.ts';
import { realSystem, type System } from '../src/system/system.ts';

const INNER = '127.0.0.1';
const FIRST_PORT = 20_000;
const DAY_MS = 86_400_000;
const LIFETIME_SECONDS = 7200;
const KEEP_LIMIT_MS = 600_000;

export interface Day {
  readonly leases: number;
  readonly via: MappingProtocol;
  readonly renewals: number;
  /** Requests that map, beyond the first of each lease. */
  readonly mapRequests: number;
  /** All others, in the whole day: checks, searches, looks. */
  readonly otherRequests: number;
  /** Renewals after the end of their window. */
  readonly late: number;
  /** How far the latest one was behind its window, or (negative) before its end. */
  readonly latestMs: number;
  /** Leases that were lost or refused at any time. */
  readonly lost: number;
  /** Of keeper and gateway together. */
  readonly cpuSeconds: number;
  readonly realSeconds: number;
}

/**
 * `looks`: whether the keeper asks from time to time if all is as it was. Over PCP and NAT-PMP a look is a request
 * that maps; without them every such request is for a renewal.
 */
export async function virtualDay(
  leases: number,
  via: MappingProtocol,
  looks: 'off' | 'as always',
): Promise<Day> {
  const clock = new DayClock();
  await using gateway = await startGateway(
    {
      address: INNER,
      outerAddress: '203.0.113.1',
      carriesTraffic: false,
      maxMappings: 20_000,
      protocols: [via],
    },
    clock,
  );
  const ports = { pcp: gateway.ports.pcp || 9, ssdp: gateway.ports.ssdp || 9 };
  const directory = mkdtempSync(join(tmpdir(), 'natward-day-'));
  const keeper = new Keeper(systemOn(clock, ports), {
    memory: new NoMemory(),
    store: new FileStore(directory, clock),
    ports,
    ...(looks === 'off' && { checkMs: 2 * DAY_MS }),
  });
  const watch = new RenewalWatch(keeper);
  try {
    keeper.configure([]);
    const range = { first: FIRST_PORT, last: FIRST_PORT + leases - 1 };
    const keeping = keeper.keep(
      [
        {
          spec: `${range.first}-${range.last}`,
          protocols: ['tcp'],
          external: range,
          internal: range,
          host: undefined,
          lifetimeSeconds: LIFETIME_SECONDS,
          choice: 'any',
          via,
          family: 4,
          hooks: [],
        },
      ],
      { owner: 'bench', timeoutMs: KEEP_LIMIT_MS, signal: new AbortController().signal },
    );
    await clock.until(keeping);
    const held = (await keeping).filter(({ state }) => state === 'held').length;
    if (held < leases) throw new Error(`${held} of ${leases} leases were granted`);
    const before = mapRequestsOf(gateway.counters);
    const [startedMs, startedCpu] = [performance.now(), process.cpuUsage()];
    await clock.until(clock.sleep(DAY_MS));
    const cpu = process.cpuUsage(startedCpu);
    const mapRequests = mapRequestsOf(gateway.counters) - before;
    const all = Object.values(gateway.counters).reduce((sum, count) => sum + count, 0);
    return {
      leases,
      via,
      ...watch.figures,
      mapRequests,
      otherRequests: all - mapRequests - before,
      cpuSeconds: (cpu.user + cpu.system) / 1e6,
      realSeconds: (performance.now() - startedMs) / 1000,
    };
  } finally {
    await clock.until(keeper[Symbol.asyncDispose]());
    rmSync(directory, { recursive: true, force: true });
  }
}

function mapRequestsOf(counters: Readonly<Record<string, number>>): number {
  const kinds = ['pcp map', 'natpmp map', 'soap AddPortMapping', 'soap AddAnyPortMapping'];
  return kinds.reduce((sum, kind) => sum + (counters[kind] ?? 0), 0);
}

/** Holds each renewal against the window that began with the grant before it. */
class RenewalWatch {
  readonly #grantedAtMs = new Map<string, number>();
  #renewals = 0;
  #late = 0;
  #latestMs = Number.NEGATIVE_INFINITY;
  #lost = 0;

  constructor(keeper: Keeper) {
    keeper.log.listen((event) => {
      if (event.type === 'lost' || event.type === 'refused') this.#lost++;
      if (event.type !== 'granted' && event.type !== 'renewed') return;
      const { id, lifetimeSeconds } = event.lease;
      const atMs = Date.parse(event.at);
      const grantedAtMs = this.#grantedAtMs.get(id);
      this.#grantedAtMs.set(id, atMs);
      if (event.type === 'granted' || grantedAtMs === undefined) return;
      const window = renewalWindow(0, grantedAtMs, lifetimeSeconds ?? 0);
      if (window === undefined) return;
      this.#renewals++;
      const behindMs = atMs - window.untilMs;
      // Its moment falls between two milliseconds.
      if (behindMs > 1) this.#late++;
      this.#latestMs = Math.max(this.#latestMs, behindMs);
    });
  }

  get figures(): Pick<Day, 'renewals' | 'late' | 'latestMs' | 'lost'> {
    return { renewals: this.#renewals, late: this.#late, latestMs: this.#latestMs, lost: this.#lost };
  }
}

/** A disk takes real time. */
class NoMemory implements Memory {
  readonly trouble = undefined;

  load(): LedgerState {
    return NOTHING;
  }

  save(): void {}

  async flush(): Promise<void> {}
}

/** Turns of the event loop without anything under way, after which nothing more will come of what has happened. */
const QUIET_TURNS = 6;
/** An answer that has not come by then was lost. */
const LOST_MS = 2000;

interface Timer {
  readonly dueMs: number;
  readonly fire: () => void;
}

class DayClock implements Clock {
  #nowMs = Date.UTC(2026, 0, 1);
  readonly #timers = new Set<Timer>();
  /** Requests that are not answered yet. */
  underWay = 0;

  now(): number {
    return this.#nowMs;
  }

  steady(): number {
    return this.#nowMs;
  }

  async sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    if (signal?.aborted) throw aborted(signal);
    if (delayMs <= 0) return turn();
    await new Promise<void>((resolve, reject) => {
      const stop = () => {
        this.#timers.delete(timer);
        reject(aborted(signal as AbortSignal));
      };
      const timer = {
        dueMs: this.#nowMs + delayMs,
        fire: () => {
          signal?.removeEventListener('abort', stop);
          resolve();
        },
      };
      this.#timers.add(timer);
      signal?.addEventListener('abort', stop, { once: true });
    });
  }

  /** Goes from timer to timer until `promise` settles; it is for its owner to look how. */
  async until(promise: Promise<unknown>): Promise<void> {
    let done = false;
    const finish = () => {
      done = true;
    };
    promise.then(finish, finish);
    for (;;) {
      await this.#quiet();
      if (done) return;
      const next = this.#next();
      if (next === undefined) throw new Error('nothing happens, and no timer waits');
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.dueMs);
      next.fire();
    }
  }

  async #quiet(): Promise<void> {
    let sinceMs = performance.now();
    for (let quiet = 0, before = 0; quiet < QUIET_TURNS; quiet++) {
      await turn();
      if (this.underWay === 0 && before === 0) continue;
      quiet = 0;
      if (before !== this.underWay) sinceMs = performance.now();
      before = this.underWay;
      if (performance.now() - sinceMs > LOST_MS) this.underWay = 0;
    }
  }

  #next(): Timer | undefined {
    let first: Timer | undefined;
    for (const timer of this.#timers) if (first === undefined || timer.dueMs < first.dueMs) first = timer;
    return first;
  }
}

/** The real machine on the virtual clock, on a network of loopback alone. */
function systemOn(clock: DayClock, ports: { readonly pcp: number; readonly ssdp: number }): System {
  return {
    ...realSystem,
    clock,
    async openUdp(options) {
      const socket = await realSystem.openUdp({
        ...options,
        onDatagram(data, source) {
          if (source.port === ports.pcp) clock.underWay = Math.max(0, clock.underWay - 1);
          options.onDatagram(data, source);
        },
      });
      return {
        local: socket.local,
        send(data, to) {
          if ((to ?? options.peer)?.port === ports.pcp) clock.underWay++;
          socket.send(data, to);
        },
        [Symbol.asyncDispose]: () => socket[Symbol.asyncDispose](),
      };
    },
    async http(request) {
      clock.underWay++;
      try {
        return await realSystem.http(request);
      } finally {
        clock.underWay--;
      }
    },
    hardwareAddress: () => undefined,
    network: async () => ({
      defaultRoutes: [{ family: 4, interface: 'lo', gateway: INNER, metric: 0 }],
      addresses: [{ interface: 'lo', address: INNER, family: 4, prefixLength: 8, internal: true }],
    }),
  };
}
