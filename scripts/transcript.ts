/**
 * Runs a session with natward before a real gateway in the lab and writes down what was typed and what came
 * back: docs/lab-session.md. Needs what the lab needs, and a built natward: `npm run transcript`.
 */

import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ADDRESSES, createLab, type Lab, labUnavailable } from '../test/lab/support/lab.ts';
import type { LabProcess, Result } from '../test/lab/support/processes.ts';

const TARGET = fileURLToPath(new URL('../docs/lab-session.md', import.meta.url));
const SETTLE_MS = 5_000;

type Place = 'lan' | 'wan' | 'gw' | 'rival';

/** A page that grows with what is done. */
class Transcript {
  readonly #lab: Lab;
  readonly #lines: string[] = [];
  #open = false;

  constructor(lab: Lab) {
    this.#lab = lab;
  }

  get text(): string {
    return `${[...this.#lines, ...(this.#open ? ['```'] : [])].join('\n')}\n`;
  }

  heading(title: string): void {
    this.#close();
    this.#lines.push('', `## ${title}`);
  }

  say(text: string): void {
    this.#close();
    this.#lines.push('', text);
  }

  /** Runs what is typed in a place, by its argv. The exit code is written down where it is not 0. */
  async type(place: Place, command: readonly string[]): Promise<Result> {
    const [program = '', ...args] = command;
    const result =
      program === 'natward'
        ? await this.#lab.natward(args, { ns: place })
        : await this.#lab.exec(place, command, { timeoutMs: 60_000 });
    this.#write(place, command, result.stdout + result.stderr, result.code);
    return result;
  }

  /** Starts what stays, and writes it down as started in the background. */
  start(place: Place, command: readonly string[]): LabProcess {
    this.#write(place, [...command, '&'], '', 0);
    return this.#lab.spawn(place, command);
  }

  #write(place: Place, command: readonly string[], output: string, code: number | null): void {
    if (!this.#open) this.#lines.push('', '```console');
    this.#open = true;
    this.#lines.push(`${place}# ${command.map(quoted).join(' ')}`);
    const text = output.replaceAll(/\s+$/g, '');
    if (text !== '') this.#lines.push(...text.split('\n').map((line) => line.trimEnd()));
    if (code !== 0) this.#lines.push(`[exit ${code}]`);
  }

  #close(): void {
    if (this.#open) this.#lines.push('```');
    this.#open = false;
  }
}

function quoted(word: string): string {
  return /^[\w./:@%+=,&-]+$/.test(word) ? word : `'${word}'`;
}

const chain = (name: string): string[] => ['nft', 'list', 'chain', 'inet', 'filter', name];
const REDIRECTS = chain('prerouting_miniupnpd');

function serving(text: string, listen: string): string[] {
  return ['socat', '-u', `SYSTEM:echo ${text}`, `${listen},fork,reuseaddr`];
}

/** Until the server of a place listens: a transcript has no room for a connection that came too soon. */
async function untilBound(lab: Lab, place: Place, port: number): Promise<void> {
  const deadline = Date.now() + SETTLE_MS;
  while (!(await lab.must(place, ['ss', '-Hlntu'])).includes(`:${port} `)) {
    if (Date.now() > deadline) throw new Error(`nothing listens on port ${port} in ${place}`);
    await delay(20);
  }
}

