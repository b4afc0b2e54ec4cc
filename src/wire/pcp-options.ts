/**
 * The options of PCP (RFC 6887, sections 7.3 and 13; RFC 7220): each a code, a length and its data, padded to 4
 * bytes. A code below 128 must be understood or refused, one above may be passed over. Which of them may stand in
 * which request, and how often, is for the decoder; what they ask for is for the server.
 */

import type { IpAddress } from '../net/address.ts';
import { PCP_ADDRESS_BYTES, readPcpAddress, writePcpAddress } from './pcp-address.ts';
import { PCP_RESULT, PcpRequestError } from './pcp-result.ts';

/** Only packets from `remoteAddress/prefixLength`, port `remotePort` (0: any), may use the mapping (section 13.3). */
export interface PcpFilter {
  /** 0..128, of the 128 bits of an IPv4-mapped or IPv6 address; 0 removes all filters. */
  readonly prefixLength: number;
  readonly remotePort: number;
  readonly remoteAddress: IpAddress;
}

export interface PcpOptions {
  /** Map for this host and not for the sender (section 13.1). */
  readonly thirdParty?: IpAddress;
  /** Refuse rather than grant another external port (section 13.2). */
  readonly preferFailure?: true;
  readonly filters?: readonly PcpFilter[];
  /** RFC 7220. */
  readonly description?: string;
}

export type PcpOpcode = 'announce' | 'map' | 'peer';

const OPTION = { thirdParty: 1, preferFailure: 2, filter: 3, description: 128 } as const;
const FIRST_OPTIONAL = 128;
const HEADER_BYTES = 4;
const FILTER_BYTES = 20;
/** RFC 7220, section 3: 1016 octets fit the largest packet; what people write is shorter. */
const MAX_DESCRIPTION_BYTES = 256;
const MAX_OPTIONS = 64;
const SPACE = 0x20;

interface OptionRule {
  readonly opcodes: readonly PcpOpcode[];
  /** undefined: any. */
  readonly bytes: number | undefined;
  readonly repeats: boolean;
}

const RULES: Readonly<Record<number, OptionRule>> = {
  [OPTION.thirdParty]: { opcodes: ['map', 'peer'], bytes: PCP_ADDRESS_BYTES, repeats: false },
  [OPTION.preferFailure]: { opcodes: ['map'], bytes: 0, repeats: false },
  [OPTION.filter]: { opcodes: ['map'], bytes: FILTER_BYTES, repeats: true },
  [OPTION.description]: { opcodes: ['map', 'peer'], bytes: undefined, repeats: false },
};

const NO_OPTIONS: PcpOptions = Object.freeze({});
const NO_BYTES = new Uint8Array(0);
const utf8 = new TextEncoder();
const text = new TextDecoder();

interface Option {
  readonly code: number;
  readonly data: Uint8Array;
}

export function encodePcpOptions(options: PcpOptions): Uint8Array {
  const { thirdParty, preferFailure, filters, description } = options;
  if (
    thirdParty === undefined &&
    preferFailure === undefined &&
    filters === undefined &&
    description === undefined
  )
    return NO_BYTES;
  const list: Option[] = [];
  if (thirdParty !== undefined) {
    const data = new Uint8Array(PCP_ADDRESS_BYTES);
    writePcpAddress(data, 0, thirdParty);
    list.push({ code: OPTION.thirdParty, data });
  }
  if (preferFailure === true) list.push({ code: OPTION.preferFailure, data: NO_BYTES });
  for (const filter of filters ?? []) list.push({ code: OPTION.filter, data: filterBytes(filter) });
  if (description !== undefined) list.push({ code: OPTION.description, data: shortened(description) });
  return joined(list);
}

