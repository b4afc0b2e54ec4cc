/**
 * One end of traffic that goes on until it is told to end (SIGTERM), and then says what it has seen of it as a line of
 * JSON: `serve PORT` gives back what comes, by TCP and UDP; `send HOST PORT` sends bytes that nobody can guess, as
 * fast as a slow line, and a datagram every few milliseconds, and hears what comes back.
 */

import { createHash, randomFillSync } from 'node:crypto';
import dgram from 'node:dgram';
import net from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** What the server was sent by the last who connected. */
export interface ServerTally {
  readonly bytes: number;
  readonly hash: string;
  readonly connections: number;
  readonly datagrams: number;
}

export interface ClientTally {
  readonly sentBytes: number;
  readonly sentHash: string;
  readonly backBytes: number;
  readonly backHash: string;
  /** Of TCP; null: it ended well. */
  readonly error: string | null;
  readonly datagramsSent: number;
  readonly datagramsLost: number;
  readonly datagramsDoubled: number;
}

const EVERY_MS = 5;
const CHUNK_BYTES = 32_768;
/** What is on its way when the end comes. */
const LAST_MS = 1_000;

function serve(port: number): void {
  let [bytes, connections, datagrams, hash] = [0, 0, 0, createHash('sha256')];
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    [bytes, hash] = [0, createHash('sha256')];
    connections++;
    socket.on('error', () => {});
    socket.on('data', (data) => {
      bytes += data.length;
      hash.update(data);
    });
    socket.pipe(socket);
  });
  const echo = dgram.createSocket({ type: 'udp6', ipv6Only: false });
  echo.on('message', (message, peer) => {
    datagrams++;
    echo.send(message, peer.port, peer.address, () => {});
  });
  process.once('SIGTERM', () => {
    const tally: ServerTally = { bytes, hash: hash.digest('hex'), connections, datagrams };
    console.log(JSON.stringify(tally));
    process.exit(0);
  });
  server.listen(port, '::', () => echo.bind(port, '::', () => console.log('ready')));
}

async function send(host: string, port: number): Promise<void> {
  const over = new AbortController();
  process.once('SIGTERM', () => over.abort());
  const [stream, datagrams] = await Promise.all([
    sendBytes(host, port, over),
    sendDatagrams(host, port, over),
  ]);
  const tally: ClientTally = { ...stream, ...datagrams };
  console.log(JSON.stringify(tally));
}

async function sendBytes(
  host: string,
  port: number,
  { signal }: AbortController,
): Promise<Pick<ClientTally, 'sentBytes' | 'sentHash' | 'backBytes' | 'backHash' | 'error'>> {
  const [sent, back] = [createHash('sha256'), createHash('sha256')];
  let [sentBytes, backBytes] = [0, 0];
  let error: string | null = null;
  const socket = net.connect({ host, port });
  const ended = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.on('error', (why: NodeJS.ErrnoException) => {
    error = why.code ?? why.message;
  });
  socket.on('data', (data) => {
    if (backBytes === 0) console.log('tcp runs');
    backBytes += data.length;
    back.update(data);
  });
  while (!signal.aborted && !socket.destroyed) {
    if (socket.writableLength < CHUNK_BYTES) {
      const chunk = randomFillSync(Buffer.alloc(CHUNK_BYTES));
      sent.update(chunk);
      sentBytes += chunk.length;
      socket.write(chunk);
    }
    await delay(EVERY_MS);
  }
  socket.end();
  await ended;
  return { sentBytes, sentHash: sent.digest('hex'), backBytes, backHash: back.digest('hex'), error };
}

async function sendDatagrams(
  host: string,
  port: number,
  { signal }: AbortController,
): Promise<Pick<ClientTally, 'datagramsSent' | 'datagramsLost' | 'datagramsDoubled'>> {
  const socket = dgram.createSocket('udp4').on('error', () => {});
  const heard = new Set<number>();
  let doubled = 0;
  socket.on('message', (message) => {
    if (heard.size === 0) console.log('udp runs');
    const number = message.readUInt32BE(0);
    if (heard.has(number)) doubled++;
    heard.add(number);
  });
  await new Promise<void>((resolve) => socket.connect(port, host, () => resolve()));
  let number = 0;
  for (; !signal.aborted; number++) {
    const message = Buffer.alloc(64);
    message.writeUInt32BE(number);
    socket.send(message, () => {});
    await delay(EVERY_MS);
  }
  for (let waitedMs = 0; heard.size < number && waitedMs < LAST_MS; waitedMs += EVERY_MS)
    await delay(EVERY_MS);
  socket.close();
  return { datagramsSent: number, datagramsLost: number - heard.size, datagramsDoubled: doubled };
}

const [role, ...words] = process.argv.slice(2);
if (role === 'serve') serve(Number(words[0]));
else if (role === 'send') await send(words[0] ?? '', Number(words[1]));
