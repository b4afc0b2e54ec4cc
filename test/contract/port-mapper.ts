/** What every PortMapper does, whatever protocol it speaks, held against the embedded gateway. */

import { describe, expect, test } from 'vitest';
import type { ErrorCode, NatwardError } from '../../src/errors.ts';
import type { Mapping } from '../../src/mapping/mapping.ts';
import type { MappingProtocol } from '../../src/net/protocol.ts';
import { heldOf, type MapperAt, mapperAt, occupy, requestFor, tableOf } from '../mapping/support.ts';

/** The counters' words for asking and taking back. */
const KINDS: Readonly<Record<MappingProtocol, { readonly map: string; readonly unmap: string }>> = {
  pcp: { map: 'pcp map', unmap: 'pcp unmap' },
  natpmp: { map: 'natpmp map', unmap: 'natpmp unmap' },
  upnp: { map: 'soap AddPortMapping', unmap: 'soap DeletePortMapping' },
};

/**
 * What nobody waits for and nobody answers: how often it is sent, and after how many seconds it is given up. RFC 6887,
 * section 8.1.1 (3 s, doubling, each wait a tenth more or less), RFC 6886, section 3.1; HTTP has one pace.
 */
const IN_THE_BACKGROUND: Readonly<
  Record<MappingProtocol, { readonly sent: number; readonly seconds: readonly [number, number] }>
> = {
  pcp: { sent: 4, seconds: [36, 56] },
  natpmp: { sent: 9, seconds: [127.75, 127.75] },
  upnp: { sent: 1, seconds: [5, 5] },
};

type Seen = 'there' | 'not there' | 'cannot look' | ErrorCode;

/** What `holds` says, where the protocol has a way to look. */
async function look({ mapper, clock }: MapperAt, mapping: Mapping, signal?: AbortSignal): Promise<Seen> {
  if (mapper.holds === undefined) return 'cannot look';
  return clock.settle(mapper.holds(mapping, signal)).then(
    (there) => (there ? 'there' : 'not there'),
    (error: NatwardError) => error.code,
  );
}

