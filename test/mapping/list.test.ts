import { describe, expect, test } from 'vitest';
import { UpnpFault } from '../../src/discovery/soap-call.ts';
import { NatwardError } from '../../src/errors.ts';
import { listMappings, portOf, toListed } from '../../src/mapping/list.ts';
import type { GatewaySettings } from '../../src/responder/settings.ts';
import { encodePortListing, type SoapValues } from '../../src/wire/soap.ts';
import { mapperAt, occupy } from './support.ts';

async function listed(settings: Partial<GatewaySettings>) {
  const at = await mapperAt('upnp', settings);
  const list = () => at.clock.settle(at.mapper.list?.() ?? Promise.reject(new Error('no list')));
  return { ...at, list };
}

describe.each([
  ['whole (GetListOfPortMappings)', {}, 'soap GetListOfPortMappings'],
  ['row by row (GetGenericPortMappingEntry)', { igdVersion: 1 }, 'soap GetGenericPortMappingEntry'],
] as const)('the table, read %s', (_name, settings, kind) => {
  test('has every mapping with all that the gateway tells', async () => {
    const at = await listed(settings);
    await at.map();
    await at.map({ protocol: 'udp', internalPort: 53, suggestedExternalPort: 5353 });
    await occupy(at, 9000);
    await at.clock.advance(600_000);
    const rows = await at.list();
    expect(rows.toSorted((a, b) => a.externalPort - b.externalPort)).toEqual([
      {
        protocol: 'udp',
        externalPort: 5353,
        internalClient: '127.0.0.1',
        internalPort: 53,
        description: 'a test',
        remainingSeconds: 3000,
        enabled: true,
      },
      expect.objectContaining({ protocol: 'tcp', externalPort: 8080 }),
      expect.objectContaining({ protocol: 'tcp', externalPort: 9000, internalClient: '127.0.0.200' }),
    ]);
    expect(at.embedded.counters[kind]).toBeGreaterThan(0);
  });

  test('is empty where nothing is mapped', async () => {
    expect(await (await listed(settings)).list()).toEqual([]);
  });
});

describe('the table', () => {
  test('is read row by row where version 2 does not have the action', async () => {
    const at = await listed({ igdVersion: 2, quirks: { unknownActionResets: true } });
    await at.map();
    expect((await at.list()).length).toBe(1);
  });

  test('shows what another protocol mapped', async () => {
    const at = await listed({});
    await occupy(at, 7000, 'udp');
    expect(await at.list()).toMatchObject([{ protocol: 'udp', externalPort: 7000 }]);
  });

  test('quirk 23: at a gateway that resets the connection past the last row is complete', async () => {
    const rows = [row(1), row(2)];
    const call = async (_action: string, { NewPortMappingIndex: index }: SoapValues) => {
      const found = rows[Number(index)];
      if (found === undefined) throw new NatwardError('UNREACHABLE', 'reset');
      return found;
    };
    expect((await listMappings(call, 1)).map(({ externalPort }) => externalPort)).toEqual([1, 2]);
  });

  test('ends where a hostile gateway never says "no more"', async () => {
    let asked = 0;
    const call = async () => {
      asked++;
      return row(asked % 65_536);
    };
    await listMappings(call, 1);
    expect(asked).toBeLessThan(4200);
  });

  test('ends where a hostile gateway answers every slice with the same rows', async () => {
    const listing = encodePortListing(Array.from({ length: 1000 }, () => row(7)));
    let asked = 0;
    const call = async (action: string) => {
      asked++;
      if (action === 'GetGenericPortMappingEntry') throw new UpnpFault(action, 713, '');
      return { NewPortListing: listing };
    };
    await listMappings(call, 2);
    expect(asked).toBeLessThan(200);
  });

  test('is asked for in slices, each from where the last one ended', async () => {
    const from: string[] = [];
    const call = async (action: string, values: SoapValues) => {
      if (action === 'GetGenericPortMappingEntry') throw new UpnpFault(action, 713, '');
      from.push(`${values['NewProtocol']} ${values['NewStartPort']}`);
      const start = Number(values['NewStartPort']);
      if (values['NewProtocol'] === 'UDP' || start > 1000) throw new UpnpFault('', 730, '');
      return {
        NewPortListing: encodePortListing(Array.from({ length: 1000 }, (_, index) => row(start + index))),
      };
    };
    expect((await listMappings(call, 2)).length).toBe(1000);
    expect(from).toEqual(['TCP 1', 'TCP 1001', 'UDP 1']);
  });

  test('of more than 128 rows is read row by row: the whole of it crashes miniupnpd 2.3.1 (Debian 12)', async () => {
    const actions = new Set<string>();
    const call = async (action: string, { NewPortMappingIndex: index }: SoapValues) => {
      actions.add(action);
      if (Number(index) >= 200) throw new UpnpFault(action, 713, '');
      return row(Number(index) + 1);
    };
    expect((await listMappings(call, 2)).length).toBe(200);
    expect([...actions]).toEqual(['GetGenericPortMappingEntry']);
  });

  test('that cannot be read at all is an error', async () => {
    const call = () => Promise.reject(new NatwardError('UNREACHABLE', 'nobody'));
    await expect(listMappings(call, 1)).rejects.toMatchObject({ code: 'UNREACHABLE' });
  });

  test('leaves out rows that are none', () => {
    expect(toListed({ ...row(80), NewInternalClient: 'printer.lan' })).toBeUndefined();
    expect(toListed({ ...row(80), NewProtocol: 'SCTP' })).toBeUndefined();
    expect(toListed({ ...row(80), NewInternalPort: '70000' })).toBeUndefined();
    expect(toListed({})).toBeUndefined();
  });

  test.each([
    ['80', 80],
    ['65535', 65_535],
    ['65536', 0],
    ['-1', 0],
    ['0x50', 0],
    ['', 0],
  ])('has "%s" as port %i', (text, port) => {
    expect(portOf(text)).toBe(port);
  });
});

function row(externalPort: number): SoapValues {
  return {
    NewRemoteHost: '',
    NewExternalPort: String(externalPort),
    NewProtocol: 'TCP',
    NewInternalPort: '80',
    NewInternalClient: '192.168.1.5',
    NewEnabled: '1',
    NewPortMappingDescription: 'a test',
    NewLeaseDuration: '0',
  };
}
