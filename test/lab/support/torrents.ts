/**
 * Real BitTorrent clients in the lan, each with a profile of its own, its web interface on loopback, and the
 * port that it chose itself. None of them reaches anything outside the lab, and none maps ports unless asked to.
 */

import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { SyncClient } from '../../../src/agent/hooks/hook.ts';
import { until } from './keeping.ts';
import type { Lab, Place } from './lab.ts';
import type { LabProcess } from './processes.ts';

interface Kind {
  readonly programs: readonly string[];
  readonly webPort: number;
  /** What stands before the `@` of its URL. */
  readonly user: string;
  /** Writes the profile and answers what to start. */
  readonly prepare: (profile: string, offers?: Offers) => readonly (readonly string[])[];
}

/** What it has for others. */
export interface Offers {
  /** It listens there, and asks the gateway for it. */
  readonly port: number;
  /** A folder with a `.torrent` in it, so that it talks to whoever asks for that. */
  readonly torrents: string;
}

export interface TorrentOptions {
  /** Default `lan`. */
  readonly ns?: Place;
  readonly offers?: Offers;
}

const KINDS: Readonly<Record<SyncClient, Kind>> = {
  transmission: {
    programs: ['transmission-daemon'],
    webPort: 19_091,
    user: 'me:s%40cret',
    prepare(profile, offers) {
      const settings = {
        'rpc-port': 19_091,
        'rpc-bind-address': '127.0.0.1',
        'rpc-authentication-required': true,
        'rpc-username': 'me',
        'rpc-password': 's@cret',
        'peer-port': offers?.port ?? 51_999,
        'peer-port-random-on-start': offers === undefined,
        'port-forwarding-enabled': offers !== undefined,
        'watch-dir': offers?.torrents ?? '',
        'watch-dir-enabled': offers !== undefined,
      };
      once(join(profile, 'settings.json'), JSON.stringify(settings));
      return [['transmission-daemon', '--foreground', '--config-dir', profile]];
    },
  },
  qbittorrent: {
    programs: ['qbittorrent-nox'],
    webPort: 18_080,
    // What Debian's 4.5 begins with.
    user: 'admin:adminadmin',
    prepare(profile, offers) {
      mkdirSync(join(profile, 'qBittorrent/config'), { recursive: true });
      const lines = [
        '[LegalNotice]',
        'Accepted=true',
        '[Preferences]',
        'WebUI\\Port=18080',
        'WebUI\\Address=127.0.0.1',
        'WebUI\\LocalHostAuth=true',
        '[Network]',
        `PortForwardingEnabled=${offers !== undefined}`,
        ...(offers === undefined ? [] : ['[BitTorrent]', `Session\\Port=${offers.port}`]),
      ];
      once(join(profile, 'qBittorrent/config/qBittorrent.conf'), `${lines.join('\n')}\n`);
      const files = offers === undefined ? [] : readdirSync(offers.torrents);
      const added = files.map((file) => join(offers?.torrents ?? '', file));
      return [['qbittorrent-nox', `--profile=${profile}`, '--skip-dialog=true', ...added]];
    },
  },
  deluge: {
    programs: ['deluged', 'deluge-web'],
    webPort: 18_112,
    // What its web interface begins with.
    user: ':deluge',
    prepare(profile) {
      // Two documents in a file: the version of the format, and what is not as it would be anyway.
      once(join(profile, 'core.conf'), '{"file": 1, "format": 1}{"upnp": false, "natpmp": false}');
      const common = ['--do-not-daemonize', '--config', profile, '--loglevel', 'none'];
      return [
        ['deluged', ...common],
        ['deluge-web', ...common, '--interface', '127.0.0.1', '--port', '18112'],
      ];
    },
  },
};

/** What a client wrote into its profile is left as it is. */
function once(file: string, text: string): void {
  if (!existsSync(file)) writeFileSync(file, text);
}

/** The programs of a client that this machine does not have. */
export function missingFor(client: SyncClient): readonly string[] {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  return KINDS[client].programs.filter((name) => !folders.some((folder) => existsSync(join(folder, name))));
}

export class TorrentClient {
  readonly #lab: Lab;
  readonly #kind: Kind;
  readonly #profile: string;
  readonly #ns: Place;
  readonly #offers: Offers | undefined;
  #processes: readonly LabProcess[] = [];

  constructor(lab: Lab, client: SyncClient, { ns = 'lan', offers }: TorrentOptions = {}) {
    this.#lab = lab;
    this.#ns = ns;
    this.#offers = offers;
    this.#kind = KINDS[client];
    this.#profile = join(lab.directory, client);
  }

  /** With its user and password. */
  get url(): string {
    return `http://${this.#kind.user}@127.0.0.1:${this.#kind.webPort}`;
  }

  /** Resolves when its web interface listens. */
  async start(): Promise<void> {
    mkdirSync(this.#profile, { recursive: true });
    const commands = this.#kind.prepare(this.#profile, this.#offers);
    this.#processes = commands.map((command) =>
      this.#lab.spawn(this.#ns, command, { env: { HOME: this.#profile } }),
    );
    await until('the web interface', () => this.listensOn(this.#kind.webPort, ['tcp']));
  }

  async stop(): Promise<void> {
    await Promise.all(this.#processes.map((one) => one.stop()));
    this.#processes = [];
  }

  /** Reports whether one of its programs has the port, by each protocol. */
  async listensOn(port: number, protocols: readonly ('tcp' | 'udp')[] = ['tcp', 'udp']): Promise<boolean> {
    const rows = (await this.#lab.must(this.#ns, ['ss', '-Hltunp'])).split('\n');
    const own = rows.filter((row) => this.#processes.some(({ pid }) => row.includes(`pid=${pid},`)));
    const has = (protocol: string) => own.some((row) => new RegExp(`^${protocol} .*:${port}\\s`).test(row));
    return protocols.every(has);
  }
}
