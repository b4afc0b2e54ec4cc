/** The evented state variables of a service, as they are now. */

import {
  connectionStatus,
  defaultConnectionService,
  physicalLinkStatus,
  POSSIBLE_CONNECTION_TYPES,
} from '../actions/connection.ts';
import type { Service } from '../services.ts';
import { reportedAddress, type Site } from '../site.ts';

export type EventedValues = Readonly<Record<string, string>>;

const VALUES: Readonly<Record<string, (site: Site) => string>> = {
  PossibleConnectionTypes: () => POSSIBLE_CONNECTION_TYPES,
  ConnectionStatus: connectionStatus,
  ExternalIPAddress: reportedAddress,
  PortMappingNumberOfEntries: ({ grants }) => String(Math.min(grants.list('upnp').length, 65_535)),
  SystemUpdateID: ({ events }) => String(events.systemUpdateId),
  PhysicalLinkStatus: physicalLinkStatus,
  DefaultConnectionService: defaultConnectionService,
  FirewallEnabled: ({ settings }) => (settings.firewallEnabled ? '1' : '0'),
  InboundPinholeAllowed: ({ settings }) => (settings.inboundPinholeAllowed ? '1' : '0'),
};

export function eventedValues({ variables }: Service, site: Site): EventedValues {
  const names = Object.keys(variables).filter((name) => variables[name]?.evented === true);
  return Object.fromEntries(names.map((name) => [name, VALUES[name]?.(site) ?? '']));
}
