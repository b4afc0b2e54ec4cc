/** What a failure looks like on the wire, and the HTTP status that goes with each code. */

import { type ErrorCode, isNatwardError, NatwardError } from '../errors.ts';

export interface Failure {
  readonly error: {
    readonly code: ErrorCode;
    readonly message: string;
    readonly advice: string | null;
  };
}

type HttpStatus = 400 | 403 | 404 | 409 | 500 | 501 | 502 | 503 | 504;

export const HTTP_STATUS: Readonly<Record<ErrorCode, HttpStatus>> = {
  USAGE: 400,
  MALFORMED: 400,
  HOSTILE: 502,
  NO_ROUTE: 503,
  NO_GATEWAY: 503,
  TIMEOUT: 504,
  UNREACHABLE: 502,
  NOT_AUTHORIZED: 403,
  CONFLICT: 409,
  NO_RESOURCES: 503,
  UNSUPPORTED: 501,
  NOT_FOUND: 404,
  ONLY_PERMANENT: 502,
  NETWORK_DOWN: 503,
  REFUSED: 502,
  NOT_MAPPED: 502,
  NOT_OWN: 403,
  ABORTED: 503,
  FAILED: 500,
};

export const ERROR_CODES: readonly ErrorCode[] = Object.keys(HTTP_STATUS) as ErrorCode[];

export function toFailure(error: unknown): Failure {
  if (isNatwardError(error)) {
    return { error: { code: error.code, message: error.message, advice: error.advice ?? null } };
  }
  const what = error instanceof Error ? error.message : String(error);
  return {
    error: { code: 'FAILED', message: `an error that natward did not expect: ${what}`, advice: null },
  };
}

export function fromFailure({ error: { code, message, advice } }: Failure): NatwardError {
  return new NatwardError(code, message, advice === null ? {} : { advice });
}
