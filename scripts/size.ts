/**
 * What an app loads that imports { Agent } and keeps a port, minified: `npm run size`. The library is bundled as an app's own
 * bundler would, in chunks; what each use loads is named here by the modules that it imports when it gets there.
 */

import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import { type OutputChunk, rolldown } from 'rolldown';

/** In the order in which an app meets them; each adds to those before. */
const USES: readonly (readonly [what: string, modules: readonly string[]])[] = [
  ['import { Agent }', ['src/index.ts']],
  ['keep, over PCP or NAT-PMP', ['src/agent/keeper.ts', 'src/agent/foreground-memory.ts']],
  [
    'keep, over UPnP as well',
    ['src/mapping/upnp.ts', 'src/discovery/describe.ts', 'src/discovery/soap-call.ts', 'src/system/http.ts'],
  ],
  ['map, unmap, mappings, gateways, externalAddress', ['src/agent/one-shot.ts']],
];

/** What is loaded later or by others: rules, the agent of this host, the disk. */
export const LATER: readonly (readonly [what: string, modules: readonly string[]])[] = [
  ['rules, and leases that are carried', ['src/control/steered.ts']],
  ['connect()', ['src/control/client.ts']],
  ['directory', ['src/agent/file-store.ts', 'src/agent/ledger.ts']],
];

export interface Use {
  readonly what: string;
  /** Of all that is loaded by then. */
  readonly bytes: number;
  /** The same without packages. */
  readonly ownBytes: number;
}

const ROOT = fileURLToPath(new URL('..', import.meta.url));

async function bundle(packages: 'in' | 'out'): Promise<readonly OutputChunk[]> {
  const build = await rolldown({
    input: `${ROOT}src/index.ts`,
    platform: 'node',
    logLevel: 'warn',
    external: packages === 'out' ? (id) => !/^[./]/.test(id) : [],
    transform: { target: 'node20.19' },
  });
  const { output } = await build.generate({ format: 'esm', minify: true, comments: { legal: false } });
  return output.filter((one) => one.type === 'chunk');
}

/** The chunks with these modules, and all that they import at once. */
function loaded(chunks: readonly OutputChunk[], modules: readonly string[]): ReadonlySet<OutputChunk> {
  const found = new Set<OutputChunk>();
  const add = (chunk: OutputChunk | undefined) => {
    if (chunk === undefined || found.has(chunk)) return;
    found.add(chunk);
    for (const name of chunk.imports) add(chunks.find(({ fileName }) => fileName === name));
  };
  for (const module of modules) {
    const chunk = chunks.find(({ moduleIds }) => moduleIds.some((id) => id.endsWith(`/${module}`)));
    if (chunk === undefined) throw new Error(`${module} is in no chunk`);
    add(chunk);
  }
  return found;
}

function bytesOf(chunks: Iterable<OutputChunk>): number {
  let bytes = 0;
  for (const { code } of chunks) bytes += Buffer.byteLength(code);
  return bytes;
}

export async function measure(): Promise<{
  readonly uses: readonly Use[];
  readonly later: readonly Use[];
  /** Modules that are imported when they are wanted, by all that is in `uses`, and that no use names. */
  readonly unnamed: readonly string[];
}> {
  const [all, own] = [await bundle('in'), await bundle('out')];
  const modules: string[] = [];
  const uses = USES.map(([what, more]) => {
    modules.push(...more);
    return { what, bytes: bytesOf(loaded(all, modules)), ownBytes: bytesOf(loaded(own, modules)) };
  });
  const before = uses.at(-1) as Use;
  const later = LATER.map(([what, more]) => ({
    what,
    bytes: bytesOf(loaded(all, [...modules, ...more])) - before.bytes,
    ownBytes: bytesOf(loaded(own, [...modules, ...more])) - before.ownBytes,
  }));
  const named = loaded(own, [...modules, ...LATER.flatMap(([, more]) => more)]);
  const used = loaded(own, modules);
  const asked = new Set([...used].flatMap(({ dynamicImports }) => dynamicImports));
  const unnamed = own.filter((chunk) => asked.has(chunk.fileName) && !named.has(chunk));
  return { uses, later, unnamed: unnamed.map(({ name }) => name) };
}

function kilobytes(bytes: number): string {
  return `${(bytes / 1000).toFixed(1)} KB`;
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const { uses, later, unnamed } = await measure();
  const rows = [
    ...uses.map(({ what, bytes, ownBytes }) => [what, kilobytes(bytes), kilobytes(ownBytes)]),
    ...later.map(({ what, bytes, ownBytes }) => [what, `+ ${kilobytes(bytes)}`, `+ ${kilobytes(ownBytes)}`]),
  ];
  console.log(
    ['minified, loaded by then'.padEnd(52), 'all'.padStart(12), 'without packages'.padStart(18)].join(''),
  );
  for (const [what = '', all = '', own = ''] of rows) {
    console.log([what.padEnd(52), all.padStart(12), own.padStart(18)].join(''));
  }
  if (unnamed.length > 0) console.log(`loaded at other times: ${unnamed.join(', ')}`);
}
