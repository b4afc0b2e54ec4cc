/**
 * A PCP MAP over IPv6: it opens the firewall for the client's own address and port, so the external end is
 * the internal one (RFC 6887, section 11.1), and there is no other port that could be given instead.
 */

import type { IpAddress } from '../net/address.ts';
import { PCP_RESULT } from '../wire/pcp.ts';
import type { MapAnswer, MapRequest } from './pcp.ts';
import type { Site } from './site.ts';
import { sameNonce } from './table.ts';

export function answerPinholeMap(request: MapRequest, client: IpAddress, site: Site): MapAnswer {
  const { map } = request;
  const refused = (result: number): MapAnswer => ({ result, lifetimeSeconds: 0, map });
  if (!site.settings.firewallEnabled || !site.settings.inboundPinholeAllowed) {
    return refused(PCP_RESULT.NOT_AUTHORIZED);
  }
  const external = { externalPort: map.internalPort, externalAddress: client };
  if (request.lifetimeSeconds === 0) {
    const { internalPort } = map;
    const near = internalPort === 0 ? site.pinholes.list() : site.pinholes.to(client, internalPort);
    const meant = near.filter(
      (pinhole) =>
        pinhole.internalClient === client && (map.protocol === 0 || pinhole.protocol === map.protocol),
    );
    const own = meant.filter(({ nonce }) => nonce === undefined || sameNonce(nonce, map.nonce));
    if (internalPort !== 0 && own.length < meant.length) return refused(PCP_RESULT.NOT_AUTHORIZED);
    for (const pinhole of own) site.pinholes.delete(pinhole);
    return { result: PCP_RESULT.SUCCESS, lifetimeSeconds: 0, map: { ...map, ...external } };
  }
  const unlike =
    (map.externalPort !== 0 && map.externalPort !== map.internalPort) ||
    (map.externalAddress !== '::' && map.externalAddress !== client);
  if (map.options.preferFailure === true && unlike) return refused(PCP_RESULT.CANNOT_PROVIDE_EXTERNAL);
  const filter = map.options.filters?.at(-1);
  const filtered = filter !== undefined && filter.prefixLength > 0;
  const spot = {
    protocol: map.protocol,
    internalClient: client,
    internalPort: map.internalPort,
    // A pinhole of WANIPv6FirewallControl has one remote host; so does one that PCP makes here.
    remoteHost: filtered ? filter.remoteAddress : undefined,
    remotePort: filtered ? filter.remotePort : 0,
  };
  const existing = site.pinholes.at(spot);
  if (existing?.nonce !== undefined && !sameNonce(existing.nonce, map.nonce)) {
    return refused(PCP_RESULT.NOT_AUTHORIZED);
  }
  const { minLifetimeSeconds, maxLifetimeSeconds = 86_400 } = site.settings;
  const lifetimeSeconds = Math.min(Math.max(request.lifetimeSeconds, minLifetimeSeconds), maxLifetimeSeconds);
  const made = site.pinholes.put({
    ...spot,
    expiresAtMs: site.clock.now() + lifetimeSeconds * 1000,
    description: map.options.description ?? '',
    via: 'pcp',
    nonce: map.nonce,
  });
  if (made === undefined) return refused(PCP_RESULT.NO_RESOURCES);
  return { result: PCP_RESULT.SUCCESS, lifetimeSeconds, map: { ...map, ...external } };
}
