/** Who may pass: the first rule that matches, its access lists, its limits. One gate serves all places of an engine. */

import { isNatwardError } from '../../errors.ts';
import type { IpAddress } from '../../net/address.ts';
import type { TransportProtocol } from '../../net/protocol.ts';
import type { Clock } from '../../system/clock.ts';
import type { InterfaceAddress } from '../../system/routes.ts';
import { type AccessMatcher, compileAccess } from '../access.ts';
import { type FirstPacket, mismatch, type Surroundings } from '../decide.ts';
import { asksForNames, denialOf, REFUSES, refuses } from '../denial.ts';
import { decideHostsAccess, type HostsRule } from '../hosts-access.ts';
import type { Rule } from '../rule.ts';
import type { RuleState } from './rule-state.ts';
import type { TargetNames } from './target-names.ts';
import type { Admission, Arrival } from './tcp.ts';

/** The texts of /etc/hosts.allow and /etc/hosts.deny; empty where they are absent. */
export interface HostsTexts {
  readonly allow: string;
  readonly deny: string;
}

export interface GateOptions {
  readonly clock: Clock;
  readonly names: TargetNames;
  readonly readHosts: () => HostsTexts;
  /** Where a rule says nothing. */
  readonly openPerClient: number;
}

/** Where the conversation came: the rules may be others once the names of its client are known. */
interface PlaceRules {
  readonly states: readonly RuleState[];
}

/** The files are read again so often at most. */
const HOSTS_MS = 2000;

interface CompiledHosts extends HostsRule {
  readonly matches: AccessMatcher;
}

interface Hosts {
  readonly texts: HostsTexts;
  readonly byDaemon: Map<string, readonly CompiledHosts[]>;
}

export class Gate implements Surroundings {
  ownAddresses: readonly IpAddress[] = [];
  readonly hasArrived = true;
  readonly #options: GateOptions;
  #own: readonly InterfaceAddress[] = [];
  #hosts: Hosts | undefined;
  #hostsUntilMs = 0;

  constructor(options: GateOptions) {
    this.#options = options;
  }

  /** The addresses of this host. */
  know(own: readonly InterfaceAddress[]): void {
    this.#own = own;
    this.ownAddresses = own.map(({ address }) => address);
  }

  get weekday(): number {
    return new Date(this.#options.clock.now()).getDay();
  }

  get minuteOfDay(): number {
    const now = new Date(this.#options.clock.now());
    return now.getHours() * 60 + now.getMinutes();
  }

  /** The relay listens on addresses: no selector of its rules has a name. */
  addressesOf(): readonly IpAddress[] {
    return [];
  }

  admit(protocol: TransportProtocol, arrival: Arrival, place: PlaceRules): Promise<Admission> | Admission {
    if (!place.states.some(({ rule }) => asksForNames(rule)))
      return this.#decide(protocol, arrival, place, []);
    return this.#options.names
      .namesOf(arrival.client.address)
      .then((names) => this.#decide(protocol, arrival, place, names));
  }

  #decide(
    protocol: TransportProtocol,
    { client, local }: Arrival,
    { states }: PlaceRules,
    names: readonly string[],
  ): Admission {
    const packet: FirstPacket = { direction: 'in', protocol, source: client, destination: local, names };
    const state = states.find(
      ({ rule }) => mismatch(rule, this.#withAdapter(packet, rule), this) === undefined,
    );
    if (state === undefined) return { state, reason: 'no rule is for it' };
    const { rule } = state;
    if (refuses(rule)) return { state, reason: REFUSES };
    const reason =
      this.#denial(rule, client.address, names) ??
      state.admit(client.address, this.#options.clock, this.#options.openPerClient);
    return reason === undefined ? { state, reason } : { state, reason };
  }

  /** The relay knows an interface by its addresses. Beside a rule for all of them, one for some listens on all as well. */
  #withAdapter(packet: FirstPacket, { adapters }: Rule): FirstPacket {
    if (adapters.length === 0) return packet;
    const { address } = packet.destination;
    const found = this.#own.find((one) => adapters.includes(one.interface) && one.address === address);
    return { ...packet, adapter: found?.interface };
  }

  /** What the rule says to a client that it is for: null where it may pass. */
  async refusal(rule: Rule, address: IpAddress): Promise<string | null> {
    if (refuses(rule)) return REFUSES;
    const names = asksForNames(rule) ? await this.#options.names.namesOf(address) : [];
    return this.#denial(rule, address, names) ?? null;
  }

  #denial(rule: Rule, address: IpAddress, names: readonly string[]): string | undefined {
    const client = { address, names };
    const denied = denialOf(rule, client);
    if (denied !== undefined) return denied;
    if (rule.access.hosts === undefined) return undefined;
    try {
      const found = this.#hostsOf(rule.access.hosts).find(({ matches }) => matches(client));
      return found?.verdict === 'deny'
        ? `/etc/${found.origin?.file}:${found.origin?.line} denies it`
        : undefined;
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      return error.message;
    }
  }

  /** Throws USAGE where the files cannot be understood: then nobody is let in. */
  #hostsOf(daemon: string): readonly CompiledHosts[] {
    const nowMs = this.#options.clock.steady();
    if (this.#hosts === undefined || nowMs >= this.#hostsUntilMs) {
      const texts = this.#options.readHosts();
      const isNew = this.#hosts?.texts.allow !== texts.allow || this.#hosts.texts.deny !== texts.deny;
      if (isNew) this.#hosts = { texts, byDaemon: new Map() };
      this.#hostsUntilMs = nowMs + HOSTS_MS;
    }
    const { texts, byDaemon } = this.#hosts as Hosts;
    let rules = byDaemon.get(daemon);
    if (rules === undefined) {
      rules = decideHostsAccess(texts.allow, texts.deny, daemon).map((rule) => ({
        ...rule,
        matches: compileAccess(rule.clients),
      }));
      byDaemon.set(daemon, rules);
    }
    return rules;
  }
}
