/**
 * The gateway's daemon: a real miniupnpd, configured, started, seen to be ready, and stopped.
 *
 * It opens a new HTTP port at every start, as many routers do at every reboot, and its epoch starts at 0
 * each time.
 */

import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { ADDRESSES } from './namespaces.ts';
import { Daemon, type LabProcess, type Running } from './processes.ts';

export interface GatewayOptions {
  /**
   * All three are on by default. Where UPnP, or both of PCP and NAT-PMP, are off, their ports are closed and
   * the host says so; of PCP and NAT-PMP the one that is off alone is silent.
   */
  readonly pcp?: boolean;
  readonly natpmp?: boolean;
  readonly upnp?: boolean;
  /** Describes itself as InternetGatewayDevice:1 instead of :2. */
  readonly igdV1?: boolean;
  /** Maps UPnP requests to the requester's own address only. Default true. */
  readonly secureMode?: boolean;
  /** Remembers its mappings over a restart. */
  readonly leaseFile?: boolean;
  /**
   * miniupnpd's permission rules, the first match wins. Default: external ports from 1024 up, for everyone
   * in the lan.
   */
  readonly allow?: readonly string[];
  /** What it says its external address is. It refuses to serve with a private one. */
  readonly externalAddress?: string;
  /**
   * Runs without its debug log, as on a router: three times as fast with hundreds of mappings. `log()` then
   * stays empty.
   */
  readonly quiet?: boolean;
  /** More lines of miniupnpd.conf. */
  readonly extraLines?: readonly string[];
}

export interface RestartOptions {
  /**
   * Loads the kernel's table anew and forgets its connections, as a reboot does. Without it the rules stay
   * in place, as when only the daemon is restarted. A `leaseFile` survives both.
   */
  readonly wipeTable?: boolean;
  /** What it says its external address is from now on. */
  readonly externalAddress?: string;
}

/** What the daemon needs of the lab around it. */
export interface GatewayRoom {
  readonly directory: string;
  readonly ipv6: boolean;
  /** Its address in the lan, a /24. */
  readonly address: string;
  /** Starts a program in the gateway's namespace. */
  start(command: readonly string[]): LabProcess;
  /** Runs one there that has to succeed; answers its output. */
  must(command: readonly string[]): Promise<string>;
  /** Loads the kernel's table anew. */
  wipeTable(): Promise<void>;
}

// miniupnpd sends each line to syslog as well, and to the console where there is none: on a virtual machine's
// serial line that takes a millisecond a line, and a mapping takes hundreds of lines. `ip netns exec` has given
// the program mounts of its own, so nobody else misses the two. `exec` keeps the pid.
const WITHOUT_SYSLOG =
  'for path in /dev/log /dev/console; do mount --bind /dev/null $path 2>/dev/null; done; exec "$@"';

const READY_DEADLINE_MS = 10_000;
export class Gateway {
  readonly #room: GatewayRoom;
  #options: GatewayOptions;
  readonly #ended: string[] = [];
  #daemon: Running | undefined;
  #httpPort: number | undefined;

  constructor(room: GatewayRoom, options: GatewayOptions) {
    this.#room = room;
    this.#options = options;
  }

  /** The daemon's own pid; 0 while it is stopped. */
  get pid(): number {
    return this.#daemon?.running ? this.#daemon.pid : 0;
  }

