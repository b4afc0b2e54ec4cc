import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkIp, Plumber } from '../../../src/forwarder/nftables/plumber.ts';
import { NOTHING, parsePresent } from '../../../src/forwarder/nftables/plumbing-present.ts';
import {
  batchOf,
  forwardingSysctls,
  type Lines,
  linesOf,
  missingAdapters,
  type Path,
  pathSysctls,
} from '../../../src/forwarder/nftables/plumbing.ts';
import type { ProgramResult, RunProgram } from '../../../src/system/program.ts';
import type { Sysctls } from '../../../src/system/sysctl.ts';

const MAC = '02:00:00:00:00:0a';
const path = (fields: Partial<Path> = {}): Path => ({
  number: 1,
  adapter: 't0',
  targetMac: undefined,
  families: [4, 6],
  ...fields,
});
const none: ReadonlyMap<number, string> = new Map();
const noGateway = (): undefined => undefined;

/** As iproute2 6.1 prints it. */
const SHOWN = `[{"priority":0,"src":"all","table":"255"},{"priority":16001,"src":"all","fwmark":"0x10000","fwmask":"0xffff0000","table":"110001","protocol":"110"},{"priority":16002,"src":"all","fwmark":"0x20000","fwmask":"0xffff0000","table":"110002"},{"priority":9,"src":"all","table":"9","protocol":"110"}]
[{"dst":"default","gateway":"240.110.0.1","dev":"t0","table":"110001","flags":["onlink"]},{"type":"7","dst":"default","table":"110001","metric":4294967295,"flags":[]},{"dst":"10.9.0.0/16","dev":"t0","table":"254","flags":[]}]
[{"dst":"240.110.0.1","dev":"t0","lladdr":"${MAC}","state":["PERMANENT"],"protocol":"110"},{"dst":"10.0.0.9","dev":"t0","lladdr":"${MAC}","state":["PERMANENT"]}]
[{"dst":"default","gateway":"10.0.3.9","dev":"t0","metric":20,"flags":[]},{"dst":"default","gateway":"10.0.3.2","dev":"t0","flags":[]},{"dst":"default","metric":7,"flags":[],"nexthops":[{"via":{"family":"inet6","host":"fe80::1"},"dev":"s0","weight":1,"flags":[]}]},{"dst":"default","dev":"tun0","flags":[]}]
[{"ifname":"t0","flags":["BROADCAST","UP"]},{"ifname":"s0","flags":["BROADCAST"]}]
`;

describe('linesOf', () => {
  test('a path has a rule for its mark, a route by its gateway, and a guard that refuses', () => {
    const { rules, routes, neighbours } = linesOf([path()], 4, none, () => '10.0.3.2');
    expect([...rules]).toEqual(['pref 16001 fwmark 0x10000/0xffff0000 lookup 110001 protocol 110']);
    expect([...routes]).toEqual([
      'unreachable default metric 4294967295 table 110001 proto 110',
      'default via 10.0.3.2 dev t0 onlink table 110001 proto 110',
    ]);
    expect([...neighbours]).toEqual([]);
  });

  test('without a gateway the destinations are on the link', () => {
    const { routes } = linesOf([path({ number: 255 })], 6, none, noGateway);
    expect([...routes]).toContain('default dev t0 table 110255 proto 110');
  });

  test('frames to a MAC address go to a neighbour that nobody is', () => {
    const { routes, neighbours } = linesOf([path({ number: 16, targetMac: MAC })], 6, none, noGateway);
    expect([...neighbours]).toEqual([
      `fe80::6e61:7477:6172:10 lladdr ${MAC} dev t0 nud permanent protocol 110`,
    ]);
    expect([...routes]).toContain('default via fe80::6e61:7477:6172:10 dev t0 onlink table 110016 proto 110');
  });

  test('one that waits has its rule and its guard; one of the other family has nothing', () => {
    const lines = linesOf([path(), path({ number: 2, families: [6] })], 4, new Map([[1, 'down']]), noGateway);
    expect(lines.rules.size).toBe(1);
    expect([...lines.routes]).toEqual(['unreachable default metric 4294967295 table 110001 proto 110']);
  });
});

describe('parsePresent', () => {
  const present = parsePresent(SHOWN);

  test('finds what is natward’s by the protocol, in its own tables, and nothing of others', () => {
    expect(present.lines).toEqual(linesOf([path({ targetMac: MAC })], 4, none, noGateway));
    expect(batchOf(present.lines, NOTHING.lines)).toEqual([
      'rule del pref 16001 fwmark 0x10000/0xffff0000 lookup 110001 protocol 110',
      'route del default via 240.110.0.1 dev t0 onlink table 110001 proto 110',
      'route del unreachable default metric 4294967295 table 110001 proto 110',
      'neigh del 240.110.0.1 dev t0',
    ]);
  });

  test('the gateway of an adapter is that of the smallest metric, and one hop of several', () => {
    expect([...present.gateways]).toEqual([
      ['t0', '10.0.3.2'],
      ['s0', 'inet6 fe80::1'],
    ]);
  });

  test('tells which adapters are up', () => {
    expect([...missingAdapters([path(), path({ number: 2, adapter: 's0' })], present.up)]).toEqual([
      [2, 's0 is down'],
    ]);
    expect([...missingAdapters([path({ adapter: 'x' })], present.up)]).toEqual([
      [1, 'there is no adapter x'],
    ]);
  });

  test('an empty machine has nothing', () => {
    expect(parsePresent('[]\n[ ]\n[]\n[]\n[]\n')).toEqual(NOTHING);
  });
});

