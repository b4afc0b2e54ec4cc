/**
 * Rounds in which all programs are there at the same time, each in a network of its own, and have short samples by
 * turns: what else the machine does meanwhile falls on all of them, and a ratio is of two neighbours in time.
 */

import { readFileSync } from 'node:fs';
import { cpuSecondsOf } from '../relay/family.ts';
import type { Load } from '../relay/load.ts';
import { createNetwork, type Network } from '../relay/network.ts';
import type { Forward, Started } from '../relay/programs.ts';
import type { Outcome, Sample, Shape } from '../relay/rounds.ts';
import type { KernelProgram } from './programs.ts';

export interface Contest {
  readonly name: string;
  readonly tables: readonly Shape[];
  readonly measures: readonly string[];
  readonly forward: Forward;
  /** Samples of each program in a round. */
  readonly turns: number;
  readonly sample: (load: Load, place: Place) => Promise<Sample>;
}

/** A program at work. */
export interface Place {
  readonly network: Network;
  readonly to: Started;
  /** Of the server and the program, so far. The kernel's forwarding is done on the way out of a process. */
  cpuSeconds(): number;
}

interface Entry {
  readonly program: KernelProgram;
  readonly samples: Sample[];
  failure: string | undefined;
}

export async function compete(
  contest: Contest,
  programs: readonly KernelProgram[],
  rounds: number,
  load: Load,
): Promise<Outcome[]> {
  const entries: Entry[] = programs
    .filter(({ protocols, manyOnly }) => protocols.includes(contest.forward.protocol) && !manyOnly)
    .map((program) => ({ program, samples: [], failure: undefined }));
  for (let round = 0; round < rounds; round++) {
    console.error(`bench: ${contest.name}, round ${round + 1} of ${rounds}`);
    await playRound(contest, entries, load);
  }
  return entries.map(({ program: { name }, samples, failure }) => ({
    name,
    samples,
    ...(failure === undefined ? {} : { failure }),
  }));
}

async function playRound(
  { name, forward, turns, sample }: Contest,
  entries: Entry[],
  load: Load,
): Promise<void> {
  const networks: Network[] = [];
  const attempt = async (entry: Entry, act: () => Promise<void>): Promise<void> => {
    if (entry.failure !== undefined) return;
    await act().catch((error: Error) => {
      entry.failure = error.message;
      console.error(`bench: ${name}, ${entry.program.name}: ${entry.failure}`);
    });
  };
  try {
    const places = new Map<Entry, Place>();
    for (const entry of entries) {
      await attempt(entry, async () => {
        const network = await createNetwork();
        networks.push(network);
        const { pid } = await load.serve(network);
        const to = await entry.program.start(network, forward);
        // The load generator's own datagrams knock.
        await (forward.protocol === 'tcp' ? load.knock(network, to) : to.told);
        const programPid = to.process?.pid;
        places.set(entry, {
          network,
          to,
          cpuSeconds: () => runSecondsOf(pid) + (programPid === undefined ? 0 : cpuSecondsOf(programPid)),
        });
      });
    }
    for (let turn = 0; turn < turns; turn++) {
      // There and back: nobody always comes after the same one, and all of them are as far apart on the average.
      for (const entry of turn % 2 === 0 ? entries : entries.toReversed()) {
        const place = places.get(entry);
        if (place === undefined) continue;
        await attempt(entry, async () => {
          entry.samples.push(await sample(load, place));
        });
      }
    }
  } finally {
    for (const network of networks) await network.close();
  }
}

/** Of a process with one thread, by the scheduler's own clock. */
function runSecondsOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[0]) / 1e9;
}
