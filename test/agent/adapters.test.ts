import 'conf'; // Loaded late by the book: here already, so that its first use is as quick as any.
import { join } from 'node:path';
import { beforeEach, describe, expect, test, vi } from 'vitest';
import { AdapterBook } from '../../src/agent/adapter-book.ts';
import { Adapters } from '../../src/agent/adapters.ts';
import type { RunProgram } from '../../src/system/program.ts';
import { temporaryDirectory } from './support.ts';

// The real list takes vitest seconds: test/agent/vendors.test.ts reads it.
vi.mock('oui-data', () => ({
  default: { '3C22FB': 'Apple, Inc.\nCupertino', '001B21': 'Intel Corporate', A0369F: 'Intel Corporation' },
}));

interface Link {
  address: string;
  permanent?: string;
}

const HARDWARE = '3c:22:fb:00:00:01';
const MADE_UP = '02:aa:bb:cc:dd:ee';

let directory: string;
let links: Record<string, Link>;
/** What the machine says to a change, instead of making it. */
let refusal: string | undefined;
let random: number[];

beforeEach(async () => {
  directory = join(await temporaryDirectory(), 'home');
  links = { eth0: { address: HARDWARE, permanent: HARDWARE }, veth0: { address: '6e:00:00:00:00:01' } };
  refusal = undefined;
  random = [];
});

/** A machine with `links`. The permanent address is told as ip tells it: where it is not the current one. */
const runProgram: RunProgram = ({ command }) => {
  const args: readonly string[] = 'shell' in command ? [] : command;
  const result = { exitCode: 0, endedBy: null, cut: null, stdout: '', stderr: '' };
  if (args.includes('set')) {
    if (refusal !== undefined) return Promise.resolve({ ...result, exitCode: 2, stderr: refusal });
    (links[args[4] ?? ''] as Link).address = args[6] ?? '';
    return Promise.resolve(result);
  }
  const shown = Object.entries(links).map(([ifname, { address, permanent }]) => ({
    ifname,
    link_type: 'ether',
    address,
    ...(permanent === undefined || permanent === address ? {} : { permaddr: permanent }),
  }));
  const lo = { ifname: 'lo', link_type: 'loopback', address: '00:00:00:00:00:00' };
  return Promise.resolve({ ...result, stdout: JSON.stringify([lo, ...shown]) });
};

/** As the next command would make it: it remembers what is on disk. */
function adapters(): Adapters {
  const fillRandom = (bytes: Uint8Array) => bytes.set(bytes.map(() => random.shift() ?? 0x5a));
  return new Adapters(
    { runProgram, fillRandom },
    directory,
    (error) => {
      throw error;
    },
    'linux',
  );
}

async function originalOf(name: string): Promise<string | undefined> {
  return (await adapters().show(name)).original?.address;
}

describe('showing', () => {
  test('all that have an address, with vendors', async () => {
    expect(await adapters().list()).toEqual([
      {
        adapter: 'eth0',
        current: { address: HARDWARE, vendor: 'Apple, Inc.', locallyAdministered: false },
        permanent: null,
        original: null,
      },
      {
        adapter: 'veth0',
        current: { address: '6e:00:00:00:00:01', vendor: null, locallyAdministered: true },
        permanent: null,
        original: null,
      },
    ]);
  });

  test('one that is not there: those that are, are named', async () => {
    await expect(adapters().show('eth1')).rejects.toMatchObject({
      code: 'NOT_FOUND',
      advice: 'There are: eth0, veth0.',
    });
  });

  test('the loopback has none to change', async () => {
    await expect(adapters().set('lo', MADE_UP)).rejects.toMatchObject({ code: 'UNSUPPORTED' });
  });
});

