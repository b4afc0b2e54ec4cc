import { describe, expect, test } from 'vitest';
import { changeAddress } from '../../src/system/adapter-address.ts';
import { parseLinks, readAdapters } from '../../src/system/adapters.ts';
import { parseRoutes } from '../../src/system/link-routes.ts';
import type { ProgramResult, RunProgram } from '../../src/system/program.ts';

/** As iproute2 6.1 prints it, cut to what says something. */
const LINKS = JSON.stringify([
  { ifindex: 1, ifname: 'lo', flags: ['LOOPBACK'], link_type: 'loopback', address: '00:00:00:00:00:00' },
  { ifname: 'eth0', link_type: 'ether', address: '02:aa:bb:cc:dd:ee', permaddr: '3c:22:fb:00:00:01' },
  { ifname: 'wlan0', link_type: 'ether', address: '3c:22:fb:00:00:02', broadcast: 'ff:ff:ff:ff:ff:ff' },
  { ifname: 'tun0', link_type: 'none' },
  { ifname: 'sit0', link_type: 'sit', address: '0.0.0.0' },
  {
    ifname: 'ib0',
    link_type: 'infiniband',
    address: '80:00:02:08:fe:80:00:00:00:00:00:00:00:02:c9:03:00:0a',
  },
]);

function ended(result: Partial<ProgramResult>): ProgramResult {
  return { exitCode: 0, endedBy: null, cut: null, stdout: '', stderr: '', ...result };
}

/** An `ip` that refuses each change with these words. */
function refusing(stderr: string): RunProgram {
  return ({ command }) => {
    const isChange = 'shell' in command ? false : command.includes('set');
    return Promise.resolve(isChange ? ended({ exitCode: 2, stderr }) : ended({ stdout: LINKS }));
  };
}

describe('adapters', () => {
  test('are what ip says, and those that are no Ethernet have no address', () => {
    expect(parseLinks(LINKS)).toEqual([
      { name: 'lo', type: 'loopback', address: undefined, permanentAddress: undefined },
      { name: 'eth0', type: 'ether', address: '02:aa:bb:cc:dd:ee', permanentAddress: '3c:22:fb:00:00:01' },
      { name: 'wlan0', type: 'ether', address: '3c:22:fb:00:00:02', permanentAddress: undefined },
      { name: 'tun0', type: 'none', address: undefined, permanentAddress: undefined },
      { name: 'sit0', type: 'sit', address: undefined, permanentAddress: undefined },
      { name: 'ib0', type: 'infiniband', address: undefined, permanentAddress: undefined },
    ]);
  });

  test.each([
    ['an old ip that knows no JSON', { stdout: '1: lo: <LOOPBACK>' }, 'cannot be read'],
    ['another document', { stdout: '{"links":[]}' }, 'cannot be read'],
    [
      'an ip that fails',
      { exitCode: 255, stderr: 'Option "-j" is unknown, try "ip -help".' },
      'Option "-j" is unknown',
    ],
    ['no answer', { exitCode: null, cut: 'time' }, 'no answer in 10 s'],
  ] as const)('cannot be read from %s', async (_, result, said) => {
    await expect(readAdapters(() => Promise.resolve(ended(result)), 'linux')).rejects.toMatchObject({
      code: 'FAILED',
      message: expect.stringContaining(said),
      advice: expect.stringContaining('iproute2'),
    });
  });

  test.each(['darwin', 'win32'] as const)('are not read on %s', async (platform) => {
    await expect(readAdapters(refusing(''), platform)).rejects.toMatchObject({
      code: 'UNSUPPORTED',
      message: expect.stringContaining(platform),
    });
  });
});

describe('a change that is refused', () => {
  test.each([
    ['RTNETLINK answers: Operation not permitted', 'NOT_AUTHORIZED'],
    ['RTNETLINK answers: Operation not supported', 'UNSUPPORTED'],
    ['RTNETLINK answers: Cannot assign requested address', 'REFUSED'],
    ['Cannot find device "eth0"', 'NOT_FOUND'],
    ['Error: something new.', 'FAILED'],
  ])('%s: %s', async (stderr, code) => {
    const change = changeAddress(refusing(stderr), 'eth0', '02:00:00:00:00:01');
    await expect(change).rejects.toMatchObject({
      code,
      message: expect.stringMatching(/^ip was asked to give eth0 the address 02:00:00:00:00:01: [^:]+$/),
    });
  });

  test('without a word: the address is read back', async () => {
    const yes: RunProgram = () => Promise.resolve(ended({ stdout: LINKS }));
    await expect(changeAddress(yes, 'eth0', '02:00:00:00:00:01')).rejects.toMatchObject({
      code: 'REFUSED',
      message: 'eth0 was given 02:00:00:00:00:01, and still has 02:aa:bb:cc:dd:ee',
    });
    expect(await changeAddress(yes, 'eth0', '02:aa:bb:cc:dd:ee')).toEqual([]);
  });
});

test('routes are put back as they were shown: those on the link first, without what ip only shows', () => {
  const shown = [
    'default via 192.168.1.1 proto dhcp src 192.168.1.10 metric 100 linkdown ',
    '10.0.0.0/8 via 192.168.1.2 ',
    '192.168.1.0/24 proto kernel scope link src 192.168.1.10 dead linkdown ',
    '',
  ].join('\n');
  expect(parseRoutes(shown)).toEqual([
    '192.168.1.0/24 proto kernel scope link src 192.168.1.10',
    'default via 192.168.1.1 proto dhcp src 192.168.1.10 metric 100',
    '10.0.0.0/8 via 192.168.1.2',
  ]);
});
