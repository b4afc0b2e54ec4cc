/** Bytes that nobody can guess. */

import { closeSync, openSync, readSync } from 'node:fs';

const DEVICE = '/dev/urandom';

/** Fills `bytes` from the kernel's own device where there is one: Node's crypto takes 4 ms to load. */
export function fillRandom(bytes: Uint8Array<ArrayBuffer>): void {
  if (!fillFromDevice(bytes)) crypto.getRandomValues(bytes);
}

function fillFromDevice(bytes: Uint8Array): boolean {
  let device: number | undefined;
  try {
    device = openSync(DEVICE, 'r');
    return readSync(device, bytes) === bytes.length;
  } catch {
    return false;
  } finally {
    if (device !== undefined) closeSync(device);
  }
}

/** A number from 0 to 1 that nobody can guess. */
export function randomOf({
  fillRandom,
}: {
  readonly fillRandom: (bytes: Uint8Array<ArrayBuffer>) => void;
}): number {
  const bytes = new Uint8Array(4);
  fillRandom(bytes);
  return new DataView(bytes.buffer).getUint32(0) / 2 ** 32;
}
