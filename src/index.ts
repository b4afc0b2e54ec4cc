/** The library's public API: re-exports only. */

export { Agent } from './agent/agent.ts';
export type { ProgressOptions, SurveyOptions } from './agent/agent.ts';
export type { AskOptions } from './agent/asking.ts';
export type { MapAsk, MapFailure, MapReport } from './agent/map.ts';
export type { Granted, MapOptions } from './agent/port.ts';
export type { GatewayReport, OwnMapping, Verdict, VerdictCode } from './agent/survey.ts';
export type { Released, UnmapReport } from './agent/unmap.ts';
export type { Gateway, GatewayPorts, Offer } from './discovery/gateway.ts';
export type { GatewayChoice } from './discovery/route.ts';
export { chooseGateways } from './discovery/route.ts';
export type { Announcement } from './discovery/watch.ts';
export { watchAnnouncements } from './discovery/watch.ts';
export type { ErrorCode, ErrorDetails } from './errors.ts';
export { isNatwardError, NatwardError } from './errors.ts';
export type { ListedMapping, Mapping } from './mapping/mapping.ts';
export type { IpAddress } from './net/address.ts';
export type { RemotePeer } from './net/endpoint.ts';
export type { PortRange } from './net/port-range.ts';
export type { MappingProtocol, TransportProtocol } from './net/protocol.ts';
export type { System } from './system/system.ts';
export { realSystem } from './system/system.ts';
