/** SOAP over HTTP under fire: every action of every service, with values, XML and heads of all kinds; and documents. */

import type { Endpoint } from '../../../src/net/endpoint.ts';
import { controlPath, type Service, servicesOf, serviceType } from '../../../src/responder/services.ts';
import { decodeSoapCall, decodeSoapReply, encodeSoapCall } from '../../../src/wire/soap.ts';
import { parseXml } from '../../../src/wire/xml.ts';
import type { Campaign, Scene, Shot, Verdict } from './campaign.ts';
import { CLIENTS, STRANGERS } from './ground.ts';
import { answersIn, fire, written } from './http-grammar.ts';
import { claimOf } from './judge.ts';
import { INNER_PORTS, LIFETIMES, OUTER_PORTS } from './mapping-port.ts';
import { mutated } from './mutation.ts';
import type { Random } from './random.ts';

const SERVICES = servicesOf({ connectionService: 'WANIPConnection', igdVersion: 2 } as Parameters<
  typeof servicesOf
>[0]);
/** Those that change something are asked for more often. */
const CHANGES = [
  'AddPortMapping',
  'AddPortMapping',
  'AddPortMapping',
  'AddAnyPortMapping',
  'DeletePortMapping',
  'DeletePortMappingRange',
  'AddPinhole',
  'UpdatePinhole',
  'DeletePinhole',
];
const STATUSES: ReadonlySet<number> = new Set([
  200, 400, 404, 405, 408, 411, 412, 413, 415, 417, 431, 500, 501, 503, 505,
]);

interface SoapShot extends Shot {
  /** What is asked for, where it went out as it should. */
  readonly asked: { readonly action: string; readonly values: Readonly<Record<string, string>> } | undefined;
}

export const SOAP: Campaign = {
  name: 'soap',
  mostAtOnce: 8,
  open: (ground) => ground.listen(),
  shot,
  contest,
  fire,
  judge,
};

function shot(random: Random, source: Endpoint): SoapShot {
  const claim = claimOf(source.address);
  if (random.percent(8)) {
    const path = random.pick([
      '/rootDesc.xml',
      '/WANIPConnection.xml',
      '/WANIPv6FirewallControl.xml',
      '/',
      '/../etc/passwd',
      `/${'a'.repeat(9000)}`,
      '*',
    ]);
    const method = random.pick(['GET', 'GET', 'HEAD', 'POST', 'PUT', 'OPTIONS', 'get', 'M-SEARCH']);
    return {
      source,
      claim,
      asked: undefined,
      bytes: written({ method, path, headers: [], body: '' }, random),
    };
  }
  const service = random.percent(70) ? (SERVICES[2] as Service) : random.pick(SERVICES);
  const names = Object.keys(service.actions);
  const changes = CHANGES.filter((name) => names.includes(name));
  const action = changes.length > 0 && random.percent(65) ? random.pick(changes) : random.pick(names);
  const shape = service.actions[action];
  const values = Object.fromEntries(
    Object.keys(shape?.in ?? {}).map((name) => [name, value(name, random, source)]),
  );
  const version = random.percent(90) ? service.version : random.pick([0, 1, 2, 3]);
  const type = serviceType({ ...service, version });
  const isPlain = random.percent(40);
  const body = encodeSoapCall({ serviceType: type, action, values });
  const parts = {
    method: 'POST',
    path: random.percent(97)
      ? controlPath(service)
      : random.pick(['/control/WANPPPConnection', '/control/', '/control/WANIPConnection?x']),
    headers: [
      [
        'Content-Type',
        random.percent(95)
          ? 'text/xml; charset="utf-8"'
          : random.pick(['text/plain', 'application/xml', 'text/xml; charset=utf-16']),
      ],
      [
        'SOAPAction',
        isPlain || random.percent(90)
          ? `"${type}#${action}"`
          : random.pick(['""', `${type}#${action}`, `"${type}#x"`, 'x#', '#'.repeat(300)]),
      ],
    ] as const,
    body: isPlain ? body : spoiled(body, random),
  };
  if (isPlain && random.percent(60)) {
    // As it is written: what XML cannot carry has gone.
    const asked = version === service.version ? { action, values: decodeSoapCall(body).values } : undefined;
    return { source, claim, asked, waits: asked !== undefined, bytes: plain(service, type, action, body) };
  }
  let bytes = written(parts, random);
  if (random.percent(15)) bytes = Buffer.concat([bytes, written(parts, random)]);
  else if (random.percent(30)) bytes = mutated(bytes, written(parts, random), random);
  return { source, claim, asked: undefined, bytes };
}