async function session(lab: Lab): Promise<string> {
  const page = new Transcript(lab);
  await lab.startGateway();

  page.heading('The gateway');
  await page.type('lan', ['natward', 'gateway']);
  await page.type('lan', ['natward', 'address']);

  page.heading('Mapping a port');
  page.say('The judges are the gateway’s kernel, `upnpc`, and bytes that come from the other side.');
  await page.type('lan', ['natward', 'map', '8080']);
  await page.type('gw', REDIRECTS);
  await page.type('lan', ['upnpc', '-u', lab.gateway.descriptionUrl(), '-l']);
  const server = page.start('lan', serving('hello from the lan', 'TCP-LISTEN:8080'));
  await untilBound(lab, 'lan', 8080);
  await page.type('wan', ['socat', '-u', `TCP:${ADDRESSES.outer}:8080`, '-']);
  await server.stop();
  page.say('Again: the same mapping, refreshed. There is still one.');
  await page.type('lan', ['natward', 'map', '8080']);
  await page.type('lan', ['natward', 'list']);

  page.heading('TCP and UDP, ranges, other lifetimes, over a protocol by name');
  await page.type('lan', ['natward', 'map', '*:6881/tcp+udp', '--lifetime', '30m']);
  await page.type('lan', ['natward', 'map', '6000-6010:7000-7010/udp', '--via', 'natpmp']);
  await page.type('lan', [
    'natward',
    'map',
    '8443',
    '--via',
    'upnp',
    '--description',
    'web server',
    '--json',
  ]);
  await page.type('lan', ['natward', 'list']);

  page.heading('A port that belongs to another host');
  const rival = ['upnpc', '-u', lab.gateway.descriptionUrl(), '-a', ADDRESSES.rival, '80', '8088', 'tcp'];
  await lab.exec('rival', rival);
  page.say(`The host ${ADDRESSES.rival} has mapped TCP 8088 by \`upnpc\`.`);
  await page.type('lan', ['natward', 'map', '8088']);
  await page.type('lan', ['natward', 'map', '8088', '--exact', '--via', 'upnp']);
  await page.type('lan', ['natward', 'unmap', '8088:80']);
  page.say('This gateway’s rules give no port below 1024 away.');
  await page.type('lan', ['natward', 'map', '443:8444', '--exact', '--via', 'upnp']);

  page.heading('Taking it all back');
  const all = ['8080', '*:6881/tcp+udp', '6000-6010:7000-7010/udp', '8443', '8088:8088'];
  await page.type('lan', ['natward', 'unmap', ...all]);
  await page.type('lan', ['natward', 'list']);
  await page.type('gw', REDIRECTS);

  page.heading('IPv6');
  page.say('Nothing is translated: the gateway’s firewall opens a pinhole. Before, and after:');
  const six = page.start('lan', serving('hello over IPv6', 'TCP6-LISTEN:8443'));
  await untilBound(lab, 'lan', 8443);
  const ask = ['socat', '-u', `TCP6:[${ADDRESSES.lan6}]:8443,connect-timeout=1`, '-'];
  await page.type('wan', ask);
  await page.type('lan', ['natward', 'map', `[${ADDRESSES.lan6}]:8443`]);
  await page.type('gw', chain('miniupnpd'));
  await page.type('wan', ask);
  await page.type('lan', ['natward', 'list']);
  await page.type('lan', ['natward', 'unmap', `[${ADDRESSES.lan6}]:8443`]);
  await page.type('lan', ['natward', 'map', `[${ADDRESSES.lan6}]:8443`, '--via', 'upnp']);
  await page.type('lan', ['natward', 'unmap', `[${ADDRESSES.lan6}]:8443`]);
  await six.stop();

  page.heading('No gateway');
  await lab.startGateway({ pcp: false, natpmp: false, upnp: false });
  page.say('UPnP, NAT-PMP and PCP are switched off, and the gateway’s kernel refuses their ports:');
  await page.type('lan', ['natward', 'map', '8080']);
  page.say('It drops what is sent to them instead:');
  for (const protocol of ['pcp', 'natpmp', 'ssdp'] as const) await lab.block({ protocol });
  await page.type('lan', ['natward', 'map', '8080']);
  return page.text;
}

function version(command: string, args: readonly string[], pattern: RegExp): string {
  try {
    const said = execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
    return pattern.exec(said)?.[0] ?? '?';
  } catch {
    return '?';
  }
}

function introduction(): string {
  const { version: own } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  const versions = [
    `natward ${own}`,
    `Node ${process.version}`,
    version('miniupnpd', ['--version'], /miniupnpd \S+/),
    version('nft', ['--version'], /nftables v\S+/),
    `upnpc of ${version('dpkg-query', ['-W', 'miniupnpc'], /miniupnpc\s+\S+/).replace(/\s+/, ' ')}`,
    `Linux ${version('uname', ['-r'], /\S+/)}`,
  ];
  return `# A session in the lab

Written by \`npm run transcript\`, which runs these commands and keeps what they print. On
${new Date().toISOString().slice(0, 10)}, with ${versions.join(', ')}.

Four network namespaces: \`wan\` (${ADDRESSES.wan}) is the internet, \`gw\` a gateway with a real miniupnpd and real
nftables (outside ${ADDRESSES.outer}, inside ${ADDRESSES.gateway}), \`lan\` (${ADDRESSES.lan}) the host that natward runs
on, and \`rival\` (${ADDRESSES.rival}) another host beside it. miniupnpd demands a public address of its gateway,
so it is told to be ${ADDRESSES.external}; the peer in \`wan\` connects to ${ADDRESSES.outer}.
`;
}

const unavailable = labUnavailable();
if (unavailable !== undefined) {
  console.error(`transcript: ${unavailable}`);
  process.exitCode = 1;
} else {
  const lab = await createLab({ rival: true, ipv6: true });
  try {
    writeFileSync(TARGET, introduction() + (await session(lab)));
  } finally {
    await lab[Symbol.asyncDispose]();
  }
}
