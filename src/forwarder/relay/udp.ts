/**
 * UDP: one socket where a rule listens, and one towards the target for each conversation, so that answers find their
 * way back and the target's refusals (ICMP) are heard. Datagrams keep their borders, empty ones as well.
 *
 * A conversation is a client's address and port at one listening socket. Its first datagrams wait, a few of them,
 * while it is found out who decides and where the target is.
 */

import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { family, parseAddress } from '../../net/address.ts';
import type { Endpoint } from '../../net/endpoint.ts';
import { encodeProxyHeader } from '../../wire/proxy-protocol.ts';
import { portsOf } from '../decide.ts';
import type { Target } from '../rule.ts';
import { type Dialing, endpointsOf } from './dial.ts';
import type { RuleState, Shown } from './rule-state.ts';
import { ListenError } from './stream.ts';
import type { Admission, Arrival } from './tcp.ts';

export interface UdpContext extends Pick<Dialing, 'clock' | 'names'> {
  readonly tick: number;
  admit(arrival: Arrival): Promise<Admission> | Admission;
  opened(conversation: UdpConversation): void;
  closed(conversation: UdpConversation, reason: string): void;
  /** It is there, and does not know its rule yet. */
  begun(conversation: UdpConversation): void;
  refused(conversation: UdpConversation, admission: Admission, client: Endpoint): void;
  nextId(): number;
}

/** RFC 4787, REQ-5: a mapping lives two minutes at least. */
const DEFAULT_IDLE_MS = 120_000;
/** Datagrams that wait for their target. */
const MAX_WAITING = 16;
/** The loss of a burst is the loss of what the kernel cannot hold. */
const RECEIVE_BUFFER_BYTES = 2 ** 22;

export interface UdpListener {
  readonly endpoint: Endpoint;
  /** Closes when the last conversation is over, and takes no new ones until then. */
  retire(): void;
  /** Takes new ones again. Reports whether it was not too late. */
  revive(): boolean;
  /** Ends its conversations as well. */
  close(): void;
}

/** Rejects with ListenError. */
export async function listenUdp(
  at: { readonly address: string; readonly port: number },
  context: UdpContext,
): Promise<UdpListener> {
  const socket = createSocket({
    type: family(at.address) === 6 ? 'udp6' : 'udp4',
    ipv6Only: at.address !== '::' && family(at.address) === 6,
    lookup: asItIs,
  });
  await new Promise<void>((resolve, reject) => {
    socket.once('error', (error: NodeJS.ErrnoException) => {
      socket.close();
      reject(new ListenError(error.code ?? error.message));
    });
    socket.bind({ address: at.address, port: at.port, exclusive: true }, () => {
      socket.removeAllListeners('error');
      resolve();
    });
  });
  return new Listener(socket, at, context);
}

class Listener implements UdpListener {
  readonly endpoint: Endpoint;
  readonly #socket: Socket;
  readonly #context: UdpContext;
  /** By the client's port; there are rarely two addresses with the same one. */
  readonly #byPort = new Map<number, UdpConversation[]>();
  #count = 0;
  #isRetired = false;
  #isClosed = false;

