import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { stringify } from 'smol-toml';
import { describe, expect, test } from 'vitest';
import { checkDesired, parseDesired, readText } from '../../src/control/desired.ts';
import { formatRule } from '../../src/forwarder/text.ts';
import { ruleSpec } from '../forwarder/arbitraries.ts';
import { temporary } from './support/fake-agent.ts';

const FILE = 'wanted.toml';

describe('a file of the desired state', () => {
  test('says all rules and all kept requests', () => {
    const text = `
      [[rule]]
      id = "web"
      rule = 'in  tcp 80 ->  :8080'
      description = "the NAS"

      [[rule]]
      rule = 'in udp 53 -> 10.0.0.5:53'
      enabled = false

      [[keep]]
      spec = "443:8443"
      lifetime = "1h"
      hook = [{ shell = "true" }]`;
    expect(parseDesired(text, FILE)).toMatchObject({
      rules: [
        { id: 'web', rule: 'in  tcp 80 ->  :8080', description: 'the NAS' },
        { rule: 'in udp 53 -> 10.0.0.5:53', enabled: false },
      ],
      keeps: [{ spec: '443:8443', lifetimeSeconds: 3600, hooks: [{ kind: 'shell', line: 'true' }] }],
    });
  });

  test.each([
    ['rules', 'rule = []', { rules: [], keeps: undefined }],
    ['requests', 'keep = []', { rules: undefined, keeps: [] }],
    ['either', '# nothing', { rules: undefined, keeps: undefined }],
    ['either, in JSON', ' {}', { rules: undefined, keeps: undefined }],
    ['requests, in JSON', '{"keep": []}', { rules: undefined, keeps: [] }],
  ])('tells no %s from none that is spoken of', (_, text, state) => {
    expect(parseDesired(text, FILE)).toEqual(state);
  });

  test.each([
    ['a key', '[[rules]]\nrule = "in tcp 80 -> :80"', /^wanted\.toml:1:1: rules: .*did you mean rule\?/],
    ['TOML', 'rule = [', /^wanted\.toml:1:/],
    [
      'a key, in JSON',
      '{"keep": [{"spec": "80", "host": "a"}]}',
      /^wanted\.toml: keep\[0\]\.host: there is no/,
    ],
    [
      'two things, in JSON',
      '{"keep": [{"spec": "a:"}, {}]}',
      /^wanted\.toml: keep\[0\]\.spec: .*; wanted\.toml: keep\[1\]/,
    ],
    ['JSON', '{"rule": [}', /^wanted\.toml: not JSON: /],
    [
      'a null',
      '{"rule": [{"rule": "in tcp 80 -> :80", "id": null}]}',
      /^wanted\.toml: rule\[0\]\.id: it is null/,
    ],
    [
      'a depth',
      `{"rule": ${'['.repeat(50_000)}${']'.repeat(50_000)}}`,
      /^wanted\.toml: rule(\[0\])+: it is more/,
    ],
  ])('names the place of what is wrong with %s', (_, text, message) => {
    for (const read of [parseDesired, checkDesired]) {
      expect(() => read(text, FILE)).toThrow(
        expect.objectContaining({ code: 'USAGE', message: expect.stringMatching(message) }),
      );
    }
  });

  test.each([
    ['TOML', '[[rule]]\nrule = "in tcp 80 => :80"', /^wanted\.toml:2:1: rule\[0\]\.rule: .*=>/],
    ['JSON', '{"rule": [{"rule": "in tcp"}]}', /^wanted\.toml: rule\[0\]\.rule: /],
    [
      'an id twice',
      'rule = [{ id = "a", rule = "in tcp 80 -> :1" },\n{ id = "a", rule = "in tcp 81 -> :1" }]',
      /^wanted\.toml:2:1: rule\[1\]: another rule has the id a$/,
    ],
  ])('leaves what rules say to whoever takes them, or to the check: %s', (_, text, message) => {
    expect(parseDesired(text, FILE)).toMatchObject({
      rules: [{}, {}].slice(0, text.split('in tcp').length - 1),
    });
    expect(() => checkDesired(text, FILE)).toThrow(
      expect.objectContaining({ code: 'USAGE', message: expect.stringMatching(message) }),
    );
  });

  test.each([
    [
      'another table',
      '[[rule]]\nrule = "in tcp"\n[[keep]]',
      /:3:1: keep\[0\]\.spec: .*:2:1: rule\[0\]\.rule: /,
    ],
    [
      'another rule',
      '[[rule]]\nrule = "in tcp"\n[[rule]]\nrule = 7\nenable = true',
      /:2:1: rule\[0\]\.rule: .*:4:1: rule\[1\]\.rule: write it as text.*:5:1: rule\[1\]\.enable: .*enabled\?/,
    ],
  ])('says all that is wrong at once where %s is no good either', (_, text, message) => {
    expect(() => parseDesired(text, FILE)).toThrow(
      expect.objectContaining({ code: 'USAGE', message: expect.stringMatching(message) }),
    );
  });

  test.each([
    ['onExit = "keep"', 'wanted.toml:1:1: onExit'],
    ['[[respond]]\ninterface = "docker0"', 'wanted.toml:1:1: respond'],
    ['rule = []\ncheckInterval = "10s"', 'wanted.toml:2:1: checkInterval'],
    ['[[hook]]\nshell = "true"', 'wanted.toml:1:1: hook'],
    ['{"hook": []}', 'wanted.toml: hook'],
  ])('has no place for the agent’s own settings: %j', (text, place) => {
    expect(() => parseDesired(text, FILE)).toThrow(
      expect.objectContaining({
        message: `${place} is a setting of the agent, and not of this file`,
        advice: expect.stringContaining('config.toml'),
      }),
    );
  });

  test('says the same in JSON as in TOML', () => {
    const rules = fc.array(
      fc.record(
        { rule: ruleSpec.map(formatRule), enabled: fc.boolean(), id: fc.uuid() },
        { requiredKeys: ['rule'] },
      ),
      { maxLength: 4 },
    );
    const keeps = fc.array(
      fc.record(
        {
          spec: fc.constantFrom('80', '443:8443/udp', '*:nas.lan:22'),
          description: fc.string({ unit: 'binary', maxLength: 50 }),
          exact: fc.boolean(),
          family: fc.constantFrom(4, 6),
        },
        { requiredKeys: ['spec'] },
      ),
      { maxLength: 4 },
    );
    fc.assert(
      fc.property(fc.record({ rule: rules, keep: keeps }, { requiredKeys: [] }), (document) => {
        const json = JSON.stringify(document, null, 2);
        expect(parseDesired(json, FILE)).toEqual(parseDesired(stringify(document), FILE));
      }),
    );
  });
});

describe('reading the file', () => {
  test('takes all of it, whatever mark it begins with', async () => {
    const path = join(await temporary(), 'wanted.json');
    await writeFile(path, '\uFEFF{"rule": []}');
    expect(parseDesired(await readText(path), path)).toMatchObject({ rules: [] });
  });

  test('says why it cannot be read', async () => {
    const directory = await temporary();
    const path = join(directory, 'none.toml');
    await expect(readText(path)).rejects.toMatchObject({ code: 'FAILED', message: /cannot read .*ENOENT/ });
    await expect(readText(directory)).rejects.toMatchObject({ code: 'FAILED', message: /EISDIR/ });
    await writeFile(path, Buffer.from([0x80]));
    await expect(readText(path)).rejects.toMatchObject({ code: 'USAGE', message: /not UTF-8/ });
    await writeFile(path, Buffer.alloc(16 * 2 ** 20 + 1, '#'));
    await expect(readText(path)).rejects.toMatchObject({ code: 'USAGE', message: /larger than 16777216/ });
  });
});
