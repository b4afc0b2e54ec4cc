/**
 * The one error class of natward. Callers match on `code`; people read `message` (what was asked, of whom,
 * what came back) and `advice` (what to do next).
 */

/** What went wrong, as a stable word. */
export type ErrorCode =
  /** The caller's words are off: an unknown spec, a port out of range. Nothing was sent. */
  | 'USAGE'
  /** A packet or document that is not what its standard says. */
  | 'MALFORMED'
  /** Something on the network tried what no honest gateway does; it was not followed. */
  | 'HOSTILE'
  /** No default route, or no usable address towards it. */
  | 'NO_ROUTE'
  /** Nothing on the network offered to map ports. */
  | 'NO_GATEWAY'
  /** The gateway did not answer in time. */
  | 'TIMEOUT'
  /** The gateway's host refused the packets (ICMP port unreachable, TCP reset). */
  | 'UNREACHABLE'
  /** The gateway forbids the mapping, by policy or by setting. */
  | 'NOT_AUTHORIZED'
  /** The external port belongs to somebody else. */
  | 'CONFLICT'
  /** The gateway's table, or this host's share of it, is full. */
  | 'NO_RESOURCES'
  /** The gateway does not know the request, the protocol or the option. */
  | 'UNSUPPORTED'
  /** The gateway has no such mapping. */
  | 'NOT_FOUND'
  /** The gateway grants only mappings without an end. */
  | 'ONLY_PERMANENT'
  /** The gateway has no working connection to the outside. */
  | 'NETWORK_DOWN'
  /** The gateway refused, for a reason that has no word of its own here. */
  | 'REFUSED'
  /** The gateway said yes, and a read-back shows that it did not do it. */
  | 'NOT_MAPPED'
  /** The mapping belongs to somebody else. */
  | 'NOT_OWN'
  /** The caller asked to stop. */
  | 'ABORTED'
  /** This machine failed: a file, a socket, a program. */
  | 'FAILED';

export interface ErrorDetails {
  /** What the person can do next: a full sentence. */
  readonly advice?: string;
  /** The protocol's own code, as people find it on the web: `UPnP 606`, `PCP 2 NOT_AUTHORIZED`. */
  readonly protocolCode?: string;
  readonly cause?: unknown;
}

export class NatwardError extends Error {
  readonly code: ErrorCode;
  readonly advice: string | undefined;
  readonly protocolCode: string | undefined;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = 'NatwardError';
    this.code = code;
    this.advice = details.advice;
    this.protocolCode = details.protocolCode;
  }
}

/** Reports whether `error` is a NatwardError, of one of `codes` where any are given. */
export function isNatwardError(error: unknown, ...codes: ErrorCode[]): error is NatwardError {
  return error instanceof NatwardError && (codes.length === 0 || codes.includes(error.code));
}
