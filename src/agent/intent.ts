/** An intent as it is written down, and the number by which it is known. */

import { createHash } from 'node:crypto';
import * as v from 'valibot';
import { type IpAddress, parseAddress } from '../net/address.ts';
import { portCount } from '../net/port-range.ts';
import type { Intent, KeepRequest, Owner } from './lease.ts';
import { hookSchema } from './hooks/parse.ts';

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

const address: v.GenericSchema<unknown, IpAddress> = v.pipe(
  v.string(),
  v.check((text) => parseAddress(text) !== undefined, 'not an address'),
);
const port = v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65_535));
const mappedPort = v.pipe(port, v.minValue(1));
const range = v.pipe(
  v.object({ first: mappedPort, last: mappedPort }),
  v.check(({ first, last }) => first <= last, 'runs backwards'),
);

const written = v.object({
  id: v.pipe(v.string(), v.regex(/^[0-9a-f]{8}$/)),
  owner: v.pipe(v.string(), v.minLength(1), v.maxLength(64)),
  spec: v.pipe(v.string(), v.maxLength(300)),
  protocols: v.pipe(v.array(v.picklist(['tcp', 'udp'])), v.minLength(1), v.maxLength(2)),
  external: v.union([v.literal('any'), range]),
  internal: range,
  host: v.optional(address),
  lifetimeSeconds: v.pipe(v.number(), v.integer(), v.minValue(1), v.maxValue(604_800)),
  choice: v.picklist(['exact', 'any']),
  description: v.optional(v.pipe(v.string(), v.maxLength(250))),
  remotePeer: v.optional(
    v.object({
      address,
      prefixLength: v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(128)),
      port,
    }),
  ),
  via: v.optional(v.picklist(['pcp', 'natpmp', 'upnp'])),
  gateway: v.optional(address),
  interface: v.optional(v.pipe(v.string(), v.maxLength(256))),
  family: v.optional(v.picklist([4, 6])),
  hooks: v.pipe(v.array(hookSchema), v.maxLength(64)),
});

/** JSON leaves out what is undefined. */
export const intentSchema: v.GenericSchema<unknown, Intent> = v.pipe(
  written,
  v.check(
    ({ external, internal }) => external === 'any' || portCount(external) === portCount(internal),
    'has not as many external ports as internal ones',
  ),
  v.transform((intent) => ({ ...intent, host: intent.host })),
);
