import { describe, expect, test } from 'vitest';
import { importText, placed } from '../../src/control/desired-import.ts';
import { NatwardError } from '../../src/errors.ts';

describe('rules for a table', () => {
  test('come from other programs, each with its line', () => {
    const text = '# rinetd\n0.0.0.0 80 10.0.0.5 8080\nlogfile /var/log/rinetd.log\n';
    expect(importText(text, 'rinetd.conf')).toEqual({
      rules: [{ rule: expect.stringContaining('-> 10.0.0.5:8080') }],
      places: ['rinetd.conf:2'],
      notes: [expect.stringMatching(/^rinetd\.conf:3: /)],
    });
  });

  test.each([
    ['TOML', '# exported\n\n[[rule]] # web\nid = "web"\nrule = "in tcp 80 -> :8080"\n[[keep]]\nspec = "80"'],
    ['TOML with a list', 'rule = [{ id = "web", rule = "in tcp 80 -> :8080" }]\nkeep = [{ spec = "80" }]'],
    ['JSON', '\uFEFF\n{"rule": [{"id": "web", "rule": "in tcp 80 -> :8080"}], "keep": [{"spec": "80"}]}'],
    [
      'JSON of several lines',
      '{\n"rule": [{"id": "web", "rule": "in tcp 80 -> :8080"}], "keep": [{"spec": "80"}]\n}',
    ],
  ])('come from natward’s own file as %s, without what is kept', (_, text) => {
    expect(importText(text, 'my')).toEqual({
      rules: [{ id: 'web', rule: 'in tcp 80 -> :8080', enabled: true }],
      places: ['my: rule[0]'],
      notes: ['my: keep is left out: natward apply takes it'],
    });
  });

  test.each([
    ['rinetd.conf', '0.0.0.0 80 10.0.0.5 8080\n0.0.0.0 80 10.0.0.5 0x50', /^rinetd\.conf:2: /],
    ['address with brackets', '[::1] 80 10.0.0.5 nothing', /^address with brackets:1: /],
    ['wanted.toml', '[[rule]]\nrule = "in tcp"', /^wanted\.toml:2:1: rule\[0\]\.rule: /],
    ['misspelt.toml', '[[rules]]\n', /^misspelt\.toml:1:1: rules: .*did you mean rule/],
    ['letter', 'Dear Sir or Madam,', /^letter:1: .*of no program that natward knows/],
    ['empty', '', /^empty:1: there is nothing here/],
  ])('are none at all where something is wrong in %s', (file, text, message) => {
    expect(() => importText(text, file)).toThrow(
      expect.objectContaining({ code: 'USAGE', message: expect.stringMatching(message) }),
    );
  });

  test('do not mistake a script with settings for a file of natward’s own', () => {
    const text = 'AUTOSSH_PORT=0 autossh -L 8080:10.0.0.5:80 gw';
    expect(() => importText(text, 'tunnel.sh')).not.toThrow(/toml|:1:1:/i);
  });
});

describe('what a table says of them', () => {
  const imported = importText('0.0.0.0 80 10.0.0.5 8080\n\n0.0.0.0 81 10.0.0.5 8080\n', 'rinetd.conf');

  test.each([
    ['by its position', 'rule 7: to: rule 2 has this port', 'rinetd.conf:3: to: rule 2 has this port'],
    [
      'by what it says',
      `${imported.rules[0]?.rule}: to: not possible`,
      `rinetd.conf:1: ${imported.rules[0]?.rule}: to: not possible`,
    ],
    ['by another’s position', 'rule 2: to: it is odd', 'rule 2: to: it is odd'],
    ['not at all', 'there is no room', 'there is no room'],
  ])('has the line of the one that it names %s', (_, said, message) => {
    const error = new NatwardError('CONFLICT', said, { advice: 'Take another.' });
    expect(placed(error, imported, 5)).toMatchObject({ code: 'CONFLICT', message, advice: 'Take another.' });
  });
});
