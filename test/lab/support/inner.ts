/**
 * natward as the gateway of the hosts behind `lan`: an agent there that answers on `inner0`, what the real gateway
 * has because of it, and bytes that come in to the innermost host.
 */

import { expect } from 'vitest';
import type { StatusAnswer } from '../../../src/control/protocol.ts';
import { type Keeping, startAgent, until } from './keeping.ts';
import { ADDRESSES, type Lab, type NatRule, type Place } from './lab.ts';
import { freshHome, runJson } from './suite.ts';

/** Where the hosts behind `lan` are. */
export type InnerPlace = Extract<Place, `inner${number}`>;

/** What carries the traffic on. */
export const ENGINES = ['relay', 'nftables'] as const;
/** `auto` leaves clients to the relay, where there is the kernel's engine as well. */
export type Engine = (typeof ENGINES)[number] | 'auto';

export interface RespondOptions {
  readonly engine?: Engine;
  /** Default: a memory that nobody has used. */
  readonly home?: { readonly home: string };
  /** Default: answers on `inner0`. */
  readonly args?: readonly string[];
}

/** An agent that answers the hosts behind it. */
export class InnerGateway {
  readonly agent: Keeping;
  readonly engine: Engine;
  /** Of its UPnP device; empty where it speaks none. */
  readonly descriptionUrl: string;
  readonly #lab: Lab;
  readonly #home: { readonly home: string };

  constructor(lab: Lab, agent: Keeping, options: Required<RespondOptions>, descriptionUrl: string) {
    this.#lab = lab;
    this.#home = options.home;
    this.agent = agent;
    this.engine = options.engine;
    this.descriptionUrl = descriptionUrl;
  }

  status(): Promise<StatusAnswer> {
    return runJson<StatusAnswer>(this.#lab, ['status'], this.#home);
  }

  /** Runs upnpc in an inner host, on this device's description. */
  upnpc(ns: InnerPlace, ...args: readonly string[]): Promise<string> {
    return this.#lab.exec(ns, ['upnpc', '-u', this.descriptionUrl, ...args]).then(({ stdout }) => stdout);
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.agent.end(signal);
  }
}

/** Starts the agent; resolves when it answers on `inner0` and knows the gateway beyond. */
export async function startResponding(lab: Lab, options: RespondOptions = {}): Promise<InnerGateway> {
  const { engine = 'relay', home = freshHome(), args = ['--respond-on', 'inner0'] } = options;
  const agent = await startAgent(lab, home, [...args, '--engine', engine]);
  await until('an answer on inner0, and an address to tell', async () => {
    if (!agent.process.running) throw new Error(`the agent ended:\n${agent.process.output}`);
    const { responders, gateways } = await runJson<StatusAnswer>(lab, ['status'], home);
    return responders.length > 0 && gateways.some(({ externalAddress }) => externalAddress !== null);
  }).catch((error: Error) => {
    throw new Error(`${error.message}\n${agent.process.output}`);
  });
  const port = await httpPort(lab);
  const url = port === undefined ? '' : `http://${ADDRESSES.inner0}:${port}/rootDesc.xml`;
  return new InnerGateway(lab, agent, { engine, home, args }, url);
}

async function httpPort(lab: Lab): Promise<string | undefined> {
  const sockets = await lab.must('lan', ['ss', '-Hlnt', 'src', ADDRESSES.inner0]);
  return /^LISTEN .* 10\.77\.0\.1:(\d+) /m.exec(sockets)?.[1];
}

/** A mapping of the real gateway to `lan`, whichever port natward listens on there. */
export function outerRule(protocol: 'tcp' | 'udp', externalPort: number): NatRule {
  const internalPort: number = expect.any(Number);
  return { protocol, externalPort, internalClient: ADDRESSES.lan, internalPort };
}

/** Waits until the real gateway's kernel has these and no others, as `tcp 8080`. */
export async function untilOuter(lab: Lab, ...wanted: readonly string[]): Promise<void> {
  let seen: readonly string[] = [];
  const same = async () => {
    const rules = await lab.natRules();
    const others = rules.filter(({ internalClient }) => internalClient !== ADDRESSES.lan);
    seen = [...rules.map((one) => `${one.protocol} ${one.externalPort}`), ...others.map(String)].sort();
    return JSON.stringify(seen) === JSON.stringify([...wanted].sort());
  };
  await until(`outer mappings ${wanted.join(', ')}`, same).catch((error: Error) => {
    throw new Error(`${error.message}\nthere are ${seen.join(', ')}`);
  });
}

/** A port of the gateway's outer side, and where it is to lead. */
export interface Way {
  readonly protocol: 'tcp' | 'udp';
  readonly externalPort: number;
  readonly to?: InnerPlace;
  /** Default: as the external one. */
  readonly internalPort?: number;
}

/** Bytes go in from `wan` and come back, and the innermost host is who has them. */
export async function leads(lab: Lab, way: Way): Promise<void> {
  const { protocol, externalPort, to = 'inner1', internalPort = externalPort } = way;
  const reply = `${to} ${protocol} ${internalPort}`;
  const server = await lab.serve({ ns: to, port: internalPort, protocol, reply, address: ADDRESSES[to] });
  try {
    const sent = `from wan to ${externalPort}`;
    // A rule is in place when its lease is told of; what carries UDP may still be opening.
    expect(await lab.connectFromWan(externalPort, protocol, { send: sent })).toBe(reply);
    await until('the bytes', async () => server.received.some(({ text }) => text === sent));
  } finally {
    await server.stop();
  }
}

/** Nothing comes back from it. */
export async function leadsNowhere(lab: Lab, protocol: 'tcp' | 'udp', externalPort: number): Promise<void> {
  expect(await lab.ask(externalPort, protocol, Buffer.from('ping'), { timeoutMs: 500 })).toBeTypeOf('string');
}
