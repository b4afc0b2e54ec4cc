import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { array, assert, constantFrom, oneof, property, string } from 'fast-check';
import { describe, expect, onTestFinished, test } from 'vitest';
import { type Config, ConfigFile, NO_CONFIG, parseConfig, readConfig } from '../../src/agent/config.ts';
import { isNatwardError, type NatwardError } from '../../src/errors.ts';
import { parseRule } from '../../src/forwarder/text.ts';
import { TestClock } from '../support/test-clock.ts';

function errorOf(text: string): NatwardError {
  try {
    parseConfig(text, 'config.toml');
  } catch (error) {
    if (isNatwardError(error)) return error;
    throw error;
  }
  throw new Error('it was taken');
}

describe('parseConfig()', () => {
  test('an empty file asks for nothing', () => {
    expect(parseConfig('', 'f')).toEqual(NO_CONFIG);
  });

  test('a spec alone is kept as the command line would keep it', () => {
    const { keeps } = parseConfig('[[keep]]\nspec = "443:8443"\n', 'f');
    expect(keeps).toEqual([
      {
        spec: '443:8443',
        protocols: ['tcp'],
        external: { first: 443, last: 443 },
        internal: { first: 8443, last: 8443 },
        host: undefined,
        lifetimeSeconds: 7200,
        choice: 'any',
        hooks: [],
      },
    ]);
  });

  test('every key has its meaning', () => {
    const config = parseConfig(
      [
        'onExit = "keep"',
        'checkInterval = "1m"',
        'engine = "relay"',
        '[[keep]]',
        'spec = "25565:mc.example.org:25565/tcp+udp"',
        'lifetime = "1d"',
        'description = "games"',
        'exact = true',
        'via = "upnp"',
        'gateway = "192.168.1.1"',
        'interface = "eth0"',
        'family = 4',
        'hook = [ { sync = "transmission=http://127.0.0.1:9091" } ]',
        '[[hook]]',
        'on = ["granted"]',
        'run = ["/usr/bin/logger", "granted"]',
      ].join('\n'),
      'f',
    );
    expect(config).toMatchObject({ onExit: 'keep', checkMs: 60_000 });
    expect(config.keeps[0]).toMatchObject({
      host: 'mc.example.org',
      lifetimeSeconds: 86_400,
      choice: 'exact',
      via: 'upnp',
      gateway: '192.168.1.1',
      interface: 'eth0',
      family: 4,
      hooks: [{ kind: 'sync', client: 'transmission' }],
    });
    expect(config.hooks).toEqual([{ kind: 'run', argv: ['/usr/bin/logger', 'granted'], on: ['granted'] }]);
  });

  test.each([
    ['onExit = "stay"', 'config.toml:1:1: onExit: write "release" or "keep"'],
    ['\nonexit = "keep"', 'config.toml:2:1: onexit: there is no such key: did you mean onExit?'],
    ['on-exit = "keep"', 'config.toml:1:1: on-exit: there is no such key: did you mean onExit?'],
    [
      '[[keep]]\nspec = "1"\nlifetme = "2h"',
      'config.toml:3:1: keep[0].lifetme: there is no such key: did you mean lifetime?',
    ],
    [
      '[[keep]]\nspec = "1"\nhook = [ { runs = ["a"] } ]',
      'keep[0].hook[0].runs: there is no such key: did you mean run?',
    ],
    ['[[keep]]\nspec = "1"\ncolour = "red"', /colour: there is no such key$/],
    [`${'x'.repeat(1000)} = 1`, /xx: there is no such key$/],
    ['[[keep]]\nlifetime = "2h"', 'config.toml:1:1: keep[0].spec:'],
    ['[[keep]]\nspec = 8443', 'config.toml:2:1: keep[0].spec: write it as text, in quotes'],
    ['[[keep]]\nspec = "99999"', 'config.toml:2:1: keep[0].spec: port 99999 is out of range'],
    [
      '[[keep]]\nspec = "1"\n\n[[keep]]\nspec = "2"\nlifetime = "2x"',
      'config.toml:6:1: keep[1].lifetime: "2x" is no duration',
    ],
    ['[[keep]]\nspec = "1"\nlifetime = "8d"', 'config.toml:3:1: keep[0].lifetime: "8d" is out of range'],
    ['[[keep]]\nspec = "1"\nexact = "yes"', 'config.toml:3:1: keep[0].exact: write true or false'],
    ['[[keep]]\nspec = "1"\nvia = "igd"', 'config.toml:3:1: keep[0].via: write "pcp", "natpmp" or "upnp"'],
    ['[[keep]]\nspec = "1"\ngateway = "router"', 'config.toml:3:1: keep[0].gateway: "router" is not an IP'],
    ['[[keep]]\nspec = "1"\nfamily = 5', 'config.toml:3:1: keep[0].family: write 4 or 6'],
    ['[[keep]]\nspec = "1"\nhook = [ { webhook = "ftp://x" } ]', 'config.toml:3:'],
    ['[[hook]]\nrun = []', 'config.toml:2:1: hook[0]'],
    ['checkInterval = "1s"', 'config.toml:1:1: checkInterval: "1s" is out of range'],
    [
      'engine = "iptables"',
      'config.toml:1:1: engine: "iptables" is no engine: write auto, relay or nftables',
    ],
    ['keep = "443"', 'config.toml:1:1: keep:'],
    ['[[respond]]\nclients = "ALL"', 'config.toml:1:1: respond[0].interface:'],
    [
      '[[respond]]\ninterface = "docker0"\n[[respond]]\ninterface = "docker0"',
      'config.toml:4:1: respond[1].interface: another section is for docker0 already',
    ],
    ['[[respond]]\ninterface = ""', 'config.toml:2:1: respond[0].interface: it is no name'],
    [
      '[[respond]]\ninterface = "a"\nclients = "nas.lan"',
      'config.toml:3:1: respond[0].clients: "nas.lan" is no address',
    ],
    [
      '[[respond]]\ninterface = "a"\nclients = "10.0.0.1/24"',
      'config.toml:3:1: respond[0].clients: "10.0.0.1/24"',
    ],
    [
      '[[respond]]\ninterface = "a"\ntrusted = "LOCAL"',
      'config.toml:3:1: respond[0].trusted: "LOCAL" is no address',
    ],
    [
      '[[respond]]\ninterface = "a"\nports = "2000-1000"',
      'config.toml:3:1: respond[0].ports: the range 2000-1000 runs backwards',
    ],
    ['[[respond]]\ninterface = "a"\nports = 80', 'config.toml:3:1: respond[0].ports: write it as text'],
    [
      '[[respond]]\ninterface = "a"\nmaxMappings = 0',
      'respond[0].maxMappings: write a whole number, 1 to 60000',
    ],
    [
      '[[respond]]\ninterface = "a"\nrequestsPerSecond = 1.5',
      'respond[0].requestsPerSecond: write a whole number, 1 to 100000',
    ],
    ['[[respond]]\ninterface = "a"\nprotocols = []', 'respond[0].protocols: name one protocol at least'],
    [
      '[[respond]]\ninterface = "a"\nprotocols = ["igd"]',
      'respond[0].protocols[0]: write "pcp", "natpmp" or "upnp"',
    ],
    ['[[respond]]\ninterface = "a"\nigdVersion = 3', 'respond[0].igdVersion: write 1 or 2'],
    ['[[respond]]\ninterface = "a"\nname = "a\\nb"', 'respond[0].name: 1 to 63 characters'],
    [
      '[[respond]]\ninterface = "a"\nrequests-per-secnd = 5',
      'requests-per-secnd: there is no such key: did you mean requestsPerSecond?',
    ],
    [
      '[[respond]]\ninterface = "a"\n[[respond.client]]\naddress = "10.0.0.5"\nmayMapForOther = true',
      'config.toml:5:1: respond[0].client[0].mayMapForOther: there is no such key: did you mean mayMapForOthers?',
    ],
    [
      '[[respond]]\ninterface = "a"\n[[respond.client]]\naddress = "10.0.0.5, 10.0.0.6"',
      'config.toml:4:1: respond[0].client[0].address: "10.0.0.5, 10.0.0.6" is no address and no network',
    ],
    [
      '[[respond]]\ninterface = "a"\n[[respond.client]]\naddress = "10.0.0.5"\n[[respond.client]]\naddress = "10.0.0.5/32"',
      'config.toml:5:1: respond[0].client[1]: another section is for 10.0.0.5 already',
    ],
    ['respondMaxMappings = 100000', 'config.toml:1:1: respondMaxMappings: write a whole number, 1 to 60000'],
    ['a = \nb = 1', 'config.toml:2:1:'],
    ['[[keep]]\nspec = "1"\nspec = "2"', 'config.toml:3:1:'],
  ])('%j is refused with its place', (text, message) => {
    const error = errorOf(text);
    expect(error.code).toBe('USAGE');
    expect(error.message).toMatch(message);
  });

  test.each([
    '[__proto__]\nspoiled = 1',
    '[keep]\n__proto__.spoiled = 1',
    'keep = [ { __proto__ = { spoiled = 1 } } ]',
    '[constructor.prototype]\nspoiled = 1',
    '__proto__ = 1',
  ])('%j is refused, and touches nothing beside the file', (text) => {
    expect(errorOf(text).message).toMatch(/^config\.toml:\d+:\d+: /);
    expect(Object.keys(Object.prototype)).toEqual([]);
  });

  test.each([
    ['a string of 200,000 characters', `onExit = "${'x'.repeat(200_000)}"`],
    ['3,000 arrays in each other', `keep = ${'['.repeat(3000)}${']'.repeat(3000)}`],
    ['100,000 arrays in each other', `keep = ${'['.repeat(100_000)}${']'.repeat(100_000)}`],
    ['3,000 inline tables in each other', `keep = ${'{a='.repeat(3000)}1${'}'.repeat(3000)}`],
    ['a key of 3,000 parts', `keep${'.a'.repeat(3000)} = 1`],
  ])('%s are no more than a wrong file', (_, text) => {
    expect(errorOf(text).message).toMatch(/^config\.toml:\d+:\d+: /);
  });

  test('the mark that Notepad puts before UTF-8 is not seen', () => {
    expect(parseConfig('\uFEFFonExit = "keep"', 'f').onExit).toBe('keep');
  });

  test('all errors of a file are said at once, up to twenty', () => {
    expect(errorOf('onExit = 1\ncheckInterval = "x"').message).toBe(
      'config.toml:1:1: onExit: write "release" or "keep"; config.toml:2:1: checkInterval: "x" is no duration: write 90s, 30m, 2h or 7d',
    );
    const many = Array.from({ length: 30 }, (_, at) => `[[keep]]\nspec = "x${at}:y:z"`).join('\n');
    expect(errorOf(many).message).toMatch(/; and 10 more$/);
  });

  test('no text makes it fail otherwise than with a place', () => {
    const line = oneof(
      string(),
      constantFrom(
        '[[keep]]',
        '[keep]',
        'spec = "1"',
        'spec = ["1"]',
        '[[hook]]',
        'run = ["a"]',
        '__proto__ = 1',
      ),
    );
    const outcome = (text: string): string => {
      try {
        parseConfig(text, 'f');
        return 'taken';
      } catch (error) {
        return isNatwardError(error, 'USAGE') ? error.message : `unexpected: ${String(error)}`;
      }
    };
    assert(
      property(array(line, { maxLength: 8 }), (lines) => {
        expect(outcome(lines.join('\n'))).toMatch(/^(taken$|f:\d+:\d+: )/);
      }),
    );
  });
});

