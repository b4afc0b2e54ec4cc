/** NAT-PMP under fire. */

import { decodeNatpmpResponse, encodeNatpmpRequest, NATPMP_RESULT } from '../../../src/wire/natpmp.ts';
import type { Campaign, Scene, Shot, Verdict } from './campaign.ts';
import { claimFor, natpmpRequest } from './claims.ts';
import { STRANGERS } from './ground.ts';
import { fire, INNER_PORTS, isServed, LIFETIMES, OUTER_PORTS } from './mapping-port.ts';
import { mutated } from './mutation.ts';
import type { Random } from './random.ts';

export const NATPMP: Campaign = {
  name: 'natpmp',
  mostAtOnce: 16,
  isIpv4: true,
  fire,
  shot(random, source) {
    const whole = request(random);
    const isWhole = random.percent(45);
    const bytes = isWhole ? whole : mutated(whole, request(random), random);
    return { source, bytes, claim: claimFor(bytes, source) };
  },
  judge,
};

function request(random: Random): Uint8Array {
  if (random.percent(8)) return encodeNatpmpRequest({ opcode: 'address' });
  return encodeNatpmpRequest({
    opcode: 'map',
    protocol: random.pick(['tcp', 'udp']),
    internalPort: random.percent(90) ? random.pick([0, ...INNER_PORTS]) : random.below(65_536),
    suggestedExternalPort: random.percent(80) ? random.pick(OUTER_PORTS) : random.below(65_536),
    lifetimeSeconds: random.percent(95) ? random.pick(LIFETIMES) : random.next(),
  });
}

function judge(
  { bytes, source }: Shot,
  answers: readonly Uint8Array[],
  { ground, after, isAlone }: Scene,
): Verdict {
  const [answer] = answers;
  const asked = natpmpRequest(bytes);
  if (answer === undefined) {
    const isMissed = asked !== undefined && isServed(source.address) && !source.address.includes(':');
    return { result: 'silence', faults: isMissed ? ['no answer to a good request'] : [] };
  }
  if (answers.length > 1) return { result: 'several', faults: [`${answers.length} answers to one request`] };
  if (STRANGERS.includes(source.address)) return { result: 'answer', faults: ['a stranger was answered'] };
  // The port is PCP's as well, and over IPv6 PCP's alone.
  if (bytes[0] !== 0 || source.address.includes(':')) return { result: 'pcp', faults: [] };
  const faults: string[] = [];
  if (answer[1] !== ((bytes[1] ?? 0) | 0x80)) faults.push(`opcode ${answer[1]} answers ${bytes[1]}`);
  try {
    const said = decodeNatpmpResponse(answer);
    const name = Object.entries(NATPMP_RESULT).find(([, code]) => code === said.result)?.[0];
    if (name === undefined) faults.push(`result ${said.result}`);
    if (said.epochSeconds !== ground.site.identity.epochSeconds) faults.push('another epoch');
    if (said.result === NATPMP_RESULT.SUCCESS && asked?.opcode === 'map') {
      if (
        said.opcode !== 'map' ||
        said.protocol !== asked.protocol ||
        said.internalPort !== asked.internalPort
      ) {
        return { result: 'SUCCESS', faults: [...faults, 'another mapping'] };
      }
      const own = after.entries.filter(
        (one) =>
          one.internalClient === source.address &&
          one.protocol === asked.protocol &&
          one.internalPort === asked.internalPort,
      );
      if (said.lifetimeSeconds > 86_400) faults.push(`granted for ${said.lifetimeSeconds} s`);
      if (
        isAlone &&
        asked.lifetimeSeconds > 0 &&
        !own.some((one) => one.externalPort === said.externalPort)
      ) {
        faults.push('granted, and not in the table');
      }
      if (isAlone && asked.lifetimeSeconds === 0 && asked.internalPort !== 0 && own.length > 0) {
        faults.push('deleted, and in the table');
      }
    } else if (said.result === NATPMP_RESULT.SUCCESS && asked === undefined)
      faults.push('what cannot be read was granted');
    return { result: name ?? 'UNKNOWN', faults };
  } catch (error) {
    return { result: 'unreadable', faults: [...faults, `an answer that nobody can read: ${String(error)}`] };
  }
}
