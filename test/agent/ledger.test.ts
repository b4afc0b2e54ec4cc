import 'conf'; // Loaded late by the ledger: here already, so that its first use is as quick as any.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { intentOf } from '../../src/agent/intent.ts';
import type { Intent } from '../../src/agent/lease.ts';
import type { Holding } from '../../src/agent/lease-record.ts';
import { Ledger, type LedgerState, NOTHING, parseLedger, readHoldings } from '../../src/agent/ledger.ts';
import type { NatwardError } from '../../src/errors.ts';
import type { Clock } from '../../src/system/clock.ts';
import { TestClock } from '../support/test-clock.ts';
import { requestOf } from './keeping.ts';
import { remembered } from './remembered.ts';
import { temporaryDirectory } from './support.ts';

const WRITE_LEDGER = fileURLToPath(new URL('write-ledger.ts', import.meta.url));
const SOON_MS = 50;
const LATER_MS = 600_000;

const INTENTS: readonly Intent[] = [
  intentOf(requestOf('8080'), 'user'),
  intentOf(
    requestOf('443:8443/tcp+udp', {
      host: '192.168.1.8',
      lifetimeSeconds: 604_800,
      choice: 'exact',
      description: 'a web server',
      remotePeer: { address: '198.51.100.0', prefixLength: 24, port: 0 },
      via: 'upnp',
      gateway: '192.168.1.1',
      interface: 'eth0',
      family: undefined,
    }),
    'an-app',
  ),
  intentOf(
    requestOf('*:6881-6889/udp', {
      hooks: [
        { kind: 'run', argv: ['/usr/bin/logger', 'a "quoted" word'], on: ['granted', 'lost'] },
        { kind: 'shell', line: 'echo $NATWARD_EVENT' },
        { kind: 'webhook', url: 'https://user:secret@example.org/hook', timeoutSeconds: 5 },
        { kind: 'sync', client: 'qbittorrent', url: 'http://127.0.0.1:8080' },
        { kind: 'dyndns', url: 'https://members.dyndns.org/nic/update', hostname: 'home.example.org' },
      ],
    }),
    'user',
  ),
];

function holding(change: Partial<Holding> = {}, at = 8080): Holding {
  const mapping = remembered({ externalPort: at });
  return { leaseKey: `0123abcd/${at}`, interface: 'eth0', hardwareAddress: null, mapping, ...change };
}

const HOLDINGS: readonly Holding[] = [
  holding({ hardwareAddress: '02:42:ac:11:00:02' }),
  holding({ mapping: remembered({ via: 'upnp', nonce: null, expiresAtMs: null, lifetimeSeconds: 0 }) }, 81),
  holding({ mapping: remembered({ pinholeId: 7, internalClient: '2001:db8::7' }) }, 82),
  holding({ mapping: remembered({ via: 'natpmp', nonce: null, arrivesOnPort: 41_000 }) }, 83),
];

interface Scene {
  readonly ledger: Ledger;
  readonly directory: string;
  readonly file: string;
  readonly clock: TestClock;
  readonly warnings: NatwardError[];
  written(): Promise<LedgerState>;
}

async function ledgerAt(text?: string): Promise<Scene> {
  const directory = join(await temporaryDirectory(), 'home');
  const file = join(directory, 'ledger.json');
  if (text !== undefined) {
    await mkdir(directory);
    await writeFile(file, text);
  }
  const clock = new TestClock();
  const warnings: NatwardError[] = [];
  const ledger = new Ledger(directory, clock, (error) => warnings.push(error));
  onTestFinished(() => ledger.flush());
  const written = async () => parseLedger(await readFile(file, 'utf8'));
  return { ledger, directory, file, clock, warnings, written };
}

function stateOf(...ports: readonly number[]): LedgerState {
  return { intents: [], holdings: ports.map((port) => holding({}, port)) };
}

async function modeOf(path: string): Promise<string> {
  return ((await stat(path)).mode & 0o777).toString(8);
}