describe('batchOf', () => {
  const paths = fc.uniqueArray(
    fc.record({
      number: fc.integer({ min: 1, max: 4 }),
      adapter: fc.constantFrom('t0', 's0'),
      targetMac: fc.constantFrom(undefined, MAC, '02:00:00:00:00:0b'),
      families: fc.constantFrom<Path['families']>([4], [6], [4, 6]),
    }),
    { selector: ({ number }) => number },
  );

  /** What a kernel makes of a batch. */
  function run(present: Lines, batch: readonly string[]): Lines {
    const kernel = {
      rule: new Set(present.rules),
      route: new Set(present.routes),
      neigh: new Map([...present.neighbours].map((line) => [keyOf(line), line])),
    };
    for (const [kind, verb, rest] of batch.map(splitLine)) {
      if (kind === 'neigh') {
        if (verb === 'replace') kernel.neigh.set(keyOf(rest), rest);
        else must(kernel.neigh.delete(rest));
      } else if (verb === 'add') {
        must(!kernel[kind].has(rest));
        kernel[kind].add(rest);
      } else must(kernel[kind].delete(rest));
    }
    return { rules: kernel.rule, routes: kernel.route, neighbours: new Set(kernel.neigh.values()) };
  }
  function must(isSo: boolean): void {
    if (!isSo) throw new Error('the kernel refuses that');
  }
  const keyOf = (line: string): string => line.replace(/ lladdr \S+/, '').replace(/ nud .*/, '');
  function splitLine(line: string): ['rule' | 'route' | 'neigh', string, string] {
    const [kind, verb, ...rest] = line.split(' ');
    return [kind as 'rule' | 'route' | 'neigh', verb as string, rest.join(' ')];
  }

  test('leads from any plumbing to any other, and then there is nothing left to do', () => {
    fc.assert(
      fc.property(paths, paths, fc.constantFrom<4 | 6>(4, 6), (before, after, family) => {
        const present = linesOf(before, family, none, noGateway);
        const wanted = linesOf(after, family, none, noGateway);
        const reached = run(present, batchOf(present, wanted));
        expect(batchOf(reached, wanted)).toEqual([]);
        expect(batchOf(wanted, reached)).toEqual([]);
      }),
    );
  });
});

describe('the settings', () => {
  const reading = (values: Readonly<Record<string, string>>) => (name: string) => values[name];

  test.each([
    ['0', '0', []],
    ['1', '0', ['2']],
    ['0', '1', ['2']],
    ['2', '1', []],
    ['1', '2', []],
  ])('rp_filter %s, of all %s', (own, all, set) => {
    const read = reading({ 'net.ipv4.conf.t0.rp_filter': own, 'net.ipv4.conf.all.rp_filter': all });
    expect([...pathSysctls(path(), read).values()]).toEqual(set);
    expect(pathSysctls(path({ families: [6] }), read).size).toBe(0);
  });

  test('forwarding is of the adapters that packets come in by, and leaves IPv6 its advertisements', () => {
    const read = reading({
      'net.ipv6.conf.all.forwarding': '0',
      'net.ipv6.conf.all.force_forwarding': '0',
    });
    expect([...forwardingSysctls([4, 6], ['a', 'b.1'], ['a', 'b.1', 'c'], read).keys()]).toEqual([
      'net.ipv4.conf.a.forwarding',
      'net.ipv4.conf.b.1.forwarding',
      'net.ipv6.conf.a.force_forwarding',
      'net.ipv6.conf.b.1.force_forwarding',
    ]);
  });

  test('an older kernel forwards IPv6 on all adapters, after those that heed advertisements go on to', () => {
    const read = reading({
      'net.ipv6.conf.all.forwarding': '0',
      'net.ipv6.conf.a.forwarding': '0',
      'net.ipv6.conf.a.accept_ra': '1',
      'net.ipv6.conf.b.forwarding': '0',
      'net.ipv6.conf.b.accept_ra': '0',
    });
    expect([...forwardingSysctls([6], ['b'], ['a', 'b'], read)]).toEqual([
      ['net.ipv6.conf.a.accept_ra', '2'],
      ['net.ipv6.conf.all.forwarding', '1'],
    ]);
  });

  test('an IPv6 router needs nothing', () => {
    const read = reading({ 'net.ipv6.conf.all.forwarding': '1' });
    expect(forwardingSysctls([6], ['a'], ['a'], read).size).toBe(0);
  });
});