describe('changing', () => {
  test.each(['01:00:5e:00:00:01', 'ff:ff:ff:ff:ff:ff', '00:00:00:00:00:00'])(
    'never to %s',
    async (address) => {
      await expect(adapters().set('eth0', address)).rejects.toMatchObject({ code: 'USAGE' });
    },
  );

  test('the original survives several changes, and the restart that gives the hardware its own back', async () => {
    await adapters().set('eth0', '02:00:00:00:00:01');
    await adapters().randomize('eth0');
    expect(await adapters().set('eth0', MADE_UP)).toMatchObject({
      original: { address: HARDWARE },
      notes: [],
    });
    links['eth0'] = { address: HARDWARE, permanent: HARDWARE };
    expect(await originalOf('eth0')).toBe(HARDWARE);
    const restored = await adapters().restore('eth0');
    expect(restored).toMatchObject({ before: restored.current, original: null });
    await expect(adapters().restore('eth0')).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test.each(['eth0', 'veth0'])('%s: restored, and then forgotten', async (name) => {
    const { address } = links[name] as Link;
    await adapters().set(name, MADE_UP);
    expect(await originalOf(name)).toBe(address);
    expect(await adapters().restore(name)).toMatchObject({
      before: { address: MADE_UP },
      current: { address },
    });
    expect(links[name]?.address).toBe(address);
    expect(await originalOf(name)).toBeUndefined();
    await expect(adapters().restore(name)).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  test('setting the original is restoring it; setting what it has already changes nothing', async () => {
    await adapters().set('eth0', HARDWARE);
    expect(await originalOf('eth0')).toBeUndefined();
    await adapters().set('eth0', MADE_UP);
    await adapters().set('eth0', MADE_UP);
    expect(await originalOf('eth0')).toBe(HARDWARE);
    await adapters().set('eth0', HARDWARE);
    expect(new AdapterBook(directory, () => {}).load('eth0')).toBeUndefined();
  });

  test('refused: what is remembered stays as it was', async () => {
    refusal = 'RTNETLINK answers: Operation not permitted';
    await expect(adapters().set('veth0', MADE_UP)).rejects.toMatchObject({ code: 'NOT_AUTHORIZED' });
    expect(await originalOf('veth0')).toBeUndefined();
    refusal = undefined;
    await adapters().set('veth0', MADE_UP);
    refusal = 'RTNETLINK answers: Cannot assign requested address';
    await expect(adapters().set('veth0', '02:00:00:00:00:02')).rejects.toMatchObject({ code: 'REFUSED' });
    expect(await originalOf('veth0')).toBe('6e:00:00:00:00:01');
  });

  test('without what the system told, the permanent address is where to go back to', async () => {
    links['eth0'] = { address: MADE_UP, permanent: HARDWARE };
    await expect(adapters().restore('eth0')).rejects.toMatchObject({
      code: 'NOT_FOUND',
      advice: expect.stringContaining(`--set ${HARDWARE}`),
    });
  });

  test('another program that changed real hardware in between does not hide its original', async () => {
    await adapters().set('eth0', MADE_UP);
    (links['eth0'] as Link).address = '02:99:99:99:99:99';
    expect(await adapters().restore('eth0')).toMatchObject({ current: { address: HARDWARE } });
  });
});

describe('another adapter under the same name', () => {
  const OTHER = 'a0:36:9f:00:00:07';

  beforeEach(async () => {
    await adapters().set('eth0', MADE_UP);
    links['eth0'] = { address: OTHER, permanent: OTHER };
  });

  test('does not get the original of the first', async () => {
    expect(await originalOf('eth0')).toBeUndefined();
    await expect(adapters().restore('eth0')).rejects.toMatchObject({
      code: 'NOT_FOUND',
      advice: expect.stringContaining(HARDWARE),
    });
    expect(links['eth0']?.address).toBe(OTHER);
  });

  test('is remembered by its own, and the note says what was forgotten', async () => {
    expect(await adapters().set('eth0', MADE_UP)).toMatchObject({
      original: { address: OTHER },
      notes: [expect.stringContaining(HARDWARE)],
    });
    expect(await adapters().restore('eth0')).toMatchObject({ current: { address: OTHER } });
  });
});

describe('a random address', () => {
  test('has a prefix of the vendor of now', async () => {
    expect((await adapters().randomize('eth0')).current).toEqual({
      address: '3c:22:fb:5a:5a:5a',
      vendor: 'Apple, Inc.',
      locallyAdministered: false,
    });
  });

  test('has one of the vendor of the original where the one of now is nobody', async () => {
    await adapters().set('eth0', MADE_UP);
    expect((await adapters().randomize('eth0')).current.vendor).toBe('Apple, Inc.');
  });

  test('has one of any where nobody is known', async () => {
    expect((await adapters().randomize('veth0')).current.vendor).not.toBeNull();
  });

  test.each([
    [[0, 0, 0, 0], '00:1b:21:5a:5a:5a'],
    [[255, 255, 255, 255], 'a0:36:9f:5a:5a:5a'],
  ])('of a named vendor: chance %j chooses among its prefixes', async (chance, address) => {
    random = chance;
    expect((await adapters().randomize('eth0', 'INTEL')).current.address).toBe(address);
  });

  test('is never the one it has, nor the original', async () => {
    random = [0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    expect((await adapters().randomize('eth0')).current.address).toBe('3c:22:fb:5a:5a:5a');
  });

  test('of a vendor that nobody knows: similar names are told', async () => {
    await expect(adapters().randomize('eth0', 'telcorp')).rejects.toMatchObject({
      code: 'NOT_FOUND',
      advice: 'Perhaps one of these: Intel Corporate; Intel Corporation.',
    });
    expect(links['eth0']?.address).toBe(HARDWARE);
  });
});