  constructor(socket: Socket, at: { readonly address: string; readonly port: number }, context: UdpContext) {
    this.#socket = socket;
    this.endpoint = { address: at.address, port: socket.address().port };
    this.#context = context;
    trySize(socket);
    // What was sent and refused is the client's loss: it shows in no socket of ours.
    socket.on('error', () => undefined);
    socket.on('message', (datagram, from) => this.#arrived(datagram, from));
  }

  #arrived(datagram: Buffer, from: RemoteInfo): void {
    const known = this.#byPort.get(from.port)?.find(({ rawAddress }) => rawAddress === from.address);
    if (known !== undefined) {
      known.fromClient(datagram);
      return;
    }
    if (this.#isRetired) return;
    const address = parseAddress(from.address);
    if (address === undefined) return;
    const conversation = new UdpConversation(
      { client: { address, port: from.port }, local: this.endpoint },
      from.address,
      this.#context,
      {
        send: (answer) => this.#socket.send(answer, from.port, from.address),
        over: () => this.#remove(conversation),
      },
    );
    this.#byPort.set(from.port, [...(this.#byPort.get(from.port) ?? []), conversation]);
    this.#count++;
    conversation.begin(datagram);
  }

  #remove(conversation: UdpConversation): void {
    const { port } = conversation.client;
    const left = (this.#byPort.get(port) ?? []).filter((one) => one !== conversation);
    if (left.length > 0) this.#byPort.set(port, left);
    else this.#byPort.delete(port);
    this.#count--;
    if (this.#isRetired && this.#count === 0) this.close();
  }

  retire(): void {
    this.#isRetired = true;
    if (this.#count === 0) this.close();
  }

  revive(): boolean {
    this.#isRetired = this.#isClosed;
    return !this.#isClosed;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#socket.close();
    for (const conversation of [...this.#byPort.values()].flat()) conversation.cut('its socket is closed');
  }
}

interface ClientSide {
  send(datagram: Uint8Array): void;
  /** Nothing is known about it any more. */
  over(): void;
}

export class UdpConversation implements Shown {
  readonly id: number;
  readonly beganAtMs: number;
  readonly client: Endpoint;
  readonly local: Endpoint;
  /** As the socket writes it. */
  readonly rawAddress: string;
  readonly #context: UdpContext;
  readonly #side: ClientSide;
  #state: RuleState | undefined;
  #target: Socket | undefined;
  #clone: Socket | undefined;
  #header: Uint8Array | undefined;
  #waiting: Uint8Array[] = [];
  #isOver = false;
  #idleMs = DEFAULT_IDLE_MS;
  #lastTick: number;
  #lastMs: number;
  target: Endpoint | undefined;
  bytesIn = 0;
  bytesOut = 0;

  constructor(arrival: Arrival, rawAddress: string, context: UdpContext, side: ClientSide) {
    this.id = context.nextId();
    this.client = arrival.client;
    this.local = arrival.local;
    this.rawAddress = rawAddress;
    this.#context = context;
    this.#side = side;
    this.#lastTick = context.tick;
    this.beganAtMs = context.clock.now();
    this.#lastMs = context.clock.steady();
  }

  readonly protocol = 'udp';

  /** It has a rule. */
  get hasBegun(): boolean {
    return this.#state !== undefined;
  }

  get state(): RuleState {
    return this.#state as RuleState;
  }

  begin(datagram: Uint8Array): void {
    this.#waiting.push(datagram);
    this.#context.begun(this);
    const admission = this.#context.admit({ client: this.client, local: this.local });
    if (admission instanceof Promise) void admission.then((answer) => this.#admitted(answer));
    else this.#admitted(admission);
  }

  #admitted(admission: Admission): void {
    if (this.#isOver) {
      if (admission.reason === undefined) admission.state.leave(this.client.address);
      return;
    }
    if (admission.reason !== undefined) {
      this.#isOver = true;
      this.#side.over();
      this.#context.refused(this, admission, this.client);
      return;
    }
    const { state } = admission;
    const { rule } = state;
    this.#state = state;
    if (rule.idleSeconds !== undefined) this.#idleMs = rule.idleSeconds * 1000;
    if (rule.proxy !== undefined) {
      const conversation = { protocol: 'udp', source: this.client, destination: this.local } as const;
      this.#header = encodeProxyHeader(rule.proxy, conversation);
    }
    this.#context.opened(this);
    void this.#reach(rule.verdict === 'monitor' ? SAME_PORT : rule.targets, rule.clone);
  }

  async #reach(targets: readonly Target[], clone: Target | undefined): Promise<void> {
    const to = await this.#endpointOf(targets);
    const copyTo = clone === undefined ? undefined : await this.#endpointOf([clone]);
    if (this.#isOver) return;
    if (to === undefined) {
      this.#refuse('the target’s name has no address');
      return;
    }
    this.target = to;
    try {
      this.#target = await this.#connect(to, (datagram) => this.#fromTarget(datagram));
      if (copyTo !== undefined)
        this.#clone = await this.#connect(copyTo, () => undefined).catch(() => undefined);
    } catch (error) {
      this.#refuse((error as NodeJS.ErrnoException).code ?? String(error));
      return;
    }
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const datagram of waiting) this.#forward(datagram);
  }

  #refuse(reason: string): void {
    if (this.#isOver) return;
    this.state.refuse(`the target cannot be reached: ${reason}`, this.beganAtMs);
    this.cut(`the target cannot be reached: ${reason}`);
  }

  async #endpointOf(targets: readonly Target[]): Promise<Endpoint | undefined> {
    const where = { local: this.local, ports: portsOf(this.state.rule) };
    for (const target of targets) {
      let endpoints = endpointsOf(target, where, this.#context.names);
      if (endpoints === undefined) {
        await this.#context.names.addressesOf(target.host as string);
        endpoints = endpointsOf(target, where, this.#context.names);
      }
      const [first] = endpoints ?? [];
      if (first !== undefined) return first;
    }
    return undefined;
  }

  #connect(to: Endpoint, received: (datagram: Buffer) => void): Promise<Socket> {
    const socket = createSocket({ type: family(to.address) === 6 ? 'udp6' : 'udp4', lookup: asItIs });
    return new Promise((resolve, reject) => {
      const failed = (error: Error) => {
        socket.close();
        reject(error);
      };
      socket.once('error', failed);
      const reach = () =>
        socket.connect(to.port, to.address, () => {
          if (this.#isOver) {
            socket.close();
            return;
          }
          socket.off('error', failed);
          socket.on('error', (error: NodeJS.ErrnoException) => this.#targetFailed(socket, error));
          socket.on('message', received);
          trySize(socket);
          resolve(socket);
        });
      const { source } = this.state.rule;
      if (source === undefined) reach();
      else {
        const port = source.port === 'same' ? this.client.port : source.port;
        socket.bind(
          { ...(source.address === undefined ? {} : { address: source.address }), port: port ?? 0 },
          reach,
        );
      }
    });
  }

  /** ICMP says that nobody is there. The client is not told by packets of ours; its next datagram begins anew. */
  #targetFailed(socket: Socket, { code, message }: NodeJS.ErrnoException): void {
    if (socket === this.#clone) return;
    this.state.refuse(`the target refused: ${code ?? message}`, this.#context.clock.now());
    this.cut(`the target refused: ${code ?? message}`);
  }

  fromClient(datagram: Uint8Array): void {
    this.#lastTick = this.#context.tick;
    if (this.#target !== undefined) this.#forward(datagram);
    else if (this.#waiting.length < MAX_WAITING) this.#waiting.push(datagram);
  }

  #forward(datagram: Uint8Array): void {
    const { state } = this;
    const target = this.#target;
    if (this.#isOver || target === undefined || !this.#mayPass(datagram.length)) return;
    this.bytesIn += datagram.length;
    state.bytesIn += datagram.length;
    state.packetsIn++;
    this.#clone?.send(datagram);
    target.send(this.#header === undefined ? datagram : [this.#header, datagram]);
  }

  #fromTarget(datagram: Buffer): void {
    const { state } = this;
    if (this.#isOver || !this.#mayPass(datagram.length)) return;
    this.#lastTick = this.#context.tick;
    this.bytesOut += datagram.length;
    state.bytesOut += datagram.length;
    state.packetsOut++;
    this.#side.send(datagram);
  }

  /** What is faster than the rule's rate is lost, as on any line that is full. */
  #mayPass(bytes: number): boolean {
    const { state } = this;
    if (!state.isMetered) return true;
    const waitMs = state.spend(bytes, this.#context.clock.steady());
    if (state.isUsedUp) this.cut('the quota of its rule is used up');
    return waitMs <= 0 && !this.#isOver;
  }

  look(nowMs: number): void {
    if (this.#lastTick >= this.#context.tick - 1) this.#lastMs = nowMs;
    else if (nowMs - this.#lastMs >= this.#idleMs) this.cut(`silent for ${this.#idleMs / 1000} s`);
  }

  cut(reason: string): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#target?.close();
    this.#clone?.close();
    this.#side.over();
    if (this.#state === undefined) {
      this.#context.refused(this, { state: undefined, reason }, this.client);
      return;
    }
    this.state.leave(this.client.address);
    this.#context.closed(this, reason);
  }
}

const SAME_PORT = [{ host: undefined, port: { kind: 'same' } }] as const;

/** Addresses need no look-up; Node's own would put each datagram off to a later turn. */
function asItIs(
  address: string,
  _: unknown,
  found: (error: null, address: string, family: number) => void,
): void {
  found(null, address, family(address));
}

function trySize(socket: Socket): void {
  try {
    socket.setRecvBufferSize(RECEIVE_BUFFER_BYTES);
  } catch {
    // The system's own size does, and loses more of a burst.
  }
}