describe('the ledger', () => {
  test('is empty before anything was kept, and looking makes no file', async () => {
    const { ledger, directory, warnings } = await ledgerAt();
    expect(ledger.load()).toEqual(NOTHING);
    await ledger.flush();
    expect(existsSync(directory)).toBe(false);
    expect(warnings).toEqual([]);
  });

  test('comes back as it was written', async () => {
    const { ledger, directory, clock } = await ledgerAt();
    ledger.save(() => ({ intents: INTENTS, holdings: HOLDINGS }), 'soon');
    await ledger.flush();
    const { intents, holdings } = new Ledger(directory, clock, () => undefined).load();
    expect(JSON.parse(JSON.stringify(intents))).toEqual(JSON.parse(JSON.stringify(INTENTS)));
    expect(holdings).toEqual(HOLDINGS);
  });

  test('knows an intent again: asked for once more, it has its old number', async () => {
    const { ledger, written } = await ledgerAt();
    ledger.save(() => ({ intents: INTENTS, holdings: [] }), 'soon');
    await ledger.flush();
    const { intents } = await written();
    expect(intents.map((intent) => intentOf(intent, intent.owner).id)).toEqual(INTENTS.map(({ id }) => id));
  });

  test.skipIf(process.platform === 'win32')('is for its owner alone', async () => {
    const { ledger, directory, file } = await ledgerAt();
    for (const port of [1, 2]) {
      ledger.save(() => stateOf(port), 'soon');
      await ledger.flush();
      expect([await modeOf(directory), await modeOf(file)]).toEqual(['700', '600']);
    }
  });

  test('leaves nothing else in its directory', async () => {
    const { ledger, directory } = await ledgerAt();
    ledger.save(() => stateOf(1), 'soon');
    await ledger.flush();
    expect(await readdir(directory)).toEqual(['ledger.json']);
  });

  test('of ten thousand leases is written and read in no time', async () => {
    const { ledger, directory, clock } = await ledgerAt();
    const state = stateOf(...Array.from({ length: 10_000 }, (_, at) => at + 1));
    const startMs = performance.now();
    ledger.save(() => state, 'soon');
    await ledger.flush();
    expect(new Ledger(directory, clock, () => undefined).load().holdings).toHaveLength(10_000);
    expect(performance.now() - startMs).toBeLessThan(5000);
  });
});

describe('save()', () => {
  test('soon: is on disk within a moment, once for many', async () => {
    const { ledger, file, clock, written } = await ledgerAt();
    let asked = 0;
    for (let port = 1; port <= 100; port++) {
      ledger.save(() => {
        asked++;
        return stateOf(port);
      }, 'soon');
    }
    await clock.advance(SOON_MS - 1);
    expect([existsSync(file), asked]).toEqual([false, 0]);
    await clock.advance(1);
    expect((await written()).holdings[0]?.mapping.externalPort).toBe(100);
    expect(asked).toBe(1);
  });

  test('soon: a stream of them does not put it off for ever', async () => {
    const { ledger, clock, written } = await ledgerAt();
    for (let port = 1; port <= 10; port++) {
      ledger.save(() => stateOf(port), 'soon');
      await clock.advance(SOON_MS / 2);
    }
    expect((await written()).holdings[0]?.mapping.externalPort).toBeGreaterThanOrEqual(9);
  });

  test('soon: a write that took long puts off the next one, and not for longer than two seconds', async () => {
    const clock = new TestClock();
    let slowMs = 0;
    const delays: number[] = [];
    const slow: Clock = {
      now: () => clock.now(),
      steady: () => clock.steady() + slowMs,
      sleep: (delayMs, signal) => {
        delays.push(delayMs);
        return clock.sleep(delayMs, signal);
      },
    };
    const ledger = new Ledger(await temporaryDirectory(), slow, () => undefined);
    for (const [took, delayMs] of [
      [10, 300],
      [1000, 2000],
    ] as const) {
      const state: LedgerState = {
        ...NOTHING,
        get holdings() {
          slowMs += took;
          return [];
        },
      };
      ledger.save(() => state, 'soon');
      await ledger.flush();
      ledger.save(() => NOTHING, 'soon');
      expect(delays.at(-1)).toBe(delayMs);
    }
    await ledger.flush();
  });

  test('later: waits for ten minutes, however often it is said', async () => {
    const { ledger, file, clock, written } = await ledgerAt();
    ledger.save(() => stateOf(1), 'later');
    await clock.advance(LATER_MS / 2);
    ledger.save(() => stateOf(2), 'later');
    await clock.advance(LATER_MS / 2 - 1);
    expect(existsSync(file)).toBe(false);
    await clock.advance(1);
    expect((await written()).holdings[0]?.mapping.externalPort).toBe(2);
  });

  test('what is to be saved soon does not wait for what is to be saved later', async () => {
    const { ledger, clock, written } = await ledgerAt();
    ledger.save(() => stateOf(1), 'later');
    ledger.save(() => stateOf(2), 'soon');
    ledger.save(() => stateOf(3), 'later');
    await clock.advance(SOON_MS);
    expect((await written()).holdings[0]?.mapping.externalPort).toBe(3);
    expect(clock.pending).toBe(0);
  });

  test('what is asked for while it is written is written next', async () => {
    const { ledger, clock, written } = await ledgerAt();
    ledger.save(() => {
      ledger.save(() => stateOf(2), 'soon');
      return stateOf(1);
    }, 'soon');
    await clock.advance(SOON_MS);
    expect((await written()).holdings[0]?.mapping.externalPort).toBe(1);
    await clock.advance(SOON_MS);
    expect((await written()).holdings[0]?.mapping.externalPort).toBe(2);
  });
});

