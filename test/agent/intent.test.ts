import * as fc from 'fast-check';
import * as v from 'valibot';
import { describe, expect, test } from 'vitest';
import { intentOf } from '../../src/agent/intent.ts';
import { intentSchema } from '../../src/agent/intent-schema.ts';
import type { KeepRequest } from '../../src/agent/lease.ts';
import { requestOf } from './keeping.ts';

function idOf(spec: string, options: Partial<KeepRequest> = {}, owner = 'user'): string {
  return intentOf(requestOf(spec, options), owner).id;
}

const optional = <T>(value: fc.Arbitrary<T>) => fc.option(value, { nil: undefined });
const requests: fc.Arbitrary<KeepRequest> = fc
  .record({
    spec: fc.constantFrom('8080', '*:8080/udp', '443:8443/tcp+udp', '6000-6010'),
    host: optional(fc.constantFrom('192.168.1.8', '2001:db8::8')),
    lifetimeSeconds: fc.integer({ min: 1, max: 604_800 }),
    choice: fc.constantFrom<'exact' | 'any'>('exact', 'any'),
    description: optional(fc.string({ maxLength: 100 })),
    remotePeer: optional(fc.constant({ address: '198.51.100.0', prefixLength: 24, port: 0 })),
    via: optional(fc.constantFrom<'pcp' | 'natpmp' | 'upnp'>('pcp', 'natpmp', 'upnp')),
    gateway: optional(fc.constant('192.168.1.1')),
    interface: optional(fc.constant('eth0')),
    family: optional(fc.constantFrom<4 | 6>(4, 6)),
    hooks: fc.constantFrom<KeepRequest['hooks']>([], [{ kind: 'run', argv: ['/bin/true'] }]),
  })
  .map(({ spec, ...options }) => requestOf(spec, options));

describe('intentOf', () => {
  test('gives a number of 8 hex digits, which people can type', () => {
    fc.assert(fc.property(requests, (request) => /^[0-9a-f]{8}$/.test(intentOf(request, 'user').id)));
  });

  test('keeps all that was asked, and says whose it is', () => {
    fc.assert(
      fc.property(requests, fc.constantFrom('user', 'config', 'an-app'), (request, owner) => {
        const { id: _id, ...rest } = intentOf(request, owner);
        expect(rest).toEqual({ ...request, owner });
      }),
    );
  });

  test('what is asked for again has its old number, in other words or with other options too', () => {
    const id = idOf('8080');
    expect(idOf('8080')).toBe(id);
    expect(idOf('8080/tcp')).toBe(id);
    expect(idOf('8080:8080')).toBe(id);
    expect(idOf('8080', { lifetimeSeconds: 600, choice: 'exact', description: 'mine' })).toBe(id);
    expect(idOf('8080', { hooks: [{ kind: 'shell', line: 'true' }] })).toBe(id);
  });

  test.each<[string, string, Partial<KeepRequest>, string]>([
    ['of another owner', '8080', {}, 'an-app'],
    ['of another port', '8081', {}, 'user'],
    ['of another external port', '80:8080', {}, 'user'],
    ['of any external port', '*:8080', {}, 'user'],
    ['of another protocol', '8080/udp', {}, 'user'],
    ['of both protocols', '8080/tcp+udp', {}, 'user'],
    ['of another host', '8080', { host: '192.168.1.8' }, 'user'],
    ['on a gateway that was named', '8080', { gateway: '192.168.1.1' }, 'user'],
    ['on an interface that was named', '8080', { interface: 'eth0' }, 'user'],
    ['over one protocol', '8080', { via: 'pcp' }, 'user'],
    ['in the other family', '8080', { family: 6 }, 'user'],
    ['in both families', '8080', { family: undefined }, 'user'],
  ])('what is %s has another number', (_what, spec, options, owner) => {
    expect(idOf(spec, options, owner)).not.toBe(idOf('8080'));
  });
});

describe('intentSchema', () => {
  test('reads what was written, with its number', () => {
    fc.assert(
      fc.property(requests, (request) => {
        const intent = intentOf(request, 'user');
        const read = v.parse(intentSchema, JSON.parse(JSON.stringify(intent)));
        expect(JSON.parse(JSON.stringify(read))).toEqual(JSON.parse(JSON.stringify(intent)));
        expect(intentOf(read, read.owner).id).toBe(intent.id);
      }),
    );
  });

  test.each<[string, object]>([
    ['ports that run backwards', { internal: { first: 10, last: 9 } }],
    ['more external ports than internal ones', { external: { first: 1, last: 9 } }],
    ['port 0 inside', { internal: { first: 0, last: 0 } }],
    ['port 65536', { external: { first: 65_536, last: 65_536 } }],
    ['a host that is a name', { host: 'server' }],
    ['an id of the wrong length', { id: '0123' }],
    ['a lifetime of zero', { lifetimeSeconds: 0 }],
    ['a lifetime longer than any', { lifetimeSeconds: 604_801 }],
    ['half a second', { lifetimeSeconds: 0.5 }],
    ['nobody’s', { owner: '' }],
    ['TCP three times', { protocols: ['tcp', 'tcp', 'tcp'] }],
    ['a family of its own', { family: 5 }],
    ['a peer of 129 bits', { remotePeer: { address: '::1', prefixLength: 129, port: 0 } }],
    ['a hook that is none', { hooks: [{ kind: 'run' }] }],
    ['no hooks at all', { hooks: undefined }],
  ])('refuses %s', (_what, change) => {
    const intent = { ...intentOf(requestOf('8080'), 'user'), ...change };
    expect(v.safeParse(intentSchema, JSON.parse(JSON.stringify(intent))).success).toBe(false);
  });
});
