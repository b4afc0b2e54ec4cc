/**
 * GENA under fire: subscriptions that name other hosts, other ports, other people's SIDs, and headers that do not go
 * together. Hosts that listen tell whether anybody was called who should not be.
 */

import { createServer, type Server } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { Endpoint } from '../../../src/net/endpoint.ts';
import { eventPath, servicesOf } from '../../../src/responder/services.ts';
import type { Campaign, Shot, Verdict } from './campaign.ts';
import { GATEWAY, STRANGERS } from './ground.ts';
import { answersIn, fire, written } from './http-grammar.ts';
import { NO_CLAIM } from './judge.ts';
import { mutated } from './mutation.ts';
import type { Random } from './random.ts';

const SERVICES = servicesOf({ connectionService: 'WANIPConnection', igdVersion: 2 } as Parameters<
  typeof servicesOf
>[0]);
/** Nobody asks from there; whoever is called there was named by another. */
const VICTIM = '127.1.0.66';
const PORT = 49_152;
const STATUSES: ReadonlySet<number> = new Set([
  200, 400, 404, 405, 412, 413, 415, 417, 431, 500, 501, 503, 505,
]);
const KNOWN_SIDS = 64;

class GenaCampaign implements Campaign {
  readonly name = 'gena';
  readonly mostAtOnce = 8;
  readonly isIpv4 = true;
  readonly fire = fire;
  /** Whose each is. */
  readonly #sids = new Map<string, string>();
  #servers: Server[] = [];
  #misdirected: string[] = [];
  #notified = 0;

  async open(ground: Parameters<NonNullable<Campaign['open']>>[0]): Promise<void> {
    await ground.listen();
    // One of the clients listens as well: what it is told goes its whole way.
    const heard = (address: string) =>
      createServer((socket) => {
        socket.on('error', () => undefined);
        if (address === VICTIM) this.#misdirected.push(`${socket.remoteAddress} called ${VICTIM}`);
        this.#notified++;
        socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n'));
      });
    for (const address of [VICTIM, '127.1.0.10']) {
      const server = heard(address);
      this.#servers.push(server);
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(PORT, address, resolve);
      });
    }
  }

  shot(random: Random, source: Endpoint): Shot {
    const whole = written(this.#parts(random, source), random);
    const bytes = random.percent(70)
      ? whole
      : mutated(whole, written(this.#parts(random, source), random), random);
    return { source, bytes, claim: NO_CLAIM };
  }

  #parts(random: Random, { address }: Endpoint): Parameters<typeof written>[0] {
    const service = random.pick(SERVICES);
    const headers: [string, string][] = [];
    const method = random.percent(70)
      ? 'SUBSCRIBE'
      : random.pick(['UNSUBSCRIBE', 'UNSUBSCRIBE', 'NOTIFY', 'GET', 'subscribe']);
    const sids = [...this.#sids.keys(), 'uuid:00000000-0000-4000-8000-000000000000', '', 'x'.repeat(2000)];
    if (method === 'UNSUBSCRIBE' || random.percent(25)) headers.push(['SID', random.pick(sids)]);
    if (headers.length === 0 || random.percent(10)) {
      headers.push(['NT', random.percent(95) ? 'upnp:event' : 'upnp:propchange']);
      headers.push(['CALLBACK', this.#callback(random, address)]);
    }
    if (random.percent(80))
      headers.push([
        'TIMEOUT',
        random.pick([
          'Second-1800',
          'Second-1',
          'Second-0',
          'Second-infinite',
          'Second-999999999999',
          'x',
          '',
        ]),
      ]);
    const path = random.percent(97)
      ? eventPath(service)
      : random.pick(['/event/', '/', `${eventPath(service)}?x`]);
    return { method, path, headers, body: random.percent(5) ? 'x'.repeat(random.below(500)) : '' };
  }

  #callback(random: Random, own: string): string {
    const one = () => {
      const host = random.percent(80)
        ? own
        : random.pick([
            VICTIM,
            VICTIM,
            GATEWAY,
            'localhost',
            'victim.example',
            '127.1.66',
            '0x7f010042',
            '2130771010',
            `[::ffff:${VICTIM}]`,
            `${own}@${VICTIM}`,
            `${VICTIM}#@${own}`,
            `${own}%00${VICTIM}`,
          ]);
      const port = random.pick([PORT, PORT, PORT, 1024, 1, 80, 0, 65_536, '']);
      return `<${random.pick(['http', 'http', 'http', 'https', 'HTTP', 'ftp'])}://${host}:${port}${random.pick(['/', '', '/cb', '/\r\nX: y', '/ x', `/${'p'.repeat(600)}`])}>`;
    };
    return Array.from({ length: random.pick([1, 1, 1, 2, 3, 40]) }, one).join(random.pick(['', ' ', ', ']));
  }

  judge(shot: Shot, [bytes]: readonly Uint8Array[]): Verdict {
    const { address } = shot.source;
    if (bytes === undefined) return { result: 'silence', faults: [] };
    if (STRANGERS.includes(address)) return { result: 'answer', faults: ['a stranger was answered'] };
    const faults: string[] = [];
    let result = 'none';
    try {
      for (const { status, headers } of answersIn(bytes, false)) {
        result = String(status);
        if (!STATUSES.has(status)) faults.push(`status ${status}`);
        const sid = headers.get('sid');
        if (sid === undefined) continue;
        result = 'subscribed';
        const owner = this.#sids.get(sid);
        if (owner !== undefined && owner !== address) faults.push(`${address} was given ${owner}'s ${sid}`);
        if (!/^Second-\d{1,4}$/.test(headers.get('timeout') ?? ''))
          faults.push(`for ${headers.get('timeout')}`);
        this.#remember(sid, address);
      }
    } catch (error) {
      faults.push(`an answer that nobody can read: ${String(error)}`);
    }
    return { result, faults: [...faults, ...this.#misdirected] };
  }

  #remember(sid: string, owner: string): void {
    this.#sids.set(sid, owner);
    const [oldest] = this.#sids.keys();
    if (this.#sids.size > KNOWN_SIDS && oldest !== undefined) this.#sids.delete(oldest);
  }

  stateFaults(): readonly string[] {
    return this.#misdirected;
  }

  async close(): Promise<void> {
    const servers = this.#servers;
    this.#servers = [];
    await delay(0);
    await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
    this.#sids.clear();
  }

  get notified(): number {
    return this.#notified;
  }
}

export function gena(): Campaign {
  return new GenaCampaign();
}
