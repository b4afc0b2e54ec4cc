/** PCP under fire: MAP, PEER, ANNOUNCE and what is none of them, with options of all kinds in any order. */

import type { Endpoint } from '../../../src/net/endpoint.ts';
import { family } from '../../../src/net/address.ts';
import {
  decodePcpResponse,
  encodePcpRequest,
  PCP_MAX_BYTES,
  PCP_RESULT,
  type PcpFilter,
  type PcpMap,
  pcpResultName,
} from '../../../src/wire/pcp.ts';
import { encodeNatpmpRequest } from '../../../src/wire/natpmp.ts';
import { sameNonce } from '../../../src/responder/table.ts';
import type { Campaign, Scene, Shot, Verdict } from './campaign.ts';
import { claimFor, mapOf, pcpRequest } from './claims.ts';
import { CLIENTS, STRANGERS } from './ground.ts';
import { protocolOf } from './judge.ts';
import { fire, INNER_PORTS, isServed, LIFETIMES, OUTER_PORTS } from './mapping-port.ts';
import { joined, mutated } from './mutation.ts';
import type { Random } from './random.ts';

const VERSION = 2;
const MAP_END = 60;
const PEER_END = 80;
/** Two of each client, so that its own can be wrong as well. */
const NONCES: readonly Uint8Array[] = [1, 2, 3].map((first) =>
  Uint8Array.from({ length: 12 }, (_, at) => first * 16 + at),
);
const OWN_NONCE = NONCES[0] as Uint8Array;
const REMOTES = ['203.0.113.5', '203.0.113.6', '2001:db8::1', '0.0.0.0', '::'];
const PROTOCOLS = [6, 6, 6, 6, 6, 6, 17, 17, 17, 17, 0, 132];

export const PCP: Campaign = {
  name: 'pcp',
  mostAtOnce: 16,
  fire,
  shot(random, source) {
    const whole = request(random, source);
    const isWhole = random.percent(45);
    const spoiled = isWhole ? whole : mutated(whole, request(random, source), random);
    // A length that is no multiple of 4 is looked at no further: half of them get beyond that.
    const bytes = random.percent(50) ? spoiled : joined(spoiled, new Uint8Array(-spoiled.length & 3));
    return { source, bytes, claim: claimFor(bytes, source) };
  },
  contest(random, source) {
    const bytes =
      random.percent(15) && family(source.address) === 4 ? natpmpRival(random) : rival(random, source);
    return { source, bytes, claim: claimFor(bytes, source) };
  },
  judge,
};

/** A mapping of few, made, limited to another peer, or ended. */
function rival(random: Random, source: Endpoint): Uint8Array {
  const filter: PcpFilter = {
    prefixLength: 128,
    remotePort: 0,
    remoteAddress: family(source.address) === 6 ? '2001:db8::1' : random.pick(['203.0.113.5', '203.0.113.6']),
  };
  const map: PcpMap = {
    nonce: random.percent(90) ? OWN_NONCE : random.pick(NONCES),
    protocol: 6,
    internalPort: random.pick([6881, 6881, 6882]),
    externalPort: random.pick([0, 20_100, 20_101]),
    externalAddress: '::',
    options: random.percent(50) ? { filters: [filter] } : {},
  };
  const lifetimeSeconds = random.pick([0, 600, 7200]);
  return encodePcpRequest({ opcode: 'map', lifetimeSeconds, clientAddress: source.address, map });
}

function natpmpRival(random: Random): Uint8Array {
  const lifetimeSeconds = random.pick([0, 600]);
  const ports = {
    internalPort: random.pick([0, 6881, 6882]),
    suggestedExternalPort: random.pick([0, 20_100]),
  };
  return encodeNatpmpRequest({ opcode: 'map', protocol: 'tcp', ...ports, lifetimeSeconds });
}

function request(random: Random, source: Endpoint): Uint8Array {
  const clientAddress = random.percent(97) ? source.address : random.pick([...CLIENTS, ...STRANGERS]);
  const lifetimeSeconds = random.percent(95) ? random.pick(LIFETIMES) : random.next();
  if (random.percent(4)) return encodePcpRequest({ opcode: 'announce', lifetimeSeconds, clientAddress });
  const map: PcpMap = {
    nonce: random.percent(70) ? OWN_NONCE : random.percent(80) ? random.pick(NONCES) : random.bytes(12),
    protocol: random.pick(PROTOCOLS),
    internalPort: random.percent(90) ? random.pick(INNER_PORTS) : random.below(65_536),
    externalPort: random.percent(80) ? random.pick(OUTER_PORTS) : random.below(65_536),
    externalAddress: random.pick(['::', '0.0.0.0', '198.51.100.7', '198.51.100.8', source.address]),
    options: {
      ...(random.percent(12) ? { thirdParty: random.pick([...CLIENTS, ...STRANGERS]) } : {}),
      ...(random.percent(15) ? { preferFailure: true } : {}),
      ...(random.percent(25) ? { filters: filters(random, source) } : {}),
      ...(random.percent(15) ? { description: 'x'.repeat(random.below(40)) } : {}),
    },
  };
  const peer = { ...map, remotePort: random.pick([0, 80, 443]), remoteAddress: random.pick(REMOTES) };
  const packet = random.percent(15)
    ? encodePcpRequest({ opcode: 'peer', lifetimeSeconds, clientAddress, peer })
    : encodePcpRequest({ opcode: 'map', lifetimeSeconds, clientAddress, map });
  return random.percent(15) ? shuffled(packet, random) : packet;
}

