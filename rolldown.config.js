// Bundles the command-line program: one small entry and a chunk for each command and heavy library, so
// that `natward map` loads only what it runs. Why a bundle: docs/decisions/0003-bundled-command.md.
import { defineConfig } from 'rolldown';

export default defineConfig({
  input: { natward: 'src/cli/bin.ts' },
  platform: 'node',
  output: {
    dir: 'dist/bin',
    format: 'cjs',
    minify: true,
    legalComments: 'none',
    entryFileNames: '[name].cjs',
    chunkFileNames: '[name]-[hash].cjs',
  },
});
