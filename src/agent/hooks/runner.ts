/**
 * Does what the hooks say when something happens. Each hook has a lane of its own (lanes.ts), so that one which
 * hangs or fails holds up nobody else; programs beside that take turns, for they share one machine. What a hook
 * does is in a file for each kind; what goes wrong there becomes a warning, without anything secret.
 */

import { setMaxListeners } from 'node:events';
import { isNatwardError, NatwardError } from '../../errors.ts';
import { fired } from '../../system/clock.ts';
import type { System } from '../../system/system.ts';
import type { AgentEvent } from '../events.ts';
import { addressOf, NameUpdate } from './dyndns.ts';
import {
  describeHook,
  type DyndnsHook,
  eventsOf,
  HOOK_EVENTS,
  type Hook,
  type HookedEvent,
  type RunHook,
  type SyncHook,
  type WebhookHook,
} from './hook.ts';
import { type Lane, NewestLane, QueueLane, type Rest } from './lanes.ts';
import { runHook } from './run.ts';
import type { Reach } from './service.ts';
import { FollowedPorts, syncPort } from './sync/sync.ts';
import { Turns } from './turns.ts';
import { callWebhook } from './webhook.ts';

export interface HookRunnerOptions {
  /** natward's own, for the services that ask who calls. */
  readonly version: string;
  /** Which hooks are set on an event: those of the configuration, and those of the intent. */
  readonly hooksOf: (event: AgentEvent) => readonly Hook[];
  readonly warn: (message: string, advice: string | null) => void;
}

const PROGRAMS_AT_ONCE = 8;
/** What runs when natward ends may go on for so long. */
const CLOSE_MS = 5_000;
/** Hooks come and go with the intents of programs; so many are remembered with where they stand. */
const MAX_LANES = 256;

/** A hook at work. */
interface Runner {
  readonly lane: Lane;
  readonly handle: (event: HookedEvent) => void;
  readonly release?: (event: AgentEvent) => void;
}

export class HookRunner implements AsyncDisposable {
  readonly #system: System;
  readonly #options: HookRunnerOptions;
  readonly #runners = new Map<string, Runner>();
  readonly #programs = new Turns(PROGRAMS_AT_ONCE);
  readonly #cut = new AbortController();
  readonly #reach: Reach;
  #closed: Promise<void> | undefined;

  constructor(system: System, options: HookRunnerOptions) {
    this.#system = system;
    this.#options = options;
    // Everything that runs listens to it; Node takes more than ten for a leak.
    setMaxListeners(0, this.#cut.signal);
    this.#reach = {
      web: system.web,
      userAgent: `natward/${options.version}`,
      signal: this.#cut.signal,
    };
  }

