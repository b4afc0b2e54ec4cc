/** What the faces of natward (the command line, later the console) may ask of an agent, and what comes back. */

export type { AskOptions } from '../agent/asking.ts';
export type { MapAsk, MapFailure, MapReport } from '../agent/map.ts';
export type { Granted } from '../agent/port.ts';
export type { GatewayReport, OwnMapping } from '../agent/survey.ts';
export type { Released, UnmapReport } from '../agent/unmap.ts';
export type { Offer } from '../discovery/gateway.ts';
