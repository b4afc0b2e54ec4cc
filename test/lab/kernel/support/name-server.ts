/** A name server (RFC 1035) that knows a few names and what leads back to them: A, AAAA and PTR, over UDP. */

import dgram from 'node:dgram';

/** Addresses of each name. A name that is not there does not exist. */
export type Zone = Readonly<Record<string, readonly string[]>>;

const TYPES = { A: 1, PTR: 12, AAAA: 28 } as const;
const HEADER_BYTES = 12;
const NXDOMAIN = 3;

export class NameServer {
  zone: Zone = {};
  ttlSeconds = 1;
  readonly #socket: dgram.Socket;

  private constructor(socket: dgram.Socket) {
    this.#socket = socket;
    socket.on('message', (query, peer) => {
      this.#socket.send(this.#answer(query), peer.port, peer.address, () => {});
    });
  }

  static async open(address: string): Promise<NameServer> {
    const socket = dgram.createSocket('udp4');
    await new Promise<void>((resolve, reject) => {
      socket.once('error', reject).bind(53, address, resolve);
    });
    return new NameServer(socket);
  }

  #answer(query: Buffer): Buffer {
    const labels: string[] = [];
    let at = HEADER_BYTES;
    for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) {
      labels.push(query.toString('latin1', at + 1, at + 1 + length).toLowerCase());
      at += length + 1;
    }
    const type = query.readUInt16BE(at + 1);
    const records = this.#records(labels.join('.'), type);
    const head = Buffer.alloc(HEADER_BYTES);
    query.copy(head, 0, 0, 2);
    // An authoritative answer of a server that asks others as well.
    head.writeUInt16BE(0x8580 | (records === undefined ? NXDOMAIN : 0), 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(records?.length ?? 0, 6);
    const answers = (records ?? []).map((data) => {
      const record = Buffer.alloc(12);
      // The name is the question's.
      record.writeUInt16BE(0xc000 | HEADER_BYTES, 0);
      record.writeUInt16BE(type, 2);
      record.writeUInt16BE(1, 4);
      record.writeUInt32BE(this.ttlSeconds, 6);
      record.writeUInt16BE(data.length, 10);
      return Buffer.concat([record, data]);
    });
    return Buffer.concat([head, query.subarray(HEADER_BYTES, at + 5), ...answers]);
  }

  /** Undefined: there is no such name. */
  #records(name: string, type: number): Buffer[] | undefined {
    if (name.endsWith('.arpa')) {
      const found = Object.entries(this.zone).filter(([, addresses]) =>
        addresses.some((address) => reverseOf(address) === name),
      );
      if (found.length === 0) return undefined;
      return type === TYPES.PTR ? found.map(([owner]) => nameBytes(owner)) : [];
    }
    const addresses = this.zone[name];
    if (type === TYPES.AAAA) return addresses?.filter((one) => one.includes(':')).map(bytesOf);
    return addresses?.filter((one) => type === TYPES.A && !one.includes(':')).map(bytesOf);
  }
}

function nameBytes(name: string): Buffer {
  const labels = name.split('.').map((label) => Buffer.concat([Buffer.of(label.length), Buffer.from(label)]));
  return Buffer.concat([...labels, Buffer.of(0)]);
}

function bytesOf(address: string): Buffer {
  if (!address.includes(':')) return Buffer.from(address.split('.').map(Number));
  const [head = [], tail = []] = address
    .split('::')
    .map((part) => part.split(':').filter((group) => group !== ''));
  const zeros = Array.from({ length: 8 - head.length - tail.length }, () => '0');
  return Buffer.from([...head, ...zeros, ...tail].map((group) => group.padStart(4, '0')).join(''), 'hex');
}

function reverseOf(address: string): string {
  if (!address.includes(':')) return `${address.split('.').toReversed().join('.')}.in-addr.arpa`;
  return `${bytesOf(address).toString('hex').split('').toReversed().join('.')}.ip6.arpa`;
}
