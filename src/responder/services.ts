/**
 * The services of an Internet Gateway Device as data: their actions with arguments in order, and the state
 * variables behind them. The service descriptions (SCPD), the check of what a control point sends, and the
 * places in the device tree come from here.
 * WANIPConnection:1 and :2, WANPPPConnection:1, WANCommonInterfaceConfig:1, WANIPv6FirewallControl:1,
 * Layer3Forwarding:1.
 */

import type { FaceSettings } from './settings.ts';

export interface StateVariable {
  readonly type: 'string' | 'boolean' | 'ui2' | 'ui4';
  readonly allowed?: readonly string[];
  /** Its changes are told to those who subscribe. */
  readonly evented?: true;
}

export interface ActionShape {
  /** Argument -> state variable, in order. */
  readonly in: Readonly<Record<string, string>>;
  readonly out: Readonly<Record<string, string>>;
}

export interface Service {
  /** `WANIPConnection`. */
  readonly name: string;
  readonly version: number;
  readonly id: string;
  readonly place: 'root' | 'wan' | 'connection';
  readonly actions: Readonly<Record<string, ActionShape>>;
  /** Those of the standard that are optional, and not here: UPnP has a word of its own for them. */
  readonly optional: readonly string[];
  readonly variables: Readonly<Record<string, StateVariable>>;
}

export function serviceType(service: Pick<Service, 'name' | 'version'>): string {
  return `urn:schemas-upnp-org:service:${service.name}:${service.version}`;
}

export function controlPath(service: Service): string {
  return `/control/${service.name}`;
}

export function eventPath(service: Service): string {
  return `/events/${service.name}`;
}

export function scpdPath(service: Service): string {
  return `/${service.name}.xml`;
}

/** The services that a gateway of these settings offers. */
export function servicesOf(settings: FaceSettings): readonly Service[] {
  const ppp = settings.connectionService === 'WANPPPConnection';
  const connection: Service = {
    name: settings.connectionService,
    // There is no second version of WANPPPConnection.
    version: ppp ? 1 : settings.igdVersion,
    id: ppp ? 'WANPPPConn1' : 'WANIPConn1',
    place: 'connection',
    actions: {
      ...CONNECTION_ACTIONS,
      ...(ppp ? PPP_ACTIONS : {}),
      ...(!ppp && settings.igdVersion === 2 ? CONNECTION_2_ACTIONS : {}),
    },
    optional: ppp ? PPP_OPTIONAL : CONNECTION_OPTIONAL,
    variables: {
      ...CONNECTION_VARIABLES,
      ...(ppp ? PPP_VARIABLES : {}),
      ...(!ppp && settings.igdVersion === 2 ? CONNECTION_2_VARIABLES : {}),
    },
  };
  return [LAYER_3_FORWARDING, COMMON_INTERFACE, connection, ...(settings.igdVersion === 2 ? [FIREWALL] : [])];
}

/** All actions of all versions: those that are counted by name. */
export function isActionName(name: string): boolean {
  return KNOWN_ACTIONS.has(name);
}

const OUTER = {
  NewRemoteHost: 'RemoteHost',
  NewExternalPort: 'ExternalPort',
  NewProtocol: 'PortMappingProtocol',
};
const INNER = {
  NewInternalPort: 'InternalPort',
  NewInternalClient: 'InternalClient',
  NewEnabled: 'PortMappingEnabled',
  NewPortMappingDescription: 'PortMappingDescription',
  NewLeaseDuration: 'PortMappingLeaseDuration',
};
const RANGE = {
  NewStartPort: 'ExternalPort',
  NewEndPort: 'ExternalPort',
  NewProtocol: 'PortMappingProtocol',
  NewManage: 'A_ARG_TYPE_Manage',
};

const CONNECTION_ACTIONS: Service['actions'] = {
  SetConnectionType: { in: { NewConnectionType: 'ConnectionType' }, out: {} },
  GetConnectionTypeInfo: {
    in: {},
    out: { NewConnectionType: 'ConnectionType', NewPossibleConnectionTypes: 'PossibleConnectionTypes' },
  },
  RequestConnection: { in: {}, out: {} },
  ForceTermination: { in: {}, out: {} },
  GetStatusInfo: {
    in: {},
    out: {
      NewConnectionStatus: 'ConnectionStatus',
      NewLastConnectionError: 'LastConnectionError',
      NewUptime: 'Uptime',
    },
  },
  GetNATRSIPStatus: { in: {}, out: { NewRSIPAvailable: 'RSIPAvailable', NewNATEnabled: 'NATEnabled' } },
  GetGenericPortMappingEntry: {
    in: { NewPortMappingIndex: 'PortMappingNumberOfEntries' },
    out: { ...OUTER, ...INNER },
  },
  GetSpecificPortMappingEntry: { in: OUTER, out: INNER },
  AddPortMapping: { in: { ...OUTER, ...INNER }, out: {} },
  DeletePortMapping: { in: OUTER, out: {} },
  GetExternalIPAddress: { in: {}, out: { NewExternalIPAddress: 'ExternalIPAddress' } },
};

