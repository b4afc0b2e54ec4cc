// Express behind a home router: the app is served to the internet at the address that the router gave.
//
//   node examples/express-behind-router.js [PORT] [EXTERNAL-PORT]

import { once } from 'node:events';
import express from 'express';
import { Agent } from 'natward';

const port = Number(process.argv[2] ?? 3000);
const externalPort = Number(process.argv[3] ?? 8080);

// 1. The app. It knows its own address outside, for links that work for everybody.

let lease;
function publicUrl() {
  if (lease?.state !== 'held' || lease.externalAddress === undefined) return undefined;
  return `http://${lease.externalAddress}:${lease.externalPort}/`;
}

const app = express();
app.get('/', (request, response) => {
  response.send(`Hello ${request.ip}! Tell others: ${publicUrl() ?? 'nobody outside can come here yet'}\n`);
});
app.get('/where', (_, response) => {
  const url = publicUrl();
  response
    .status(url === undefined ? 503 : 200)
    .json({ url: url ?? null, expiresAt: lease?.expiresAt ?? null });
});

const server = app.listen(port, '0.0.0.0');
await once(server, 'listening');
console.log(`here: http://localhost:${port}/`);

// 2. The router's port, which leads to the app's. It may be another one than the one that is asked for: what counts is
//    what the lease says. `choice: 'exact'` would take this port or none.

const agent = new Agent({ name: 'express-behind-router' });
lease = await agent.keep({ internalPort: port, externalPort, protocol: 'tcp', family: 4, retry: true });

function show() {
  console.log(`outside: ${publicUrl() ?? `not reachable (${lease.state})`}`);
}
show();
for (const event of ['granted', 'changed', 'lost', 'refused']) lease.on(event, show);

// 3. At the end nobody new is let in, who is here is served, and the router gets its port back.

async function end() {
  server.close();
  server.closeIdleConnections();
  await agent[Symbol.asyncDispose]();
  console.log('the port is given back');
}
process.once('SIGINT', end);
process.once('SIGTERM', end);
