/** The actions that tell of the connection, and those that would change it, which nobody here may. */

import { reportedAddress, type Site } from '../site.ts';
import { type Action, fault, response } from './action.ts';

/** CSV; there is one. */
export const POSSIBLE_CONNECTION_TYPES = 'IP_Routed';

export const getExternalIpAddress: Action = (_call, site) =>
  response({ NewExternalIPAddress: reportedAddress(site) });

/** ConnectionStatus: a gateway whose external address nobody knows leads nowhere. */
export function connectionStatus({ identity }: Site): 'Connected' | 'Disconnected' {
  return identity.externalAddress === undefined ? 'Disconnected' : 'Connected';
}

export function physicalLinkStatus(site: Site): 'Up' | 'Down' {
  return connectionStatus(site) === 'Connected' ? 'Up' : 'Down';
}

export const getStatusInfo: Action = (_call, site) => {
  const status = connectionStatus(site);
  return response({
    NewConnectionStatus: status,
    NewLastConnectionError: 'ERROR_NONE',
    NewUptime: status === 'Connected' ? String(site.identity.epochSeconds) : '0',
  });
};

export const getNatRsipStatus: Action = () => response({ NewRSIPAvailable: '0', NewNATEnabled: '1' });

export const getConnectionTypeInfo: Action = () =>
  response({ NewConnectionType: 'IP_Routed', NewPossibleConnectionTypes: POSSIBLE_CONNECTION_TYPES });

export const getLinkLayerMaxBitRates: Action = () =>
  response({ NewUpstreamMaxBitRate: '1000000000', NewDownstreamMaxBitRate: '1000000000' });

/** The connection is up already. */
export const requestConnection: Action = () => response();

/** ForceTermination and SetConnectionType: only the user may (WANIPConnection:2, section 2.5.3, admin role). */
export const forbidden: Action = () => fault(606);

/** `uuid:...:WANConnectionDevice:2,urn:upnp-org:serviceId:WANIPConn1`. */
export function defaultConnectionService({ settings, identity }: Site): string {
  const { connectionService, igdVersion } = settings;
  const id = connectionService === 'WANPPPConnection' ? 'WANPPPConn1' : 'WANIPConn1';
  return `${identity.udn(2)}:WANConnectionDevice:${igdVersion},urn:upnp-org:serviceId:${id}`;
}

export const getDefaultConnectionService: Action = (_call, site) =>
  response({ NewDefaultConnectionService: defaultConnectionService(site) });

export const getCommonLinkProperties: Action = (_call, site) =>
  response({
    NewWANAccessType: 'Ethernet',
    NewLayer1UpstreamMaxBitRate: '1000000000',
    NewLayer1DownstreamMaxBitRate: '1000000000',
    NewPhysicalLinkStatus: physicalLinkStatus(site),
  });

/** Optional ones, which upnpc asks for; the relay keeps no such counts. */
export const nothingCounted =
  (argument: string): Action =>
  () =>
    response({ [argument]: '0' });
