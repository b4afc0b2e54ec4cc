/** The library's public API: re-exports only. */

export type { PreviousEndpoint } from './agent/events.ts';
export type { LeaseStatus } from './agent/lease.ts';
export type { Granted } from './agent/port.ts';
export type { EditedRule, ExplainReport, RuleStatus } from './agent/rule-keeping.ts';
export type { GatewayReport, OwnMapping, Verdict, VerdictCode } from './agent/survey.ts';
export type { GatewayPorts } from './discovery/gateway.ts';
export type { ErrorCode, ErrorDetails } from './errors.ts';
export { isNatwardError, NatwardError } from './errors.ts';
export type { FirstPacket } from './forwarder/decide.ts';
export type { Activity, Conversation, EngineEvent } from './forwarder/engine.ts';
export type { EngineChoice } from './forwarder/engine-choice.ts';
export type { AgentEvents, AgentOptions, UnmapOptions } from './library/agent.ts';
export { Agent } from './library/agent.ts';
export { connect } from './library/connect.ts';
export type { Lease, LeaseEvents, LeaseState } from './library/port-lease.ts';
export type { PortMapping } from './library/port-mapping.ts';
export type { KeepPortRequest, PortEnd, PortProtocol, PortRequest } from './library/port-request.ts';
export type { RuleOptions, Rules, Stoppable } from './library/rules.ts';
export type { ListedMapping, Mapping } from './mapping/mapping.ts';
export type { IpAddress } from './net/address.ts';
export type { Endpoint, RemotePeer } from './net/endpoint.ts';
export type { MappingProtocol, TransportProtocol } from './net/protocol.ts';
export type { System } from './system/system.ts';
export { realSystem } from './system/system.ts';
