/** Rounds: every relay has its turn in each, in a network of its own, and medians are compared. */

import { median, quotient, type Table } from '../report.ts';
import type { Load } from './load.ts';
import { createNetwork, type Network } from './network.ts';
import type { Relay } from './programs.ts';
import { judge, type Target } from './targets.ts';

export interface Turn<Program extends Relay = Relay> {
  readonly relay: Program;
  readonly network: Network;
  readonly load: Load;
}

/** A row of figures for each table, by the table's title. */
export type Sample = Readonly<Record<string, readonly (number | undefined)[]>>;

export interface Part<Program extends Relay = Relay> {
  readonly name: string;
  /** What hardly differs from one round to the next needs few of them. */
  readonly mostRounds?: number;
  readonly tables: readonly Shape[];
  /** Whom the others are divided by. */
  readonly measures?: readonly string[];
  /** False where a relay cannot do what is measured. */
  takes(relay: Program): boolean;
  turn(turn: Turn<Program>): Promise<Sample>;
}

export interface Shape {
  readonly title: string;
  /** The first one is compared. */
  readonly columns: readonly string[];
  readonly targets?: readonly Target[];
}

export interface Outcome {
  readonly name: string;
  readonly samples: readonly Sample[];
  /** Why there are no more. */
  readonly failure?: string;
}

/** Of a part that names no others. */
const MEASURES = ['routed', 'haproxy', 'nginx'];

export async function measure<Program extends Relay>(
  part: Part<Program>,
  relays: readonly Program[],
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

async function takeTurn<Program extends Relay>(
  part: Part<Program>,
  relay: Program,
  load: Load,
): Promise<Sample> {
  const network = await createNetwork();
  try {
    await load.serve(network);
    return await part.turn({ relay, network, load });
  } finally {
    await network.close();
  }
}

export function tables(
  { tables: shapes, measures = MEASURES }: Pick<Part, 'tables' | 'measures'>,
  outcomes: readonly Outcome[],
): Table[] {
  return shapes.map(({ title, columns, targets = [] }) => {
    const figures = (name: string, column: number): number[] =>
      outcomes
        .filter((outcome) => outcome.name === name)
        .flatMap(({ samples }) => samples.flatMap((sample) => sample[title]?.[column] ?? []));
    const compared = measures.flatMap((name) => {
      const samples = figures(name, 0);
      return samples.length === 0 ? [] : [{ name, samples }];
    });
    const [first = '', ...more] = columns;
    return {
      title,
      columns: [first, 'min', 'max', ...compared.map(({ name }) => `x ${name}`), ...more, 'n'],
      rows: outcomes.map((outcome) => {
        const samples = figures(outcome.name, 0);
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
            ...more.map((_, at) => median(figures(outcome.name, at + 1))),
            samples.length,
          ],
          remark: outcome.failure === undefined ? undefined : mainLine(outcome.failure),
        };
      }),
      verdicts: targets.flatMap(
        (target) => judge(target, (name) => figures(name, columns.indexOf(target.column))) ?? [],
      ),
    };
  });
}

/** Programs say more than what went wrong. */
function mainLine(failure: string): string {
  const said = failure.split('\n');
  return (said.find((line) => /\b(alert|emerg|error)\b/i.test(line)) ?? said[0] ?? '').slice(0, 120);
}
