// Takes out of dist/ what tsc has emitted and no entry reaches: it emits also the files that only types come from.
import { readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const DIST = fileURLToPath(new URL('../dist', import.meta.url));
const { exports } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));

/** As tsc writes them. */
const IMPORT = /(?:\bfrom |\bimport\(|\bimport )['"](\.[^'"]+)\.(?:js|ts)['"]/g;

function reached(entries, extension) {
  const found = new Set();
  const follow = (file) => {
    if (found.has(file)) return;
    found.add(file);
    for (const [, to] of readFileSync(file, 'utf8').matchAll(IMPORT)) {
      follow(join(dirname(file), to + extension));
    }
  };
  for (const entry of entries) follow(join(DIST, '..', entry));
  return found;
}

const files = readdirSync(DIST, { recursive: true }).map((path) => join(DIST, path));
for (const [extension, condition] of [
  ['.js', 'default'],
  ['.d.ts', 'types'],
]) {
  const entries = Object.values(exports).flatMap((target) => target[condition] ?? []);
  const kept = reached(entries, extension);
  for (const file of files) if (file.endsWith(extension) && !kept.has(file)) rmSync(file);
}
