import { describe, expect, test, vi } from 'vitest';
import { fillRandom } from '../../src/system/random.ts';

describe('fillRandom', () => {
  test('fills the whole array, and never twice the same', () => {
    const [first, second] = [new Uint8Array(768), new Uint8Array(768)];
    fillRandom(first);
    fillRandom(second);
    expect(first).not.toEqual(second);
    // 64 zeros at the end by chance: 2^-512.
    expect(first.subarray(-64).some((byte) => byte !== 0)).toBe(true);
  });

  test('does without the device where there is none', async () => {
    vi.resetModules();
    vi.doMock('node:fs', () => ({
      openSync: () => {
        throw new Error('ENOENT');
      },
      closeSync: () => undefined,
      readSync: () => 0,
    }));
    const { fillRandom: elsewhere } = await import('../../src/system/random.ts');
    const bytes = new Uint8Array(64);
    elsewhere(bytes);
    vi.doUnmock('node:fs');
    expect(bytes.some((byte) => byte !== 0)).toBe(true);
  });
});