describe('flush()', () => {
  test('writes at once, and leaves no timer', async () => {
    const { ledger, clock, written } = await ledgerAt();
    ledger.save(() => stateOf(1), 'later');
    ledger.save(() => stateOf(2), 'soon');
    await ledger.flush();
    expect((await written()).holdings).toHaveLength(1);
    expect(clock.pending).toBe(0);
  });

  test('with nothing to save writes nothing', async () => {
    const { ledger, file } = await ledgerAt();
    ledger.save(() => stateOf(1), 'soon');
    await ledger.flush();
    await rm(file);
    await ledger.flush();
    expect(existsSync(file)).toBe(false);
  });

  test('waits for what is being written', async () => {
    const { directory, file } = await ledgerAt();
    let wake: () => void = () => undefined;
    const clock: Clock = {
      now: () => 0,
      steady: () => 0,
      sleep: () =>
        new Promise((resolve) => {
          wake = resolve;
        }),
    };
    const ledger = new Ledger(directory, clock, () => undefined);
    ledger.save(() => stateOf(1), 'soon');
    wake();
    for (let turn = 0; turn < 5; turn++) await Promise.resolve();
    await ledger.flush();
    expect(existsSync(file)).toBe(true);
  });

  test('twice at once is once', async () => {
    const { ledger, written } = await ledgerAt();
    ledger.save(() => stateOf(1), 'soon');
    await Promise.all([ledger.flush(), ledger.flush()]);
    expect((await written()).holdings).toHaveLength(1);
  });
});

