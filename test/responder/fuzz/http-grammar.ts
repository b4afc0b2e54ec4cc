/** HTTP under fire: how a request goes out in all kinds of ways, and how what comes back is read. */

import type { Campaign } from './campaign.ts';
import type { Random } from './random.ts';

export interface HttpParts {
  readonly method: string;
  readonly path: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string;
}

const HOSTS = [
  '127.1.0.1:5000',
  '127.1.0.1:5000',
  '127.1.0.1:5000',
  '[fd00:1::1]:5000',
  'evil.example',
  '',
  '127.1.0.1:x',
  '[::1',
];

/** The request, mostly as it should be written. */
export function written({ method, path, headers, body }: HttpParts, random: Random): Uint8Array {
  const bytes = Buffer.from(body, 'utf8');
  const isOdd = random.percent(15);
  const lines = [
    `${method} ${path} HTTP/1.${isOdd ? random.pick(['1', '0', '2', '11', '']) : 1}`,
    `Host: ${isOdd ? random.pick(HOSTS) : HOSTS[0]}`,
    ...headers.map(([name, value]) => `${name}: ${value}`),
  ];
  const isChunked = random.percent(8);
  if (isChunked) lines.push('Transfer-Encoding: chunked');
  else if (bytes.length > 0 || random.percent(10)) lines.push(`Content-Length: ${bytes.length}`);
  if (isOdd) for (let left = 1 + random.below(3); left > 0; left--) spoil(lines, bytes.length, random);
  const end = isOdd && random.percent(10) ? '\n' : '\r\n';
  return Buffer.concat([
    Buffer.from(`${lines.join(end)}${end}${end}`, 'latin1'),
    isChunked ? chunked(bytes, random) : bytes,
  ]);
}

function spoil(lines: string[], length: number, random: Random): void {
  const at = 1 + random.below(lines.length);
  switch (random.below(10)) {
    case 0:
      lines.splice(
        at,
        0,
        `Content-Length: ${random.pick([length + 1, length - 1, 0, -1, 70_000, 1e15, '1, 1', '0x10', ''])}`,
      );
      break;
    case 1:
      lines.splice(
        at,
        0,
        `Transfer-Encoding: ${random.pick(['chunked', 'gzip, chunked', 'identity', 'chunked, chunked', ' chunked'])}`,
      );
      break;
    case 2:
      lines.splice(
        at,
        0,
        `X-${'y'.repeat(random.below(200))}: ${'z'.repeat(random.pick([0, 10, 9000, 17_000]))}`,
      );
      break;
    case 3:
      lines.splice(at, 0, ...Array.from({ length: random.pick([10, 63, 64, 200]) }, (_, n) => `H${n}: x`));
      break;
    case 4:
      lines.splice(at, 0, ' folded: x');
      break;
    case 5:
      lines.splice(at, 0, `Connection: ${random.pick(['close', 'keep-alive', 'upgrade', 'Close, x'])}`);
      break;
    case 6:
      lines.splice(at, 0, `Expect: ${random.pick(['100-continue', '200-ok'])}`);
      break;
    case 7:
      lines.splice(at, 0, random.pick(['nothing', ':', 'a b: c', '\0: x', 'Host: evil.example', 'é: x']));
      break;
    case 8:
      lines.splice(at, 1);
      break;
    default:
      lines[at - 1] = (lines[at - 1] ?? '').toUpperCase();
  }
}

function chunked(body: Uint8Array, random: Random): Uint8Array {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < body.length; ) {
    const size = 1 + random.below(body.length);
    const part = body.subarray(at, at + size);
    const told = random.percent(97) ? part.length : part.length + 1;
    const extension = random.percent(5) ? `;${'x'.repeat(random.below(400))}` : '';
    parts.push(Buffer.from(`${told.toString(16)}${extension}\r\n`), part, Buffer.from('\r\n'));
    at += size;
  }
  parts.push(
    Buffer.from(
      random.pick(['0\r\n\r\n', '0\r\n\r\n', '0\r\n\r\n', '0\r\nX: y\r\n\r\n', '', 'ffffffff\r\n']),
    ),
  );
  return Buffer.concat(parts);
}

