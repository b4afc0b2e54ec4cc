/** A keeper and a steering that do what a test says, and the real server and client before it, on a real socket. */

import { mkdtemp, rm } from 'node:fs/promises';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { AgentEvent } from '../../../src/agent/events.ts';
import type {
  DropOptions,
  DropReport,
  DropSelector,
  KeeperStatus,
  KeepOptions,
  LeaseKeeping,
} from '../../../src/agent/keeping.ts';
import type { GatewayStatus, Intent, KeepRequest, LeaseStatus } from '../../../src/agent/lease.ts';
import type {
  EditOptions,
  EditReport,
  ExplainReport,
  RuleEdit,
  RuleKeeping,
  RuleStatus,
} from '../../../src/agent/rule-keeping.ts';
import type { ResponderStatus } from '../../../src/agent/responder-status.ts';
import type { PauseReport, RulePause } from '../../../src/agent/rule-pause.ts';
import { AgentClient } from '../../../src/control/client.ts';
import type { AgentFacts } from '../../../src/control/schema.ts';
import {
  type ControlServer,
  type ControlServerOptions,
  startControlServer,
} from '../../../src/control/server.ts';
import type { FirstPacket } from '../../../src/forwarder/decide.ts';
import type { Conversation, EngineEvent } from '../../../src/forwarder/engine.ts';
import { fired, systemClock } from '../../../src/system/clock.ts';
import { sampleLease } from '../../support/sample-lease.ts';

export const FACTS: AgentFacts = {
  version: '1.2.3',
  pid: process.pid,
  startedAt: '2026-01-01T00:00:00.000Z',
  directory: '/var/lib/natward',
};

export const REQUEST: KeepRequest = {
  spec: '443:8443',
  protocols: ['tcp'],
  external: { first: 443, last: 443 },
  internal: { first: 8443, last: 8443 },
  host: undefined,
  lifetimeSeconds: 7200,
  choice: 'exact',
  hooks: [],
};

export const LEASE: LeaseStatus = sampleLease({
  expiresAt: '2026-01-01T02:00:00.000Z',
  renewsAt: '2026-01-01T01:00:00.000Z',
  notes: ['granted for less than asked'],
});

export const GATEWAY: GatewayStatus = {
  address: 'fe80::1%eth0',
  family: 6,
  interface: 'eth0',
  localAddress: '192.168.1.10',
  state: 'up',
  protocols: ['pcp', 'upnp'],
  externalAddress: '198.51.100.7',
};

export const STATUS: KeeperStatus = {
  gateways: [GATEWAY],
  leases: [LEASE],
  warnings: ['the clock was set back'],
  lastEventId: 41,
};

export const RESPONDER: ResponderStatus = {
  interface: 'docker0',
  addresses: ['172.17.0.1'],
  protocols: ['pcp', 'natpmp', 'upnp'],
  clients: 1,
  mappings: 2,
};

export const RULE: RuleStatus = {
  id: 'web',
  position: 1,
  owner: 'user',
  enabled: true,
  text: 'in tcp 80 -> 10.0.0.5:8080 "web"',
  description: 'web',
  engine: 'relay',
  waiting: null,
  activity: {
    bytesIn: 1000,
    bytesOut: 2_500_000,
    packetsIn: 10,
    packetsOut: 2000,
    open: 2,
    conversations: 12,
    refused: 1,
    lastAtMs: 1_767_225_600_000,
    lastRefusal: '192.0.2.9:4711: its rule refuses',
  },
};

export const CONVERSATION: Conversation = {
  id: 7,
  ruleId: 'web',
  protocol: 'tcp',
  client: { address: '192.0.2.9', port: 4711 },
  local: { address: '192.168.1.10', port: 80 },
  target: { address: '10.0.0.5', port: 8080 },
  beganAtMs: 1_767_225_600_000,
  bytesIn: 10,
  bytesOut: 20,
};

export const EDITED: EditReport = {
  added: ['web'],
  removed: [],
  changed: [],
  moved: [],
  unchanged: 0,
  affected: [CONVERSATION],
  notes: [{ ruleId: 'web', position: 1, message: 'rule 1 can never match', advice: null }],
  rules: [{ id: RULE.id, position: RULE.position, text: RULE.text, waiting: null }],
};

/** As FakeKeeping. */
export class FakeSteering implements RuleKeeping, RulePause {
  readonly asked: unknown[] = [];
  answerRules: readonly RuleStatus[] = [RULE];
  answerEdit: (edit: RuleEdit, options: EditOptions) => Promise<EditReport> = async () => EDITED;
  answerExplain: ExplainReport = {
    rule: RULE,
    refusal: null,
    obstacles: ['Another program drops it.'],
    passed: [{ position: 1, id: 'first', reason: 'it is disabled' }],
  };
  told: readonly EngineEvent[] = [];

  isPaused = false;

  async rules(): Promise<readonly RuleStatus[]> {
    return this.answerRules;
  }

  async pause(): Promise<PauseReport> {
    return this.#turn(true);
  }

  async resume(): Promise<PauseReport> {
    return this.#turn(false);
  }

  #turn(isPaused: boolean): PauseReport {
    const isNew = this.isPaused !== isPaused;
    this.isPaused = isPaused;
    return { isPaused, isNew, rules: 1, ended: isPaused ? 2 : 0 };
  }

  edit(edit: RuleEdit, options: EditOptions): Promise<EditReport> {
    this.asked.push({ edit, ...options });
    return this.answerEdit(edit, options);
  }

  async explain(packet: FirstPacket): Promise<ExplainReport> {
    this.asked.push(packet);
    return this.answerExplain;
  }

  async conversations(): Promise<readonly Conversation[]> {
    return [CONVERSATION];
  }

  async *follow(signal: AbortSignal, ruleId?: string): AsyncGenerator<EngineEvent> {
    this.asked.push({ follow: ruleId });
    yield* this.told;
    await fired(signal);
  }
}

