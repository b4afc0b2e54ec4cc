/**
 * The kernel's lab: a router whose kernel natward steers, between a client, a server, a second uplink and a monitor, in
 * network namespaces of their own, with IPv4 and IPv6. All frames' addresses are known.
 *
 *     client eth0 --- c0 router s0 --- eth0 server     10.62.0.2, .3   fd62::2, ::3
 *     10.61.0.2, .3         10.6x.0.1  t0 --- eth0 uplink     10.63.0.2       fd63::2
 *     fd61::2, ::3          fd6x::1    m0 --- eth0 monitor    10.64.0.2       fd64::2
 *
 * `FAR` are addresses behind the server and the uplink alike; the router's default route is by the server. Everybody
 * else's is by the router, which forwards nothing until the engine lets it, and filters by reverse path.
 *
 *     describeKernel('rules: targets', (scene) => {
 *       beforeAll(() => scene().startAgent());                // --engine nftables; { engine: 'auto' }
 *       test('...', async () => {
 *         await scene().rules('in tcp 80 -> 10.62.0.2:8080');  // the whole table, with `natward apply`
 *         await using _ = await scene().server.serve({ port: 8080 });
 *         expect(await scene().client.ask(ADDRESSES.router, 80)).toMatchObject({ name: 'server' });
 *       });
 *     });
 *
 * `ask` answers what the server saw, 'refused' or 'silence' (place.ts; `open` for conversations that go on, `sniff` for
 * tcpdump, `sh` for commands). Names are what `scene.names` says, and what is in /etc/hosts: `scene.hosts`.
 */

import { randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe } from 'vitest';
import type { EditReport, RuleStatus } from '../../../../src/control/protocol.ts';
import { Janitor } from '../../support/janitor.ts';
import { until } from '../../support/keeping.ts';
import { labUnavailable } from '../../support/lab.ts';
import { type LabProcess, Processes, type Result, type RunOptions } from '../../support/processes.ts';
import type { Zone } from './name-server.ts';
import { addressing, BEFORE_LINKS, linkLines, type PlaceName, PLACES } from './network.ts';
import { Place } from './place.ts';

const NATWARD = fileURLToPath(new URL('../../../../dist/bin/natward.cjs', import.meta.url));
const STATION = fileURLToPath(new URL('station.ts', import.meta.url));

const RESOLV_CONF = 'nameserver 127.0.0.1\noptions timeout:1 attempts:1\n';
const HOSTS = '127.0.0.1 localhost\n::1 localhost\n';

export interface AgentOptions {
  /** Default `nftables`. */
  readonly engine?: 'nftables' | 'auto' | 'relay';
  /** The memory of an agent that ran before under this name. Default: one that nobody has used. */
  readonly home?: string;
}

/** A line, or one with an id, or one that is not carried out. */
export type RuleLine = string | { readonly rule: string; readonly id?: string; readonly enabled?: boolean };

type Waiting = Pick<RuleStatus, 'text' | 'waiting'>;

export class Scene implements AsyncDisposable {
  /** Temporary; goes with the scene. */
  readonly directory: string;
  readonly #prefix = `nwr${randomBytes(3).toString('hex')}`;
  readonly #processes = new Processes({ NATWARD_LAB: this.#prefix });
  readonly #janitor: Janitor;
  readonly #places = new Map<PlaceName, Place>();
  #home = '';
  #homes = 0;
  #agent: LabProcess | undefined;

