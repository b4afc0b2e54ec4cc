// A UDP game server at home: it tells its players where it is, and they hear its heartbeat.
//
//   node examples/game-server.js [PORT]
//
// A player is whoever sends "join NAME"; try it with: nc -u ADDRESS PORT

import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { Agent } from 'natward';

const port = Number(process.argv[2] ?? 27015);
const HEARTBEAT_MS = 1_000;
const SILENT_MS = 30_000;

// 1. The game, which knows nothing of routers.

const players = new Map();
const socket = createSocket('udp4');
socket.on('message', (message, from) => {
  const key = `${from.address}:${from.port}`;
  const [word, name = 'somebody'] = String(message).trim().split(' ');
  if (word === 'join') {
    players.set(key, { name, ...from, heardMs: Date.now() });
    console.log(`${name} joined from ${key}`);
    socket.send(`welcome ${name}`, from.port, from.address);
  } else if (players.has(key)) {
    players.get(key).heardMs = Date.now();
  }
});
socket.bind(port, '0.0.0.0');
await once(socket, 'listening');

// 2. The port is kept open on the router. With `retry` the game starts in any case: players of the same network
//    can join at once, and those outside as soon as the router lets them.

const agent = new Agent({ name: 'game-server' });
const lease = await agent.keep({ internalPort: port, protocol: 'udp', family: 4, retry: true });

// 3. What is shown to players is what the router granted: its port may be another one than the game's.

function address() {
  const { state, externalAddress, externalPort } = lease;
  return state === 'held' ? `${externalAddress ?? 'the router'}:${externalPort}` : undefined;
}
function showAddress() {
  console.log(address() === undefined ? 'players outside cannot join yet' : `players join at ${address()}`);
}
showAddress();
lease.on('granted', showAddress);
lease.on('changed', showAddress);
lease.on('lost', (_, reason) => console.log(`players outside cannot join: ${reason}`));
lease.on('refused', ({ error }) => console.log(`the router refuses: ${error?.message}`));

// 4. The heartbeat tells each player the address to hand on; who has been silent for long is gone. It also keeps the
//    router's own memory of each conversation fresh.

const heartbeat = setInterval(() => {
  for (const [key, player] of players) {
    if (Date.now() - player.heardMs > SILENT_MS) players.delete(key);
    else socket.send(`heartbeat ${players.size} ${address() ?? '-'}`, player.port, player.address);
  }
}, HEARTBEAT_MS);

// 5. At the end players hear of it, and the router gets its port back.

async function end() {
  clearInterval(heartbeat);
  for (const player of players.values()) socket.send('bye', player.port, player.address);
  await agent[Symbol.asyncDispose]();
  socket.close();
  console.log('the port is given back');
}
process.once('SIGINT', end);
process.once('SIGTERM', end);
