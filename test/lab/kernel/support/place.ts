/** A machine of the kernel's lab as a test sees it: what its station does there, and programs that run there. */

import net from 'node:net';
import readline from 'node:readline';
import type { LabProcess, Processes, ProcessOptions, RunOptions } from '../../support/processes.ts';
import type { Zone } from './name-server.ts';
import type { Outcome, Sight, StationRequest } from './station.ts';

export interface ServeOptions {
  readonly port: number;
  /** More than `port`, each of them served alike. */
  readonly ports?: readonly number[];
  readonly protocol?: 'tcp' | 'udp';
  /** Default: all, of both families. */
  readonly address?: string;
  /** What it says it is. Default: the place's name. */
  readonly name?: string;
}

export interface AskOptions {
  readonly protocol?: 'tcp' | 'udp';
  readonly from?: string;
  readonly fromPort?: number;
  readonly text?: string;
  /** Default 2 s. What is not to be answered is asked with less. */
  readonly timeoutMs?: number;
}

const ANSWER_MS = 2_000;

let ids = 0;

export class Place {
  readonly name: string;
  readonly namespace: string;
  readonly #processes: Processes;
  readonly #station: net.Socket;
  readonly #waiting = new Map<number, { done(result: unknown): void; fail(error: Error): void }>();
  #asked = 0;

  /** `station` is where its station listens. */
  constructor(name: string, namespace: string, processes: Processes, station: string) {
    this.name = name;
    this.namespace = namespace;
    this.#processes = processes;
    this.#station = net.connect(station);
    this.#station.on('error', () => {});
    this.#station.on('close', () => {
      for (const { fail } of this.#waiting.values()) fail(this.#gone());
    });
    const lines = readline.createInterface(this.#station);
    // The socket's errors come here as well.
    lines.on('error', () => {});
    lines.on('line', (line) => {
      const { at, result, error }: { at: number; result?: unknown; error?: string } = JSON.parse(line);
      const waiting = this.#waiting.get(at);
      this.#waiting.delete(at);
      if (error === undefined) waiting?.done(result);
      else waiting?.fail(new Error(`${name}: ${error}`));
    });
  }

  /** The argv that runs `command` here. */
  command(command: readonly string[]): string[] {
    return ['ip', 'netns', 'exec', this.namespace, ...command];
  }

  /** Runs a program that has to succeed; answers its standard output. */
  must(command: readonly string[], options: RunOptions = {}): Promise<string> {
    return this.#processes.must(this.command(command), options);
  }

  /** Runs lines of shell that have to succeed. */
  sh(text: string): Promise<string> {
    return this.must(['sh', '-eu'], { input: `${text}\n` });
  }

  spawn(command: readonly string[], options: ProcessOptions = {}): LabProcess {
    return this.#processes.start(this.command(command), options);
  }

  /** Listens until it is disposed of. */
  async serve(options: ServeOptions): Promise<PlaceServer> {
    const { port, ports = [port], protocol = 'tcp', address = '::', name = this.name } = options;
    const id = newId();
    await this.#request({ op: 'serve', id, name, protocol, address, ports });
    return new PlaceServer(
      async () => (await this.#request({ op: 'seen', id })) as Sight[],
      async () => void (await this.#request({ op: 'close', id })),
    );
  }

  /** Says one thing, hears what comes back, and ends the conversation. */
  async ask(to: string, port: number, options: AskOptions = {}): Promise<Outcome> {
    await using conversation = await this.open(to, port, options);
    return conversation.first;
  }

  /** As `ask`, of a conversation that goes on. */
  async open(to: string, port: number, options: AskOptions = {}): Promise<Conversation> {
    const { protocol = 'tcp', from, fromPort, text = 'ask', timeoutMs = ANSWER_MS } = options;
    const id = newId();
    const request = { op: 'open', id, protocol, to, port, from, fromPort, text, timeoutMs } as const;
    const first = (await this.#request(request)) as Outcome;
    return new Conversation(
      first,
      async (again, ms) => (await this.#request({ op: 'say', id, text: again, timeoutMs: ms })) as Outcome,
      async () => void (await this.#request({ op: 'close', id })),
    );
  }

  /** From now on these names are known here, and no others. Tests call `scene.names`. */
  async names(zone: Zone, ttlSeconds: number): Promise<void> {
    await this.#request({ op: 'names', zone, ttlSeconds });
  }

  /** Watches what passes an adapter, with the frames' addresses; resolves when it watches. */
  async sniff(adapter: string, filter: string): Promise<Sniffer> {
    const tcpdump = [
      'tcpdump',
      '-l',
      '-n',
      '-e',
      '-S',
      '--immediate-mode',
      '-i',
      adapter,
      ...filter.split(' '),
    ];
    const process = this.spawn(tcpdump);
    await process.waitFor(/^listening on/m);
    return new Sniffer(process);
  }

  /** Lets the station go. */
  leave(): void {
    this.#station.destroy();
  }

  #gone(): Error {
    return new Error(`the station of ${this.name} is gone`);
  }

  #request(request: StationRequest): Promise<unknown> {
    const at = this.#asked++;
    return new Promise((done, fail) => {
      if (this.#station.destroyed) return fail(this.#gone());
      this.#waiting.set(at, { done, fail });
      this.#station.write(`${JSON.stringify({ at, request })}\n`);
    });
  }
}

function newId(): string {
  ids++;
  return String(ids);
}

export class PlaceServer implements AsyncDisposable {
  /** All that it has been sent so far. */
  readonly seen: () => Promise<readonly Sight[]>;
  readonly #close: () => Promise<void>;

  constructor(seen: () => Promise<readonly Sight[]>, close: () => Promise<void>) {
    this.seen = seen;
    this.#close = close;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#close();
  }
}

export class Conversation implements AsyncDisposable {
  readonly first: Outcome;
  readonly #say: (text: string, timeoutMs: number) => Promise<Outcome>;
  readonly #close: () => Promise<void>;

  constructor(
    first: Outcome,
    say: (text: string, timeoutMs: number) => Promise<Outcome>,
    close: () => Promise<void>,
  ) {
    this.first = first;
    this.#say = say;
    this.#close = close;
  }

  /** Says one more thing and hears what comes back. */
  say(text: string, timeoutMs: number = ANSWER_MS): Promise<Outcome> {
    return this.#say(text, timeoutMs);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#close();
  }
}

export class Sniffer implements AsyncDisposable {
  readonly #process: LabProcess;

  constructor(process: LabProcess) {
    this.#process = process;
  }

  /** A line a packet, as tcpdump writes it. */
  get packets(): readonly string[] {
    return this.#process.stdout.split('\n').slice(0, -1);
  }

  /** Resolves when a packet was seen that looks so; rejects after a while. */
  seen(pattern: RegExp, timeoutMs?: number): Promise<RegExpExecArray> {
    return this.#process.waitFor(pattern, timeoutMs);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.stop();
  }
}
