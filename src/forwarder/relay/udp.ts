/**
 * UDP: one socket where a rule listens, and one towards the target for each conversation, so that answers find their
 * way back and the target's refusals (ICMP) are heard. Datagrams keep their borders, empty ones as well.
 *
 * A conversation is a client's address and port at one listening socket. Its first datagrams wait, a few of them,
 * while it is found out who decides and where the target is.
 */

import { ANY_IPV4, ANY_IPV6, family, type IpAddress, parseAddress } from '../../net/address.ts';
import type { Endpoint } from '../../net/endpoint.ts';
import { encodeProxyHeader } from '../../wire/proxy-protocol.ts';
import { portsOf } from '../decide.ts';
import type { Target } from '../rule.ts';
import {
  type DatagramDial,
  type DatagramListener,
  type DatagramOwner,
  type Datagrams,
  type DatagramSocket,
  type Sender,
} from './datagram.ts';
import { type Dialing, endpointsOf, targetsOf } from './dial.ts';
import type { RuleState, Shown } from './rule-state.ts';
import type { Admission, Arrival } from './tcp.ts';

export interface UdpContext extends Pick<Dialing, 'clock' | 'names'> {
  readonly datagrams: Datagrams;
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
/** Datagrams that wait for their target, and what they hold: the largest one, at least. */
const MAX_WAITING = 16;
const MAX_WAITING_BYTES = 65_536;
/** One datagram is lost, and the target is still there. EMSGSIZE also comes by ICMP, where the path is narrower. */
const LOSSES: ReadonlySet<string> = new Set(['EMSGSIZE', 'EAGAIN', 'ENOBUFS', 'ENOMEM']);

export interface UdpListener {
  readonly endpoint: Endpoint;
  /** Closes when the last conversation is over, and takes no new ones until then. */
  retire(): void;
  /** Takes new ones again. Reports whether it was not too late. */
  revive(): boolean;
  /** Ends its conversations as well. */
  close(): void;
  readonly isClosed: boolean;
}

/** Rejects with ListenError. */
export async function listenUdp(
  at: { readonly address: string; readonly port: number },
  context: UdpContext,
): Promise<UdpListener> {
  return new Listener(await context.datagrams.listen(at), context);
}

class Listener implements UdpListener, DatagramOwner {
  readonly endpoint: Endpoint;
  readonly #socket: DatagramListener;
  readonly #context: UdpContext;
  /** By the client's port; there are rarely two addresses with the same one. */
  readonly #byPort = new Map<number, UdpConversation[]>();
  /** Whose datagram was the last: the next one is often the same one's. */
  #last: UdpConversation | undefined;
  #count = 0;
  #isRetired = false;
  #isClosed = false;

  constructor(socket: DatagramListener, context: UdpContext) {
    this.#socket = socket;
    this.endpoint = socket.endpoint;
    this.#context = context;
    socket.owner = this;
  }

  received(datagram: Uint8Array, from: Sender): void {
    const known = this.#conversationOf(from);
    if (known === undefined) this.#begin(datagram, from);
    else known.fromClient(datagram);
  }

  #conversationOf(from: Sender): UdpConversation | undefined {
    if (this.#last?.isWith(from)) return this.#last;
    const known = this.#byPort.get(from.port)?.find((one) => one.isWith(from));
    this.#last = known;
    return known;
  }

