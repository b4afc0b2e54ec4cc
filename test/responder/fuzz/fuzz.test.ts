import { expect, test } from 'vitest';
import { CAMPAIGNS } from './campaigns.ts';
import { fuzz } from './run.ts';

const COUNT = 20_000;
const SEED = 20_261_121;
const MEGABYTE = 1024 * 1024;

test.for(Object.entries(CAMPAIGNS))(
  `${COUNT} packets of %s with seed ${SEED} crash nothing, leak nothing and grant nothing wrongly`,
  { timeout: 180_000 },
  async ([, campaign]) => {
    const { heapBytes, counters } = await fuzz(campaign(), { count: COUNT, seed: SEED });
    expect(heapBytes[1] - heapBytes[0]).toBeLessThan(4 * MEGABYTE);
    expect(counters).not.toHaveProperty('internal error');
    const counted = Object.values(counters).reduce((sum, count) => sum + count, 0);
    expect(counted).toBeGreaterThan(COUNT / 4);
  },
);
