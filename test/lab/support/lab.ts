/**
 * A real gateway on one machine: a `wan` peer, a gateway `gw` with a real miniupnpd and real nftables, and
 * hosts in its `lan`, in network namespaces of their own. Needs Linux, root, and the programs that
 * `npm run lab:install` installs; `labUnavailable` says what is missing.
 *
 * A lab takes down exactly what it made, however its process ends. Two labs at once do not see each other.
 */

import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Janitor } from './janitor.ts';
import { Gateway, type GatewayOptions } from './miniupnpd.ts';
import { ADDRESSES, Network, type NetworkOptions, type Place } from './namespaces.ts';
import {
  FAULT_TABLE,
  type Fault,
  faultCommand,
  GATEWAY_TABLE,
  MASQUERADE_TABLE,
  type NatRule,
  parseNatRules,
  silenceCommands,
  UNBLOCK_COMMANDS,
} from './netfilter.ts';
import {
  type LabProcess,
  Processes,
  type ProcessOptions,
  type Result,
  type RunOptions,
} from './processes.ts';
import { type Answer, connectCommand, parseAnswer, Server, serveCommand } from './traffic.ts';

const PROGRAMS = ['ip', 'ss', 'nft', 'miniupnpd', 'upnpc', 'natpmpc', 'socat', 'conntrack', 'tcpdump'];
const NATWARD = fileURLToPath(new URL('../../../dist/bin/natward.cjs', import.meta.url));

/** The reason why no lab can run here, or `undefined` where one can. */
export function labUnavailable(): string | undefined {
  if (process.platform !== 'linux') return 'the lab needs Linux';
  if (process.getuid?.() !== 0) return 'the lab needs root';
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const missing = PROGRAMS.filter((name) => !folders.some((folder) => existsSync(join(folder, name))));
  if (missing.length > 0) return `the lab lacks ${missing.join(', ')}: npm run lab:install`;
  if (/iptables/.test(spawnSync('miniupnpd', ['--version'], { encoding: 'utf8' }).stdout)) {
    return 'the lab needs the nftables build of miniupnpd: npm run lab:install';
  }
  // Root of a container often may not do this.
  const probe = newPrefix();
  const { status } = spawnSync('ip', ['netns', 'add', probe]);
  spawnSync('ip', ['netns', 'delete', probe]);
  return status === 0 ? undefined : 'the lab may not create network namespaces here';
}

export interface HostOptions {
  /** Where to do it. Default `lan`, or `wan` for a connection. */
  readonly ns?: Place;
}

export interface NatwardOptions extends HostOptions, RunOptions {
  /** The name of a home of its own; commands that give the same name (or none) share one. */
  readonly home?: string;
  /** A line of shell that goes first, in the program's own mounts, which end with it. */
  readonly first?: string;
  /** Runs in the mounts of this process of the same place. */
  readonly mountsOf?: LabProcess;
}

export interface ServeOptions extends HostOptions {
  readonly port: number;
  readonly protocol?: 'tcp' | 'udp';
  readonly reply?: string;
  /** Default: every IPv4 address of the place. */
  readonly address?: string;
}

export interface ConnectOptions extends HostOptions {
  /** Default: the gateway's outer address. */
  readonly to?: string;
  readonly send?: string;
  readonly timeoutMs?: number;
}

export interface UpnpcEntry extends NatRule {
  readonly description: string;
  readonly leaseSeconds: number;
}

export class Lab implements AsyncDisposable {
  /** Every namespace's name begins with it. */
  readonly prefix: string;
  /** Temporary; goes with the lab. */
  readonly directory: string;
  readonly #network: Network;
  readonly #processes: Processes;
  readonly #ipv6: boolean;
  readonly #janitor: Janitor;
  #gateway: Gateway | undefined;
  #second: Gateway | undefined;

  /** Use `createLab`. */
  constructor(options: NetworkOptions) {
    this.prefix = newPrefix();
    this.directory = mkdtempSync(join(tmpdir(), `${this.prefix}-`));
    this.#processes = new Processes({ NATWARD_LAB: this.prefix });
    this.#network = new Network(this.prefix, this.#processes, options);
    this.#janitor = new Janitor(this.directory, `NATWARD_LAB=${this.prefix}`, this.#network.namespaces);
    this.#ipv6 = options.ipv6 ?? false;
  }

