/** How a PCP server says what came of a request (RFC 6887, section 7.4). */

import { NatwardError } from '../errors.ts';

export const PCP_RESULT = {
  SUCCESS: 0,
  UNSUPP_VERSION: 1,
  NOT_AUTHORIZED: 2,
  MALFORMED_REQUEST: 3,
  UNSUPP_OPCODE: 4,
  UNSUPP_OPTION: 5,
  MALFORMED_OPTION: 6,
  NETWORK_FAILURE: 7,
  NO_RESOURCES: 8,
  UNSUPP_PROTOCOL: 9,
  USER_EX_QUOTA: 10,
  CANNOT_PROVIDE_EXTERNAL: 11,
  ADDRESS_MISMATCH: 12,
  EXCESSIVE_REMOTE_PEERS: 13,
} as const;

export function pcpResultName(result: number): string {
  return Object.entries(PCP_RESULT).find(([, code]) => code === result)?.[0] ?? 'UNKNOWN';
}

/** Thrown where a request cannot be read, with the result code that section 8.2 has the server answer. */
export class PcpRequestError extends NatwardError {
  readonly result: number;
  constructor(result: number, message: string) {
    super('MALFORMED', message);
    this.result = result;
  }
}
