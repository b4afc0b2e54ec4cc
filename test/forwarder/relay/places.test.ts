import { describe, expect, test } from 'vitest';
import { planPlaces } from '../../../src/forwarder/relay/places.ts';
import type { InterfaceAddress } from '../../../src/system/routes.ts';
import { LOOPBACK, table } from './support.ts';

const ETH: readonly InterfaceAddress[] = [
  { interface: 'eth0', family: 4, address: '192.0.2.2', prefixLength: 24, internal: false },
  { interface: 'eth0', family: 6, address: '2001:db8::2', prefixLength: 64, internal: false },
];
const HOST = [...LOOPBACK, ...ETH];
const IPV4_HOST = HOST.filter(({ family }) => family === 4);

/** `tcp :: 80: r1,r2` */
function plan(lines: readonly string[], own: readonly InterfaceAddress[] = HOST): string[] {
  return [...planPlaces(table(...lines), own).places].map(
    ([key, { rules }]) => `${key}: ${rules.map(({ id }) => id).join()}`,
  );
}

describe('planPlaces', () => {
  test('a rule without an address listens on every one, of both families where the host has both', () => {
    expect(plan(['in tcp+udp 80 -> 10.0.0.1'])).toEqual(['tcp :: 80: r1', 'udp :: 80: r1']);
    expect(plan(['in tcp 80 -> 10.0.0.1'], IPV4_HOST)).toEqual(['tcp 0.0.0.0 80: r1']);
  });

  test('a port has its rules in their order, also where one names an address', () => {
    expect(
      plan(['in tcp 192.0.2.2:80 -> refuse', 'in tcp 80-81 -> 10.0.0.1', 'in tcp 127.0.0.9:80 -> refuse']),
    ).toEqual(['tcp :: 80: r1,r2,r3', 'tcp :: 81: r2']);
  });

  test('rules of single addresses have places of their own, and one address is taken as it is written', () => {
    expect(
      plan([
        'in udp 192.0.2.2:80 -> :81',
        'in udp 127.0.0.9:80 -> :81',
        'in udp 127.0.0.9:80 from 127.0.0.0/8 -> :82',
      ]),
    ).toEqual(['udp 192.0.2.2 80: r1', 'udp 127.0.0.9 80: r2,r3']);
  });

  test('a network stands for the addresses of this host in it', () => {
    expect(plan(['in tcp 192.0.2.0/24:80 -> :81'])).toEqual(['tcp 192.0.2.2 80: r1']);
  });

  test('an interface stands for its addresses, and waits where it has none', () => {
    expect(plan(['in tcp 80 on eth0 -> :81'])).toEqual(['tcp 192.0.2.2 80: r1', 'tcp 2001:db8::2 80: r1']);
    const rules = table('in tcp 80 on wlan0 -> :81', 'in tcp 198.51.100.0/24:80 -> :81');
    expect(planPlaces(rules, HOST)).toEqual({
      places: new Map(),
      waiting: [
        { ruleId: 'r1', reason: 'there is no interface wlan0 with an address' },
        { ruleId: 'r2', reason: 'this host has none of its addresses' },
      ],
    });
  });

  test('what leads to the same port of this host leaves the loopback address to it', () => {
    const outer = ['tcp 192.0.2.2 80: r1', 'tcp 2001:db8::2 80: r1'];
    expect(plan(['in tcp 80 -> monitor'])).toEqual(outer);
    expect(plan(['in tcp 80 -> 127.0.0.1:80'])).toEqual(outer);
    expect(plan(['in tcp 80,90 -> :80'])).toEqual([...outer, 'tcp :: 90: r1']);
  });

  test('a rule that has nothing but the loopback address left waits', () => {
    const { places, waiting } = planPlaces(table('in tcp 80,90 -> monitor'), LOOPBACK);
    expect(places.size).toBe(0);
    expect(waiting).toMatchObject([{ ruleId: 'r1' }]);
  });

  test('every address and single ones of one UDP port do not go together', () => {
    expect(() => plan(['in udp 53 -> :54', 'in udp 192.0.2.2:53 -> :55'])).toThrow(
      expect.objectContaining({ code: 'CONFLICT', message: expect.stringMatching(/UDP 53: rule r1 .* r2/) }),
    );
  });

  test('disabled rules and outgoing ones listen nowhere', () => {
    const [rule] = table('in tcp 80 -> :81');
    expect(planPlaces([{ ...(rule as NonNullable<typeof rule>), enabled: false }], HOST).places.size).toBe(0);
    expect(plan(['out tcp 80 -> monitor'])).toEqual([]);
  });

  test('a table that asks for too much is refused before anything is opened', () => {
    expect(() => plan(['in tcp+udp 1-65535 on lo,eth0 -> 10.0.0.1'])).toThrow(
      expect.objectContaining({ code: 'NO_RESOURCES' }),
    );
  });
});