interface Wait {
  readonly wake: () => void;
}

/** Answers with the values above unless a test says otherwise, and writes down what it was asked. */
export class FakeKeeping implements LeaseKeeping {
  readonly asked: unknown[] = [];
  readonly subscriptions: (number | undefined)[] = [];
  answerKeep: (options: KeepOptions) => Promise<readonly LeaseStatus[]> = async () => [LEASE];
  answerDrop: (options: DropOptions) => Promise<DropReport> = async () => ({
    released: [LEASE],
    failures: [],
  });
  answerStatus: () => Promise<KeeperStatus> = async () => STATUS;
  answerWanted: readonly Intent[] = [];
  readonly #readers = new Set<{ queue: AgentEvent[]; wait: Wait | undefined; ended: boolean }>();
  readonly #changed = new Set<() => void>();

  keep(requests: readonly KeepRequest[], options: KeepOptions): Promise<readonly LeaseStatus[]> {
    const { owner, timeoutMs } = options;
    this.asked.push({ requests, owner, timeoutMs });
    this.#tell();
    return this.answerKeep(options);
  }

  drop(selectors: readonly DropSelector[], options: DropOptions): Promise<DropReport> {
    this.asked.push({ selectors });
    this.#tell();
    return this.answerDrop(options);
  }

  status(): Promise<KeeperStatus> {
    return this.answerStatus();
  }

  async wanted(): Promise<readonly Intent[]> {
    return this.answerWanted;
  }

  /** How many follow the events now. */
  get readers(): number {
    return this.#readers.size;
  }

  events(signal: AbortSignal, since?: number): AsyncIterable<AgentEvent> {
    this.subscriptions.push(since);
    const reader = { queue: [] as AgentEvent[], wait: undefined as Wait | undefined, ended: false };
    this.#readers.add(reader);
    const end = () => {
      reader.ended = true;
      reader.wait?.wake();
    };
    signal.addEventListener('abort', end);
    if (signal.aborted) end();
    this.#tell();
    const leave = () => {
      this.#readers.delete(reader);
      this.#tell();
    };
    return (async function* () {
      try {
        for (;;) {
          yield* reader.queue.splice(0);
          if (reader.queue.length > 0) continue;
          if (reader.ended) return;
          await new Promise<void>((wake) => {
            reader.wait = { wake };
            if (reader.ended || reader.queue.length > 0) wake();
          });
        }
      } finally {
        leave();
      }
    })();
  }

  emit(...events: AgentEvent[]): void {
    for (const reader of this.#readers) {
      reader.queue.push(...events);
      reader.wait?.wake();
    }
  }

  /** The keeper ends its streams of its own accord. */
  endEvents(): void {
    for (const reader of this.#readers) {
      reader.ended = true;
      reader.wait?.wake();
    }
  }

  #tell(): void {
    for (const tell of this.#changed) tell();
  }

  /** Resolves when what this keeper has been asked makes `holds` true. */
  until(holds: () => boolean): Promise<void> {
    return new Promise((resolve) => {
      const tell = () => {
        if (!holds()) return;
        this.#changed.delete(tell);
        resolve();
      };
      this.#changed.add(tell);
      tell();
    });
  }
}

export async function temporary(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'natward-test-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

export interface FakeAgent {
  readonly keeping: FakeKeeping;
  readonly steering: FakeSteering;
  readonly server: ControlServer;
  readonly client: AgentClient;
  readonly place: string;
  /** What natward did not expect. */
  readonly errors: unknown[];
}

export async function startAgent(options: Partial<ControlServerOptions> = {}): Promise<FakeAgent> {
  const keeping = new FakeKeeping();
  const steering = new FakeSteering();
  const place = options.place ?? join(await temporary(), 'control.sock');
  const errors: unknown[] = [];
  const server = await startControlServer({
    keeping,
    steering,
    responding: { statuses: () => [RESPONDER] },
    place,
    facts: FACTS,
    clock: systemClock,
    onError: (error) => errors.push(error),
    ...options,
  });
  onTestFinished(() => server[Symbol.asyncDispose]());
  return { keeping, steering, server, client: new AgentClient(place, FACTS), place, errors };
}

export interface RawAnswer {
  readonly status: number;
  readonly headers: NodeJS.Dict<string | string[]>;
  readonly body: string;
  readonly json: () => unknown;
}

/** One question as some other program might ask it. */
export function ask(
  place: string,
  method: string,
  path: string,
  options: { readonly headers?: Record<string, string>; readonly body?: string | Buffer } = {},
): Promise<RawAnswer> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath: place, method, path, headers: options.headers, agent: false });
    asked.on('error', reject);
    asked.on('response', (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        const body = Buffer.concat(chunks).toString();
        const { statusCode: status = 0, headers } = answer;
        resolve({ status, headers, body, json: () => JSON.parse(body) });
      });
    });
    asked.end(options.body);
  });
}

export function postJson(place: string, path: string, document: unknown): Promise<RawAnswer> {
  const body = typeof document === 'string' ? document : JSON.stringify(document);
  return ask(place, 'POST', path, { headers: { 'content-type': 'application/json' }, body });
}
