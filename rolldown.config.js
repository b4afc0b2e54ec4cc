// Bundles the command-line program: one small entry and a chunk for each command and heavy library, so
// that `natward map` loads only what it runs. Why a bundle: docs/decisions/0003-bundled-command.md.
import { readFileSync } from 'node:fs';
import { defineConfig } from 'rolldown';

const { version } = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8'));

export default defineConfig({
  input: { natward: 'src/cli/bin.ts' },
  platform: 'node',
  transform: { target: 'node20.19', define: { NATWARD_VERSION: JSON.stringify(version) } },
  output: {
    dir: 'dist/bin',
    format: 'cjs',
    minify: true,
    comments: { legal: false },
    entryFileNames: '[name].cjs',
    chunkFileNames: '[name]-[hash].cjs',
  },
});
