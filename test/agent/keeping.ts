/** A keeper on the embedded gateway, with its clock and its memory in the test's hands. */

import 'conf'; // Loaded late by the store: here already, so that its first use is as quick as any.
import { randomInt } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { Carrier } from '../../src/agent/carrier.ts';
import type { AgentEvent } from '../../src/agent/events.ts';
import { Keeper } from '../../src/agent/keeper.ts';
import type { DropReport, DropSelector } from '../../src/agent/keeping.ts';
import type { KeepRequest, LeaseStatus } from '../../src/agent/lease.ts';
import { type LedgerState, type Memory, NOTHING } from '../../src/agent/ledger.ts';
import { parseSpec } from '../../src/agent/spec.ts';
import { FileStore } from '../../src/agent/file-store.ts';
import { NatwardError } from '../../src/errors.ts';
import { family, type IpAddress } from '../../src/net/address.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import type { NetworkState } from '../../src/system/routes.ts';
import type { System } from '../../src/system/system.ts';
import type { UdpOptions, UdpSocket } from '../../src/system/udp.ts';
import { decodeNatpmpRequest } from '../../src/wire/natpmp.ts';
import { decodePcpRequest } from '../../src/wire/pcp.ts';
import { gatewayFor, type TestGateway } from '../support/gateway.ts';

/** What survives when an agent is killed: the last state that was saved. */
export class TestMemory implements Memory {
  readonly trouble = undefined;
  #state: () => LedgerState;

  constructor(state: LedgerState = NOTHING) {
    this.#state = () => state;
  }

  load(): LedgerState {
    return this.#state();
  }

  save(state: () => LedgerState): void {
    this.#state = state;
  }

  async flush(): Promise<void> {}
}

export interface KeeperScene extends TestGateway {
  readonly keeper: Keeper;
  readonly memory: TestMemory;
  readonly events: AgentEvent[];
  readonly machine: Machine;
  /** Keeps the specs and resolves with their leases. */
  keep(specs: readonly string[], options?: Partial<KeepRequest>): Promise<readonly LeaseStatus[]>;
  /** Stops keeping what was kept as that, or by that id. */
  drop(...texts: readonly string[]): Promise<DropReport>;
  /** Lets `ms` pass, with all that happens on the network meanwhile. */
  pass(ms: number): Promise<void>;
  leases(): Promise<readonly LeaseStatus[]>;
  /** What has happened since this was last asked, in short: `granted tcp 8443`, `gateway-up`. */
  told(): string[];
  /** What the gateway has been asked, retransmissions too. */
  readonly asked: readonly Asked[];
  /** How many requests have been under way at once since this was last asked, at the most. */
  mostAtOnce(): number;
  /**
   * Kills the agent, without a word to anybody, and starts another with the same memory, or what `change` makes of it,
   * and the same configuration, or another one.
   */
  rerun(change?: (state: LedgerState) => LedgerState, config?: Configuration): Promise<KeeperScene>;
}

export interface Asked {
  readonly atMs: number;
  /** `pcp map 8443`, `natpmp address`, `soap AddPortMapping`; the port is the internal one. */
  readonly what: string;
}

/** What a test may change of the machine while its agent runs. */
export interface Machine {
  /** What the machine says of its network; an error where it does not say. */
  network: NetworkState | NatwardError;
  /** Of the gateway's network interface. */
  hardwareAddress: string | undefined;
  /** Sets the machine's clock by so much. No other clock goes with it. */
  setClock(byMs: number): void;
}

export interface Pace {
  readonly checkMs?: number;
  readonly networkLookMs?: number;
}

/** What a configuration wants kept, or that it cannot be read. */
export type Configuration = readonly KeepRequest[] | 'broken';

export interface Surroundings extends Pace {
  /** What the configuration wants kept, of this agent and of those after it. */
  readonly config?: Configuration;
  readonly memory?: TestMemory;
  /** Of this agent and of those after it. */
  readonly carrier?: Carrier;
  /** What the machine does otherwise. */
  readonly system?: (system: System) => System;
}

