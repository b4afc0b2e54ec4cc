/** Rounds: every relay has its turn in each, in a network of its own, and medians are compared. */

import { median, quotient, type Table } from '../report.ts';
import type { Load } from './load.ts';
import { createNetwork, type Network } from './network.ts';
import type { Relay } from './programs.ts';

export interface Turn {
  readonly relay: Relay;
  readonly network: Network;
  readonly load: Load;
}

/** A row of figures for each table, by the table's title. */
export type Sample = Readonly<Record<string, readonly (number | undefined)[]>>;

export interface Part {
  readonly name: string;
  /** What hardly differs from one round to the next needs few of them. */
  readonly mostRounds?: number;
  /** The first column is the one that is compared. */
  readonly tables: readonly { readonly title: string; readonly columns: readonly string[] }[];
  /** False where a relay cannot do what is measured. */
  takes(relay: Relay): boolean;
  turn(turn: Turn): Promise<Sample>;
}

export interface Outcome {
  readonly name: string;
  readonly samples: readonly Sample[];
  /** Why there are no more. */
  readonly failure?: string;
}

/** Whom the others are divided by. */
const MEASURES = ['routed', 'haproxy', 'nginx'];

export async function measure(
  part: Part,
  relays: readonly Relay[],
  wantedRounds: number,
  load: Load,
): Promise<Outcome[]> {
  const rounds = Math.min(wantedRounds, part.mostRounds ?? wantedRounds);
  const outcomes = relays
    .filter((relay) => part.takes(relay))
    .map((relay) => ({ relay, samples: [] as Sample[], failure: undefined as string | undefined }));
  for (let round = 0; round < rounds; round++) {
    console.error(`bench: ${part.name}, round ${round + 1} of ${rounds}`);
    // Nobody always comes after the same one.
    const first = round % outcomes.length;
    for (const outcome of [...outcomes.slice(first), ...outcomes.slice(0, first)]) {
      if (outcome.failure !== undefined) continue;
      try {
        outcome.samples.push(await takeTurn(part, outcome.relay, load));
      } catch (error) {
        outcome.failure = error instanceof Error ? error.message : String(error);
        console.error(`bench: ${part.name}, ${outcome.relay.name}: ${outcome.failure}`);
      }
    }
  }
  return outcomes.map(({ relay: { name }, samples, failure }) => ({
    name,
    samples,
    ...(failure === undefined ? {} : { failure }),
  }));
}

async function takeTurn(part: Part, relay: Relay, load: Load): Promise<Sample> {
  const network = await createNetwork();
  try {
    await load.serve(network);
    return await part.turn({ relay, network, load });
  } finally {
    await network.close();
  }
}

export function tables({ tables: shapes }: Part, outcomes: readonly Outcome[]): Table[] {
  return shapes.map(({ title, columns }) => {
    const figures = (outcome: Outcome, column: number): number[] =>
      outcome.samples.flatMap((sample) => sample[title]?.[column] ?? []);
    const compared = MEASURES.flatMap((name) => {
      const measure = outcomes.find((other) => other.name === name);
      const samples = measure === undefined ? [] : figures(measure, 0);
      return samples.length === 0 ? [] : [{ name, samples }];
    });
    const [first = '', ...more] = columns;
    return {
      title,
      columns: [first, 'min', 'max', ...compared.map(({ name }) => `x ${name}`), ...more, 'n'],
      rows: outcomes.map((outcome) => {
        const samples = figures(outcome, 0);
        const middle = median(samples);
        return {
          name: outcome.name,
          figures: [
            middle,
            ...(middle === undefined ? [undefined, undefined] : [Math.min(...samples), Math.max(...samples)]),
            // Of the same round, since the machine may have other work in the next.
            ...compared.map(({ samples: others }) =>
              median(samples.flatMap((sample, round) => quotient(sample, others[round]) ?? [])),
            ),
            ...more.map((_, at) => median(figures(outcome, at + 1))),
            samples.length,
          ],
          remark: outcome.failure === undefined ? undefined : mainLine(outcome.failure),
        };
      }),
      verdicts: [],
    };
  });
}

/** Programs say more than what went wrong. */
function mainLine(failure: string): string {
  const said = failure.split('\n');
  return (said.find((line) => /\b(alert|emerg|error)\b/i.test(line)) ?? said[0] ?? '').slice(0, 120);
}