function plain(service: Service, type: string, action: string, body: string): Uint8Array {
  const head = `POST ${controlPath(service)} HTTP/1.1\r\nHost: 127.1.0.1\r\nSOAPAction: "${type}#${action}"\r\n`;
  return Buffer.from(`${head}Content-Length: ${Buffer.byteLength(body)}\r\n\r\n${body}`);
}

/** A mapping of few, made, pointed elsewhere, limited, switched off and on, or ended. */
function contest(random: Random, source: Endpoint): SoapShot {
  const service = SERVICES[2] as Service;
  const type = serviceType(service);
  const action = random.pick([
    'AddPortMapping',
    'AddPortMapping',
    'AddAnyPortMapping',
    'DeletePortMapping',
    'DeletePortMappingRange',
  ]);
  const port = random.pick(['20100', '20101']);
  const known: Readonly<Record<string, string>> = {
    NewRemoteHost: random.pick(['', '', '203.0.113.5']),
    NewExternalPort: port,
    NewStartPort: '20100',
    NewEndPort: '20199',
    NewProtocol: 'TCP',
    NewInternalPort: random.pick(['6881', '6882']),
    NewInternalClient: source.address,
    NewEnabled: random.pick(['1', '1', '0']),
    NewManage: '0',
    NewPortMappingDescription: '',
    NewLeaseDuration: random.pick(['600', '7200']),
  };
  const names = Object.keys(service.actions[action]?.in ?? {});
  const values = Object.fromEntries(names.map((name) => [name, known[name] ?? '']));
  const body = encodeSoapCall({ serviceType: type, action, values });
  return {
    source,
    claim: claimOf(source.address),
    asked: { action, values },
    waits: true,
    bytes: plain(service, type, action, body),
  };
}

function value(name: string, random: Random, { address }: Endpoint): string {
  if (random.percent(1))
    return random.pick([
      '',
      '-1',
      '1e3',
      '65536',
      '4294967296',
      'x'.repeat(5000),
      '\0',
      '<',
      '&amp;',
      ' 1 ',
      '٣',
    ]);
  if (/ExternalPort|StartPort|EndPort/.test(name)) return String(random.pick(OUTER_PORTS));
  if (name.endsWith('Port')) return String(random.pick(INNER_PORTS));
  if (name.endsWith('Client')) return random.percent(80) ? address : random.pick([...CLIENTS, ...STRANGERS]);
  if (name.endsWith('RemoteHost'))
    return random.percent(85) ? '' : random.pick(['203.0.113.5', '2001:db8::1', 'a.example', '*']);
  if (name.endsWith('Protocol'))
    return name === 'Protocol'
      ? random.pick(['6', '17', '17', '136', '65535'])
      : random.pick(['TCP', 'TCP', 'TCP', 'UDP', 'UDP', 'udp', 'SCTP']);
  if (name.includes('Lease')) return String(random.pick(LIFETIMES));
  if (/Enabled|Manage/.test(name))
    return random.pick(['1', '1', '1', '1', '1', '1', 'true', '0', 'no', 'maybe']);
  if (/UniqueID|Index|NumberOf/.test(name)) return String(random.below(12));
  return random.pick(['libminiupnpc', '', 'ünïcödé', ']]>', '<b>&', 'x'.repeat(600)]);
}

