/** The programs that keep a port open, as people run them, and how each is started for one TCP port. */

import { ADDRESSES, type Lab } from '../test/lab/support/lab.ts';
import { driver } from './peers.ts';

export interface PortKeeper {
  readonly name: string;
  /** How it is run, where the name does not say. */
  readonly habit?: string;
  /** natward's own. */
  readonly isOwn?: true;
  /**
   * Starts it in the lan. What it holds the port with ends with the lab's process that is resolved with; `home` is
   * the name of a memory that nobody has used.
   */
  start(lab: Lab, port: number, home: string): Promise<KeeperProcess>;
}

export interface KeeperProcess {
  /** Resolves with the time at which it first says `text`; undefined where it does not within `limitMs`. */
  says(text: string, limitMs: number): Promise<number | undefined>;
  /** Both streams. */
  readonly output: string;
  stop(): Promise<void>;
}

const READY_MS = 10_000;

export const PORT_KEEPERS: readonly PortKeeper[] = [
  {
    name: 'natward keep',
    isOwn: true,
    async start(lab, port, home) {
      return running(lab.spawnNatward(['keep', String(port)], { home }));
    },
  },
  {
    name: 'natward agent',
    isOwn: true,
    async start(lab, port, home) {
      const agent = lab.spawnNatward(['agent'], { home });
      await agent.waitFor(/listens on/, READY_MS);
      await lab.natward(['keep', String(port)], { home });
      return running(agent);
    },
  },
  {
    name: '@silentbot1/nat-api',
    habit: 'its own renewal',
    start: async (lab, port) => running(lab.spawn('lan', driver('keep-nat-api', String(port)))),
  },
  {
    name: 'nat-upnp',
    habit: 'its own lease of 30 min, mapped again at half',
    start: async (lab, port) => running(lab.spawn('lan', driver('keep-nat-upnp', String(port), '1800'))),
  },
  {
    name: 'nat-upnp, lease of 10 s',
    habit: 'the lease in its README, mapped again every 5 s',
    start: async (lab, port) => running(lab.spawn('lan', driver('keep-nat-upnp', String(port), '10'))),
  },
  {
    name: 'upnpc every minute',
    habit: 'cron',
    start: async (lab, port) => running(lab.spawn('lan', driver('keep-upnpc', ADDRESSES.lan, String(port)))),
  },
];

function running(process: ReturnType<Lab['spawn']>): KeeperProcess {
  return {
    says: (text, limitMs) =>
      process.waitFor(new RegExp(text.replaceAll('.', '\\.')), limitMs).then(
        () => Date.now(),
        () => undefined,
      ),
    get output() {
      return process.output;
    },
    async stop() {
      await process.stop();
    },
  };
}
