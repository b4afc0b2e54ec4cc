import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseSpec, resolveSpec } from '../../src/agent/spec.ts';
import { isNatwardError } from '../../src/errors.ts';
import { bracketed } from '../../src/net/address.ts';
import { formatPortRange, type PortRange } from '../../src/net/port-range.ts';

const one = (port: number): PortRange => ({ first: port, last: port });

describe('a spec', () => {
  test.each([
    ['8080', { external: one(8080), internal: one(8080), host: undefined, protocols: ['tcp'] }],
    ['443:8443', { external: one(443), internal: one(8443), host: undefined, protocols: ['tcp'] }],
    ['*:6881/tcp+udp', { external: 'any', internal: one(6881), host: undefined, protocols: ['tcp', 'udp'] }],
    [
      '6000-6010:7000-7010/udp',
      {
        external: { first: 6000, last: 6010 },
        internal: { first: 7000, last: 7010 },
        host: undefined,
        protocols: ['udp'],
      },
    ],
    [
      '443:192.168.1.8:8443',
      { external: one(443), internal: one(8443), host: '192.168.1.8', protocols: ['tcp'] },
    ],
    [
      '[2001:db8::8]:8443',
      { external: one(8443), internal: one(8443), host: '2001:db8::8', protocols: ['tcp'] },
    ],
  ])('%s is read as documented', (text, spec) => {
    expect(parseSpec(text)).toEqual({ spec: text, ...spec });
  });

  test.each([
    ['192.168.1.8:80', { external: one(80), internal: one(80), host: '192.168.1.8' }],
    ['nas:80', { external: one(80), internal: one(80), host: 'nas' }],
    ['8080:nas.lan:80', { external: one(8080), internal: one(80), host: 'nas.lan' }],
    ['*:nas.lan.:80/UDP', { external: 'any', internal: one(80), host: 'nas.lan.', protocols: ['udp'] }],
    ['443:[fe80::1%eth0]:8443', { external: one(443), internal: one(8443), host: 'fe80::1%eth0' }],
    ['*:[2001:DB8:0::8]:80', { external: 'any', internal: one(80), host: '2001:db8::8' }],
    ['80/udp+tcp', { internal: one(80), protocols: ['tcp', 'udp'] }],
    ['1-65535', { external: { first: 1, last: 65_535 }, internal: { first: 1, last: 65_535 } }],
    ['7000-7000', { internal: one(7000) }],
    ['xn--bcher-kva.example:80', { host: 'xn--bcher-kva.example' }],
    ['9lives:80', { host: '9lives' }],
  ])('%s is read as people mean it', (text, spec) => {
    expect(parseSpec(text)).toMatchObject(spec);
  });

  test.each([
    ['', '""'],
    ['foo', '"foo"'],
    ['0', 'port 0'],
    ['65536', 'port 65536'],
    ['99999999999999999999', '99999999999999999999'],
    ['-1', '"-1"'],
    ['80-', '80-'],
    ['-80', '-80'],
    ['1-2-3', '1-2-3'],
    ['90-80', 'the range 90-80 runs backwards'],
    ['80.5', '"80.5"'],
    ['0x50', '"0x50"'],
    ['８０', '"８０"'],
    [' 80', '" 80"'],
    ['80/', '"" is not a protocol'],
    ['80/sctp', '"sctp" is not a protocol'],
    ['80/tcp/udp', '"tcp/udp" is not a protocol'],
    ['80/constructor', '"constructor" is not a protocol'],
    ['80/__proto__', '"__proto__" is not a protocol'],
    ['6000-6010:7000-7001', '6000-6010 is 11 external ports for 2 internal ones'],
    ['80:7000-7001', '80 is 1 external ports for 2 internal ones'],
    ['0:80', 'port 0'],
    ['65536:80', 'port 65536'],
    ['90-80:80', '90-80'],
    ['1:2:3', '"1:2:3" has too many parts'],
    ['80:80:80:80', 'too many parts'],
    ['1.2.3:80', '"1.2.3"'],
    ['1.2.3.4.5:80', '"1.2.3.4.5"'],
    ['256.1.1.1:80', '"256.1.1.1"'],
    ['010.0.0.1:80', '"010.0.0.1"'],
    [':80', '""'],
    ['*', '"*"'],
    ['80:*', '"*"'],
    ['*:*', '"*"'],
    ['2001:db8::8:8443', '"2001:db8::8:8443"'],
    ['[2001:db8::8]', '"[2001:db8::8]"'],
    ['[]:80', '""'],
    ['[192.168.1.8]:80', '"192.168.1.8"'],
    ['[2001:db8::8:80', '[2001'],
    ['nas_:80:tcp', '"tcp"'],
    [`${'a'.repeat(300)}:80`, 'neither a port nor a host'],
    ['a..b:80', '"a..b"'],
    ['-nas:80', '"-nas"'],
    ['n\u001b[31mas:80', 'neither a port nor a host'],
  ])('%j is USAGE, and the message names what is wrong', (text, named) => {
    expect(outcomeOf(text)).toBe('USAGE');
    expect(() => parseSpec(text)).toThrow(named);
  });

  const port = fc.integer({ min: 1, max: 65_535 });
  const range = fc
    .tuple(port, fc.integer({ min: 0, max: 300 }))
    .map(([first, more]) => ({ first, last: Math.min(first + more, 65_535) }));
  const label = fc.stringMatching(/^[a-z]([a-z0-9-]{0,8}[a-z0-9])?$/);
  const host = fc.option(
    fc.oneof(
      fc.ipV4(),
      fc.tuple(label, label).map((labels) => labels.join('.')),
      fc.constantFrom('2001:db8::8', 'fd00::1', '::1', 'fe80::1%eth0'),
    ),
    { nil: undefined },
  );
  const protocols = fc.constantFrom(['tcp'] as const, ['udp'] as const, ['tcp', 'udp'] as const);

  test('that is written from its parts is read as those parts', () => {
    fc.assert(
      fc.property(range, fc.constantFrom('any', 'same', 'other'), host, protocols, port, (...parts) => {
        const [internal, kind, host, protocols, start] = parts;
        const count = internal.last - internal.first;
        const first = Math.min(start, 65_535 - count);
        const external = kind === 'any' ? 'any' : kind === 'same' ? internal : { first, last: first + count };
        const outside = { any: '*:', same: '', other: `${formatPortRange({ first, last: first + count })}:` };
        const inside = host === undefined ? '' : `${bracketed(host)}:`;
        const text = `${outside[kind]}${inside}${formatPortRange(internal)}/${protocols.join('+')}`;
        expect(parseSpec(text)).toEqual({ spec: text, external, internal, host, protocols });
      }),
    );
  });

  test('that is any text is read or is USAGE, in no time', () => {
    const pieces = fc.array(fc.constantFrom(...Array.from('0159:-*/[]%.+,tcpudphost \u0000é')), {
      maxLength: 40,
    });
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          pieces.map((all) => all.join('')),
        ),
        (text) => {
          expect(['read', 'USAGE']).toContain(outcomeOf(text));
        },
      ),
      { numRuns: 2000 },
    );
    for (const text of ['['.repeat(100_000), ':'.repeat(100_000), `${'a-'.repeat(50_000)}:80`]) {
      expect(() => parseSpec(text)).toThrow(expect.objectContaining({ code: 'USAGE' }));
    }
  });
});