const CONNECTION_2_ACTIONS: Service['actions'] = {
  AddAnyPortMapping: { in: { ...OUTER, ...INNER }, out: { NewReservedPort: 'ExternalPort' } },
  DeletePortMappingRange: { in: RANGE, out: {} },
  GetListOfPortMappings: {
    in: { ...RANGE, NewNumberOfPorts: 'PortMappingNumberOfEntries' },
    out: { NewPortListing: 'A_ARG_TYPE_PortListing' },
  },
};

const PPP_ACTIONS: Service['actions'] = {
  GetLinkLayerMaxBitRates: {
    in: {},
    out: { NewUpstreamMaxBitRate: 'UpstreamMaxBitRate', NewDownstreamMaxBitRate: 'DownstreamMaxBitRate' },
  },
};

const CONNECTION_OPTIONAL = [
  'RequestTermination',
  'SetAutoDisconnectTime',
  'SetIdleDisconnectTime',
  'SetWarnDisconnectDelay',
  'GetAutoDisconnectTime',
  'GetIdleDisconnectTime',
  'GetWarnDisconnectDelay',
];

const PPP_OPTIONAL = [
  ...CONNECTION_OPTIONAL,
  'ConfigureConnection',
  'GetPPPEncryptionProtocol',
  'GetPPPCompressionProtocol',
  'GetPPPAuthenticationProtocol',
  'GetUserName',
  'GetPassword',
];

const CONNECTION_VARIABLES: Service['variables'] = {
  ConnectionType: { type: 'string' },
  PossibleConnectionTypes: {
    type: 'string',
    allowed: ['Unconfigured', 'IP_Routed', 'IP_Bridged'],
    evented: true,
  },
  ConnectionStatus: { type: 'string', allowed: ['Unconfigured', 'Connected', 'Disconnected'], evented: true },
  Uptime: { type: 'ui4' },
  LastConnectionError: { type: 'string', allowed: ['ERROR_NONE'] },
  RSIPAvailable: { type: 'boolean' },
  NATEnabled: { type: 'boolean' },
  ExternalIPAddress: { type: 'string', evented: true },
  PortMappingNumberOfEntries: { type: 'ui2', evented: true },
  PortMappingEnabled: { type: 'boolean' },
  PortMappingLeaseDuration: { type: 'ui4' },
  RemoteHost: { type: 'string' },
  ExternalPort: { type: 'ui2' },
  InternalPort: { type: 'ui2' },
  PortMappingProtocol: { type: 'string', allowed: ['TCP', 'UDP'] },
  InternalClient: { type: 'string' },
  PortMappingDescription: { type: 'string' },
};

const CONNECTION_2_VARIABLES: Service['variables'] = {
  SystemUpdateID: { type: 'ui4', evented: true },
  A_ARG_TYPE_Manage: { type: 'boolean' },
  A_ARG_TYPE_PortListing: { type: 'string' },
};

const PPP_VARIABLES: Service['variables'] = {
  UpstreamMaxBitRate: { type: 'ui4' },
  DownstreamMaxBitRate: { type: 'ui4' },
};

const LAYER_3_FORWARDING: Service = {
  name: 'Layer3Forwarding',
  version: 1,
  id: 'L3Forwarding1',
  place: 'root',
  actions: {
    SetDefaultConnectionService: { in: { NewDefaultConnectionService: 'DefaultConnectionService' }, out: {} },
    GetDefaultConnectionService: { in: {}, out: { NewDefaultConnectionService: 'DefaultConnectionService' } },
  },
  optional: [],
  variables: { DefaultConnectionService: { type: 'string', evented: true } },
};

