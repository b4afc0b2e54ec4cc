/** What the faces of natward (the command line, later the console) may ask of an agent, and what comes back. */

export type { AskOptions } from '../agent/asking.ts';
export type { AgentEvent } from '../agent/events.ts';
export type { Hook } from '../agent/hooks/hook.ts';
export type { DropReport, DropSelector } from '../agent/keeping.ts';
export { type KeepRequest, type LeaseStatus, USER_OWNER } from '../agent/lease.ts';
export type { MapAsk, MapFailure, MapReport } from '../agent/map.ts';
export type { Granted } from '../agent/port.ts';
export type { ResponderStatus } from '../agent/responder-status.ts';
export type {
  EditOptions,
  EditReport,
  ExplainReport,
  RuleEdit,
  RuleStatus,
} from '../agent/rule-keeping.ts';
export { PAUSED, PAUSED_ADVICE, type PauseReport } from '../agent/rule-pause.ts';
export { RESPONDER_OWNER } from '../agent/lease.ts';
export type { GatewayReport, OwnMapping } from '../agent/survey.ts';
export type { Released, UnmapReport } from '../agent/unmap.ts';
export type { Offer } from '../discovery/gateway.ts';
export type { Activity, Conversation, EngineEvent } from '../forwarder/engine.ts';
export type { AgentClient } from './client.ts';
export type { StatusAnswer } from './schema.ts';