  /** Returns at once, and never throws: what is to be done begins in a later turn. */
  handle(event: AgentEvent): void {
    if (this.#closed !== undefined) return;
    if (event.type === 'released') {
      // Nobody's hooks are set on it any more.
      for (const { release } of this.#runners.values()) release?.(event);
    }
    if (!isHooked(event)) return;
    // The same hook may be set by the configuration and by the intent.
    const hooks = new Map(this.#options.hooksOf(event).map((hook) => [keyOf(hook), hook]));
    for (const [key, hook] of hooks) this.#runnerOf(key, hook).handle(event);
  }

  /**
   * Takes no more events and waits for what runs or waits to run, without trying anything twice; what is not
   * done after 5 s, or when `signal` fires, is cut.
   */
  close(signal?: AbortSignal): Promise<void> {
    this.#closed ??= this.#close(signal);
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(signal: AbortSignal | undefined): Promise<void> {
    const lanes = [...this.#runners.values()].map(({ lane }) => lane);
    for (const lane of lanes) lane.close();
    const done = Promise.all(lanes.map((lane) => lane.idle));
    const bound = new AbortController();
    const late = this.#system.clock.sleep(CLOSE_MS, bound.signal).catch(() => {});
    await Promise.race([done, late, ...(signal === undefined ? [] : [fired(signal)])]);
    bound.abort();
    for (const lane of lanes) lane.clear();
    this.#cut.abort(new NatwardError('ABORTED', 'it was cut, for natward ends'));
    await done;
  }

  #runnerOf(key: string, hook: Hook): Runner {
    const known = this.#runners.get(key);
    // At the end again: the first is the one that was longest without an event.
    this.#runners.delete(key);
    const runner = known ?? this.#create(hook);
    this.#runners.set(key, runner);
    if (this.#runners.size > MAX_LANES) this.#forgetOne();
    return runner;
  }

  #forgetOne(): void {
    for (const [key, { lane }] of this.#runners) {
      if (!lane.isIdle) continue;
      this.#runners.delete(key);
      return;
    }
  }

  #create(hook: Hook): Runner {
    switch (hook.kind) {
      case 'run':
      case 'shell':
        return this.#createQueue(hook, (event) => this.#run(hook, event));
      case 'webhook':
        return this.#createQueue(hook, (event, rest) => callWebhook(this.#reach, hook, event, rest));
      case 'sync':
        return this.#createSync(hook);
      case 'dyndns':
        return this.#createUpdate(hook);
    }
  }

  async #run(hook: RunHook, event: HookedEvent): Promise<void> {
    const signal = this.#cut.signal;
    await this.#programs.take(signal);
    try {
      await runHook(this.#system.runProgram, hook, event, signal);
    } finally {
      this.#programs.give();
    }
  }

  #createQueue(
    hook: RunHook | WebhookHook,
    deliver: (event: HookedEvent, rest: Rest) => Promise<void>,
  ): Runner {
    const lane = new QueueLane<HookedEvent>(this.#system.clock, {
      deliver: (event, rest) =>
        deliver(event, rest).catch((error: unknown) => this.#fail(hook, subjectOf(event), error)),
      onOverflow: (limit) =>
        this.#warn(
          hook,
          undefined,
          `more than ${limit} events wait for it; the oldest are dropped`,
          'It takes longer than there is time between the events.',
        ),
    });
    return {
      lane,
      handle(event) {
        if (eventsOf(hook).includes(event.type)) lane.push(event);
      },
    };
  }

  #createSync(hook: SyncHook): Runner {
    const ports = new FollowedPorts(hook);
    const lane = new NewestLane<number>(this.#system.clock, {
      attempt: (port, tries) => syncPort(this.#reach, hook, port, tries),
      tell: (error, port) => this.#fail(hook, `to listen on port ${port}`, error),
    });
    let rivals = '';
    const follow = (event: AgentEvent) => {
      if (!ports.note(event)) return;
      const now = ports.rivals.join(' and ');
      if (now !== '' && now !== rivals) this.#warn(hook, undefined, ...rivalry(now));
      rivals = now;
      const { port } = ports;
      if (port === undefined) lane.clear();
      else lane.want(port);
    };
    return { lane, handle: follow, release: follow };
  }

  #createUpdate(hook: DyndnsHook): Runner {
    const update = new NameUpdate(hook, this.#system.clock);
    const lane = new NewestLane<string>(this.#system.clock, {
      attempt: (address, tries) => update.attempt(this.#reach, address, tries),
      tell: (error, address) => this.#fail(hook, `to be ${address}`, error),
    });
    return {
      lane,
      handle(event) {
        const address = addressOf(hook, event);
        if (address !== undefined) lane.want(address);
      },
    };
  }

  #fail(hook: Hook, subject: string, error: unknown): void {
    const advice = isNatwardError(error) ? (error.advice ?? null) : null;
    this.#warn(hook, subject, error instanceof Error ? error.message : String(error), advice);
  }

  #warn(hook: Hook, subject: string | undefined, message: string, advice: string | null): void {
    const about = subject === undefined ? '' : ` (${subject})`;
    this.#options.warn(`${describeHook(hook)}${about}: ${message}`, advice);
  }
}

function rivalry(specs: string): [message: string, advice: string] {
  return [
    `it is told the ports of ${specs}, and follows whichever changed last`,
    'Set the sync on one of them alone.',
  ];
}

function isHooked(event: AgentEvent): event is HookedEvent {
  return HOOK_EVENTS.some((type) => type === event.type);
}

function subjectOf(event: HookedEvent): string {
  return `${event.type}, ${'lease' in event ? event.lease.id : event.gateway.address}`;
}

/** Equal hooks are one, however they were written. */
function keyOf(hook: Hook): string {
  return JSON.stringify(hook, Object.keys(hook).sort());
}