  constructor() {
    this.directory = mkdtempSync(join(tmpdir(), 'natward-kernel-'));
    const namespaces = PLACES.map((place) => this.#namespace(place));
    this.#janitor = new Janitor(this.directory, `NATWARD_LAB=${this.#prefix}`, namespaces);
    writeFileSync(join(this.directory, 'resolv.conf'), RESOLV_CONF);
    this.hosts();
  }

  get client(): Place {
    return this.#place('client');
  }
  get router(): Place {
    return this.#place('router');
  }
  get server(): Place {
    return this.#place('server');
  }
  get uplink(): Place {
    return this.#place('uplink');
  }
  get monitor(): Place {
    return this.#place('monitor');
  }

  /** The agent that was started last. */
  get agent(): LabProcess {
    if (this.#agent === undefined) throw new Error('no agent was started');
    return this.#agent;
  }

  /** Builds the network. Rejects with nothing left behind. */
  async open(): Promise<void> {
    try {
      for (const place of PLACES) await this.#processes.must(['ip', 'netns', 'add', this.#namespace(place)]);
      await Promise.all(PLACES.map((place) => this.#shell(place, BEFORE_LINKS)));
      await this.#shell(
        'router',
        linkLines((place) => this.#namespace(place)),
      );
      await Promise.all(PLACES.map((place) => this.#shell(place, addressing(place))));
      await Promise.all(PLACES.map((place) => this.#station(place)));
      await this.names({});
    } catch (error) {
      await this[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const place of this.#places.values()) place.leave();
    await this.#processes.stopAll();
    await this.#janitor.clean();
  }

  /** Starts an agent in the router, in place of the one before; resolves when it answers. */
  async startAgent({ engine = 'nftables', home }: AgentOptions = {}): Promise<void> {
    await this.stopAgent();
    this.#homes++;
    this.#home = join(this.directory, home ?? `home-${this.#homes}`);
    mkdirSync(this.#home, { recursive: true, mode: 0o700 });
    const command = this.#natward(['agent', '--engine', engine, '--json']);
    const agent = this.router.spawn(command, { env: this.#env() });
    this.#agent = agent;
    await until('the agent answers', async () => {
      if (!agent.running) throw new Error(`the agent ended:\n${agent.output}`);
      return (await this.natward(['status', '--json'])).code === 0;
    });
  }

  /** Ends the agent, if one runs. */
  async stopAgent(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await this.#agent?.stop(signal);
    this.#agent = undefined;
  }

  /** Runs the built natward in the router. */
  natward(args: readonly string[], options: RunOptions = {}): Promise<Result> {
    const command = this.router.command(this.#natward(args));
    return this.#processes.run(command, { ...options, env: this.#env() });
  }

  /** As `natward`, of a command that has to succeed; answers its standard output. */
  async run(args: readonly string[], options: RunOptions = {}): Promise<string> {
    const { code, stdout, stderr } = await this.natward(args, options);
    if (code !== 0) throw new Error(`natward ${args.join(' ')}: exit ${code}\n${stderr}${stdout}`);
    return stdout;
  }

  /** Makes this the table, from the top; resolves when each rule is carried out. */
  async rules(...lines: readonly RuleLine[]): Promise<void> {
    let waiting: readonly Waiting[] = await this.apply(...lines);
    if (waiting.length === 0) return;
    await until('each rule is carried out', async () => {
      waiting = (await this.list()).filter((rule) => rule.enabled && rule.waiting !== null);
      return waiting.length === 0;
    }).catch((error: Error) => {
      throw new Error([error.message, ...waiting.map((rule) => `${rule.text}: ${rule.waiting}`)].join('\n'));
    });
  }

  /** As `rules`, of rules that may wait; answers which of those that are new or changed do. */
  async apply(...lines: readonly RuleLine[]): Promise<readonly Waiting[]> {
    const rule = lines.map((line) => (typeof line === 'string' ? { rule: line } : line));
    const answer = await this.run(['apply', '-', '--json'], { input: JSON.stringify({ rule }) });
    const { rules }: { rules: EditReport } = JSON.parse(answer);
    return rules.rules.filter((one) => one.waiting !== null);
  }

  /** The table as the agent tells it. */
  async list(): Promise<readonly RuleStatus[]> {
    const { rules }: { rules: readonly RuleStatus[] } = JSON.parse(
      await this.run(['rule', 'list', '--json']),
    );
    return rules;
  }

  /** From now on DNS knows these names in the router, and no others. */
  async names(zone: Zone, { ttlSeconds = 1 }: { readonly ttlSeconds?: number } = {}): Promise<void> {
    await this.router.names(zone, ttlSeconds);
  }

  /** From now on this is in the router's /etc/hosts, beside localhost. */
  hosts(text: string = ''): void {
    // Written in place: it is bound to where it is read.
    writeFileSync(join(this.directory, 'hosts'), `${HOSTS}${text}`);
  }

  #place(name: PlaceName): Place {
    const place = this.#places.get(name);
    if (place === undefined) throw new Error('the scene is not open');
    return place;
  }

  #namespace(place: PlaceName): string {
    return `${this.#prefix}-${place}`;
  }

  /** `ip netns exec` gives each program mounts of its own, which end with it. */
  #natward(args: readonly string[]): string[] {
    const files = ['hosts', 'resolv.conf'].map(
      (name) => `mount --bind ${join(this.directory, name)} /etc/${name}`,
    );
    return ['sh', '-euc', `${files.join('; ')}; exec "$@"`, 'sh', process.execPath, NATWARD, ...args];
  }

  #env(): Readonly<Record<string, string>> {
    return { NATWARD_HOME: this.#home, NATWARD_ENGINE: 'auto' };
  }

  async #shell(place: PlaceName, lines: readonly string[]): Promise<void> {
    const command = ['ip', 'netns', 'exec', this.#namespace(place), 'sh', '-eu'];
    await this.#processes.must(command, { input: `${lines.join('\n')}\n` });
  }

  async #station(name: PlaceName): Promise<void> {
    const socket = join(this.directory, `${name}.sock`);
    const program = [process.execPath, '--import', 'tsx', STATION, socket];
    const station = this.#processes.start(['ip', 'netns', 'exec', this.#namespace(name), ...program]);
    await station.waitFor(/^ready$/m, 20_000);
    this.#places.set(name, new Place(name, this.#namespace(name), this.#processes, socket));
  }
}

/** The tests of `body` share one scene; they are skipped, with the reason, where none can run. */
export function describeKernel(name: string, body: (scene: () => Scene) => void): void {
  const unavailable = labUnavailable();
  describe.skipIf(unavailable)(`lab: ${name}${unavailable ? ` (${unavailable})` : ''}`, () => {
    let scene: Scene;
    beforeAll(async () => {
      scene = new Scene();
      await scene.open();
    });
    afterAll(() => scene[Symbol.asyncDispose]());
    body(() => scene);
  });
}

export { ADDRESSES, FAR, MACS } from './network.ts';
