/**
 * nat-upnp in a program that stays: it renews nothing, so the program maps the port again at half of its lease.
 * Arguments: the port and the lease in seconds.
 */

import { promisify } from 'node:util';
import natUpnp from 'nat-upnp';

const [port, leaseSeconds] = process.argv.slice(2).map(Number);
const client = natUpnp.createClient();
const map = promisify(client.portMapping.bind(client));

async function refresh() {
  try {
    await map({ public: port, private: port, ttl: leaseSeconds });
    console.log('mapped');
  } catch (error) {
    console.log(`failed: ${error.message}`);
  }
}

await refresh();
setInterval(refresh, leaseSeconds * 500);
