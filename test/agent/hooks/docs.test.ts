/** What docs/hooks.md shows is taken as it stands there. */

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { parseConfig } from '../../../src/agent/config.ts';
import { HOOK_EVENTS, type Hook } from '../../../src/agent/hooks/hook.ts';
import {
  parseDyndns,
  parseRun,
  parseShell,
  parseSync,
  parseWebhook,
} from '../../../src/agent/hooks/parse.ts';
import { environmentOf } from '../../../src/agent/hooks/run.ts';
import { granted } from './support.ts';

const DOCUMENT = readFileSync(new URL('../../../docs/hooks.md', import.meta.url), 'utf8');

const FLAGS: Readonly<Record<string, (text: string) => Hook>> = {
  run: parseRun,
  shell: parseShell,
  webhook: parseWebhook,
  sync: parseSync,
  dyndns: parseDyndns,
};

function blocksOf(language: string): string[] {
  return [...DOCUMENT.matchAll(new RegExp(`^\`\`\`${language}\n(.*?)^\`\`\``, 'gms'))].map(
    ([, text = '']) => text,
  );
}

test('its TOML is a configuration, and shows every kind', () => {
  const blocks = blocksOf('toml').map((text) => parseConfig(text, 'config.toml'));
  const hooks = blocks.flatMap(({ hooks, keeps }) => [...hooks, ...keeps.flatMap((keep) => keep.hooks)]);
  expect(new Set(hooks.map(({ kind }) => kind))).toEqual(new Set(Object.keys(FLAGS)));
});

test('its commands have flags that are taken', () => {
  const flags = [
    ...blocksOf('sh')
      .join('')
      .matchAll(/ --(\w+) ('[^']*'|\S+)$/gm),
  ];
  expect(new Set(flags.map(([, name]) => name))).toEqual(new Set(Object.keys(FLAGS)));
  for (const [, name = '', value = ''] of flags) {
    expect(FLAGS[name]?.(value.replace(/^'(.*)'$/, '$1'))).toMatchObject({ kind: name });
  }
});

test('it names every event and every variable', () => {
  for (const name of [...HOOK_EVENTS, ...Object.keys(environmentOf(granted()))]) {
    expect(DOCUMENT).toContain(`\`${name}\``);
  }
});