describe('the host of a spec', () => {
  test('is looked up where it is a name, and the first address is taken', async () => {
    const asked: string[] = [];
    const ask = await resolveSpec(parseSpec('nas.lan:80'), async (name) => {
      asked.push(name);
      return ['192.168.1.8', 'fd00::8'];
    });
    expect(ask.host).toBe('192.168.1.8');
    expect(asked).toEqual(['nas.lan']);
  });

  test.each(['8080', '192.168.1.8:80', '[fd00::8]:80'])('is not looked up in %s', async (text) => {
    const ask = await resolveSpec(parseSpec(text), () => Promise.reject(new Error('was asked')));
    expect(ask.host).toBe(parseSpec(text).host);
  });

  test('that does not resolve is USAGE and is named', async () => {
    const refused = Object.assign(new Error('getaddrinfo ENOTFOUND nas.lan'), { code: 'ENOTFOUND' });
    await expect(resolveSpec(parseSpec('nas.lan:80'), () => Promise.reject(refused))).rejects.toMatchObject({
      code: 'USAGE',
      message: 'the name "nas.lan" does not resolve (ENOTFOUND)',
    });
    await expect(resolveSpec(parseSpec('nas.lan:80'), async () => [])).rejects.toMatchObject({
      code: 'USAGE',
      message: 'the name "nas.lan" has no address',
    });
  });
});

/** `read`, or the code of what is thrown. */
function outcomeOf(text: string): unknown {
  try {
    parseSpec(text);
    return 'read';
  } catch (error) {
    return isNatwardError(error) ? error.code : error;
  }
}
