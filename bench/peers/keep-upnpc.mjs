/**
 * upnpc from cron: one run a minute. The first one is at once, the second after a random part of a minute, as a
 * fault comes at a random moment between two of them. Arguments: this host's address and the port.
 */

import { execFile } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

const [address, port] = process.argv.slice(2);
const PERIOD_MS = 60_000;

async function run() {
  try {
    await promisify(execFile)('upnpc', ['-a', address, port, port, 'TCP', '7200']);
    console.log('mapped');
  } catch (error) {
    console.log(`failed: exit ${error.code}`);
  }
}

await run();
await delay(Math.random() * PERIOD_MS);
for (;;) {
  const startedMs = Date.now();
  await run();
  await delay(startedMs + PERIOD_MS - Date.now());
}
