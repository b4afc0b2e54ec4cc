/** The actions by their names in the standards. */

import type { Action } from './action.ts';
import {
  forbidden,
  getCommonLinkProperties,
  getConnectionTypeInfo,
  getDefaultConnectionService,
  getExternalIpAddress,
  getLinkLayerMaxBitRates,
  getNatRsipStatus,
  getStatusInfo,
  nothingCounted,
  requestConnection,
} from './connection.ts';
import {
  addPinhole,
  checkPinholeWorking,
  deletePinhole,
  getFirewallStatus,
  getPinholePackets,
  updatePinhole,
} from './pinhole.ts';
import {
  addAnyPortMapping,
  addPortMapping,
  deletePortMapping,
  deletePortMappingRange,
  getGenericPortMappingEntry,
  getListOfPortMappings,
  getSpecificPortMappingEntry,
} from './port-mapping.ts';

export const ACTIONS: Readonly<Record<string, Action>> = {
  AddPortMapping: addPortMapping,
  AddAnyPortMapping: addAnyPortMapping,
  DeletePortMapping: deletePortMapping,
  DeletePortMappingRange: deletePortMappingRange,
  GetSpecificPortMappingEntry: getSpecificPortMappingEntry,
  GetGenericPortMappingEntry: getGenericPortMappingEntry,
  GetListOfPortMappings: getListOfPortMappings,
  GetExternalIPAddress: getExternalIpAddress,
  GetStatusInfo: getStatusInfo,
  GetNATRSIPStatus: getNatRsipStatus,
  GetConnectionTypeInfo: getConnectionTypeInfo,
  GetLinkLayerMaxBitRates: getLinkLayerMaxBitRates,
  RequestConnection: requestConnection,
  ForceTermination: forbidden,
  SetConnectionType: forbidden,
  GetDefaultConnectionService: getDefaultConnectionService,
  SetDefaultConnectionService: forbidden,
  GetCommonLinkProperties: getCommonLinkProperties,
  GetTotalBytesSent: nothingCounted('NewTotalBytesSent'),
  GetTotalBytesReceived: nothingCounted('NewTotalBytesReceived'),
  GetTotalPacketsSent: nothingCounted('NewTotalPacketsSent'),
  GetTotalPacketsReceived: nothingCounted('NewTotalPacketsReceived'),
  GetFirewallStatus: getFirewallStatus,
  AddPinhole: addPinhole,
  UpdatePinhole: updatePinhole,
  DeletePinhole: deletePinhole,
  GetPinholePackets: getPinholePackets,
  CheckPinholeWorking: checkPinholeWorking,
};
