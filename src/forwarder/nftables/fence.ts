/**
 * The fence of the gateway for other programs: what comes for its UDP ports by another interface than its clients' is
 * dropped before the kernel does anything else with it. Its clients are known by their source addresses, and a host on
 * another link can write any source it likes. TCP needs no fence: what is answered goes to the real owner of the address.
 * Pure.
 *
 * It is a table of its own, and no rule of the user's is in it: `natward rule panic` leaves it, for without it the agent
 * that goes on answering is open to others. One that a killed agent has left keeps nothing from anybody. The next
 * responder replaces it, and an agent that finds clients to forget takes it away.
 */

import { type Family, family, type IpAddress, kindOf } from '../../net/address.ts';
import { type NftTable, replacement } from './change.ts';
import { address, interfaceName, oneOf, portElements } from './syntax.ts';
import { FAMILY_WORDS } from './table-builder.ts';

/** Where this host answers. */
export interface FencedPlace {
  readonly interface: string;
  readonly addresses: readonly IpAddress[];
  /** UDP. */
  readonly ports: readonly number[];
}

export const FENCE_NAME = 'natward-fence';
export const FENCE_TABLE: string = `inet ${FENCE_NAME}`;

const FAMILIES: readonly Family[] = [4, 6];
/** Before connections are tracked. */
const HOOK = 'type filter hook prerouting priority -300; policy accept;';

/** One batch, in the place of whatever stands there: the fence of these places, or none where there is nothing to keep. */
export function fenceText(places: readonly FencedPlace[]): string {
  const lines = places.flatMap(linesOf);
  if (lines.length === 0) return replacement(new Map(), [FENCE_TABLE]);
  const table: NftTable = {
    objects: new Map(),
    sets: new Map(),
    chains: new Map([['arriving', { hook: HOOK, lines }]]),
  };
  return replacement(new Map([[FENCE_TABLE, table]]));
}

/** The kernel hands what comes for a link-local address to a socket of its own interface alone. */
export function fencedAddresses(addresses: readonly IpAddress[]): readonly IpAddress[] {
  return addresses.filter((one) => family(one) === 4 || kindOf(one) !== 'linklocal');
}

function linesOf({ interface: name, addresses, ports }: FencedPlace): string[] {
  if (ports.length === 0) return [];
  const others = `iifname != ${oneOf([interfaceName(name), '"lo"'])}`;
  const udp = `udp dport ${portElements(ports.map((port) => ({ first: port, last: port })))}`;
  const fenced = fencedAddresses(addresses);
  return FAMILIES.flatMap((of) => {
    const own = fenced.filter((one) => family(one) === of).map(address);
    return own.length === 0 ? [] : [`${others} ${FAMILY_WORDS[of]} daddr ${oneOf(own)} ${udp} drop`];
  });
}
