/** The number by which an intent is known. */

import { createHash } from 'node:crypto';
import type { Intent, KeepRequest, Owner } from './lease.ts';

const ID_DIGITS = 8;

/** Whoever asks for the same again means the same intent: options may have changed, its number has not. */
export function intentOf(request: KeepRequest, owner: Owner): Intent {
  const { protocols, external, internal, host, gateway, via, family } = request;
  const meant = JSON.stringify([
    owner,
    protocols,
    external,
    internal,
    host,
    gateway,
    request.interface,
    via,
    family,
  ]);
  const id = createHash('sha256').update(meant).digest('hex').slice(0, ID_DIGITS);
  return { ...request, id, owner };
}
