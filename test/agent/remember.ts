/** A process that remembers some mappings in a directory, as several commands at once do. */

import { Store } from '../../src/agent/store.ts';
import { systemClock } from '../../src/system/clock.ts';
import { remembered } from './remembered.ts';

const [directory = '', first = '', count = ''] = process.argv.slice(2);
const store = new Store(directory, systemClock);
for (let at = 0; at < Number(count); at++) {
  const mapping = remembered({ externalPort: Number(first) + at });
  await store.update((state) => ({ ...state, mappings: [...state.mappings, mapping] }));
}
