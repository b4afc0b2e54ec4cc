/** A process that opens the control socket of each place it is told, a line each, and says what came of it. */

import { createInterface } from 'node:readline';
import { startControlServer } from '../../../src/control/server.ts';
import { systemClock } from '../../../src/system/clock.ts';

const idle = {
  keep: async () => [],
  drop: async () => ({ released: [], failures: [] }),
  status: async () => ({ gateways: [], leases: [], warnings: [], lastEventId: 0 }),
  wanted: async () => [],
  events: async function* () {},
};
const unasked = async (): Promise<never> => {
  throw new Error('nobody asks this agent for rules');
};
const unsteered = {
  rules: async () => [],
  edit: unasked,
  explain: unasked,
  conversations: unasked,
  isPaused: false,
  pause: unasked,
  resume: unasked,
  follow: async function* () {},
};
const facts = {
  version: '1.2.3',
  pid: process.pid,
  startedAt: new Date().toISOString(),
  directory: process.cwd(),
};

console.log('ready');
for await (const place of createInterface({ input: process.stdin })) {
  try {
    await startControlServer({
      keeping: idle,
      steering: unsteered,
      responding: { statuses: () => [] },
      place,
      facts,
      clock: systemClock,
      onError(error) {
        throw error;
      },
    });
    console.log('held');
  } catch (error) {
    console.log((error as Error).message);
  }
}
process.exit();
