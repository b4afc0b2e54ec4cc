/**
 * Tells systemd how the agent does (sd_notify(3)): that it is ready, what it is doing, that it is alive. By the program
 * systemd-notify, since Node opens no datagram sockets of Unix; without NOTIFY_SOCKET nothing is told to anybody.
 */

import { isNatwardError, NatwardError } from '../../errors.ts';
import type { System } from '../../system/system.ts';

export interface NotifyOptions {
  /** What is for the agent is taken out of it: programs that hooks run are not to speak for the agent. */
  readonly env: Record<string, string | undefined>;
  /** A keeper that hangs is not to be taken for a living one. */
  readonly isHealthy: () => boolean;
  /** Said once: systemd will end what does not report. */
  readonly warn: (error: NatwardError) => void;
}

const PROGRAM = 'systemd-notify';
const LIMIT_MS = 5000;

export class ServiceManager implements AsyncDisposable {
  readonly #system: System;
  readonly #options: NotifyOptions;
  readonly #socket: string | undefined;
  /** Undefined where no watchdog waits for this process. */
  readonly #periodMs: number | undefined;
  readonly #over = new AbortController();
  #told: Promise<void> = Promise.resolve();
  #watchdog: Promise<void> = Promise.resolve();
  #warned = false;

  constructor(system: System, options: NotifyOptions) {
    this.#system = system;
    this.#options = options;
    const { env } = options;
    this.#socket = env['NOTIFY_SOCKET'] || undefined;
    this.#periodMs = watchdogMs(env);
    for (const name of ['NOTIFY_SOCKET', 'WATCHDOG_USEC', 'WATCHDOG_PID']) delete env[name];
  }

  /** It has started; from now on the watchdog, where there is one, hears from it in time. */
  ready(status: string): void {
    this.#tell(['--ready', `--status=${status}`]);
    if (this.#periodMs !== undefined) this.#watchdog = this.#pat(this.#periodMs / 2);
  }

  stopping(): void {
    this.#tell(['STOPPING=1', '--status=releasing what is mapped']);
  }

  async #pat(periodMs: number): Promise<void> {
    try {
      for (;;) {
        await this.#system.clock.sleep(periodMs, this.#over.signal);
        if (this.#options.isHealthy()) this.#tell(['WATCHDOG=1']);
      }
    } catch (error) {
      if (!isNatwardError(error, 'ABORTED')) throw error;
    }
  }

  /** One after the other. */
  #tell(words: readonly string[]): void {
    if (this.#socket === undefined) return;
    this.#told = this.#told.then(() => this.#run(words));
  }

  async #run(words: readonly string[]): Promise<void> {
    try {
      const { exitCode, stderr } = await this.#system.runProgram({
        command: [PROGRAM, `--pid=${process.pid}`, ...words],
        env: { NOTIFY_SOCKET: this.#socket },
        timeLimitMs: LIMIT_MS,
        keptBytes: 1024,
        floodBytes: 65_536,
      });
      if (exitCode === 0) return;
      const why = stderr.trim().split('\n')[0] || 'it did not end in time';
      this.#warn(new NatwardError('FAILED', `${PROGRAM} could not tell systemd: ${why}`));
    } catch (error) {
      if (!isNatwardError(error)) throw error;
      this.#warn(error);
    }
  }

  #warn(error: NatwardError): void {
    if (!this.#warned) this.#options.warn(error);
    this.#warned = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#over.abort();
    await this.#watchdog;
    await this.#told;
  }
}

/** WATCHDOG_USEC is for the process that WATCHDOG_PID names, where it names one. */
function watchdogMs(env: NotifyOptions['env']): number | undefined {
  const periodMs = Number(env['WATCHDOG_USEC']) / 1000;
  const isOurs = env['WATCHDOG_PID'] === undefined || env['WATCHDOG_PID'] === String(process.pid);
  return Number.isFinite(periodMs) && periodMs > 0 && isOurs ? periodMs : undefined;
}