/** Throws PcpRequestError for a request with options that it may not have. An answer is read as far as it can be. */
export function decodePcpOptions(
  packet: Uint8Array,
  from: number,
  opcode: PcpOpcode,
  direction: 'request' | 'response',
): PcpOptions {
  if (from >= packet.length) return NO_OPTIONS;
  const filters: PcpFilter[] = [];
  let options: PcpOptions = {};
  const seen = new Set<number>();
  // Section 7.3: what cannot be taken apart is malformed, whatever else is wrong with it.
  for (const { code, data } of split(packet, from)) {
    const rule = RULES[code];
    const problem = rule === undefined ? unknown(code) : broken(rule, data, opcode, seen.has(code));
    seen.add(code);
    if (problem !== undefined && direction === 'request')
      throw new PcpRequestError(problem, `PCP option ${code}`);
    if (problem !== undefined) continue;
    if (code === OPTION.thirdParty) options = { ...options, thirdParty: readPcpAddress(data, 0) };
    else if (code === OPTION.preferFailure) options = { ...options, preferFailure: true };
    else if (code === OPTION.filter) filters.push(readFilter(data));
    else if (code === OPTION.description) options = { ...options, description: text.decode(data).trimEnd() };
  }
  return filters.length > 0 ? { ...options, filters } : options;
}

function unknown(code: number): number | undefined {
  return code < FIRST_OPTIONAL ? PCP_RESULT.UNSUPP_OPTION : undefined;
}

function broken(rule: OptionRule, data: Uint8Array, opcode: PcpOpcode, isAgain: boolean): number | undefined {
  const isSound =
    rule.opcodes.includes(opcode) &&
    (rule.bytes === undefined || rule.bytes === data.length) &&
    (rule.repeats || !isAgain);
  return isSound ? undefined : PCP_RESULT.MALFORMED_OPTION;
}

function split(packet: Uint8Array, from: number): readonly Option[] {
  const found: Option[] = [];
  for (let at = from; at < packet.length; ) {
    const length = ((packet[at + 2] ?? 0) << 8) | (packet[at + 3] ?? 0);
    const end = at + HEADER_BYTES + length;
    if (end > packet.length || found.length === MAX_OPTIONS) {
      throw new PcpRequestError(
        PCP_RESULT.MALFORMED_OPTION,
        `a PCP option runs past the end of its packet, or follows ${MAX_OPTIONS} others`,
      );
    }
    found.push({ code: packet[at] ?? 0, data: packet.subarray(at + HEADER_BYTES, end) });
    at = padded(end - from) + from;
  }
  return found;
}

function filterBytes({ prefixLength, remotePort, remoteAddress }: PcpFilter): Uint8Array {
  const data = new Uint8Array(FILTER_BYTES);
  data[1] = prefixLength;
  data[2] = remotePort >> 8;
  data[3] = remotePort;
  writePcpAddress(data, 4, remoteAddress);
  return data;
}

function readFilter(data: Uint8Array): PcpFilter {
  return {
    prefixLength: data[1] ?? 0,
    remotePort: ((data[2] ?? 0) << 8) | (data[3] ?? 0),
    remoteAddress: readPcpAddress(data, 4),
  };
}

/**
 * The description's bytes, cut at a character's border, then filled with spaces to a multiple of 4:
 * miniupnpd 2.3.1 does not skip an option's padding, and answers MALFORMED_OPTION where there is any.
 */
function shortened(description: string): Uint8Array {
  const bytes = new Uint8Array(MAX_DESCRIPTION_BYTES).fill(SPACE);
  const { written } = utf8.encodeInto(description, bytes);
  return bytes.subarray(0, padded(written));
}

function joined(list: readonly Option[]): Uint8Array {
  const whole = new Uint8Array(list.reduce((sum, { data }) => sum + HEADER_BYTES + padded(data.length), 0));
  let at = 0;
  for (const { code, data } of list) {
    whole[at] = code;
    whole[at + 2] = data.length >> 8;
    whole[at + 3] = data.length;
    whole.set(data, at + HEADER_BYTES);
    at += HEADER_BYTES + padded(data.length);
  }
  return whole;
}

function padded(bytes: number): number {
  return Math.ceil(bytes / 4) * 4;
}
