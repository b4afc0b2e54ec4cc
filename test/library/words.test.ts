import { readdirSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { NatwardError } from '../../src/errors.ts';
import { adviceInLibraryWords, inLibraryWords } from '../../src/library/words.ts';

/** Only a command of natward's asks for these. */
const NEVER_MET = /hooks\/|config|adapter|vendors|toml|rule-pause|rule-book|upstream|respond/;
const ROOMS = ['agent', 'discovery', 'mapping', 'forwarder'];
/** An option or a command, as people type them. */
const TYPED = /--[a-z]|natward (agent|apply|drop|gateway|keep|list|mac|map|rule|status|unmap)\b/;

function advices(): string[] {
  const root = new URL('../../src/', import.meta.url);
  return ROOMS.flatMap((room) =>
    readdirSync(new URL(room, root), { recursive: true, encoding: 'utf8' })
      .filter((path) => path.endsWith('.ts') && !NEVER_MET.test(path))
      .flatMap((path) => {
        const text = readFileSync(new URL(`${room}/${path}`, root), 'utf8');
        const found = text.matchAll(/(?:advice:|advice =|ADVICE =|retried =)\s*(?:'([^']*)'|`([^`]*)`)/g);
        return [...found].map(([, plain, template]) =>
          (plain ?? template ?? '').replace(/\$\{[^}]*\}/g, 'X'),
        );
      }),
  );
}

test('no advice that reaches a caller of the library speaks of the command line', () => {
  const typed = advices().filter((advice) => TYPED.test(advice));
  expect(typed.length).toBeGreaterThan(5);
  expect(typed.map(adviceInLibraryWords).filter((advice) => TYPED.test(advice))).toEqual([]);
});

test('the rest of an error stays as it is', () => {
  const error = new NatwardError('TIMEOUT', 'nothing came back for 5 s', {
    advice: 'Give it longer: --timeout.',
    protocolCode: 'PCP 3',
    cause: 'why',
  });
  const said = inLibraryWords(error);
  expect(said).toMatchObject({
    code: 'TIMEOUT',
    message: 'nothing came back for 5 s',
    advice: 'Give it longer: timeoutMs.',
    protocolCode: 'PCP 3',
    cause: 'why',
    stack: error.stack,
  });
  const plain = new NatwardError('FAILED', 'x', { advice: 'Restart it.' });
  expect(inLibraryWords(plain)).toBe(plain);
  const other = new TypeError('x');
  expect(inLibraryWords(other)).toBe(other);
});
