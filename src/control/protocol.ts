/** What the faces of natward (the command line, later the console) may ask of an agent, and what comes back. */

export type { AskOptions } from '../agent/asking.ts';
export type { AgentEvent, PreviousEndpoint } from '../agent/events.ts';
export type { Hook, HookEvent } from '../agent/hooks/hook.ts';
export type {
  DropFailure,
  DropOptions,
  DropReport,
  DropSelector,
  KeeperStatus,
  KeepOptions,
  LeaseKeeping,
} from '../agent/keeping.ts';
export {
  CONFIG_OWNER,
  type GatewayStatus,
  type KeepRequest,
  type LeaseState,
  type LeaseStatus,
  type Owner,
  USER_OWNER,
} from '../agent/lease.ts';
export type { MapAsk, MapFailure, MapReport } from '../agent/map.ts';
export type { Granted } from '../agent/port.ts';
export type { GatewayReport, OwnMapping } from '../agent/survey.ts';
export type { Released, UnmapReport } from '../agent/unmap.ts';
export type { Offer } from '../discovery/gateway.ts';
export type { AgentClient } from './client.ts';
export type { AgentFacts, StatusAnswer } from './schema.ts';