const COMMON_INTERFACE: Service = {
  name: 'WANCommonInterfaceConfig',
  version: 1,
  id: 'WANCommonIFC1',
  place: 'wan',
  actions: {
    GetCommonLinkProperties: {
      in: {},
      out: {
        NewWANAccessType: 'WANAccessType',
        NewLayer1UpstreamMaxBitRate: 'Layer1UpstreamMaxBitRate',
        NewLayer1DownstreamMaxBitRate: 'Layer1DownstreamMaxBitRate',
        NewPhysicalLinkStatus: 'PhysicalLinkStatus',
      },
    },
    GetTotalBytesSent: { in: {}, out: { NewTotalBytesSent: 'TotalBytesSent' } },
    GetTotalBytesReceived: { in: {}, out: { NewTotalBytesReceived: 'TotalBytesReceived' } },
    GetTotalPacketsSent: { in: {}, out: { NewTotalPacketsSent: 'TotalPacketsSent' } },
    GetTotalPacketsReceived: { in: {}, out: { NewTotalPacketsReceived: 'TotalPacketsReceived' } },
  },
  optional: [
    'SetEnabledForInternet',
    'GetEnabledForInternet',
    'GetWANAccessProvider',
    'GetMaximumActiveConnections',
    'GetActiveConnections',
  ],
  variables: {
    WANAccessType: { type: 'string', allowed: ['DSL', 'POTS', 'Cable', 'Ethernet'] },
    Layer1UpstreamMaxBitRate: { type: 'ui4' },
    Layer1DownstreamMaxBitRate: { type: 'ui4' },
    PhysicalLinkStatus: { type: 'string', allowed: ['Up', 'Down'], evented: true },
    TotalBytesSent: { type: 'ui4' },
    TotalBytesReceived: { type: 'ui4' },
    TotalPacketsSent: { type: 'ui4' },
    TotalPacketsReceived: { type: 'ui4' },
  },
};

const SPOT = {
  RemoteHost: 'A_ARG_TYPE_IPv6Address',
  RemotePort: 'A_ARG_TYPE_Port',
  InternalClient: 'A_ARG_TYPE_IPv6Address',
  InternalPort: 'A_ARG_TYPE_Port',
  Protocol: 'A_ARG_TYPE_Protocol',
};

const FIREWALL: Service = {
  name: 'WANIPv6FirewallControl',
  version: 1,
  id: 'WANIPv6Firewall1',
  place: 'connection',
  actions: {
    GetFirewallStatus: {
      in: {},
      out: { FirewallEnabled: 'FirewallEnabled', InboundPinholeAllowed: 'InboundPinholeAllowed' },
    },
    AddPinhole: {
      in: { ...SPOT, LeaseTime: 'A_ARG_TYPE_LeaseTime' },
      out: { UniqueID: 'A_ARG_TYPE_UniqueID' },
    },
    UpdatePinhole: {
      in: { UniqueID: 'A_ARG_TYPE_UniqueID', NewLeaseTime: 'A_ARG_TYPE_LeaseTime' },
      out: {},
    },
    DeletePinhole: { in: { UniqueID: 'A_ARG_TYPE_UniqueID' }, out: {} },
    GetPinholePackets: {
      in: { UniqueID: 'A_ARG_TYPE_UniqueID' },
      out: { PinholePackets: 'A_ARG_TYPE_PinholePackets' },
    },
    CheckPinholeWorking: {
      in: { UniqueID: 'A_ARG_TYPE_UniqueID' },
      out: { IsWorking: 'A_ARG_TYPE_Boolean' },
    },
  },
  optional: ['GetOutboundPinholeTimeout'],
  variables: {
    FirewallEnabled: { type: 'boolean', evented: true },
    InboundPinholeAllowed: { type: 'boolean', evented: true },
    A_ARG_TYPE_IPv6Address: { type: 'string' },
    A_ARG_TYPE_Port: { type: 'ui2' },
    A_ARG_TYPE_Protocol: { type: 'ui2' },
    A_ARG_TYPE_UniqueID: { type: 'ui2' },
    A_ARG_TYPE_LeaseTime: { type: 'ui4' },
    A_ARG_TYPE_Boolean: { type: 'boolean' },
    A_ARG_TYPE_PinholePackets: { type: 'ui4' },
  },
};

const KNOWN_ACTIONS: ReadonlySet<string> = new Set(
  [
    CONNECTION_ACTIONS,
    CONNECTION_2_ACTIONS,
    PPP_ACTIONS,
    LAYER_3_FORWARDING.actions,
    COMMON_INTERFACE.actions,
    FIREWALL.actions,
  ].flatMap((actions) => Object.keys(actions)),
);
