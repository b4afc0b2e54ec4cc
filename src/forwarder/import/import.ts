/** Recognises whose configuration a text is, and makes rules of it. */

import { type Imported, quoted, usage } from './findings.ts';
import { importPortproxy, isPortproxyLine } from './portproxy.ts';
import { importRinetd } from './rinetd.ts';
import { importSsh, isSshLine } from './ssh.ts';

export type ImportFormat = 'rinetd' | 'portproxy' | 'ssh';

const IMPORTERS: Readonly<Record<ImportFormat, (text: string, file: string) => Imported>> = {
  rinetd: importRinetd,
  portproxy: importPortproxy,
  ssh: importSsh,
};
/** Enough to pass over any comment at the top. */
const LINES_READ = 2000;
/** `0.0.0.0 80 10.0.0.5 8080`, `allow 10.*`, `logfile /var/log/rinetd.log`. */
const RINETD_LINES = [
  /^[\w.:[\]-]+[ \t]+\d+(?:\/\w+)?[ \t]+[\w.:[\]-]+[ \t]+[\w-]+(?:\/\w+)?[ \t]*(?:[[#].*)?$/,
  /^[\d.:a-f[\]]+[ \t]+[\w-]+(?:\/\w+)?[ \t]+[\w.:[\]-]+[ \t]+[\w-]+(?:\/\w+)?[ \t]*(?:[[#].*)?$/i,
  /^(?:allow|deny)[ \t]+[\da-f.:*?]+[ \t]*(?:#.*)?$/i,
  /^(?:(?:pid)?logfile[ \t]+[^\s=]+|logcommon)[ \t]*$/,
];

/** By the first line that can be of one of them. Undefined: of none. */
export function recognise(text: string): ImportFormat | undefined {
  for (const written of text.replace(/^\uFEFF/, '').split('\n', LINES_READ)) {
    const line = written.trim();
    if (line.length > 1000) continue;
    if (isPortproxyLine(line)) return 'portproxy';
    if (isSshLine(line)) return 'ssh';
    if (RINETD_LINES.some((shape) => shape.test(line))) return 'rinetd';
  }
  return undefined;
}

/** `file` is what messages call it. Throws USAGE with every error's line, or where the text is nobody's. */
export function importRules(text: string, file: string): Imported {
  const format = recognise(text);
  if (format !== undefined) return IMPORTERS[format](text, file);
  const lines = text.split('\n', LINES_READ).map((line) => line.trim());
  const first = lines.findIndex((line) => line !== '' && !line.startsWith('#'));
  const found =
    first < 0 ? 'there is nothing here' : `${quoted(lines[first] ?? '')} is of no program that natward knows`;
  const known =
    'rinetd.conf, the output of netsh interface portproxy dump or show all, or an ssh command with -L';
  throw usage(`${file}:${Math.max(first, 0) + 1}: ${found}; give it ${known}`);
}
