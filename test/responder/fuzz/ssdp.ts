/** SSDP under fire: searches to the gateway's own address. */

import { decodeSsdp, encodeSsdp, type SsdpSearch } from '../../../src/wire/ssdp.ts';
import type { Campaign, Shot, Verdict } from './campaign.ts';
import { STRANGERS } from './ground.ts';
import { NO_CLAIM } from './judge.ts';
import { mutated } from './mutation.ts';
import type { Random } from './random.ts';

const TARGETS = [
  'ssdp:all',
  'upnp:rootdevice',
  'urn:schemas-upnp-org:device:InternetGatewayDevice:1',
  'urn:schemas-upnp-org:device:InternetGatewayDevice:2',
  'urn:schemas-upnp-org:device:InternetGatewayDevice:3',
  'urn:schemas-upnp-org:service:WANIPConnection:1',
  'urn:schemas-upnp-org:service:WANPPPConnection:1',
  'uuid:00000000-0000-4000-8000-000000000000',
  'urn:dial-multiscreen-org:service:dial:1',
  '',
  'x'.repeat(7000),
];
/** Of the whole device tree: nothing is answered more often than that. */
const MOST_ANSWERS = 24;

export const SSDP: Campaign = {
  name: 'ssdp',
  mostAtOnce: 16,
  isIpv4: true,
  shot(random, source) {
    const whole = message(random);
    const bytes = random.percent(35) ? whole : mutated(whole, message(random), random);
    return { source, bytes, claim: NO_CLAIM };
  },
  async fire(shots, ground) {
    for (const { bytes, source } of shots) ground.ssdp.receive(bytes, source);
    await ground.settle();
    const sent = ground.ssdp.take();
    return shots.map(({ source }) =>
      sent
        .filter(({ to }) => to.address === source.address && to.port === source.port)
        .map(({ packet }) => packet),
    );
  },
  judge,
};

function message(random: Random): Uint8Array {
  const usn = 'uuid:00000000-0000-4000-8000-000000000000::upnp:rootdevice';
  const presence = { usn, bootId: 1, location: 'http://127.1.0.10:80/', server: 'x', maxAgeSeconds: 1800 };
  const kind = random.below(20);
  if (kind === 0) return encodeSsdp({ kind: 'response', searchTarget: 'upnp:rootdevice', ...presence });
  if (kind === 1) return encodeSsdp({ kind: 'alive', notificationType: 'upnp:rootdevice', ...presence });
  if (kind === 2) return encodeSsdp({ kind: 'byebye', notificationType: 'upnp:rootdevice', usn, bootId: 1 });
  const whole = encodeSsdp({
    kind: 'search',
    searchTarget: random.pick(TARGETS),
    maxWaitSeconds: random.pick([0, 1, 2, 5, 6, 120]),
    host: random.pick(['239.255.255.250:1900', '127.1.0.1:1900', '[ff02::c]:1900', '']),
  });
  if (random.percent(70)) return whole;
  const lines = Buffer.from(whole).toString('latin1').split('\r\n');
  const at = random.below(lines.length);
  const odd = random.pick([
    ': ',
    'ST',
    'MAN: "ssdp:alive"',
    `X: ${'y'.repeat(random.below(3000))}`,
    'ST: ssdp:all',
    '\tfolded',
    '\0',
  ]);
  lines.splice(at, random.below(2), ...Array.from({ length: random.pick([1, 1, 2, 80]) }, () => odd));
  return Buffer.from(lines.join(random.pick(['\r\n', '\r\n', '\n', '\r'])), 'latin1');
}

function searchIn(bytes: Uint8Array): SsdpSearch | undefined {
  try {
    const heard = decodeSsdp(bytes);
    return heard.kind === 'search' ? heard : undefined;
  } catch {
    return undefined;
  }
}

function judge({ bytes, source }: Shot, answers: readonly Uint8Array[]): Verdict {
  const search = searchIn(bytes);
  if (answers.length === 0)
    return { result: search === undefined ? 'no search' : 'not answered', faults: [] };
  const faults: string[] = [];
  if (search === undefined) faults.push('an answer to what is no search');
  if (STRANGERS.includes(source.address)) faults.push('a stranger was answered');
  if (answers.length > MOST_ANSWERS) faults.push(`${answers.length} answers to one search`);
  for (const answer of answers) {
    try {
      const said = decodeSsdp(answer);
      if (said.kind !== 'response') faults.push(`an answer that is ${said.kind}`);
      else {
        const asAsked = said.searchTarget === search?.searchTarget || search?.searchTarget === 'ssdp:all';
        if (!asAsked) faults.push(`found ${said.searchTarget}`);
        if (!said.location.startsWith('http://127.1.0.1:')) faults.push(`at ${said.location}`);
      }
    } catch (error) {
      faults.push(`an answer that nobody can read: ${String(error)}`);
    }
  }
  return { result: 'answered', faults };
}
