/**
 * Fires mutated packets and requests at the responder, a million of each protocol where nothing else is said, and fails
 * with what it takes to see it again. Runs itself in a network namespace of its own: whoever would be called in error is
 * nobody there.
 */

import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { CAMPAIGNS } from '../test/responder/fuzz/campaigns.ts';
import { Finding, fuzz, type FuzzReport } from '../test/responder/fuzz/run.ts';
import { inOwnNetwork, isInOwnNetwork, ownNetworkUnavailable } from '../test/support/own-network.ts';

const COUNT = 1_000_000;
/** What grows by more between a fifth of the way and the end is a leak. */
const HEAP_GROWTH_BYTES = 4 * 1024 * 1024;
const MEGABYTE = 1024 * 1024;

const USAGE = `npm run fuzz -- [options]

  --count N        packets of each protocol; default ${COUNT}
  --protocol NAME  of ${Object.keys(CAMPAIGNS).join(', ')}; may be repeated; default: all
  --seed N         default: by the clock`;

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: String(COUNT) },
    protocol: { type: 'string', multiple: true, default: Object.keys(CAMPAIGNS) },
    seed: { type: 'string', default: String(Date.now() % 2 ** 32) },
    help: { type: 'boolean', short: 'h', default: false },
  },
});
if (values.help) console.log(USAGE);
else if (process.env['NATWARD_FUZZ'] === undefined) process.exitCode = runApart(Number(values.seed));
else await run(Number(values.count), Number(values.seed), values.protocol);

/** Where it can be had, without a network. */
function runApart(seed: number): number {
  const command = [
    process.execPath,
    '--import',
    import.meta.resolve('tsx'),
    fileURLToPath(import.meta.url),
    ...process.argv.slice(2),
    '--seed',
    String(seed),
  ];
  const missing = ownNetworkUnavailable();
  if (missing !== undefined) console.log(`not in a network namespace of its own: ${missing}`);
  const [program, ...args] = missing === undefined && !isInOwnNetwork() ? inOwnNetwork(command) : command;
  const env = { ...process.env, NATWARD_FUZZ: '1' };
  return spawnSync(program ?? '', args, { env, stdio: 'inherit' }).status ?? 1;
}

async function run(count: number, seed: number, protocols: readonly string[]): Promise<void> {
  console.log(`seed ${seed}, ${count} of each, Node ${process.version}`);
  for (const name of protocols) {
    const campaign = CAMPAIGNS[name]?.();
    if (campaign === undefined)
      throw new Error(`--protocol ${name}: there is ${Object.keys(CAMPAIGNS).join(', ')}`);
    const startedMs = performance.now();
    try {
      const report = await fuzz(campaign, { count, seed, onProgress: (done) => told(name, done) });
      if (!tell(name, report, (performance.now() - startedMs) / 1000)) process.exitCode = 1;
    } catch (error) {
      if (!(error instanceof Finding)) throw error;
      console.log(`\nFOUND: ${error.message}\nreceived from\n${error.packets.join('\n')}`);
      process.exitCode = 1;
    }
  }
}

function told(name: string, done: number): void {
  if (process.stderr.isTTY) process.stderr.write(`\r${name} ${done}`);
}

/** Resolves with whether memory is as it should be. */
function tell(name: string, { count, results, heapBytes }: FuzzReport, seconds: number): boolean {
  const [early, late] = heapBytes;
  const isWell = late - early <= HEAP_GROWTH_BYTES;
  const memory = `${(early / MEGABYTE).toFixed(1)} MB, then ${(late / MEGABYTE).toFixed(1)} MB`;
  console.log(
    `\n${name}: ${count} in ${seconds.toFixed(0)} s, nothing found; heap ${memory}${isWell ? '' : ': A LEAK'}`,
  );
  console.log(
    Object.entries(results)
      .map(([result, times]) => `  ${result.padEnd(26)}${times}`)
      .join('\n'),
  );
  return isWell;
}
