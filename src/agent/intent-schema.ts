/** An intent as it is written down. */

import * as v from 'valibot';
import { type IpAddress, parseAddress } from '../net/address.ts';
import { portCount } from '../net/port-range.ts';
import { hookSchema } from './hooks/parse.ts';
import type { Intent } from './lease.ts';

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
  carry: v.optional(v.picklist(['always', 'never'])),
  client: v.optional(
    v.object({
      via: v.picklist(['pcp', 'natpmp', 'upnp']),
      nonce: v.nullable(v.pipe(v.string(), v.regex(/^[0-9a-f]{24}$/))),
      isEndless: v.boolean(),
    }),
  ),
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