/** An agent that hardly looks: what is left are the renewals. */
export const RARELY: Pace = { checkMs: 3_600_000, networkLookMs: 3_600_000 };
/** One that does not look at all. */
export const NEVER: Pace = { checkMs: 1e12, networkLookMs: 1e12 };

/**
 * A keeper before an embedded gateway on an inner address of its own, so that what is announced in one test is
 * heard in no other. Nothing listens at mapped ports.
 */
export async function keeperFor(
  settings: Partial<GatewaySettings> = {},
  surroundings: Surroundings = {},
): Promise<KeeperScene> {
  const {
    checkMs = 10_000,
    networkLookMs = 2000,
    memory = new TestMemory(),
    config = [],
    carrier,
  } = surroundings;
  const scene = await gatewayFor({ address: freshInnerAddress(), carriesTraffic: false, ...settings });
  let setMs = 0;
  const machine: Machine = {
    network: await scene.system.network(),
    hardwareAddress: undefined,
    setClock: (byMs) => void (setMs += byMs),
  };
  const { clock } = scene;
  const own: System = {
    ...scene.system,
    networkLookMs,
    clock: {
      now: () => clock.now() + setMs,
      steady: () => clock.steady(),
      sleep: (delayMs, signal) => clock.sleep(delayMs, signal),
    },
    async network() {
      if (machine.network instanceof NatwardError) throw machine.network;
      return machine.network;
    },
    hardwareAddress: () => machine.hardwareAddress,
  };
  const wire = new Wire(own);
  const system = surroundings.system?.(wire.system) ?? wire.system;
  return run({ ...scene, system }, { machine, memory, checkMs, config, wire, carrier });
}

/** Between the agent and its gateway: sees what is asked, and changes nothing. */
class Wire {
  readonly asked: Asked[] = [];
  readonly system: System;
  most = 0;
  readonly #real: System;
  readonly #underWay = new Map<object, number>();