describe('readConfig()', () => {
  test('a file that is not there is an empty one', () => {
    expect(readConfig(join(temporaryDirectory(), 'config.toml'))).toEqual(NO_CONFIG);
  });

  test('a file of more than a mebibyte is refused', () => {
    const path = join(temporaryDirectory(), 'config.toml');
    writeFileSync(path, '#'.repeat(2 ** 20 + 1));
    expect(() => readConfig(path)).toThrow(/larger than/);
  });

  test('what cannot be read is said', () => {
    const directory = temporaryDirectory();
    expect(() => readConfig(directory)).toThrow(/cannot read .*EISDIR/);
  });

  test.skipIf(process.platform === 'win32')('what is no file is not read, but for /dev/null', () => {
    expect(() => readConfig('/dev/zero')).toThrow('/dev/zero is not a file');
    expect(readConfig('/dev/null')).toEqual(NO_CONFIG);
  });

  test('the example of docs/config.md is a good one', () => {
    const page = readFileSync(new URL('../../docs/config.md', import.meta.url), 'utf8');
    const example = /```toml\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
    const { keeps, hooks, responds } = parseConfig(example, 'docs/config.md');
    expect(responds.length).toBeGreaterThan(0);
    expect(keeps.length).toBeGreaterThan(1);
    expect(hooks.length).toBeGreaterThan(0);
  });
});

describe('ConfigFile', () => {
  interface Watched {
    readonly clock: TestClock;
    readonly path: string;
    readonly file: ConfigFile;
    readonly seen: Config[];
    readonly troubles: (string | undefined)[];
  }

  function watched(): Watched {
    const path = join(temporaryDirectory(), 'config.toml');
    writeFileSync(path, '');
    const clock = new TestClock();
    const seen: Config[] = [];
    const troubles: (string | undefined)[] = [];
    const file = new ConfigFile(path, clock, {
      changed: (config) => void seen.push(config),
      trouble: (error) => void troubles.push(error?.message),
    });
    onTestFinished(() => file[Symbol.asyncDispose]());
    return { clock, path, file, seen, troubles };
  }

  test('a file that nobody touches is not read again', async () => {
    const { clock, seen } = watched();
    await clock.advance(60_000);
    expect(seen).toEqual([]);
  });

  test('a changed file is taken within two seconds', async () => {
    const { clock, path, seen } = watched();
    writeFileSync(path, 'onExit = "keep"');
    await clock.advance(2000);
    expect(seen).toMatchObject([{ onExit: 'keep' }]);
  });

  test('a file put in its place by an editor is taken', async () => {
    const { clock, path, seen } = watched();
    writeFileSync(`${path}~`, 'onExit = "keep"');
    renameSync(`${path}~`, path);
    await clock.advance(2000);
    expect(seen).toHaveLength(1);
  });

  test('a broken file is said once and changes nothing; mended it is taken', async () => {
    const { clock, path, seen, troubles } = watched();
    writeFileSync(path, 'onExit = ');
    await clock.advance(20_000);
    expect(troubles).toEqual([expect.stringContaining('config.toml:1:')]);
    expect(seen).toEqual([]);
    writeFileSync(path, 'onExit = "keep"');
    await clock.advance(2000);
    expect(troubles.at(-1)).toBeUndefined();
    expect(seen).toHaveLength(1);
  });

  test('a file that is being written is taken when it is whole', async () => {
    const { clock, path, seen } = watched();
    const whole = '[[keep]]\nspec = "1"\n[[keep]]\nspec = "2"\n';
    writeFileSync(path, whole.slice(0, 20));
    await clock.advance(1500);
    writeFileSync(path, whole);
    await clock.advance(2000);
    expect(seen.map(({ keeps }) => keeps.length)).toEqual([2]);
  });

  test('a file that is removed is an empty one', async () => {
    const { clock, path, seen } = watched();
    rmSync(path);
    await clock.advance(2000);
    expect(seen).toEqual([NO_CONFIG]);
  });

  test('reload() takes it at once', () => {
    const { path, file, seen } = watched();
    writeFileSync(path, 'onExit = "keep"');
    file.reload();
    expect(seen).toHaveLength(1);
  });
});

function temporaryDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'natward-config-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

describe('[[rule]]', () => {
  test('a text alone is a rule that is carried out', () => {
    const { rules } = parseConfig('[[rule]]\nrule = "in tcp 80 -> :8080"\n', 'f');
    expect(rules).toEqual([{ id: undefined, enabled: true, spec: parseRule('in tcp 80 -> :8080') }]);
  });

  test('every key has its meaning, and the order stays', () => {
    const { rules } = parseConfig(
      [
        '[[rule]]',
        'id = "web"',
        'enabled = false',
        'description = "mine"',
        'rule = \'in tcp 80 -> 10.0.0.5:8080 "other"\'',
        '[[rule]]',
        'rule = \'in udp 53 -> :5353 "names"\'',
      ].join('\n'),
      'f',
    );
    expect(rules).toEqual([
      { id: 'web', enabled: false, spec: parseRule('in tcp 80 -> 10.0.0.5:8080 "mine"') },
      { id: undefined, enabled: true, spec: parseRule('in udp 53 -> :5353 "names"') },
    ]);
  });

  test.each([
    ['rule = 80', /^config\.toml:2:1: rule\[0\]\.rule: write it as text, in quotes$/],
    ['rule = "in tcp 80"', /^config\.toml:2:1: rule\[0\]\.rule: .*->/],
    ['rule = "in tcp 80 -> :8080"\nid = "a b"', /^config\.toml:3:1: rule\[0\]\.id: "a b" is no id/],
    [
      'rule = "in tcp 80 -> :8080"\nenabled = 1',
      /^config\.toml:3:1: rule\[0\]\.enabled: write true or false$/,
    ],
    [
      `rule = "in tcp 80 -> :8080"\ndescription = "${'x'.repeat(251)}"`,
      /^config\.toml:3:1: rule\[0\]\.description: .*at most 250/,
    ],
    ['enabled = true', /^config\.toml:1:\d+: rule\[0\]\.rule: it is missing/],
    [
      'rule = "in tcp 80 -> :8080"\nenabeld = true',
      /rule\[0\]\.enabeld: there is no such key: did you mean enabled\?/,
    ],
  ])('%j is wrong, and said where', (text, message) => {
    const { code, message: said } = errorOf(`[[rule]]\n${text}\n`);
    expect(code).toBe('USAGE');
    expect(said).toMatch(message);
  });

  test('an id twice is wrong where it stands the second time', () => {
    const rule = (id: string, port: number) => `[[rule]]\nid = "${id}"\nrule = "in tcp ${port} -> :8080"\n`;
    const { message } = errorOf(rule('a', 1) + rule('b', 2) + rule('a', 3));
    expect(message).toMatch(/^config\.toml:7:\d+: rule\[2\]: another rule has the id a$/);
  });
});
