/** Runs a benchmark by its name: `npm run bench -- map`. Without a name it lists them. */

const BENCHMARKS: Readonly<Record<string, { readonly about: string; load(): Promise<Benchmark> }>> = {
  map: { about: 'mapping ports, beside other port mappers', load: () => import('./map.ts') },
  keeper: {
    about: 'what it costs to keep ten, a thousand and ten thousand ports',
    load: () => import('./keeper.ts'),
  },
  recovery: {
    about: 'how long ports stay closed after their gateway has forgotten them',
    load: () => import('./recovery.ts'),
  },
  relay: { about: 'relaying TCP and UDP, beside other relays', load: () => import('./relay.ts') },
  kernel: {
    about: 'carrying rules out in the kernel, beside plain forwarding, nft and relays',
    load: () => import('./kernel.ts'),
  },
  responder: {
    about: 'answering other programs over PCP, NAT-PMP and UPnP, beside miniupnpd',
    load: () => import('./responder.ts'),
  },
};

interface Benchmark {
  run(args: readonly string[]): Promise<void>;
}

const [name, ...args] = process.argv.slice(2);
const benchmark = name === undefined ? undefined : BENCHMARKS[name];
if (benchmark === undefined) {
  if (name !== undefined) console.error(`bench: there is no benchmark ${name}`);
  for (const [known, { about }] of Object.entries(BENCHMARKS)) console.log(`${known}  ${about}`);
  process.exitCode = name === undefined ? 0 : 2;
} else {
  try {
    await (await benchmark.load()).run(args);
  } catch (error) {
    console.error(`bench: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 1;
  }
}
