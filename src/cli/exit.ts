/** Exit codes (a contract: scripts depend on them), and how an error becomes one. */

import type { ErrorCode, NatwardError } from '../errors.ts';

export const EXIT = {
  done: 0,
  failed: 1,
  usage: 2,
  noGateway: 3,
  refused: 4,
  inPart: 5,
  interrupted: 130,
} as const;

const BY_CODE: Partial<Record<ErrorCode, number>> = {
  USAGE: EXIT.usage,
  NO_ROUTE: EXIT.noGateway,
  NO_GATEWAY: EXIT.noGateway,
  TIMEOUT: EXIT.noGateway,
  UNREACHABLE: EXIT.noGateway,
  HOSTILE: EXIT.refused,
  NOT_AUTHORIZED: EXIT.refused,
  CONFLICT: EXIT.refused,
  NO_RESOURCES: EXIT.refused,
  UNSUPPORTED: EXIT.refused,
  ONLY_PERMANENT: EXIT.refused,
  NETWORK_DOWN: EXIT.refused,
  REFUSED: EXIT.refused,
  NOT_MAPPED: EXIT.refused,
};

export function exitCodeOf(error: NatwardError): number {
  return BY_CODE[error.code] ?? EXIT.failed;
}

/** Of a command that asked for several things. */
export function exitCodeFor(done: number, failures: readonly { readonly error: NatwardError }[]): number {
  const [first] = failures;
  if (first === undefined) return EXIT.done;
  return done > 0 ? EXIT.inPart : exitCodeOf(first.error);
}