function filters(random: Random, source: Endpoint): PcpFilter[] {
  const ipv6 = family(source.address) === 6;
  return Array.from({ length: random.pick([1, 1, 1, 1, 1, 1, 2, 9, 30]) }, () => ({
    prefixLength: random.pick([128, 128, 128, 128, 128, 128, 120, 96, 95, 1, 0, 129, 255]),
    remotePort: random.pick([0, 0, 80, 65_535]),
    remoteAddress: ipv6
      ? random.pick(['2001:db8::1', '203.0.113.5'])
      : random.pick(['203.0.113.5', '203.0.113.6', '::1']),
  }));
}

/** Options turned round, doubled, with lengths that are not theirs, and some that nobody knows. */
function shuffled(packet: Uint8Array, random: Random): Uint8Array {
  const options: Uint8Array[] = [];
  const begin = packet[1] === 2 ? PEER_END : MAP_END;
  for (let at = begin; at + 4 <= packet.length; ) {
    const length = ((packet[at + 2] ?? 0) << 8) | (packet[at + 3] ?? 0);
    const next = at + 4 + Math.ceil(length / 4) * 4;
    options.push(packet.subarray(at, next));
    at = next;
  }
  for (let left = random.below(3); left > 0; left--) {
    const length = random.pick([0, 1, 3, 4, 16, 20, 24, 1000, 65_535]);
    const code = random.pick([0, 1, 2, 3, 4, 5, 127, 128, 129, 255]);
    options.push(
      joined(
        Uint8Array.of(code, random.below(256), length >> 8, length & 255),
        random.bytes(Math.min(length, 64) & ~3),
      ),
    );
  }
  if (options.length > 0 && random.percent(50)) options.push(random.pick(options));
  if (random.percent(5)) for (let left = 100; left > 0; left--) options.push(Uint8Array.of(128, 0, 0, 0));
  options.sort(() => random.below(3) - 1);
  return joined(packet.subarray(0, begin), ...options);
}

function judge(shot: Shot, answers: readonly Uint8Array[], scene: Scene): Verdict {
  const { bytes, source } = shot;
  const [answer] = answers;
  const isDue = bytes.length >= 2 && ((bytes[1] ?? 0) & 0x80) === 0;
  if (answer === undefined) {
    const isMissed =
      isDue && bytes[0] === VERSION && isServed(source.address) && pcpRequest(bytes) !== undefined;
    return { result: 'silence', faults: isMissed ? ['no answer to a good request'] : [] };
  }
  if (answers.length > 1) return { result: 'several', faults: [`${answers.length} answers to one request`] };
  if (!isDue) return { result: 'answer', faults: ['an answer to what is no request'] };
  if (STRANGERS.includes(source.address)) return { result: 'answer', faults: ['a stranger was answered'] };
  if (bytes[0] === 0 && answer[0] === 0) return { result: 'natpmp', faults: [] };
  return judgeAnswer(shot, answer, scene);
}

function judgeAnswer(
  { bytes, source }: Shot,
  answer: Uint8Array,
  { ground, after, isAlone }: Scene,
): Verdict {
  const faults: string[] = [];
  const result = answer[3] ?? 0;
  const name = pcpResultName(result);
  if (answer[0] !== VERSION) faults.push(`an answer of version ${answer[0]}`);
  if (answer.length < 24 || answer.length > PCP_MAX_BYTES || answer.length % 4 !== 0)
    faults.push(`an answer of ${answer.length} bytes`);
  if (answer[1] !== ((bytes[1] ?? 0) | 0x80)) faults.push(`opcode ${answer[1]} answers ${bytes[1]}`);
  if (name === 'UNKNOWN') faults.push(`result ${result}`);
  if (answer.length >= 12 && Buffer.from(answer).readUInt32BE(8) !== ground.site.identity.epochSeconds)
    faults.push('another epoch');
  if (bytes[0] !== VERSION && result !== PCP_RESULT.UNSUPP_VERSION)
    faults.push('a version that is not spoken was served');
  const asked = pcpRequest(bytes);
  if (asked === undefined) {
    if (result === PCP_RESULT.SUCCESS) faults.push('what cannot be read was granted');
    return { result: name, faults };
  }
  try {
    const said = decodePcpResponse(answer);
    if (asked.opcode === 'announce' || result !== PCP_RESULT.SUCCESS || faults.length > 0)
      return { result: name, faults };
    if (said.opcode === 'announce' || said.opcode === 'unknown')
      return { result: name, faults: ['a grant without what is granted'] };
    const [wish, grant] = [mapOf(asked), mapOf(said)];
    if (!sameNonce(wish.nonce, grant.nonce)) faults.push('another nonce');
    if (wish.protocol !== grant.protocol || wish.internalPort !== grant.internalPort)
      faults.push('another mapping');
    if (said.lifetimeSeconds > 86_400) faults.push(`granted for ${said.lifetimeSeconds} s`);
    if (asked.opcode === 'map' && asked.lifetimeSeconds === 0 && said.lifetimeSeconds !== 0)
      faults.push('deleted, with a lifetime');
    const client = wish.options.thirdParty ?? source.address;
    const own = [...after.entries, ...after.pinholes].filter(
      (one) =>
        one.internalClient === client &&
        one.internalPort === wish.internalPort &&
        protocolOf(one) === wish.protocol,
    );
    if (isAlone && asked.opcode === 'map') {
      const granted = own.find(
        (one) => ('externalPort' in one ? one.externalPort : one.internalPort) === grant.externalPort,
      );
      if (
        asked.lifetimeSeconds > 0 &&
        (granted?.nonce === undefined || !sameNonce(granted.nonce, wish.nonce))
      )
        faults.push('granted, and not in the table');
      if (asked.lifetimeSeconds === 0 && wish.protocol !== 0 && wish.internalPort !== 0 && own.length > 0)
        faults.push('deleted, and in the table');
    }
  } catch (error) {
    faults.push(`an answer that nobody can read: ${String(error)}`);
  }
  return { result: name, faults };
}
