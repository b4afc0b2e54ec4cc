/** Runs the built program, as people do. */

import { type ChildProcess, spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { type EmbeddedGateway, startGateway } from '../../src/responder/gateway.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import { systemClock } from '../../src/system/clock.ts';
import { freshOuterAddress } from '../support/gateway.ts';

export const PROGRAM: string = fileURLToPath(new URL('../../dist/bin/natward.cjs', import.meta.url));

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface Run {
  readonly child: ChildProcess;
  readonly ended: Promise<Ended>;
}

export async function temporaryHome(): Promise<string> {
  const home = await mkdtemp(join(tmpdir(), 'natward-test-'));
  onTestFinished(() => rm(home, { recursive: true, force: true }));
  return home;
}

/** Starts `natward` with a memory of its own, or with the `home` given. */
export function start(args: readonly string[], env: Record<string, string>): Run {
  return startCommand(process.execPath, [PROGRAM, ...args], env);
}

export function startCommand(command: string, args: readonly string[], env: Record<string, string>): Run {
  if (!existsSync(PROGRAM)) throw new Error(`${PROGRAM} does not exist: npm run build`);
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    // Never the kernel of the machine that the tests run on.
    env: { PATH: process.env['PATH'] ?? '', NATWARD_ENGINE: 'relay', ...env },
  });
  const said = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    said.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said.stderr += text;
  });
  const ended = new Promise<Ended>((resolve, reject) => {
    child.once('error', reject).once('close', (code) => resolve({ code, ...said }));
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  return { child, ended };
}

export interface Site {
  readonly gateway: EmbeddedGateway;
  /** To be named with --gateway: it answers on the standard ports. */
  readonly address: string;
  readonly home: string;
  /** `natward ARGS --gateway ADDRESS`: nothing is asked that is not on loopback. */
  run(line: string, env?: Record<string, string>): Promise<Ended>;
  start(line: string, env?: Record<string, string>): Run;
}

/** An embedded gateway on an address and the ports that `natward --gateway` asks, and a home. */
export async function siteFor(settings: Partial<GatewaySettings> = {}): Promise<Site> {
  const address = `127.77.${randomInt(256)}.${randomInt(1, 255)}`;
  const gateway = await startGateway(
    { address, outerAddress: freshOuterAddress(), ports: { pcp: 5351, ssdp: 1900 }, ...settings },
    systemClock,
  );
  onTestFinished(() => gateway.close());
  const home = await temporaryHome();
  const startLine = (line: string, env: Record<string, string> = {}) =>
    start([...line.split(' '), '--gateway', address], { NATWARD_HOME: home, ...env });
  return {
    gateway,
    address,
    home,
    start: startLine,
    run: (line, env) => startLine(line, env).ended,
  };
}
