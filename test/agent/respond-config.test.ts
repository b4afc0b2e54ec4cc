import { assert, ipV4, property } from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../src/agent/config.ts';
import {
  defaultSection,
  type RespondSection,
  respondSections,
  rightsFrom,
} from '../../src/agent/respond-config.ts';
import type { ClientRights } from '../../src/responder/rights.ts';

function sectionOf(...lines: string[]): RespondSection {
  const text = ['[[respond]]', 'interface = "docker0"', ...lines].join('\n');
  const [section] = parseConfig(text, 'f').responds;
  if (section === undefined) throw new Error('there is none');
  return section;
}

const USUAL: ClientRights = {
  externalPorts: [{ first: 1024, last: 65_535 }],
  maxMappings: 32,
  requestsPerSecond: 50,
  mayMapForOthers: false,
};

describe('[[respond]]', () => {
  test('an interface alone answers everybody of its networks by all protocols', () => {
    expect(sectionOf()).toMatchObject({
      interface: 'docker0',
      protocols: ['pcp', 'natpmp', 'upnp'],
      igdVersion: 2,
      name: undefined,
    });
    expect(rightsFrom(sectionOf())('172.17.0.2')).toEqual(USUAL);
    expect(rightsFrom(sectionOf())('fe80::2%docker0')).toEqual(USUAL);
  });

  test('protocols come in one order, whichever way they are written', () => {
    expect(sectionOf('protocols = ["upnp", "pcp"]').protocols).toEqual(['pcp', 'upnp']);
  });

  test('what it says is what each client has', () => {
    const rights = rightsFrom(
      sectionOf('ports = "2000-3000, 8080, ~2500"', 'maxMappings = 3', 'requestsPerSecond = 5'),
    );
    expect(rights('172.17.0.2')).toEqual({
      externalPorts: [
        { first: 2000, last: 2499 },
        { first: 2501, last: 3000 },
        { first: 8080, last: 8080 },
      ],
      maxMappings: 3,
      requestsPerSecond: 5,
      mayMapForOthers: false,
    });
  });

  test('whoever is not on the list of clients has nothing', () => {
    const rights = rightsFrom(sectionOf('clients = "10.77.0.0/24 EXCEPT 10.77.0.9"'));
    expect(rights('10.77.0.5')).toEqual(USUAL);
    expect(rights('10.77.0.9')).toBeUndefined();
    expect(rights('10.78.0.5')).toBeUndefined();
    expect(rights('fe80::5')).toBeUndefined();
  });

  test('those who are trusted may map for others', () => {
    const rights = rightsFrom(sectionOf('trusted = "10.77.0.5"'));
    expect(rights('10.77.0.5')?.mayMapForOthers).toBe(true);
    expect(rights('10.77.0.6')?.mayMapForOthers).toBe(false);
  });

  test('a client of its own section has what that says, and the rest of the interface', () => {
    const rights = rightsFrom(
      sectionOf(
        'maxMappings = 3',
        'trusted = "10.77.0.0/16"',
        '[[respond.client]]',
        'address = "10.77.0.5"',
        'ports = "80"',
        'requestsPerSecond = 7',
        'mayMapForOthers = false',
      ),
    );
    expect(rights('10.77.0.5')).toEqual({
      externalPorts: [{ first: 80, last: 80 }],
      maxMappings: 3,
      requestsPerSecond: 7,
      mayMapForOthers: false,
    });
    expect(rights('10.77.0.6')).toEqual({ ...USUAL, maxMappings: 3, mayMapForOthers: true });
  });

  test('of several sections the narrowest decides, wherever it stands', () => {
    const client = (address: string, line: string) => ['[[respond.client]]', `address = "${address}"`, line];
    const rights = rightsFrom(
      sectionOf(
        ...client('10.77.0.0/16', 'deny = true'),
        ...client('10.77.0.5', 'maxMappings = 5'),
        ...client('10.77.0.0/24', 'maxMappings = 4'),
      ),
    );
    expect(rights('10.77.0.5')?.maxMappings).toBe(5);
    expect(rights('10.77.0.6')?.maxMappings).toBe(4);
    expect(rights('10.77.1.6')).toBeUndefined();
    expect(rights('10.78.0.1')).toEqual(USUAL);
  });

  test('a section of a client does not put it on the list', () => {
    const rights = rightsFrom(
      sectionOf('clients = "10.77.0.6"', '[[respond.client]]', 'address = "10.77.0.5"'),
    );
    expect(rights('10.77.0.5')).toBeUndefined();
  });

  test('a denied host is denied under every other setting', () => {
    assert(
      property(ipV4(), (address) => {
        const section = sectionOf(
          'trusted = "ALL"',
          '[[respond.client]]',
          `address = "${address}"`,
          'deny = true',
          'mayMapForOthers = true',
        );
        expect(rightsFrom(section)(address)).toBeUndefined();
      }),
    );
  });
});

describe('respondSections()', () => {
  test('an interface named at the start has the defaults, unless the file has a section for it', () => {
    const own = sectionOf('maxMappings = 3');
    expect(respondSections([own], ['virbr0', 'docker0', 'virbr0'])).toEqual([own, defaultSection('virbr0')]);
  });

  test('a name that no interface has is refused', () => {
    expect(() => respondSections([], [''])).toThrow(/no name of a network interface/);
    expect(() => respondSections([], [' docker0'])).toThrow(/no name of a network interface/);
  });
});
