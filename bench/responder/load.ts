/** The load generator (load.c): compiled when the benchmark starts, run where the clients are. */

import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Lab, Place } from '../../test/lab/support/lab.ts';

export interface Loaded {
  readonly answered: number;
  readonly refused: number;
  readonly lost: number;
  readonly seconds: number;
  readonly perSecond: number;
  readonly p50Us: number;
  readonly p99Us: number;
}

/** Where the control point is told to go. */
export interface Control {
  readonly port: number;
  readonly path: string;
  readonly type: string;
}

/** Who asks whom. */
export interface Between {
  readonly place: Place;
  readonly own: string;
  readonly gateway: string;
}

export interface LoadKind {
  readonly name: string;
  readonly protocol: 'pcp' | 'natpmp' | 'address' | 'soap';
  readonly atOnce: number;
  readonly action?: 'AddPortMapping' | 'GetExternalIPAddress';
  readonly keepsAlive?: boolean;
}

export interface Ports {
  readonly first: number;
  readonly count: number;
  /** Each once, or round and round. */
  readonly way: 'ONCE' | 'ROUND';
  readonly seconds: number;
}

const SOURCE = fileURLToPath(new URL('load.c', import.meta.url));
const CONTROL = fileURLToPath(new URL('control.ts', import.meta.url));
/** Whoever waits for an answer is patient for so long. */
const GRACE_MS = 30_000;

export class Load {
  readonly #directory: string = mkdtempSync(join(tmpdir(), 'natward-load-'));
  readonly #program: string = join(this.#directory, 'load');

  constructor() {
    process.once('exit', () => rmSync(this.#directory, { recursive: true }));
    execFileSync('gcc', ['-O2', '-o', this.#program, SOURCE], { stdio: ['ignore', 2, 2] });
  }

  async run(
    lab: Lab,
    { place, own, gateway }: Between,
    kind: LoadKind,
    ports: Ports,
    control: Control,
  ): Promise<Loaded> {
    const { first, count, way, seconds } = ports;
    const args = [kind.protocol, gateway, own, first, count, kind.atOnce, seconds, way];
    const soap = [
      control.port,
      control.path,
      control.type,
      kind.keepsAlive === true ? 'KEEP' : 'CLOSE',
      kind.action,
    ];
    const line = await lab.must(
      place,
      [this.#program, ...args, ...(kind.protocol === 'soap' ? soap : [])].map(String),
      { timeoutMs: seconds * 1000 + GRACE_MS },
    );
    return JSON.parse(line) as Loaded;
  }

  async control(lab: Lab, { place, gateway }: Between): Promise<Control> {
    const node = [process.execPath, '--import', import.meta.resolve('tsx'), CONTROL, gateway];
    return JSON.parse(await lab.must(place, node)) as Control;
  }
}
