/** How a hostile, broken or overloaded gateway answers: late, not at all, elsewhere, and without an end. */

import { Readable } from 'node:stream';
import type { Hooks, Layer } from '../hooks.ts';
import type { Inside } from './inside.ts';
import type { Misbehaviour } from './misbehaviour.ts';

export function delayMs(delays: NonNullable<Misbehaviour['delayMs']>, { site }: Inside): Hooks {
  const wait = async (layer: Layer) => {
    const delay = delays[layer];
    if (delay === undefined) return true;
    return site.clock.sleep(delay, site.closing).then(
      () => true,
      () => false,
    );
  };
  return {
    async exchange({ layer }, next) {
      const answer = await next();
      return (await wait(layer)) ? answer : undefined;
    },
  };
}

export function silent(): Hooks {
  return { exchange: async () => undefined };
}

export function silentOn(kinds: readonly string[]): Hooks {
  return { exchange: async ({ kind }, next) => (kinds.includes(kind) ? undefined : next()) };
}

export function loseAnswers(losses: Readonly<Record<string, number>>): Hooks {
  const left = new Map(Object.entries(losses));
  return {
    async exchange({ kind }, next) {
      const more = left.get(kind) ?? 0;
      left.set(kind, more - 1);
      const answer = await next();
      return more > 0 ? undefined : answer;
    },
  };
}

export function foreignLocation(url: string): Hooks {
  return { location: () => url };
}

export function redirect(url: string): Hooks {
  return {
    http: (_reply, { method }) => ({
      kind: 'answer',
      status: method === 'POST' ? 307 : 302,
      headers: { Location: url },
      body: '',
    }),
  };
}

const HUGE_BYTES = 100 * 1024 * 1024;
const HUGE_PART = Buffer.alloc(65_536, ' ');

export function hugeBody(): Hooks {
  return {
    http: () => ({
      kind: 'raw',
      write(socket) {
        socket.on('error', () => undefined);
        socket.write(`${XML_HEAD}Content-Length: ${HUGE_BYTES}\r\n\r\n`);
        // pipe() waits for the reader, so that the hundred megabytes are never here at once.
        Readable.from(hugeParts()).pipe(socket);
      },
    }),
  };
}

function* hugeParts(): Generator<Buffer> {
  for (let sent = 0; sent < HUGE_BYTES; sent += HUGE_PART.length) yield HUGE_PART;
}

const DRIP_MS = 200;
const XML_HEAD = 'HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\n';

export function slowBody({ site }: Inside): Hooks {
  return {
    http: () => ({
      kind: 'raw',
      write(socket) {
        socket.on('error', () => undefined);
        socket.write(`${XML_HEAD}Transfer-Encoding: chunked\r\n\r\n15\r\n<?xml version="1.0"?>\r\n`);
        const drip = async () => {
          while (!socket.destroyed) {
            await site.clock.sleep(DRIP_MS, site.closing);
            socket.write('1\r\n \r\n');
          }
        };
        drip().catch(() => socket.destroy());
      },
    }),
  };
}

const DEPTH = 20_000;

export function xmlBomb(kind: 'entities' | 'nesting'): Hooks {
  const bomb = kind === 'entities' ? entities() : '<a>'.repeat(DEPTH) + '</a>'.repeat(DEPTH);
  return { document: () => bomb };
}

/** A billion laughs: nine entities, each ten times the one before it. */
function entities(): string {
  const levels = Array.from({ length: 9 }, (_, level) => level + 1);
  const declared = levels.map((level) => `<!ENTITY e${level} "${`&e${level - 1};`.repeat(10)}">`);
  return (
    `<?xml version="1.0"?><!DOCTYPE root [<!ENTITY e0 "laugh">${declared.join('')}]>` +
    '<root><device><friendlyName>&e9;</friendlyName></device></root>'
  );
}
