import { expect, test } from 'vitest';
import { keeperFor, RARELY } from './keeping.ts';

test('keep() resolves with the lease that the gateway granted', async () => {
  const { keep, embedded } = await keeperFor();
  const [lease] = await keep(['8443']);
  expect(lease).toMatchObject({ state: 'held', externalPort: 8443, internalPort: 8443, lifetimeSeconds: 7200 });
  expect(embedded.table).toHaveLength(1);
});

test('a lease is renewed for a day, within its windows', async () => {
  const { keep, embedded, pass, events } = await keeperFor({}, RARELY);
  await keep(['8443']);
  await pass(86_400_000);
  expect(embedded.table).toHaveLength(1);
  expect(events.filter(({ type }) => type === 'lost')).toEqual([]);
  const renewed = events.filter(({ type }) => type === 'renewed').length;
  console.log(renewed, embedded.counters, events.map((e)=>e.type).slice(0,20));
}, 60000);
