import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { FileStore } from '../../src/agent/file-store.ts';
import type { State } from '../../src/agent/store.ts';
import { systemClock } from '../../src/system/clock.ts';
import { TestClock } from '../support/test-clock.ts';
import { remembered } from './remembered.ts';
import { sceneFor, temporaryDirectory } from './support.ts';

const REMEMBER = fileURLToPath(new URL('remember.ts', import.meta.url));
const EMPTY: State = { version: 1, mappings: [], gateways: [] };

async function storeWith(text: string): Promise<{ store: FileStore; directory: string; file: string }> {
  const directory = await temporaryDirectory();
  const file = join(directory, 'state.json');
  await writeFile(file, text);
  return { store: new FileStore(directory, systemClock), directory, file };
}

function adding(mapping = remembered()): (state: State) => State {
  return (state) => ({ ...state, mappings: [...state.mappings, mapping] });
}

async function modeOf(path: string): Promise<string> {
  return ((await stat(path)).mode & 0o777).toString(8);
}

describe('the memory', () => {
  test('is empty before anything was remembered, and reading makes no file', async () => {
    const directory = join(await temporaryDirectory(), 'deep', 'home');
    expect(new FileStore(directory, systemClock).read()).toEqual(EMPTY);
    await expect(stat(directory)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('comes back in another process’s eyes as it was written', async () => {
    const directory = join(await temporaryDirectory(), 'deep', 'home');
    const known = { address: '192.168.1.1', interface: 'eth0', location: 'http://192.168.1.1:5000/d.xml' };
    await new FileStore(directory, systemClock).update(() => ({
      version: 1,
      mappings: [remembered(), remembered({ via: 'upnp', nonce: null, expiresAtMs: null })],
      gateways: [known],
    }));
    expect(new FileStore(directory, systemClock).read()).toEqual({
      version: 1,
      mappings: [remembered(), remembered({ via: 'upnp', nonce: null, expiresAtMs: null })],
      gateways: [known],
    });
  });

  test.skipIf(process.platform === 'win32')('is for its owner alone', async () => {
    const directory = join(await temporaryDirectory(), 'home');
    const store = new FileStore(directory, systemClock);
    await store.update(adding());
    expect(await modeOf(directory)).toBe('700');
    expect(await modeOf(join(directory, 'state.json'))).toBe('600');
    await store.update(adding());
    expect(await modeOf(join(directory, 'state.json'))).toBe('600');
  });

  test('sweeps what has ended when it is next written', async () => {
    const clock = new TestClock();
    const directory = await temporaryDirectory();
    await new FileStore(directory, clock).update(adding(remembered({ expiresAtMs: clock.now() + 1000 })));
    await clock.advance(2000);
    const store = new FileStore(directory, clock);
    expect(store.read().mappings).toEqual([]);
    await store.update(adding(remembered({ externalPort: 9 })));
    const written = JSON.parse(await readFile(join(directory, 'state.json'), 'utf8'));
    expect(written.mappings).toHaveLength(1);
    expect(written.mappings[0].externalPort).toBe(9);
  });

  test('leaves no lock and no temporary file', async () => {
    const directory = await temporaryDirectory();
    await new FileStore(directory, systemClock).update(adding());
    expect(await readdir(directory)).toEqual(['state.json']);
  });
});

describe('a memory that cannot be read', () => {
  const mapping = JSON.stringify(remembered());
  test.each([
    ['is empty', ''],
    ['is cut off', '{"version":1,"mappings":[{"gate'],
    ['is of a later version', '{"version":2,"mappings":[],"gateways":[]}'],
    ['is another kind of document', '[1,2,3]'],
    ['holds null', 'null'],
    ['holds a port as text', `{"version":1,"mappings":[${mapping.replace('8080', '"8080"')}],"gateways":[]}`],
    ['holds port 65536', `{"version":1,"mappings":[${mapping.replace('8080', '65536')}],"gateways":[]}`],
    [
      'holds a name for an address',
      `{"version":1,"mappings":[${mapping.replace('192.168.1.1', 'router')}],"gateways":[]}`,
    ],
    [
      'holds a short nonce',
      `{"version":1,"mappings":[${mapping.replace('00112233445566778899aabb', 'ff')}],"gateways":[]}`,
    ],
    [
      'holds a lifetime below zero',
      `{"version":1,"mappings":[${mapping.replace('7200', '-1')}],"gateways":[]}`,
    ],
    [
      'holds a description without end',
      `{"version":1,"mappings":[${mapping.replace('natward', 'n'.repeat(5000))}],"gateways":[]}`,
    ],
    [
      'holds a hundred gateways',
      `{"version":1,"mappings":[],"gateways":[${Array(100).fill('{"address":"::1","interface":"a","location":"b"}').join()}]}`,
    ],
    ['is deep', '['.repeat(100_000)],
    ['is no text', '\u0000\uffff\u0001'],
  ])('%s: counts as empty, is set aside, and what is new is written', async (_what, text) => {
    const { store, directory, file } = await storeWith(text);
    expect(store.read()).toEqual(EMPTY);
    expect(await readFile(file, 'utf8')).toBe(text); // Reading loses nothing.
    await store.update(adding());
    expect(await readFile(`${file}.broken`, 'utf8')).toBe(text);
    expect(new FileStore(directory, systemClock).read().mappings).toEqual([remembered()]);
  });

  test('sets a second broken file aside without losing the first', async () => {
    const { directory, file } = await storeWith('first');
    await new FileStore(directory, systemClock).update(adding());
    await writeFile(file, 'second');
    await new FileStore(directory, systemClock).update(adding());
    const kept = (await readdir(directory)).filter((name) => name.includes('.broken'));
    const texts = await Promise.all(kept.map((name) => readFile(join(directory, name), 'utf8')));
    expect(texts.sort()).toEqual(['first', 'second']);
  });

  test('does not become the prototype of anything', async () => {
    const { store } = await storeWith(
      '{"version":1,"mappings":[],"gateways":[],"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}',
    );
    expect(store.read().mappings).toEqual([]);
    await store.update(adding());
    expect(Reflect.get({}, 'polluted')).toBeUndefined();
    expect(store.read().mappings).toHaveLength(1);
  });

  test('holds the mappings of every port and is read in no time', async () => {
    const rows = Array.from({ length: 60_000 }, (_, at) => remembered({ externalPort: at + 1 }));
    const { store } = await storeWith(JSON.stringify({ version: 1, mappings: rows, gateways: [] }));
    const startMs = performance.now();
    expect(store.read().mappings).toHaveLength(60_000);
    expect(performance.now() - startMs).toBeLessThan(5000);
  });

  test('fails with its name where it is a directory', async () => {
    const directory = await temporaryDirectory();
    await mkdir(join(directory, 'state.json'));
    const store = new FileStore(directory, systemClock);
    expect(() => store.read()).toThrow(expect.objectContaining({ code: 'FAILED' }));
    await expect(store.update(adding())).rejects.toMatchObject({
      code: 'FAILED',
      message: expect.stringContaining(join(directory, 'state.json')),
    });
  });
});

describe('several processes at once', () => {
  test('lose nothing that any of them remembers', async () => {
    const directory = join(await temporaryDirectory(), 'home');
    const codes = await Promise.all(
      Array.from({ length: 8 }, async (_, at) => {
        const args = ['--import', 'tsx', REMEMBER, directory, String(1000 * (at + 1)), '3'];
        const child = spawn(process.execPath, args, { stdio: 'inherit' });
        const [code] = await once(child, 'exit');
        return code;
      }),
    );
    expect(codes).toEqual(Array(8).fill(0));
    const ports = new FileStore(directory, systemClock)
      .read()
      .mappings.map(({ externalPort }) => externalPort);
    const wanted = Array.from({ length: 8 }, (_, at) => [0, 1, 2].map((more) => 1000 * (at + 1) + more));
    expect(ports.sort((a, b) => a - b)).toEqual(wanted.flat());
  }, 60_000);

  test('take a lock away that a dead process left', async () => {
    const directory = await temporaryDirectory();
    const lock = join(directory, 'state.lock');
    await writeFile(lock, '');
    const longAgo = new Date(Date.now() - 60_000);
    await utimes(lock, longAgo, longAgo);
    await new FileStore(directory, systemClock).update(adding());
    expect(await readdir(directory)).toEqual(['state.json']);
  });

  test('give up, and say so, where another one holds the lock and goes on holding it', async () => {
    const clock = new TestClock();
    const directory = await temporaryDirectory();
    const lock = join(directory, 'state.lock');
    await writeFile(lock, '');
    const now = new Date(clock.now() + 3_600_000);
    await utimes(lock, now, now);
    await expect(clock.settle(new FileStore(directory, clock).update(adding()))).rejects.toMatchObject({
      code: 'FAILED',
      message: expect.stringContaining('state.json'),
    });
    expect(await readdir(directory)).toEqual(['state.lock']);
  });
});

describe('a mapping that cannot be remembered', () => {
  test('stands, with a warning', async () => {
    const scene = await sceneFor();
    await writeFile(join(scene.directory, 'state.lock'), '');
    // A lock that nobody lets go of stands for every reason why nothing can be written; root may write anywhere.
    const ahead = new Date(scene.clock.now() + 3_600_000);
    await utimes(join(scene.directory, 'state.lock'), ahead, ahead);
    const { mappings, failures } = await scene.map('8080');
    expect(mappings).toHaveLength(1);
    expect(failures).toEqual([]);
    expect(scene.embedded.table).toHaveLength(1);
    expect(scene.warnings).toMatchObject([{ code: 'FAILED' }]);
    expect(scene.warnings[0]?.message).toContain(scene.directory);
    expect(scene.warnings[0]?.advice).toContain('natward unmap');
  });

  test('is not asked for where the memory cannot be read: its nonce may be in there', async () => {
    const scene = await sceneFor();
    await mkdir(join(scene.directory, 'state.json'));
    await expect(scene.map('8080')).rejects.toMatchObject({ code: 'FAILED' });
    expect(scene.embedded.table).toEqual([]);
  });

  test('does not keep a person from looking for gateways', async () => {
    const { agent, options, clock, directory } = await sceneFor({ externalAddress: '11.22.33.44' });
    await mkdir(join(directory, 'state.json'));
    await expect(clock.settle(agent.externalAddress(options))).resolves.toBe('11.22.33.44');
    const reports: unknown[] = [];
    const onGateway = (report: unknown) => void reports.push(report);
    await clock.settle(agent.gateways({ ...options, onOffer: () => undefined, onGateway }));
    expect(reports).toHaveLength(1);
  });
});
