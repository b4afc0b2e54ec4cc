/** What comes of a PCP request for a mapping, and how a refusal is written (RFC 6887, sections 7.2 to 7.4). */

import type { IpAddress } from '../net/address.ts';
import { encodePcpResponse, PCP_MAX_BYTES, PCP_RESULT } from '../wire/pcp.ts';
import type { Refusal } from './grant.ts';

export type PcpOutcome =
  | {
      readonly kind: 'granted';
      readonly lifetimeSeconds: number;
      readonly externalPort: number;
      readonly externalAddress: IpAddress;
    }
  | PcpRefused;

export interface PcpRefused {
  readonly kind: 'refused';
  readonly result: number;
  /** How long it holds; undefined: as long as one of its kind usually does. */
  readonly lifetimeSeconds: number | undefined;
}

/** What a refusal is called here. */
const RESULT: Readonly<Record<Refusal, number>> = {
  'not-authorized': PCP_RESULT.NOT_AUTHORIZED,
  'wrong-nonce': PCP_RESULT.NOT_AUTHORIZED,
  'denied-port': PCP_RESULT.NOT_AUTHORIZED,
  taken: PCP_RESULT.CANNOT_PROVIDE_EXTERNAL,
  'manual-rule': PCP_RESULT.CANNOT_PROVIDE_EXTERNAL,
  'over-quota': PCP_RESULT.USER_EX_QUOTA,
  'too-many-peers': PCP_RESULT.EXCESSIVE_REMOTE_PEERS,
  'table-full': PCP_RESULT.NO_RESOURCES,
  'no-free-port': PCP_RESULT.NO_RESOURCES,
  'network-down': PCP_RESULT.NETWORK_FAILURE,
};

/** Section 7.4: refusals that time may heal hold for a short time. */
const SHORT_ERROR_SECONDS = 30;
const LONG_ERROR_SECONDS = 1800;
const SHORT_ERRORS: ReadonlySet<number> = new Set([
  PCP_RESULT.NETWORK_FAILURE,
  PCP_RESULT.NO_RESOURCES,
  PCP_RESULT.USER_EX_QUOTA,
  PCP_RESULT.CANNOT_PROVIDE_EXTERNAL,
]);

export function refusedWith(result: number, lifetimeSeconds?: number): PcpRefused {
  return { kind: 'refused', result, lifetimeSeconds };
}

export function refusedAs(refusal: Refusal): PcpRefused {
  return refusedWith(RESULT[refusal]);
}

/** An answer that gives the request back with a result in its header (section 7.2). */
export function refusalPacket(
  request: Uint8Array,
  { result, lifetimeSeconds }: PcpRefused,
  epochSeconds: number,
): Uint8Array {
  const usualSeconds = SHORT_ERRORS.has(result) ? SHORT_ERROR_SECONDS : LONG_ERROR_SECONDS;
  const header = encodePcpResponse({
    opcode: 'unknown',
    requestOpcode: (request[1] ?? 0) & 0x7f,
    result,
    lifetimeSeconds: lifetimeSeconds ?? usualSeconds,
    epochSeconds,
  });
  // What follows the header of another version is not known to be what it is in ours (section 9).
  if (result === PCP_RESULT.UNSUPP_VERSION) return header;
  const bytes = Math.min(Math.ceil(request.length / 4) * 4, PCP_MAX_BYTES);
  const answer = new Uint8Array(Math.max(bytes, header.length));
  answer.set(request.subarray(0, answer.length));
  answer.set(header);
  return answer;
}
