/** A process that writes its ledger again and again, until somebody kills it. */

import { Ledger } from '../../src/agent/ledger.ts';
import { systemClock } from '../../src/system/clock.ts';
import { remembered } from './remembered.ts';

const [directory = '', count = ''] = process.argv.slice(2);
const ledger = new Ledger(directory, systemClock, (error) => {
  throw error;
});
for (let round = 1; ; round++) {
  const holdings = Array.from({ length: Number(count) }, (_, at) => ({
    leaseKey: `0000000a/${at}`,
    interface: 'eth0',
    hardwareAddress: null,
    // The same in all of them: a file of two rounds is seen.
    mapping: remembered({ internalPort: at, externalPort: round % 65_536 }),
  }));
  ledger.save(() => ({ intents: [], holdings }), 'soon');
  await ledger.flush();
  if (round === 1) process.stdout.write('written\n');
}
