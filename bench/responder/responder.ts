/**
 * The responder as a program of its own, before an outer gateway that grants everything at once: what is measured is
 * the responder. Arguments: its interface and its address there. Ends with SIGTERM.
 */

import { LeaseGrants } from '../../src/responder/lease-grants.ts';
import { LeasePinholes } from '../../src/responder/lease-pinholes.ts';
import { startResponder } from '../../src/responder/responder.ts';
import type { ClientRights } from '../../src/responder/rights.ts';
import type { Upstream } from '../../src/responder/upstream.ts';
import { systemClock as clock } from '../../src/system/clock.ts';

const [name = '', address = ''] = process.argv.slice(2);
const rights: ClientRights = {
  externalPorts: [{ first: 1024, last: 65_535 }],
  maxMappings: 60_000,
  requestsPerSecond: 10_000_000,
  mayMapForOthers: false,
};
const externalAddress = '11.22.33.44';
const holding = { release: () => Promise.resolve() };

const upstream: Upstream = {
  externalAddress,
  hold: ({ suggestedExternalPort: externalPort, lifetimeSeconds }) =>
    Promise.resolve({ kind: 'granted', grant: { externalPort, externalAddress, lifetimeSeconds }, holding }),
  restore: () => undefined,
  onExternalAddress: () => () => undefined,
};
const rightsOf = () => rights;
const grants = new LeaseGrants(upstream, {
  clock,
  maxMappings: () => 60_000,
  rightsOf,
  isInside: () => true,
});
const pinholes = new LeasePinholes(upstream, { clock, maxPinholes: 1000, rightsOf, quota: grants.quota });
const responder = await startResponder({
  interface: name,
  networks: [{ address, prefixLength: 24 }],
  protocols: ['pcp', 'natpmp', 'upnp'],
  igdVersion: 2,
  friendlyName: 'natward, measured',
  uuid: '6e617477-6172-4000-8000-000000000002',
  rightsOf,
  isOwn: (one) => one === address,
  grants,
  pinholes,
  upstream,
  clock,
});
process.once('SIGTERM', () => {
  grants.close();
  void responder.close();
});
console.log('ready');