/** XML that is deep, wide, cut, of two minds, or none. */
function spoiled(body: string, random: Random): string {
  const tag = /<(New\w+|\w+)>/.exec(body)?.[1] ?? 'x';
  switch (random.below(12)) {
    case 0:
      return body.replace('<s:Body>', `<s:Body>${'<a>'.repeat(random.pick([10, 40, 5000]))}`);
    case 1:
      return body.replace('</s:Body>', `${'<a/>'.repeat(random.pick([10, 3000]))}</s:Body>`);
    case 2:
      return `<!DOCTYPE x [<!ENTITY a "b">]>${body}`;
    case 3:
      return body.replace(`<${tag}>`, `<${tag}>&a;&lt;&#0;&#x41;&#xffffffff;`);
    case 4:
      return body.replace(`<${tag}>`, `<${tag}>1</${tag}><${tag}>`);
    case 5:
      return body.replaceAll('New', random.pick(['new', 'Old', '']));
    case 6:
      return body.slice(0, random.below(body.length));
    case 7:
      return body.replace(`<${tag}>`, `<${tag}><![CDATA[80]]>`);
    case 8:
      return body.replace('<s:Body>', '<s:Body><__proto__>1</__proto__><constructor/>');
    case 9:
      return body.replaceAll('s:', random.pick(['', 'SOAP-ENV:', 't:']));
    case 10:
      return body + 'x'.repeat(random.pick([1, 70_000]));
    default:
      return body.replace(/>([^<]*)</, (_, text: string) => `>${text.split('').toReversed().join('')}<`);
  }
}

function judge(one: Shot, [bytes]: readonly Uint8Array[], scene: Scene): Verdict {
  const { source, asked } = one as SoapShot;
  if (bytes === undefined) {
    const isMissed = asked !== undefined && CLIENTS.includes(source.address);
    return { result: 'silence', faults: isMissed ? ['no answer to a good request'] : [] };
  }
  if (STRANGERS.includes(source.address)) return { result: 'answer', faults: ['a stranger was answered'] };
  const faults: string[] = [];
  let result = 'unreadable';
  try {
    const answers = answersIn(bytes, /^\r*\n*HEAD /.test(Buffer.from(one.bytes).toString('latin1', 0, 20)));
    for (const { status, headers, body } of answers) {
      result = String(status);
      if (!STATUSES.has(status)) faults.push(`status ${status}`);
      if (!headers.get('content-type')?.startsWith('text/xml') || body === '') continue;
      parseXml(body);
      if (!body.includes('Envelope')) continue;
      const reply = decodeSoapReply(body);
      if (reply.kind === 'fault') result = `fault ${reply.errorCode}`;
      if ((status === 500) !== (reply.kind === 'fault')) faults.push(`${reply.kind} with status ${status}`);
    }
    const whole = asked === undefined ? undefined : answers[0];
    if (whole !== undefined && asked !== undefined) {
      if (answers.length !== 1) faults.push(`${answers.length} answers to one request`);
      if (scene.isAlone) faults.push(...grantFaults(asked, source.address, whole.status, scene));
    }
  } catch (error) {
    faults.push(`an answer that nobody can read: ${String(error)}`);
  }
  return { result, faults };
}

function grantFaults(
  { action, values }: NonNullable<SoapShot['asked']>,
  requester: string,
  status: number,
  { after }: Scene,
): string[] {
  if (status !== 200) return [];
  const there = after.entries.find(
    (one) =>
      one.protocol === values['NewProtocol']?.toLowerCase() &&
      String(one.externalPort) === values['NewExternalPort']?.trim(),
  );
  if (action === 'DeletePortMapping' && there !== undefined) return ['deleted, and in the table'];
  if (action !== 'AddPortMapping') return [];
  const isAsAsked =
    there?.internalClient === (values['NewInternalClient'] || requester) &&
    String(there?.internalPort) === values['NewInternalPort']?.trim();
  return isAsAsked ? [] : [`granted, and not in the table, but ${JSON.stringify(there)}`];
}