export function portMapperContract(protocol: MappingProtocol): void {
  const kinds = KINDS[protocol];

  describe(`the ${protocol} mapper`, () => {
    test('map() asks once and tells what the gateway granted', async () => {
      const at = await mapperAt(protocol);
      const mapping = await at.map();
      expect(mapping).toMatchObject({
        protocol: 'tcp',
        externalPort: 8080,
        externalAddress: expect.stringMatching(/^127\./),
        internalClient: '127.0.0.1',
        internalPort: 8080,
        lifetimeSeconds: 3600,
        expiresAtMs: at.clock.now() + 3_600_000,
        via: protocol,
        gateway: '127.0.0.1',
        notes: [],
      });
      expect(tableOf(at)).toEqual(['tcp 8080 -> 127.0.0.1:8080']);
      expect(at.embedded.table[0]?.expiresAtMs).toBe(mapping.expiresAtMs);
      expect(at.embedded.counters[kinds.map]).toBe(1);
    });

    test('map() maps UDP, and another external port than the internal one', async () => {
      const at = await mapperAt(protocol);
      await at.map({ protocol: 'udp', suggestedExternalPort: 19_080 });
      expect(tableOf(at)).toEqual(['udp 19080 -> 127.0.0.1:8080']);
    });

    test('map() leaves the external port to the gateway', async () => {
      const at = await mapperAt(protocol);
      const { externalPort } = await at.map({ suggestedExternalPort: 0 });
      expect(externalPort).toBeGreaterThan(0);
      expect(tableOf(at)).toEqual([`tcp ${externalPort} -> 127.0.0.1:8080`]);
    });

    test('map() tells of another external port where the suggested one is somebody else’s', async () => {
      const at = await mapperAt(protocol);
      await occupy(at, 8080);
      const { externalPort } = await at.map();
      expect(externalPort).not.toBe(8080);
      expect(tableOf(at)).toEqual(['tcp 8080 -> 127.0.0.200:8080', `tcp ${externalPort} -> 127.0.0.1:8080`]);
    });

    test('map() of what is held refreshes it: one mapping, with a new end', async () => {
      const at = await mapperAt(protocol);
      const first = await at.map();
      await at.clock.advance(1_800_000);
      const again = await at.map({ held: heldOf(first) });
      expect(again.externalPort).toBe(first.externalPort);
      expect(again.expiresAtMs).toBe((first.expiresAtMs ?? 0) + 1_800_000);
      expect(at.embedded.table).toMatchObject([{ externalPort: 8080, expiresAtMs: again.expiresAtMs }]);
    });

    test('map() tells the lifetime that the gateway grants where it is shorter', async () => {
      const at = await mapperAt(protocol, { maxLifetimeSeconds: 600 });
      const { lifetimeSeconds, expiresAtMs } = await at.map();
      expect(lifetimeSeconds).toBe(600);
      expect(expiresAtMs).toBe(at.clock.now() + 600_000);
    });

    test('map() says NOT_AUTHORIZED, what refused in the protocol’s words, and what to do', async () => {
      const at = await mapperAt(protocol, { quirks: { forbiddenByUser: true } });
      await expect(at.map()).rejects.toMatchObject({
        code: 'NOT_AUTHORIZED',
        protocolCode: expect.stringMatching(/\d/),
        advice: expect.stringMatching(/\.$/),
      });
      expect(at.embedded.table).toEqual([]);
    });

    test('map() says NO_RESOURCES where the table is full', async () => {
      const at = await mapperAt(protocol, { maxMappings: 32 });
      const ports = Array.from({ length: 32 }, (_, index) => 20_000 + index);
      for (const port of ports) await at.map({ internalPort: port });
      await expect(at.map()).rejects.toMatchObject({ code: 'NO_RESOURCES' });
    });

    test('map() says TIMEOUT where the gateway is silent', async () => {
      const at = await mapperAt(protocol, { quirks: { silentOn: [kinds.map] } });
      await expect(at.map()).rejects.toMatchObject({ code: 'TIMEOUT' });
    });

    test('map() that nobody waits for is sent again as slowly as its RFC says, and says TIMEOUT after that', async () => {
      const at = await mapperAt(protocol, { quirks: { silentOn: [kinds.map] } });
      const startMs = at.clock.now();
      await expect(at.map({ pace: 'background' })).rejects.toMatchObject({ code: 'TIMEOUT' });
      const { sent, seconds } = IN_THE_BACKGROUND[protocol];
      expect(at.embedded.counters[kinds.map]).toBe(sent);
      expect((at.clock.now() - startMs) / 1000).toBeGreaterThanOrEqual(seconds[0]);
      expect((at.clock.now() - startMs) / 1000).toBeLessThanOrEqual(seconds[1]);
    });

    test('map() that nobody waits for is granted as quickly as any', async () => {
      const at = await mapperAt(protocol);
      const startMs = at.clock.now();
      expect(await at.map({ pace: 'background' })).toMatchObject({
        externalPort: 8080,
        lifetimeSeconds: 3600,
      });
      expect(at.clock.now()).toBe(startMs);
      expect(at.embedded.counters[kinds.map]).toBe(1);
    });

    test('map() that was lost on its way is no second mapping', async () => {
      const at = await mapperAt(protocol, { quirks: { loseAnswers: { [kinds.map]: 1 } } });
      await at.map().catch(() => undefined);
      expect(tableOf(at)).toEqual(['tcp 8080 -> 127.0.0.1:8080']);
    });

    test('map() ends with ABORTED when its signal fires, and leaves no timer behind', async () => {
      const at = await mapperAt(protocol, { quirks: { silentOn: [kinds.map] } });
      const stop = new AbortController();
      void at.clock.sleep(100).then(() => stop.abort());
      const mapping = at.mapper.map(requestFor(), stop.signal);
      await expect(at.clock.settle(mapping)).rejects.toMatchObject({ code: 'ABORTED' });
      await at.clock.advance(0);
      expect(at.clock.pending).toBe(0);
    });

    test('map() that was aborted before sends nothing', async () => {
      const at = await mapperAt(protocol);
      const mapping = at.mapper.map(requestFor(), AbortSignal.abort());
      await expect(at.clock.settle(mapping)).rejects.toMatchObject({ code: 'ABORTED' });
      expect(at.embedded.counters[kinds.map]).toBeUndefined();
    });

    test('verify() hands back the mapping that is there', async () => {
      const at = await mapperAt(protocol);
      const mapping = await at.map();
      expect(await at.clock.settle(at.mapper.verify(requestFor(), mapping))).toEqual(mapping);
    });

    test('unmap() asks once, and the mapping is gone', async () => {
      const at = await mapperAt(protocol);
      const mapping = await at.map();
      await at.clock.settle(at.mapper.unmap(mapping));
      expect(at.embedded.table).toEqual([]);
      expect(at.embedded.counters[kinds.unmap]).toBe(1);
    });

    test('unmap() of what is gone already is no error', async () => {
      const at = await mapperAt(protocol);
      const mapping = await at.map();
      await at.embedded.wipe();
      await at.clock.settle(at.mapper.unmap(mapping));
    });

    test('unmap() leaves other mappings alone', async () => {
      const at = await mapperAt(protocol);
      const mapping = await at.map();
      await at.map({ protocol: 'udp' });
      await at.map({ internalPort: 8081 });
      await at.clock.settle(at.mapper.unmap(mapping));
      expect(tableOf(at)).toEqual(['udp 8080 -> 127.0.0.1:8080', 'tcp 8081 -> 127.0.0.1:8081']);
    });

    test('unmap() says TIMEOUT where the gateway is silent', async () => {
      const at = await mapperAt(protocol, { quirks: { silentOn: [kinds.unmap] } });
      const mapping = await at.map();
      await expect(at.clock.settle(at.mapper.unmap(mapping))).rejects.toMatchObject({ code: 'TIMEOUT' });
    });

    test('externalAddress() tells it, and leaves no mapping behind', async () => {
      const at = await mapperAt(protocol, { externalAddress: '203.0.113.5' });
      expect(await at.clock.settle(at.mapper.externalAddress())).toBe('203.0.113.5');
      expect(at.embedded.table).toEqual([]);
    });

    test('quirk 24: an external address of 0.0.0.0 is no address', async () => {
      const at = await mapperAt(protocol, { quirks: { externalAddressReported: '0.0.0.0' } });
      expect(await at.clock.settle(at.mapper.externalAddress())).toBeUndefined();
      expect((await at.map()).externalAddress).toBeUndefined();
    });

    describe('holds()', () => {
      const seen = (...what: readonly Seen[]) => (protocol === 'upnp' ? what : what.map(() => 'cannot look'));

      test('tells that a mapping is there, and that it is gone', async () => {
        const at = await mapperAt(protocol);
        const mapping = await at.map();
        const before = await look(at, mapping);
        await at.embedded.remove('tcp', 8080);
        expect([before, await look(at, mapping)]).toEqual(seen('there', 'not there'));
      });

      test.each([
        ['another host', { address: '127.0.0.200', port: 8080 }],
        ['another port of this host', { address: '127.0.0.1', port: 9 }],
      ])('tells that it leads to %s now', async (_where, to) => {
        const at = await mapperAt(protocol);
        const mapping = await at.map();
        await at.embedded.give('tcp', 8080, to);
        expect([await look(at, mapping)]).toEqual(seen('not there'));
      });

      test('says TIMEOUT where the gateway is silent: that is no answer', async () => {
        const at = await mapperAt(protocol);
        const mapping = await at.map();
        at.quirk({ silent: true });
        expect([await look(at, mapping)]).toEqual(seen('TIMEOUT'));
      });

      test('ends with ABORTED when its signal has fired', async () => {
        const at = await mapperAt(protocol);
        const mapping = await at.map();
        expect([await look(at, mapping, AbortSignal.abort())]).toEqual(seen('ABORTED'));
      });
    });

    test('its window of requests at once makes as many mappings', async () => {
      const at = await mapperAt(protocol);
      const ports = Array.from({ length: at.mapper.window }, (_, index) => 20_000 + index);
      await at.clock.settle(
        Promise.all(ports.map((internalPort) => at.mapper.map(requestFor({ internalPort })))),
      );
      expect(new Set(at.embedded.table.map(({ externalPort }) => externalPort))).toEqual(new Set(ports));
    });
  });
}
