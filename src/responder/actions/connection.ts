/** The actions that tell of the connection, and those that would change it, which nobody here may. */

import { reportedAddress } from '../site.ts';
import { type Action, fault, response } from './action.ts';

export const getExternalIpAddress: Action = (_call, site) =>
  response({ NewExternalIPAddress: reportedAddress(site) });

export const getStatusInfo: Action = (_call, site) =>
  response({
    NewConnectionStatus: 'Connected',
    NewLastConnectionError: 'ERROR_NONE',
    NewUptime: String(site.identity.epochSeconds),
  });

export const getNatRsipStatus: Action = () => response({ NewRSIPAvailable: '0', NewNATEnabled: '1' });

export const getConnectionTypeInfo: Action = () =>
  response({ NewConnectionType: 'IP_Routed', NewPossibleConnectionTypes: 'IP_Routed' });

export const getLinkLayerMaxBitRates: Action = () =>
  response({ NewUpstreamMaxBitRate: '1000000000', NewDownstreamMaxBitRate: '1000000000' });

/** The connection is up already. */
export const requestConnection: Action = () => response();

/** ForceTermination and SetConnectionType: only the user may (WANIPConnection:2, section 2.5.3, admin role). */
export const forbidden: Action = () => fault(606);

export const getDefaultConnectionService: Action = (_call, site) => {
  const { connectionService, igdVersion } = site.settings;
  const id = connectionService === 'WANPPPConnection' ? 'WANPPPConn1' : 'WANIPConn1';
  const device = `WANConnectionDevice:${igdVersion}`;
  return response({
    NewDefaultConnectionService: `${site.identity.udn(2)}:${device},urn:upnp-org:serviceId:${id}`,
  });
};

export const getCommonLinkProperties: Action = () =>
  response({
    NewWANAccessType: 'Ethernet',
    NewLayer1UpstreamMaxBitRate: '1000000000',
    NewLayer1DownstreamMaxBitRate: '1000000000',
    NewPhysicalLinkStatus: 'Up',
  });

/** Optional ones, which upnpc asks for; the relay keeps no such counts. */
export const nothingCounted =
  (argument: string): Action =>
  () =>
    response({ [argument]: '0' });
