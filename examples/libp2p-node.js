// A node in the manner of libp2p: it is known by multiaddrs, and those of the outside come and go with the router's
// word, over IPv4 (a mapping) and IPv6 (a pinhole).
//
//   node examples/libp2p-node.js [PORT]

import { EventEmitter, once } from 'node:events';
import { createServer } from 'node:net';
import { networkInterfaces } from 'node:os';
import { Agent } from 'natward';

const port = Number(process.argv[2] ?? 4001);

// 1. What a node says of itself: addresses that it listens on, and those that others can reach.

class AddressBook extends EventEmitter {
  #listening = new Set();
  #external = new Set();

  listen(multiaddr) {
    this.#listening.add(multiaddr);
  }

  /** The external ones as they are now: what is new is announced, what is gone is taken back. */
  setExternal(multiaddrs) {
    const now = new Set(multiaddrs);
    for (const one of this.#external) if (!now.has(one)) this.emit('removed', one);
    for (const one of now) if (!this.#external.has(one)) this.emit('added', one);
    this.#external = now;
  }

  get all() {
    return [...this.#external, ...this.#listening];
  }
}

const addresses = new AddressBook();
addresses.on('added', (multiaddr) => console.log(`added ${multiaddr}`));
addresses.on('removed', (multiaddr) => console.log(`removed ${multiaddr}`));

// 2. The node listens in both families. A peer is greeted as multistream-select has it, and is told the addresses.

function multiaddr(address, tcpPort) {
  return `/${address.includes(':') ? 'ip6' : 'ip4'}/${address}/tcp/${tcpPort}`;
}

const server = createServer((peer) => {
  peer.on('error', () => peer.destroy());
  peer.write('\x13/multistream/1.0.0\n');
  peer.end(`${JSON.stringify(addresses.all)}\n`);
});
server.listen(port, '::');
await once(server, 'listening');
for (const { address, internal } of Object.values(networkInterfaces()).flat()) {
  if (!internal && !address.startsWith('fe80')) addresses.listen(multiaddr(address, port));
}

// 3. One lease for both families, since none is named: the mapping on the router, and the hole in its IPv6 firewall
//    where there is one. `lease.mappings` says how each of them stands.

const agent = new Agent({ name: 'libp2p-node' });
const lease = await agent.keep({ internalPort: port, protocol: 'tcp', retry: true });

function update() {
  const held = lease.mappings.filter(
    ({ state, externalAddress }) => state === 'held' && externalAddress !== null,
  );
  addresses.setExternal(held.map((one) => multiaddr(one.externalAddress, one.externalPort)));
}
for (const event of ['granted', 'changed', 'lost', 'refused']) lease.on(event, update);
update();
console.log(`listening: ${addresses.all.join(' ')}`);

// 4. At the end the addresses are taken back first, then the router's mapping and pinhole.

async function end() {
  addresses.setExternal([]);
  server.close();
  await agent[Symbol.asyncDispose]();
  console.log('the port is given back');
}
process.once('SIGINT', end);
process.once('SIGTERM', end);