describe('a ledger that cannot be read', () => {
  const row = JSON.stringify(holding());
  const one = JSON.stringify(INTENTS[0]);
  const with_ = (intents: string, holdings: string) =>
    `{"version":1,"intents":[${intents}],"holdings":[${holdings}]}`;

  test.each([
    ['is empty', ''],
    ['is cut off', with_(one, row).slice(0, 100)],
    ['is another kind of document', '[1,2,3]'],
    ['holds null', 'null'],
    ['has no version', '{"intents":[],"holdings":[]}'],
    ['has a version of 0', '{"version":0,"intents":[],"holdings":[]}'],
    ['has a version and a half', '{"version":1.5,"intents":[],"holdings":[]}'],
    ['has its version as text', '{"version":"1","intents":[],"holdings":[]}'],
    ['has no intents', '{"version":1,"holdings":[]}'],
    ['has no holdings', '{"version":1,"intents":[]}'],
    ['holds a mapping at port 65536', with_('', row.replaceAll('8080', '65536'))],
    ['holds a mapping of a name', with_('', row.replace('192.168.1.1', 'router'))],
    ['holds a short nonce', with_('', row.replace('00112233445566778899aabb', 'ff'))],
    ['holds a mapping on no interface', with_('', row.replace('"eth0"', 'null'))],
    ['holds a mapping of a lease without end', with_('', row.replace('0123abcd', 'a'.repeat(65)))],
    ['wants what has no number', with_(one.replace(/"id":"[0-9a-f]{8}"/, '"id":"x"'), '')],
    ['wants it for nobody', with_(one.replace('"user"', '""'), '')],
    ['wants no protocol', with_(one.replace('["tcp"]', '[]'), '')],
    ['wants an unknown protocol', with_(one.replace('["tcp"]', '["sctp"]'), '')],
    ['wants it for no time', with_(one.replace('7200', '0'), '')],
    ['wants it for ever', with_(one.replace('7200', '604801'), '')],
    ['wants an unknown hook', with_(one.replace('"hooks":[]', '"hooks":[{"kind":"magic"}]'), '')],
    ['is deep', '['.repeat(100_000)],
    ['is no text', '\u0000\uffff\u0001'],
  ])('%s: is set aside, said so, and counts as empty', async (_what, text) => {
    const { ledger, file, warnings, written } = await ledgerAt(text);
    expect(ledger.load()).toEqual(NOTHING);
    expect(await readFile(`${file}.broken`, 'utf8')).toBe(text);
    expect(warnings).toMatchObject([
      { code: 'FAILED', message: expect.stringContaining(`${file}.broken`), advice: expect.any(String) },
    ]);
    ledger.save(() => stateOf(5), 'soon');
    await ledger.flush();
    expect((await written()).holdings).toHaveLength(1);
  });

  test('sets a second one aside without losing the first', async () => {
    const { directory, file, clock } = await ledgerAt('first');
    for (const text of ['first', 'second', 'third']) {
      await writeFile(file, text);
      new Ledger(directory, clock, () => undefined).load();
    }
    const names = (await readdir(directory)).sort();
    expect(names).toEqual(['ledger.json.broken', 'ledger.json.broken-2', 'ledger.json.broken-3']);
    expect(await readFile(join(directory, 'ledger.json.broken'), 'utf8')).toBe('first');
  });

  test('is of a newer natward: is refused with its name, and left as it is', async () => {
    const text = '{"version":2,"intents":[],"holdings":[],"more":true}';
    const { ledger, directory, file, warnings } = await ledgerAt(text);
    expect(() => ledger.load()).toThrow(
      expect.objectContaining({
        code: 'FAILED',
        message: expect.stringContaining(`cannot use ${file}: it is of version 2`),
        advice: expect.stringContaining('newer natward'),
      }),
    );
    await ledger.flush();
    expect(await readFile(file, 'utf8')).toBe(text);
    expect(await readdir(directory)).toEqual(['ledger.json']);
    expect(warnings).toEqual([]);
  });

  test('is a directory: fails with its name', async () => {
    const { ledger, file } = await ledgerAt();
    await mkdir(file, { recursive: true });
    expect(() => ledger.load()).toThrow(
      expect.objectContaining({ code: 'FAILED', message: expect.stringContaining(file) }),
    );
  });

  test('does not become the prototype of anything', async () => {
    const { ledger } = await ledgerAt(
      '{"version":1,"intents":[],"holdings":[],"__proto__":{"polluted":true},"constructor":{"prototype":{"polluted":true}}}',
    );
    expect(ledger.load()).toEqual(NOTHING);
    ledger.save(() => stateOf(1), 'soon');
    await ledger.flush();
    expect(Reflect.get({}, 'polluted')).toBeUndefined();
  });
});

