/** A process that remembers some mappings in a directory, as several commands at once do. */

import { FileStore } from '../../src/agent/file-store.ts';
import { systemClock } from '../../src/system/clock.ts';
import { remembered } from './remembered.ts';

const [directory = '', first = '', count = ''] = process.argv.slice(2);
const store = new FileStore(directory, systemClock);
for (let at = 0; at < Number(count); at++) {
  const mapping = remembered({ externalPort: Number(first) + at });
  await store.update((state) => ({ ...state, mappings: [...state.mappings, mapping] }));
}