  /** Builds the network. Rejects with nothing left behind. */
  async open(): Promise<void> {
    try {
      await this.#network.create();
      await this.#nft(GATEWAY_TABLE + FAULT_TABLE);
      if (this.#network.places.includes('gw2')) await this.#nft(GATEWAY_TABLE, 'gw2');
      if (this.#network.places.includes('inner1')) await this.#nft(MASQUERADE_TABLE, 'lan');
    } catch (error) {
      await this[Symbol.asyncDispose]();
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#gateway?.stop();
    await this.#second?.stop();
    await this.#processes.stopAll();
    await this.#janitor.clean();
  }

  /** The gateway that runs, or was last started. */
  get gateway(): Gateway {
    if (!this.#gateway) throw new Error('no gateway was started in this lab');
    return this.#gateway;
  }

  /** Starts the gateway with an empty table and no faults, in place of the one before. */
  async startGateway(options: GatewayOptions = {}): Promise<Gateway> {
    await this.#gateway?.stop();
    rmSync(join(this.directory, 'leases'), { force: true });
    await this.wipeTable();
    await this.#nft(`${silenceCommands(options)}\n${UNBLOCK_COMMANDS}`);
    this.#gateway = new Gateway(
      {
        directory: this.directory,
        ipv6: this.#ipv6,
        address: ADDRESSES.gateway,
        start: (command) => this.spawn('gw', command),
        must: (command) => this.must('gw', command),
        wipeTable: () => this.wipeTable(),
      },
      options,
    );
    await this.#gateway.start();
    return this.#gateway;
  }

  /** As `startGateway`, of the one that `secondGateway` adds. Faults are the first one's alone. */
  async startSecondGateway(options: GatewayOptions = {}): Promise<Gateway> {
    await this.#second?.stop();
    await this.wipeTable('gw2');
    const directory = join(this.directory, 'gw2');
    mkdirSync(directory, { recursive: true });
    this.#second = new Gateway(
      {
        directory,
        ipv6: false,
        address: ADDRESSES.gateway2,
        start: (command) => this.spawn('gw2', command),
        must: (command) => this.must('gw2', command),
        wipeTable: () => this.wipeTable('gw2'),
      },
      options,
    );
    await this.#second.start();
    return this.#second;
  }

  /** Empties the gateway's kernel behind its daemon's back: no redirects, no connections. */
  async wipeTable(ns: Place = 'gw'): Promise<void> {
    await this.#nft(GATEWAY_TABLE, ns);
    await this.exec(ns, ['conntrack', '-F']);
  }

  /** Adds a fault on the wire between the lan and the gateway. */
  async block(fault: Fault): Promise<void> {
    await this.#nft(faultCommand(fault));
  }

  /** Takes every fault away. */
  async unblock(): Promise<void> {
    await this.#nft(UNBLOCK_COMMANDS);
  }

  /** The argv that runs `command` in a place, for a caller who starts it himself. */
  command(ns: Place, command: readonly string[]): string[] {
    return this.#network.inside(ns, command);
  }

  exec(ns: Place, command: readonly string[], options: RunOptions = {}): Promise<Result> {
    return this.#processes.run(this.command(ns, command), options);
  }

  /** As `exec`, of a program that has to succeed; answers its standard output. */
  must(ns: Place, command: readonly string[], options: RunOptions = {}): Promise<string> {
    return this.#processes.must(this.command(ns, command), options);
  }

  /** Starts a program that stays; the lab ends it where nobody else does. */
  spawn(ns: Place, command: readonly string[], options: ProcessOptions = {}): LabProcess {
    return this.#processes.start(this.command(ns, command), options);
  }

  /** Runs the built `natward`. */
  natward(args: readonly string[], options: NatwardOptions = {}): Promise<Result> {
    return this.exec(options.ns ?? 'lan', natwardCommand(args, options), this.#natwardHome(options));
  }

  spawnNatward(args: readonly string[], options: NatwardOptions = {}): LabProcess {
    return this.spawn(options.ns ?? 'lan', natwardCommand(args, options), this.#natwardHome(options));
  }

  /** Runs `upnpc` on the gateway's description, which spares it two seconds of searching. */
  upnpc(args: readonly string[], { ns = 'lan' }: HostOptions = {}): Promise<Result> {
    return this.exec(ns, ['upnpc', '-u', this.gateway.descriptionUrl(), ...args]);
  }

  /** The gateway's mapping table as an independent client reads it; it shows all three protocols'. */
  async upnpcList(): Promise<UpnpcEntry[]> {
    const { stdout } = await this.upnpc(['-l']);
    const entries = stdout.matchAll(/^ *\d+ (TCP|UDP) +(\d+)->([\d.]+):(\d+) +'(.*)' '.*' (\d+)$/gm);
    return [...entries].map(([, protocol, external, client = '', internal, description = '', lease]) => ({
      protocol: protocol === 'UDP' ? 'udp' : 'tcp',
      externalPort: Number(external),
      internalClient: client,
      internalPort: Number(internal),
      description,
      leaseSeconds: Number(lease),
    }));
  }

  /** The ports that the gateway's kernel redirects. */
  async natRules({ ns = 'gw' }: HostOptions = {}): Promise<NatRule[]> {
    return parseNatRules(await this.must(ns, ['nft', '-j', 'list', 'ruleset']));
  }

  /** Answers every peer with `reply`; resolves when the port is bound. */
  async serve(options: ServeOptions): Promise<Server> {
    const { ns = 'lan', protocol = 'tcp', port, address = '0.0.0.0', reply = 'hello' } = options;
    const server = this.spawn(ns, serveCommand({ protocol, address, port }, reply));
    await server.waitFor(/^listening$/m);
    return new Server(server);
  }

  /** What comes back from a port of the gateway's outer side; `undefined` where nobody answers. */
  async connectFromWan(
    port: number,
    protocol: 'tcp' | 'udp' = 'tcp',
    options: ConnectOptions = {},
  ): Promise<string | undefined> {
    const { send = 'ping', ...rest } = options;
    const answer = await this.ask(port, protocol, Buffer.from(send), rest);
    return typeof answer === 'string' ? undefined : answer.toString();
  }

  /** Sends bytes as they are and tells silence from refusal. */
  async ask(
    port: number,
    protocol: 'tcp' | 'udp',
    bytes: Uint8Array,
    options: Omit<ConnectOptions, 'send'> = {},
  ): Promise<Answer> {
    const { ns = 'wan', to = ADDRESSES.outer, timeoutMs = 2_000 } = options;
    return parseAnswer(
      await this.must(ns, connectCommand({ protocol, address: to, port }, bytes, timeoutMs)),
    );
  }

  /** Where natward remembers under a name. */
  homeOf({ home = 'home' }: NatwardOptions): string {
    return join(this.directory, home);
  }

  #natwardHome({ env, ...options }: NatwardOptions): NatwardOptions {
    const directory = this.homeOf(options);
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    return { ...options, env: { NATWARD_HOME: directory, ...env } };
  }

  async #nft(commands: string, ns: Place = 'gw'): Promise<void> {
    await this.must(ns, ['nft', '-f', '-'], { input: `${commands}\n` });
  }
}

/** Builds a lab; `await using` it, or dispose of it with `lab[Symbol.asyncDispose]()`. */
export async function createLab(options: NetworkOptions = {}): Promise<Lab> {
  const lab = new Lab(options);
  await lab.open();
  return lab;
}

function natwardCommand(args: readonly string[], { first, mountsOf }: NatwardOptions): string[] {
  const command = [process.execPath, NATWARD, ...args];
  if (mountsOf !== undefined) return ['nsenter', `--mount=/proc/${mountsOf.pid}/ns/mnt`, ...command];
  return first === undefined ? command : ['sh', '-euc', `${first}; exec "$@"`, 'sh', ...command];
}

// The pid tells a person whose it is; the rest keeps two threads of one process apart.
function newPrefix(): string {
  return `nw${process.pid}-${randomBytes(2).toString('hex')}`;
}

export { ADDRESSES };
export type { Fault, Gateway, GatewayOptions, NatRule, Place };