describe('parseLedger', () => {
  /** Version 1 called holdings `held`, version 2 had one intent a line. */
  const migrations = [
    (document: unknown) => {
      const { held, ...rest } = document as { held: unknown };
      return { ...rest, version: 2, holdings: held };
    },
    (document: unknown) => {
      const { lines, ...rest } = document as { lines: string };
      return { ...rest, version: 3, intents: lines === '' ? [] : JSON.parse(`[${lines}]`) };
    },
  ];
  const intents = JSON.parse(JSON.stringify(INTENTS.slice(0, 1)));
  const holdings = [holding()];

  test.each([
    ['the first', { version: 1, lines: JSON.stringify(intents[0]), held: holdings }],
    ['the second', { version: 2, lines: JSON.stringify(intents[0]), holdings }],
    ['the newest', { version: 3, intents, holdings }],
  ])('takes a document of %s version through the migrations that it needs', (_which, document) => {
    const state = parseLedger(JSON.stringify(document), migrations);
    expect(JSON.parse(JSON.stringify(state))).toEqual({ intents, holdings });
  });

  test('refuses a newer one before any migration sees it', () => {
    const never = () => {
      throw new Error('a migration was run');
    };
    expect(() => parseLedger('{"version":3}', [never])).toThrow(
      expect.objectContaining({ code: 'FAILED', message: expect.stringMatching(/version 3.*up to 2/) }),
    );
  });

  test('throws where a migration does, and where it makes what is no ledger', () => {
    const fails = () => {
      throw new Error('no');
    };
    expect(() => parseLedger('{"version":1}', [fails])).toThrow('no');
    expect(() => parseLedger('{"version":1}', [() => ({ version: 2 })])).toThrow(/intents/);
  });

  test('takes what newer versions may have added, and leaves it out', () => {
    const document = { version: 1, intents: [], holdings: [], more: 1 };
    expect(parseLedger(JSON.stringify(document))).toEqual(NOTHING);
  });
});

describe('readHoldings', () => {
  test('tells what an agent holds, to those who only look', async () => {
    const { ledger, directory } = await ledgerAt();
    expect(readHoldings(directory)).toEqual([]);
    ledger.save(() => stateOf(1, 2), 'soon');
    await ledger.flush();
    expect(readHoldings(directory)).toEqual(stateOf(1, 2).holdings);
  });

  test.each(['broken', '{"version":99,"intents":[],"holdings":[]}'])(
    'tells nothing of %j, and leaves it where it is',
    async (text) => {
      const { directory, file } = await ledgerAt(text);
      expect(readHoldings(directory)).toEqual([]);
      expect(await readFile(file, 'utf8')).toBe(text);
    },
  );
});

