/** What `ip -N -j -batch -` tells of one family: which rules, routes and neighbours are natward's, and the ways out there are. */

import * as v from 'valibot';
import {
  guardLine,
  isOwnTable,
  type Lines,
  neighbourLine,
  OWN_PROTOCOL,
  routeLine,
  tableOf,
} from './plumbing.ts';

/** In the order in which `parsePresent` takes the answers. */
export const SHOW_LINES: readonly string[] = [
  'rule show',
  `route show table all proto ${OWN_PROTOCOL}`,
  'neigh show nud permanent',
  'route show default',
  'link show',
];

export interface Present {
  readonly lines: Lines;
  /** Of adapters with a default route, as `routeLine` takes them. */
  readonly gateways: ReadonlyMap<string, string>;
  /** Every adapter, and whether it is up. */
  readonly up: ReadonlyMap<string, boolean>;
}

export const NOTHING: Present = {
  lines: { rules: new Set(), routes: new Set(), neighbours: new Set() },
  gateways: new Map(),
  up: new Map(),
};

const UNREACHABLE = '7';

const hopFields = {
  dev: v.optional(v.string()),
  gateway: v.optional(v.string()),
  via: v.optional(v.object({ family: v.string(), host: v.string() })),
};
const routeSchema = v.object({
  ...hopFields,
  type: v.optional(v.string()),
  table: v.optional(v.string()),
  metric: v.optional(v.number(), 0),
  nexthops: v.optional(v.array(v.object(hopFields)), []),
});
const presentSchema = v.tuple([
  v.array(
    v.object({
      priority: v.number(),
      fwmark: v.optional(v.string()),
      fwmask: v.optional(v.string()),
      table: v.optional(v.string()),
      protocol: v.optional(v.string()),
    }),
  ),
  v.array(routeSchema),
  v.array(
    v.object({
      dst: v.string(),
      dev: v.string(),
      lladdr: v.optional(v.string(), ''),
      protocol: v.optional(v.string()),
    }),
  ),
  v.array(routeSchema),
  v.array(v.object({ ifname: v.string(), flags: v.array(v.string()) })),
]);

type Hop = Pick<v.InferOutput<typeof routeSchema>, 'dev' | 'gateway' | 'via'>;

/** Throws where it is something else. */
export function parsePresent(text: string): Present {
  // One array a line asked for; no string of theirs has a line break.
  const joined = text.trim().replace(/\]\s*\n\s*\[/g, '],[');
  const [rules, routes, neighbours, defaults, links] = v.parse(presentSchema, JSON.parse(`[${joined}]`));
  const ours = String(OWN_PROTOCOL);
  return {
    lines: {
      rules: new Set(
        rules
          .filter(({ protocol, table }) => protocol === ours && isOwnTable(Number(table)))
          .map(
            ({ priority, fwmark, fwmask, table }) =>
              `pref ${priority} fwmark ${fwmark}/${fwmask} lookup ${table} protocol ${ours}`,
          ),
      ),
      routes: new Set(
        routes.flatMap(({ table, type, ...hop }) => {
          if (!isOwnTable(Number(table))) return [];
          const path = Number(table) - tableOf(0);
          if (type === UNREACHABLE) return [guardLine(path)];
          return hop.dev === undefined ? [] : [routeLine(path, hop.dev, gatewayOf(hop))];
        }),
      ),
      neighbours: new Set(
        neighbours
          .filter(({ protocol }) => protocol === ours)
          .map(({ dst, lladdr, dev }) => neighbourLine(dst, lladdr, dev)),
      ),
    },
    gateways: gatewaysOf(defaults),
    up: new Map(links.map(({ ifname, flags }) => [ifname, flags.includes('UP')])),
  };
}

/** Of several through one adapter that of the smallest metric. */
function gatewaysOf(defaults: readonly v.InferOutput<typeof routeSchema>[]): ReadonlyMap<string, string> {
  const gateways = new Map<string, string>();
  for (const route of defaults.toSorted((a, b) => a.metric - b.metric)) {
    for (const hop of [route, ...route.nexthops]) {
      const gateway = gatewayOf(hop);
      if (hop.dev !== undefined && gateway !== undefined && !gateways.has(hop.dev))
        gateways.set(hop.dev, gateway);
    }
  }
  return gateways;
}

function gatewayOf({ gateway, via }: Hop): string | undefined {
  return gateway ?? (via === undefined ? undefined : `inet6 ${via.host}`);
}
