/**
 * A process in a network namespace of its own, with a name server on its loopback address that knows a few names: it
 * asks the machine's resolver as natward does, and prints what came back.
 */

import { createSocket } from 'node:dgram';
import { systemNames } from '../../src/system/names.ts';

const TYPE = { A: 1, PTR: 12, AAAA: 28 } as const;

interface Answer {
  readonly ttl: number;
  readonly data: Uint8Array;
}

const ipv6 = Uint8Array.of(0x20, 0x01, 0x0d, 0xb8, ...Array.from({ length: 11 }, () => 0), 2);

const ZONE: Readonly<Record<string, readonly Answer[]>> = {
  [`two.example ${TYPE.A}`]: [{ ttl: 300, data: Uint8Array.of(192, 0, 2, 2) }],
  [`two.example ${TYPE.AAAA}`]: [{ ttl: 60, data: ipv6 }],
  [`hasty.example ${TYPE.A}`]: [{ ttl: 0, data: Uint8Array.of(192, 0, 2, 3) }],
  [`lasting.example ${TYPE.A}`]: [
    { ttl: 604_800, data: Uint8Array.of(192, 0, 2, 4) },
    { ttl: 604_800, data: Uint8Array.of(192, 0, 2, 5) },
  ],
  [`2.2.0.192.in-addr.arpa ${TYPE.PTR}`]: [
    { ttl: 60, data: labels('Two.Example') },
    { ttl: 60, data: labels('two.example.net') },
  ],
  [`9.2.0.192.in-addr.arpa ${TYPE.PTR}`]: [{ ttl: 60, data: labels('two.example') }],
};

function labels(name: string): Uint8Array {
  const parts = name.split('.').flatMap((label) => [label.length, ...Buffer.from(label)]);
  return Uint8Array.of(...parts, 0);
}

/** RFC 1035, section 4: the question as it came, and what the zone has for it. */
function answerTo(query: Buffer): Buffer {
  const names: string[] = [];
  let at = 12;
  for (let length = query[at] as number; length > 0; length = query[at] as number) {
    names.push(query.toString('latin1', at + 1, at + 1 + length));
    at += 1 + length;
  }
  const end = at + 5;
  const name = names.join('.').toLowerCase();
  const type = query.readUInt16BE(at + 1);
  const found = ZONE[`${name} ${type}`] ?? [];
  const isKnown = Object.keys(ZONE).some((key) => key.startsWith(`${name} `));
  const head = Buffer.alloc(12);
  query.copy(head, 0, 0, 2);
  head.writeUInt16BE(0x8580 | (isKnown ? 0 : 3), 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt16BE(found.length, 6);
  const records = found.map(({ ttl, data }) => {
    const record = Buffer.alloc(12);
    record.writeUInt16BE(0xc00c, 0);
    record.writeUInt16BE(type, 2);
    record.writeUInt16BE(1, 4);
    record.writeUInt32BE(ttl, 6);
    record.writeUInt16BE(data.length, 10);
    return Buffer.concat([record, data]);
  });
  return Buffer.concat([head, query.subarray(12, end), ...records]);
}

const server = createSocket('udp4');
server.on('message', (query, from) => server.send(answerTo(query), from.port, from.address));
await new Promise<void>((resolve) => server.bind(53, '127.0.0.1', resolve));
const asked = process.argv.slice(2).map(async (what): Promise<readonly [string, unknown]> => {
  const isAddress = /^[\d.]+$|:/.test(what);
  const answer = isAddress
    ? systemNames.namesOf(what)
    : systemNames.addressesOf(what).catch((error: NodeJS.ErrnoException) => error.code);
  return [what, await answer];
});
process.stdout.write(JSON.stringify(Object.fromEntries(await Promise.all(asked))));
server.close();