describe('a disk that takes nothing', () => {
  /** The directory is gone, and a file is in its place: nothing can be written there. */
  async function obstruct(directory: string): Promise<() => Promise<void>> {
    await rename(directory, `${directory}.away`);
    await writeFile(directory, '');
    return async () => {
      await rm(directory);
      await rename(`${directory}.away`, directory);
    };
  }

  async function troubled(): Promise<Scene & { readonly clear: () => Promise<void> }> {
    const scene = await ledgerAt();
    scene.ledger.save(() => stateOf(1), 'soon');
    await scene.ledger.flush();
    const clear = await obstruct(scene.directory);
    scene.ledger.save(() => stateOf(2), 'soon');
    await scene.clock.advance(SOON_MS);
    return { ...scene, clear };
  }

  test('is told of once, and as long as it lasts in `trouble`', async () => {
    const { ledger, clock, warnings, file } = await troubled();
    expect(ledger.trouble).toMatchObject({
      code: 'FAILED',
      message: expect.stringContaining(file),
      advice: expect.stringContaining('as it was'),
    });
    for (let more = 0; more < 5; more++) {
      ledger.save(() => stateOf(3 + more), 'soon');
      await clock.advance(60_000);
    }
    expect(warnings).toHaveLength(1);
    expect(warnings[0]?.message).toBe(ledger.trouble?.message);
  });

  test('keeps the ledger of before, and takes the newest when it can', async () => {
    const { ledger, clock, directory, clear, written } = await troubled();
    ledger.save(() => stateOf(3), 'soon');
    const before = parseLedger(await readFile(join(`${directory}.away`, 'ledger.json'), 'utf8'));
    expect(before).toEqual(stateOf(1));
    await clear();
    expect(await written()).toEqual(stateOf(1));
    await clock.advance(5000);
    expect(await written()).toEqual(stateOf(3));
    expect(ledger.trouble).toBeUndefined();
    expect(clock.pending).toBe(0);
  });

  test('is tried again without being asked, ever more rarely, up to five minutes', async () => {
    const { ledger, clock } = await troubled();
    const tries: number[] = [];
    let last = ledger.trouble;
    const startMs = clock.now();
    while (clock.now() < startMs + 3_600_000) {
      await clock.advance(1000);
      if (ledger.trouble !== last) tries.push(Math.round((clock.now() - startMs) / 1000));
      last = ledger.trouble;
    }
    expect(tries.slice(0, 7)).toEqual([5, 15, 35, 75, 155, 315, 615]);
    expect(tries.length).toBeLessThan(20);
  });

  test('is not tried at once for every change', async () => {
    const { ledger, clock } = await troubled();
    let asked = 0;
    for (let at = 0; at < 100; at++) {
      ledger.save(() => {
        asked++;
        return stateOf(2);
      }, 'soon');
      await clock.advance(40);
    }
    expect(asked).toBe(0);
  });

  test('is told of again when it comes back', async () => {
    const { ledger, clock, directory, clear, warnings } = await troubled();
    await clear();
    await clock.advance(5000);
    const clearAgain = await obstruct(directory);
    ledger.save(() => stateOf(4), 'soon');
    await clock.advance(SOON_MS);
    expect(warnings).toHaveLength(2);
    await clearAgain();
  });

  test('does not keep flush() from ending, which leaves no timer; what comes later is written all the same', async () => {
    const { ledger, clock, clear, written } = await troubled();
    await ledger.flush();
    expect(clock.pending).toBe(0);
    await clear();
    ledger.save(() => stateOf(5), 'soon');
    await clock.advance(LATER_MS);
    expect(await written()).toEqual(stateOf(5));
  });

  test('a directory where the file should be is such a trouble', async () => {
    const { ledger, file, clock, warnings, written } = await ledgerAt();
    await mkdir(file, { recursive: true });
    ledger.save(() => stateOf(1), 'soon');
    await clock.advance(SOON_MS);
    expect(ledger.trouble).toMatchObject({ code: 'FAILED', message: expect.stringContaining(file) });
    expect(warnings).toHaveLength(1);
    await rm(file, { recursive: true });
    await clock.advance(5000);
    expect(ledger.trouble).toBeUndefined();
    expect(await written()).toEqual(stateOf(1));
  });

  test('a file that somebody else has broken meanwhile is written over', async () => {
    const { ledger, file, written } = await ledgerAt();
    ledger.save(() => stateOf(1), 'soon');
    await ledger.flush();
    await writeFile(file, 'broken');
    ledger.save(() => stateOf(2), 'soon');
    await ledger.flush();
    expect(await written()).toEqual(stateOf(2));
    expect(ledger.trouble).toBeUndefined();
  });
});

describe('an agent that is killed while it writes', () => {
  test('leaves a whole ledger, of before or of after, at whatever moment', async () => {
    const at = await Promise.all(Array.from({ length: 4 }, () => temporaryDirectory()));
    const children = at.map((directory) =>
      spawn(process.execPath, ['--import', 'tsx', WRITE_LEDGER, directory, '300'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      }),
    );
    await Promise.all(children.map((child) => once(child.stdout, 'data')));
    for (const [index, child] of children.entries()) {
      await pause(index);
      child.kill('SIGKILL');
      await once(child, 'exit');
      const directory = at[index] as string;
      const { holdings } = parseLedger(await readFile(join(directory, 'ledger.json'), 'utf8'));
      expect(holdings).toHaveLength(300);
      expect(new Set(holdings.map(({ mapping }) => mapping.externalPort)).size).toBe(1);
    }
  }, 30_000);

  test('leaves no half-written file behind for ever: the next one sweeps it away', async () => {
    const { ledger, directory, file } = await ledgerAt(
      JSON.stringify({ version: 1, intents: [], holdings: [] }),
    );
    await writeFile(`${file}.tmp-5239912435457836`, '{"version":1,"int');
    await writeFile(join(directory, 'state.json.tmp-5239912435457836'), 'of somebody else');
    expect(ledger.load()).toEqual(NOTHING);
    expect((await readdir(directory)).sort()).toEqual(['ledger.json', 'state.json.tmp-5239912435457836']);
  });
});