describe('Plumber', () => {
  const noIp: RunProgram = () => Promise.reject(new Error('there is no such program'));

  function scene(values: Readonly<Record<string, string>>) {
    const machine = new Map(Object.entries(values));
    const writes: string[] = [];
    const sysctls: Sysctls = {
      read: (name) => machine.get(name),
      write(name, value) {
        if (!machine.has(name)) throw new Error(`no ${name}`);
        machine.set(name, value);
        writes.push(`${name}=${value}`);
      },
    };
    return { machine, writes, newPlumber: () => new Plumber({ runProgram: noIp, sysctls }) };
  }
  const wants = (...sysctls: [string, string][]) => ({ sysctls: new Map(sysctls), paths: [] });

  test('sets in order and puts back in the reverse order, what was so already never', async () => {
    const { writes, newPlumber } = scene({ 'net.a': '1', 'net.b': '0', 'net.c': '1' });
    const plumber = newPlumber();
    await plumber.apply(wants(['net.a', '2'], ['net.b', '1'], ['net.c', '1']));
    expect([...plumber.originals()]).toEqual([
      ['net.a', '1>2'],
      ['net.b', '0>1'],
    ]);
    await plumber.remove();
    expect(writes).toEqual(['net.a=2', 'net.b=1', 'net.b=0', 'net.a=1']);
  });

  test('what is planned is what is recorded, and nothing is changed by planning', async () => {
    const { writes, newPlumber } = scene({ 'net.a': '0' });
    const plumber = newPlumber();
    const planned = plumber.planned(wants(['net.a', '1']));
    expect(writes).toEqual([]);
    await plumber.apply(wants(['net.a', '1']));
    expect(plumber.originals()).toEqual(planned);
    expect(plumber.read('net.a')).toBe('0');
  });

  test('an agent that starts again goes by the record of the one before it', async () => {
    const { machine, newPlumber } = scene({ 'net.a': '1', 'net.b': '7' });
    const plumber = newPlumber();
    plumber.adopt(
      new Map([
        ['net.a', '0>1'],
        ['net.b', '0>1'],
      ]),
    );
    await plumber.apply(wants(['net.a', '1']));
    expect([...plumber.originals()]).toEqual([['net.a', '0>1']]);
    await plumber.remove();
    expect(Object.fromEntries(machine)).toEqual({ 'net.a': '0', 'net.b': '7' });
  });

  test('forwarding stays where somebody has turned it on for the whole machine since', async () => {
    const values = { 'net.ipv4.ip_forward': '0', 'net.ipv4.conf.a.forwarding': '0' };
    for (const [since, left] of [
      ['0', '0'],
      ['1', '1'],
    ] as const) {
      const { machine, newPlumber } = scene(values);
      const plumber = newPlumber();
      await plumber.apply(wants(['net.ipv4.conf.a.forwarding', '1']));
      machine.set('net.ipv4.ip_forward', since);
      await plumber.remove();
      expect(machine.get('net.ipv4.conf.a.forwarding')).toBe(left);
      expect(plumber.originals().size).toBe(0);
    }
  });

  test('a setting of an adapter that is not there waits; any other is a failure, after all else is done', async () => {
    const { machine, newPlumber } = scene({ 'net.a': '0' });
    const plumber = newPlumber();
    await plumber.apply(wants(['net.ipv4.conf.tun9.forwarding', '1']));
    await expect(plumber.apply(wants(['net.none', '1'], ['net.a', '1']))).rejects.toThrow('no net.none');
    expect(machine.get('net.a')).toBe('1');
  });

  test('a path needs ip, and words that ip would take for others are refused', async () => {
    const { newPlumber } = scene({});
    const apply = (fields: Partial<Path>) => newPlumber().apply({ ...wants(), paths: [path(fields)] });
    await expect(apply({})).rejects.toThrow('there is no such program');
    for (const bad of [{ adapter: 'a b' }, { adapter: 'a\nb' }, { number: 0 }, { targetMac: 'x' }]) {
      await expect(apply(bad)).rejects.toMatchObject({ code: 'USAGE' });
    }
  });
});

describe('checkIp', () => {
  const said = (stdout: string): RunProgram => {
    const result: ProgramResult = { exitCode: 0, endedBy: null, cut: null, stdout, stderr: '' };
    return () => Promise.resolve(result);
  };

  test.each(['iproute2-6.1.0, libbpf 1.1.2', 'iproute2-5.5.0', 'iproute2-ss200127', 'iproute2-v5.10.0'])(
    'ip utility, %s will do',
    async (version) => {
      await checkIp(said(`ip utility, ${version}\n`));
    },
  );

  test.each(['ip utility, iproute2-ss180129', 'ip utility, iproute2-4.20.0', 'BusyBox v1.36', ''])(
    '%j will not',
    async (version) => {
      await expect(checkIp(said(version))).rejects.toMatchObject({ code: 'UNSUPPORTED' });
    },
  );

  test('nor will none', async () => {
    await expect(checkIp(() => Promise.reject(new Error('no such program')))).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: 'routing by rule needs ip of iproute2: no such program',
    });
  });
});