/** One connection for each; the bytes come in one piece or in several, and mostly the client then ends its side. */
export const fire: Campaign['fire'] = async (shots, ground, random) => {
  const streams = shots.map(({ source }) => ground.connect(source.address));
  const rests: (readonly Uint8Array[])[] = shots.map(({ bytes }) => pieces(bytes, random));
  for (let round = 0; rests.some((rest) => round <= rest.length); round++) {
    for (const [at, rest] of rests.entries()) {
      const stream = streams[at];
      if (stream === undefined || stream.destroyed || stream.readableEnded || round > rest.length) continue;
      const piece = rest[round];
      if (piece !== undefined) stream.push(Buffer.from(piece));
      else if (shots[at]?.waits !== true && random.percent(90)) stream.push(null);
      if (shots.length > 1) await ground.pause(random);
    }
  }
  await ground.settle();
  const answers = streams.map(({ written: all }) => (all.length === 0 ? [] : [Uint8Array.from(all)]));
  for (const stream of streams) stream.destroy();
  await ground.settle();
  return answers;
};

function pieces(bytes: Uint8Array, random: Random): readonly Uint8Array[] {
  if (random.percent(70)) return [bytes];
  const cuts = Array.from({ length: 1 + random.below(3) }, () => random.below(bytes.length + 1)).sort(
    (a, b) => a - b,
  );
  return [...cuts, bytes.length].map((cut, at) => bytes.subarray(cuts[at - 1] ?? 0, cut));
}

export interface HttpAnswerRead {
  readonly status: number;
  readonly headers: ReadonlyMap<string, string>;
  readonly body: string;
}

/** Throws where it is not HTTP from its first byte to its last. `isHead`: the answers have no bodies. */
export function answersIn(bytes: Uint8Array, isHead: boolean): HttpAnswerRead[] {
  const text = Buffer.from(bytes).toString('latin1');
  const answers: HttpAnswerRead[] = [];
  for (let at = 0; at < text.length; ) {
    const end = text.indexOf('\r\n\r\n', at);
    const [first = '', ...lines] = text.slice(at, end).split('\r\n');
    const status = Number(/^HTTP\/1\.1 (\d{3}) [ -~]*$/.exec(first)?.[1]);
    if (end < 0 || Number.isNaN(status)) throw new Error(`"${first.slice(0, 60)}"`);
    const headers = new Map<string, string>();
    for (const line of lines) {
      const colon = line.indexOf(': ');
      if (colon < 1) throw new Error(`header "${line.slice(0, 60)}"`);
      headers.set(line.slice(0, colon).toLowerCase(), line.slice(colon + 2));
    }
    at = end + 4;
    if (status === 100) continue;
    // Without a length it ends with the connection.
    // node:http's own, to an Expect that it does not know: chunks without any, or nothing to a HEAD.
    if (status === 417) {
      if (headers.get('transfer-encoding') === 'chunked') at = text.indexOf('0\r\n\r\n', at) + 5;
      answers.push({ status, headers, body: '' });
      continue;
    }
    const isLast = headers.get('content-length') === undefined && headers.get('connection') === 'close';
    const length = isLast ? text.length - at : Number(headers.get('content-length'));
    if (!Number.isInteger(length)) throw new Error(`no length: ${text.slice(0, 300)}`);
    const body = isHead ? '' : text.slice(at, at + length);
    if (!isHead && body.length < length) throw new Error(`${body.length} bytes of ${length}`);
    at += body.length;
    answers.push({ status, headers, body: Buffer.from(body, 'latin1').toString('utf8') });
  }
  return answers;
}
