/**
 * Forged answers. Each carries another external port, address or host than the right answer, so that whoever
 * takes one shows it.
 */

import { decodeSsdp, encodeSsdp, type SsdpResponse } from '../../wire/ssdp.ts';
import type { Decoy, Hooks, Layer } from '../hooks.ts';
import type { Junk } from './misbehaviour.ts';

export function junkFirst(kinds: readonly Junk[]): Hooks {
  return {
    decoys: (answer, request, layer) =>
      layer === 'http' ? [] : kinds.map((kind) => decoy(kind, answer, request, layer)),
  };
}

function gateway(packet: Uint8Array): Decoy {
  return { packet, from: 'gateway' };
}

function decoy(kind: Junk, answer: Uint8Array, request: Uint8Array, layer: Layer): Decoy {
  switch (kind) {
    case 'truncated':
      // Odd, and short of every header that matters.
      return gateway(forged(answer, layer).slice(0, Math.min(19, (answer.length >> 1) | 1)));
    case 'oversized':
      return gateway(padded(forged(answer, layer), 9_000));
    case 'wrong-nonce':
      return gateway(misaddressed(forged(answer, layer), layer));
    case 'wrong-opcode':
      return gateway(misnamed(forged(answer, layer), layer));
    case 'wrong-source':
      return { packet: forged(answer, layer), from: 'stranger' };
    default:
      return gateway(request);
  }
}

/** RFC 5737: nobody's. */
const FORGED_ADDRESS = [192, 0, 2, 66];
/** Where the external port or address stands: RFC 6887, figure 10; RFC 6886, sections 3.2 and 3.3. */
const PCP_EXTERNAL_PORT = 42;
const PCP_NONCE = 24;
const NATPMP_EXTERNAL_PORT = 10;
const NATPMP_INTERNAL_PORT = 8;

function forged(answer: Uint8Array, layer: Layer): Uint8Array {
  if (layer === 'ssdp') {
    return changedSsdp(answer, (message) => {
      const location = new URL(message.location);
      location.hostname = FORGED_ADDRESS.join('.');
      return { ...message, location: location.href };
    });
  }
  const packet = Uint8Array.from(answer);
  if (layer === 'natpmp' && packet[1] === 0x80) packet.set(FORGED_ADDRESS, 8);
  else flip(packet, (layer === 'pcp' ? PCP_EXTERNAL_PORT : NATPMP_EXTERNAL_PORT) + 1);
  return packet;
}

/** An answer to somebody else's request. */
function misaddressed(packet: Uint8Array, layer: Layer): Uint8Array {
  if (layer === 'ssdp') return changedSsdp(packet, (message) => ({ ...message, searchTarget: 'upnp:none' }));
  flip(packet, layer === 'pcp' ? PCP_NONCE : NATPMP_INTERNAL_PORT + 1);
  return packet;
}

/** An answer to another kind of request. */
function misnamed(packet: Uint8Array, layer: Layer): Uint8Array {
  if (layer === 'ssdp') {
    return changedSsdp(packet, (message) => ({
      ...message,
      kind: 'alive',
      notificationType: message.searchTarget,
    }));
  }
  // 0x80 becomes 0x81 and 0x81 0x80; NAT-PMP's 0x82, which is TCP, becomes 0x83, which is nothing.
  flip(packet, 1);
  return packet;
}

function changedSsdp(
  packet: Uint8Array,
  change: (message: SsdpResponse) => Parameters<typeof encodeSsdp>[0],
): Uint8Array {
  const message = decodeSsdp(packet);
  return message.kind === 'response' ? encodeSsdp(change(message)) : packet;
}

function flip(packet: Uint8Array, at: number): void {
  if (at < packet.length) packet[at] = (packet[at] ?? 0) ^ 1;
}

function padded(packet: Uint8Array, bytes: number): Uint8Array {
  const whole = new Uint8Array(bytes);
  whole.set(packet);
  return whole;
}