  #begin(datagram: Uint8Array, from: Sender): void {
    if (this.#isRetired) return;
    const address = parseAddress(from.address);
    if (address === undefined) return;
    const conversation = new UdpConversation(
      { client: { address, port: from.port }, local: this.#localOf(address) },
      { socket: this.#socket, sender: from, over: () => this.#remove(conversation) },
      this.#context,
    );
    this.#byPort.set(from.port, [...(this.#byPort.get(from.port) ?? []), conversation]);
    this.#count++;
    conversation.begin(datagram);
  }

  /** What was sent and refused is the client's loss: it shows in no socket of ours. */
  failed(): void {
    // The other clients are well.
  }

  #remove(conversation: UdpConversation): void {
    const { port } = conversation.client;
    const left = (this.#byPort.get(port) ?? []).filter((one) => one !== conversation);
    if (left.length > 0) this.#byPort.set(port, left);
    else this.#byPort.delete(port);
    if (this.#last === conversation) this.#last = undefined;
    this.#count--;
    if (this.#isRetired && this.#count === 0) this.close();
  }

  /** On every address it is not known which one the client sent to: it is one of the client's family. */
  #localOf(client: IpAddress): Endpoint {
    const { address, port } = this.endpoint;
    return address === ANY_IPV6 && family(client) === 4 ? { address: ANY_IPV4, port } : { address, port };
  }

  retire(): void {
    this.#isRetired = true;
    if (this.#count === 0) this.close();
  }

  get isClosed(): boolean {
    return this.#isClosed;
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
  readonly socket: DatagramSocket;
  readonly sender: Sender;
  /** Nothing is known about it any more. */
  over(): void;
}

/** As the owner of a socket it hears the target. */
export class UdpConversation implements Shown, DatagramOwner {
  readonly id: number;
  readonly beganAtMs: number;
  readonly client: Endpoint;
  readonly local: Endpoint;
  readonly #context: UdpContext;
  readonly #side: ClientSide;
  readonly #sender: Sender;
  #state: RuleState | undefined;
  #target: DatagramSocket | undefined;
  #clone: DatagramSocket | undefined;
  #header: Uint8Array | undefined;
  /** Until the target can be sent to. */
  #waiting: Uint8Array[] | undefined = [];
  #waitingBytes = 0;
  #isOver = false;
  #idleMs = DEFAULT_IDLE_MS;
  #lastTick: number;
  #lastMs: number;
  target: Endpoint | undefined;
  bytesIn = 0;
  bytesOut = 0;

  constructor(arrival: Arrival, side: ClientSide, context: UdpContext) {
    this.id = context.nextId();
    this.client = arrival.client;
    this.local = arrival.local;
    this.#context = context;
    this.#side = side;
    this.#sender = side.sender;
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

  isWith({ address, port }: Sender): boolean {
    return this.#sender.port === port && this.#sender.address === address;
  }

  begin(datagram: Uint8Array): void {
    this.#wait(datagram);
    this.#context.begun(this);
    const admission = this.#context.admit({ client: this.client, local: this.local });
    if (admission instanceof Promise) void admission.then((answer) => this.#admitted(answer));
    else this.#admitted(admission);
  }

  #wait(datagram: Uint8Array): void {
    if (this.#waiting === undefined || this.#waiting.length >= MAX_WAITING) return;
    if (this.#waitingBytes + datagram.length > MAX_WAITING_BYTES) return;
    this.#waitingBytes += datagram.length;
    this.#waiting.push(datagram);
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
    void this.#reach(targetsOf(rule), rule.clone);
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
    const { socket, code } = await this.#connect(to);
    if (this.#isOver) {
      socket?.close();
      return;
    }
    if (socket === undefined) {
      this.#refuse(code);
      return;
    }
    socket.owner = this;
    this.#target = socket;
    // After the target, which has the first right to a port that the rule fixes.
    if (copyTo !== undefined) {
      this.#clone = (await this.#connect(copyTo)).socket;
      if (this.#isOver) this.#clone?.close();
    }
    const waiting = this.#waiting ?? [];
    this.#waiting = undefined;
    for (const datagram of waiting) this.#forward(datagram);
  }

  #connect(to: Endpoint): Promise<{ readonly socket: DatagramSocket | undefined; readonly code: string }> {
    return new Promise((resolve) => {
      const done: DatagramDial['done'] = (socket, code = 'it failed') => resolve({ socket, code });
      this.#context.datagrams.connect({ to, from: this.#source(), done });
    });
  }

  #source(): DatagramDial['from'] {
    const { source } = this.state.rule;
    if (source === undefined) return undefined;
    return { address: source.address, port: source.port === 'same' ? this.client.port : source.port };
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

  /** ICMP says that nobody is there. The client is not told by packets of ours; its next datagram begins anew. */
  failed(code: string): void {
    if (this.#isOver || LOSSES.has(code)) return;
    this.state.refuse(`the target refused: ${code}`, this.#context.clock.now());
    this.cut(`the target refused: ${code}`);
  }

  fromClient(datagram: Uint8Array): void {
    this.#lastTick = this.#context.tick;
    if (this.#waiting === undefined) this.#forward(datagram);
    else this.#wait(datagram);
  }

  #forward(datagram: Uint8Array): void {
    const { state } = this;
    if (this.#isOver || !this.#mayPass(datagram.length)) return;
    this.bytesIn += datagram.length;
    state.bytesIn += datagram.length;
    state.packetsIn++;
    this.#clone?.send(datagram, undefined);
    this.#target?.send(datagram, this.#header);
  }

  received(datagram: Uint8Array): void {
    const { state } = this;
    if (this.#isOver || !this.#mayPass(datagram.length)) return;
    this.#lastTick = this.#context.tick;
    this.bytesOut += datagram.length;
    state.bytesOut += datagram.length;
    state.packetsOut++;
    this.#side.socket.sendTo(datagram, this.#sender);
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
