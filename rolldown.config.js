// Bundles the command-line program: one small entry and a chunk for each command and heavy library, so
// that `natward map` loads only what it runs. Why a bundle: docs/decisions/0003-bundled-command.md.
import { readFileSync } from 'node:fs';
import { defineConfig } from 'rolldown';

const { version } = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8'));

/**
 * commander loads child_process, and with it streams and sockets, for subcommands that are programs of their
 * own. natward has none; without it each command starts 3 ms sooner.
 */
const withoutChildProcess = {
  name: 'commander-without-child-process',
  resolveId(source, importer) {
    return source === 'node:child_process' && /[\\/]commander[\\/]/.test(importer ?? '')
      ? '\0no-child-process'
      : null;
  },
  load(id) {
    return id === '\0no-child-process' ? 'export default {};' : null;
  },
};

export default defineConfig({
  input: { natward: 'src/cli/bin.ts' },
  platform: 'node',
  plugins: [withoutChildProcess],
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
