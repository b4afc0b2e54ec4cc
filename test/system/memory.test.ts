import { expect, test } from 'vitest';
import { collectGarbage } from '../../src/system/memory.ts';

test('what nobody holds any more is gone afterwards', () => {
  let held: object | undefined = { data: 'x'.repeat(1000) };
  const seen = new WeakRef(held);
  held = undefined;
  // What this turn has asked for stays until its end.
  return new Promise<void>((resolve) => setTimeout(resolve, 0)).then(() => {
    collectGarbage();
    expect(seen.deref()).toBeUndefined();
  });
});
