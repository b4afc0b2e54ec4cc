// A BitTorrent-like client: peers find it through a tracker, at the address that the router gave it.
//
//   node examples/webtorrent-like.js [PORT] [TRACKER-URL]
//
// Without a tracker's URL it starts a small one of its own, so that it runs as it stands.

import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { createServer } from 'node:net';
import { Agent } from 'natward';

const port = Number(process.argv[2] ?? 6881);
const infoHash = randomBytes(20);
const peerId = Buffer.from(`-NW0001-${randomBytes(6).toString('hex')}`);
const INTERVAL_MS = 30 * 60_000;

// 1. The client listens, as it would without a router: TCP for peers, UDP for the DHT.

const handshake = Buffer.concat([Buffer.from('\x13BitTorrent protocol'), Buffer.alloc(8), infoHash, peerId]);
const peers = createServer((peer) => {
  peer.on('error', () => peer.destroy());
  peer.end(handshake);
});
peers.listen(port, '0.0.0.0');
await once(peers, 'listening');

const dht = createSocket('udp4');
dht.on('message', (query, from) => {
  const pong = Buffer.concat([Buffer.from('d1:rd2:id20:'), peerId, Buffer.from('e1:t2:aa1:y1:re')]);
  if (query.includes('4:ping')) dht.send(pong, from.port, from.address);
});
dht.bind(port, '0.0.0.0');
await once(dht, 'listening');

// 2. The tracker: it hears where the client is, and tells others.

const ownTracker = process.argv[3] === undefined ? await startTracker() : undefined;
const trackerUrl = process.argv[3] ?? `http://127.0.0.1:${ownTracker.address().port}/announce`;

async function announce(event, ip, announcedPort) {
  const url = new URL(trackerUrl);
  url.search = new URLSearchParams({
    event,
    ip,
    port: announcedPort,
    peer_id: peerId,
    info_hash: infoHash.toString('hex'),
  });
  try {
    const answer = await fetch(url);
    console.log(`announced ${ip}:${announcedPort} (${event || 'still here'}): ${answer.status}`);
  } catch (error) {
    console.error(`the tracker does not answer: ${error.cause?.message ?? error.message}`);
  }
}

// 3. The port is kept open on the router: TCP and UDP at one number, or neither.
//    `retry` goes on asking where there is no router yet, or where it says no.

const agent = new Agent({ name: 'webtorrent-like' });
const lease = await agent.keep({ internalPort: port, protocol: 'tcp+udp', family: 4, retry: true });

// 4. Whatever happens to the port, peers have to hear of the address that is right now.

let announced = '';
async function tellTracker() {
  const { state, externalAddress, externalPort } = lease;
  if (state !== 'held' || externalAddress === undefined) return;
  const endpoint = `${externalAddress}:${externalPort}`;
  if (endpoint === announced) return;
  const event = announced === '' ? 'started' : '';
  announced = endpoint;
  await announce(event, externalAddress, externalPort);
}
lease.on('granted', () => void tellTracker());
lease.on('changed', () => void tellTracker());
lease.on('lost', (_, reason) => console.log(`the router lost the port: ${reason}; asking again`));
lease.on('refused', ({ error }) => console.log(`not reachable: ${error?.message}`));

console.log(`listening on ${port}, TCP and UDP: ${lease.state}`);
await tellTracker();
const again = setInterval(() => {
  if (lease.state === 'held') void announce('', lease.externalAddress, lease.externalPort);
}, INTERVAL_MS);

// 5. At the end the tracker forgets the client and the router gets its port back.

async function end() {
  clearInterval(again);
  if (announced !== '') await announce('stopped', lease.externalAddress ?? '', lease.externalPort ?? 0);
  await agent[Symbol.asyncDispose]();
  peers.close();
  dht.close();
  ownTracker?.close();
  console.log('the port is given back');
}
process.once('SIGINT', end);
process.once('SIGTERM', end);

async function startTracker() {
  const swarm = new Map();
  const server = createHttpServer((request, response) => {
    const { searchParams } = new URL(request.url, 'http://tracker');
    const id = searchParams.get('peer_id');
    if (searchParams.get('event') === 'stopped') swarm.delete(id);
    else swarm.set(id, { ip: searchParams.get('ip'), port: Number(searchParams.get('port')) });
    console.log(`tracker: ${JSON.stringify([...swarm.values()])}`);
    response.setHeader('connection', 'close'); // Nothing keeps the client from ending.
    response.end('ok');
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}
