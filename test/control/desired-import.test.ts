import { describe, expect, test } from 'vitest';
import type { EditOptions, RuleEdit } from '../../src/agent/rule-keeping.ts';
import { addImported, importText } from '../../src/control/desired-import.ts';
import { NatwardError } from '../../src/errors.ts';
import { EDITED } from './support/fake-agent.ts';

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
      rules: [{ id: 'web', rule: 'in tcp 80 -> :8080' }],
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

describe('adding them', () => {
  const lines = Array.from({ length: 100 }, (_, at) => `10.0.0.1 ${at + 1} 10.0.0.5 8080`);
  const imported = importText(lines.join('\n\n'), 'rinetd.conf');
  const OPTIONS = { conversations: 'drain', dryRun: false } as const;
  const CONFLICT = new NatwardError('CONFLICT', 'to: it is taken', { advice: 'Take another.' });

  /** Takes no rule of these, by their places; the edits that it was asked for. */
  function tableWithout(refused: readonly number[], error = CONFLICT) {
    const asked: number[] = [];
    const edit = async (wanted: RuleEdit) => {
      const { rules } = wanted as { rules: readonly unknown[] };
      asked.push(rules.length);
      if (refused.some((at) => at < rules.length)) throw error;
      return EDITED;
    };
    return { asked, edit };
  }

  test('adds all at once', async () => {
    const table = tableWithout([]);
    expect(await addImported(table, imported, OPTIONS)).toBe(EDITED);
    expect(table.asked).toEqual([100]);
  });

  test.each([[[0]], [[99]], [[41, 42, 99]], [Array.from({ length: 100 }, (_, at) => at)]])(
    'names the line of the first of the rules that are refused: %j',
    async (refused) => {
      const table = tableWithout(refused);
      await expect(addImported(table, imported, OPTIONS)).rejects.toMatchObject({
        code: 'CONFLICT',
        message: `rinetd.conf:${2 * (refused[0] ?? 0) + 1}: to: it is taken`,
        advice: 'Take another.',
      });
      expect(table.asked.length).toBeLessThan(12);
    },
  );

  test('says the reason alone where the rules are not at fault', async () => {
    const gone = new NatwardError('FAILED', 'the agent is gone');
    await expect(addImported(tableWithout([0], gone), imported, OPTIONS)).rejects.toBe(gone);
    const edit = async (_: RuleEdit, { dryRun }: EditOptions) => {
      if (!dryRun) throw CONFLICT;
      return EDITED;
    };
    await expect(addImported({ edit }, imported, OPTIONS)).rejects.toBe(CONFLICT);
  });
});
