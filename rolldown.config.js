// Bundles the command-line program: one small entry and a chunk for each command and heavy library, so
// that `natward map` loads only what it runs. Why a bundle: docs/decisions/0003-bundled-command.md.
import { readFileSync } from 'node:fs';
import { defineConfig } from 'rolldown';

const { version } = JSON.parse(readFileSync(new URL('package.json', import.meta.url), 'utf8'));

/** oui-data without the postal addresses of the vendors, and as text, which V8 reads faster than an object's source. */
const vendorNames = {
  name: 'vendor-names',
  load: {
    filter: { id: /oui-data[\\/]index\.json$/ },
    handler(id) {
      const entries = Object.entries(JSON.parse(readFileSync(id, 'utf8')));
      const names = Object.fromEntries(entries.map(([prefix, text]) => [prefix, text.split('\n', 1)[0]]));
      return {
        code: `export default JSON.parse(${JSON.stringify(JSON.stringify(names))})`,
        moduleType: 'js',
      };
    },
  },
};

export default defineConfig({
  input: { natward: 'src/cli/bin.ts' },
  platform: 'node',
  plugins: [vendorNames],
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