  constructor(real: System) {
    this.#real = real;
    this.system = {
      ...real,
      openUdp: (options) => this.#openUdp(options),
      http: async (request) => {
        const action = /#(\w+)/.exec(request.headers?.['SOAPAction'] ?? '')?.[1];
        this.#note(action === undefined ? 'http' : `soap ${action}`);
        this.#count(request, 1);
        return real.http(request).finally(() => this.#count(request, -1));
      },
    };
  }

  async #openUdp(options: UdpOptions): Promise<UdpSocket> {
    const of = {};
    const socket = await this.#real.openUdp({
      ...options,
      onDatagram: (data, source) => {
        this.#count(of, -1);
        options.onDatagram(data, source);
      },
    });
    return {
      local: socket.local,
      send: (data, to) => {
        const what = nameOf(data);
        this.#note(what);
        // Searches are many packets each, and never answered one by one.
        if (what !== 'ssdp search') this.#count(of, 1);
        socket.send(data, to);
      },
      [Symbol.asyncDispose]: () => {
        this.#underWay.delete(of);
        return socket[Symbol.asyncDispose]();
      },
    };
  }

  #note(what: string): void {
    this.asked.push({ atMs: this.#real.clock.now(), what });
  }

  #count(of: object, by: 1 | -1): void {
    const left = (this.#underWay.get(of) ?? 0) + by;
    if (left > 0) this.#underWay.set(of, left);
    else this.#underWay.delete(of);
    const now = [...this.#underWay.values()].reduce((sum, one) => sum + one, 0);
    this.most = Math.max(this.most, now);
  }
}

function nameOf(packet: Uint8Array): string {
  if ((packet[0] ?? 0) > 2) return 'ssdp search';
  const [version, request] =
    packet[0] === 0 ? ['natpmp', decodeNatpmpRequest(packet)] : ['pcp', decodePcpRequest(packet)];
  if (request.opcode !== 'map') return `${version} ${request.opcode}`;
  const { internalPort } = 'map' in request ? request.map : request;
  return `${version} ${request.lifetimeSeconds === 0 ? 'unmap' : 'map'} ${internalPort}`;
}

interface Life {
  readonly machine: Machine;
  readonly memory: TestMemory;
  readonly checkMs: number;
  readonly config: Configuration;
  readonly wire: Wire;
  readonly carrier: Carrier | undefined;
}

function run(scene: TestGateway, life: Life): KeeperScene {
  const { machine, memory, checkMs, config, wire, carrier } = life;
  const directory = mkdtempSync(join(tmpdir(), 'natward-keeper-'));
  const { clock, system } = scene;
  const keeper = new Keeper(system, {
    memory,
    store: new FileStore(directory, system.clock),
    ports: scene.gateway.ports,
    checkMs,
    carrier,
  });
  const events: AgentEvent[] = [];
  let toldOf = 0;
  keeper.log.listen((event) => events.push(event));
  const close = () => clock.settle(keeper[Symbol.asyncDispose]());
  onTestFinished(async () => {
    await close();
    rmSync(directory, { recursive: true, force: true });
  });
  if (config === 'broken') keeper.resume();
  else keeper.configure(config);
  return {
    ...scene,
    keeper,
    memory,
    events,
    machine,
    keep: (specs, options) =>
      clock.settle(
        keeper.keep(
          specs.map((spec) => requestOf(spec, options)),
          { owner: 'user', timeoutMs: 10_000, signal: new AbortController().signal },
        ),
      ),
    drop: (...texts) =>
      clock.settle(keeper.drop(texts.map(selectorOf), { signal: new AbortController().signal })),
    pass: (ms) => clock.settle(clock.sleep(ms)),
    leases: async () => (await keeper.status()).leases,
    told() {
      const fresh = events.slice(toldOf);
      toldOf = events.length;
      return fresh.map(inShort);
    },
    asked: wire.asked,
    mostAtOnce() {
      const { most } = wire;
      wire.most = 0;
      return most;
    },
    async rerun(change = (state) => state, nextConfig = config) {
      await close();
      return run(scene, { ...life, memory: new TestMemory(change(memory.load())), config: nextConfig });
    },
  };
}

/** `granted tcp 8443`, `lost tcp 8443`, `changed tcp 8443 -> 9000`, `gateway-down`. */
function inShort(event: AgentEvent): string {
  if (!('lease' in event)) return event.type;
  const { protocol, externalPort, internalPort, family } = event.lease;
  const port = `${event.type} ${protocol} ${internalPort}${family === 6 ? ' over IPv6' : ''}`;
  return event.type === 'changed' ? `${port} at ${externalPort}` : port;
}

export function selectorOf(text: string): DropSelector {
  if (/^[0-9a-f]{8}$/.test(text)) return { kind: 'id', text, id: text };
  const { protocols, external, internal } = parseSpec(text);
  return { kind: 'spec', text, ask: { protocols, external, internal, host: undefined } };
}

/** Of 127/8, below those that gateways have outside. */
export function freshInnerAddress(): IpAddress {
  return `127.${randomInt(2, 60)}.${randomInt(250)}.${randomInt(1, 250)}`;
}

/** The network of a machine whose address is `localAddress`, behind the gateway at `gateway`. */
export function networkOf(
  localAddress: IpAddress,
  gateway: IpAddress,
  { name = 'lo', prefixLength = 8 }: { readonly name?: string; readonly prefixLength?: number } = {},
): NetworkState {
  return {
    defaultRoutes: [{ family: family(gateway), interface: name, gateway, metric: 0 }],
    addresses: [
      { interface: name, address: localAddress, family: family(localAddress), prefixLength, internal: false },
    ],
  };
}

export function requestOf(text: string, options: Partial<KeepRequest> = {}): KeepRequest {
  const { spec, protocols, external, internal } = parseSpec(text);
  const asked = { spec, protocols, external, internal, host: undefined };
  return { ...asked, lifetimeSeconds: 7200, choice: 'any', hooks: [], family: 4, ...options };
}