  /** The port of this start; every start has another one. Throws where UPnP is off. */
  httpPort(): number {
    if (this.#httpPort === undefined) throw new Error('this gateway serves no HTTP: UPnP is off');
    return this.#httpPort;
  }

  descriptionUrl(): string {
    return `http://${this.#room.address}:${this.httpPort()}/rootDesc.xml`;
  }

  /** Everything the daemon has said, over all its starts. */
  log(): string {
    return [...this.#ended, this.#daemon?.output ?? ''].join('');
  }

  async start(): Promise<void> {
    const file = join(this.#room.directory, 'miniupnpd.conf');
    writeFileSync(file, configuration(this.#options, this.#room));
    rmSync(`${file}.pid`, { force: true });
    const command = ['sh', '-c', WITHOUT_SYSLOG, 'sh', 'miniupnpd', '-f', file, '-P', `${file}.pid`];
    if (this.#options.quiet) await this.#room.must(command);
    const daemon = this.#options.quiet
      ? new Daemon(`${file}.pid`, 'miniupnpd')
      : this.#room.start([...command, '-d']);
    this.#daemon = daemon;
    await this.#untilReady(daemon);
  }

  /** The kernel's rules stay. With SIGKILL nobody hears of it. */
  async stop(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    const daemon = this.#daemon;
    if (!daemon) return;
    daemon.signal('SIGCONT');
    await daemon.stop(signal);
    this.#ended.push(daemon.output);
    this.#daemon = undefined;
    this.#httpPort = undefined;
  }

  async restart({ wipeTable = false, externalAddress }: RestartOptions = {}): Promise<void> {
    await this.stop();
    if (wipeTable) await this.#room.wipeTable();
    if (externalAddress !== undefined) this.#options = { ...this.#options, externalAddress };
    await this.start();
  }

  /** Requests are received from now on, and answered only after `resume`. */
  pause(): void {
    this.#daemon?.signal('SIGSTOP');
  }

  resume(): void {
    this.#daemon?.signal('SIGCONT');
  }

  /** Looks at what the namespace listens on until every wanted port is there. */
  async #untilReady(daemon: Running): Promise<void> {
    const deadline = Date.now() + READY_DEADLINE_MS;
    while (!(daemon.running && (await this.#listens()))) {
      const late = Date.now() > deadline;
      if (late || (!daemon.running && !this.#options.quiet)) {
        await daemon.stop();
        throw new Error(`miniupnpd ${late ? 'is not ready' : 'ended'}:\n${daemon.output}`);
      }
      await delay(10);
    }
  }

  async #listens(): Promise<boolean> {
    const { pcp = true, natpmp = true, upnp = true } = this.#options;
    const sockets = await this.#room.must(['ss', '-Hlntu']);
    const bound = (protocol: string, port: number): boolean =>
      new RegExp(`^${protocol} .*:${port} `, 'm').test(sockets);
    if ((pcp || natpmp) && !bound('udp', 5351)) return false;
    if (!upnp) return true;
    const port = Number(/^tcp .*%int0:(\d+) /m.exec(sockets)?.[1]);
    if (!port || !bound('udp', 1900)) return false;
    this.#httpPort = port;
    return true;
  }
}

function word(on: boolean): string {
  return on ? 'yes' : 'no';
}

function configuration(options: GatewayOptions, room: GatewayRoom): string {
  const { pcp = true, natpmp = true, upnp = true, secureMode = true } = options;
  const lan = room.address.replace(/\d+$/, '0/24');
  const { allow = [`allow 1024-65535 ${lan} 0-65535`, 'deny 0-65535 0.0.0.0/0 0-65535'] } = options;
  const lines = [
    'ext_ifname=ext0',
    'listening_ip=int0',
    `ext_ip=${options.externalAddress ?? ADDRESSES.external}`,
    `enable_natpmp=${word(pcp || natpmp)}`,
    `enable_upnp=${word(upnp)}`,
    `secure_mode=${word(secureMode)}`,
    'http_port=0',
    // The daemon's own uptime, so that its epoch starts anew with it.
    'system_uptime=no',
    'notify_interval=30',
    'uuid=6e617477-6172-4000-8000-000000000001',
    `minissdpdsocket=${join(room.directory, 'no-minissdpd.sock')}`,
    `ipv6_disable=${word(!room.ipv6)}`,
  ];
  // No ipv6_listening_ip: with it HTTP is served on that address alone, while searches over IPv4 are still
  // sent to the IPv4 one. By itself miniupnpd takes int0's global address and serves both.
  if (room.ipv6) lines.push('ext_ifname6=ext0');
  if (options.igdV1) lines.push('force_igd_desc_v1=yes');
  if (options.leaseFile) lines.push(`lease_file=${join(room.directory, 'leases')}`);
  return `${[...lines, ...(options.extraLines ?? []), ...allow].join('\n')}\n`;
}
