/** Tables of thousands of rules: put in at once, changed, and read. */

import { median } from '../report.ts';
import { ECHO_PORT } from '../relay/load.ts';
import { ROUTER } from '../relay/network.ts';
import type { Forward, Started } from '../relay/programs.ts';
import type { Part, Turn } from '../relay/rounds.ts';
import { type KernelProgram, MEASURES, NATWARD, type Table } from './programs.ts';

const FIRST_PORT = 1024;
const MOST = 60_000;
const MANY = 10_000;
const EDITS = 10;
const READINGS = 5;
const KNOCK_SECONDS = 5;
/** Nobody listens there. */
const CLOSED_PORT = 5002;

const forwards = (ports: number, serverPort: number): Forward => ({
  protocol: 'tcp',
  port: FIRST_PORT,
  ports,
  as: 'rules',
  serverPort,
});

const takes = ({ open, name }: KernelProgram): boolean => open !== undefined && name !== 'nft, masquerade';

async function opened({ relay, network }: Turn<KernelProgram>): Promise<Table> {
  const table = await relay.open?.(network);
  if (table === undefined) throw new Error('it has no table');
  return table;
}

/** Rejects where no echo comes through the rule at `at`: what was measured was not done. */
async function check({ network, load }: Turn<KernelProgram>, at: number): Promise<void> {
  const to: Started = { host: ROUTER, port: FIRST_PORT + at, process: undefined, toldAtMs: 0 };
  await load.echo(network, to, KNOCK_SECONDS);
}

const LOAD_TITLE = `${MOST} rules put in at once`;
export const LOAD: Part<KernelProgram> = {
  name: 'load',
  mostRounds: 3,
  measures: MEASURES,
  tables: [
    {
      title: LOAD_TITLE,
      columns: ['whole command s', 'at its API s'],
      targets: ['whole command s', 'at its API s'].map((column) => ({
        program: NATWARD,
        column,
        at: 'most',
        limit: 2,
      })),
    },
  ],
  takes,
  async turn(turn) {
    const table = await opened(turn);
    const forward = forwards(MOST, ECHO_PORT);
    const wholeMs = await table.apply(forward);
    await check(turn, MOST - 1);
    const askedMs = await table.ask?.(forward);
    await check(turn, MOST - 1);
    return { [LOAD_TITLE]: [wholeMs / 1000, askedMs === undefined ? undefined : askedMs / 1000] };
  },
};

const EDIT_TITLE = `one rule of ${MANY} changed`;
export const EDIT: Part<KernelProgram> = {
  name: 'edit',
  mostRounds: 3,
  measures: MEASURES,
  tables: [
    {
      title: EDIT_TITLE,
      columns: ['ms', 'slowest ms'],
      targets: [{ program: NATWARD, column: 'ms', at: 'most', limit: 100 }],
    },
  ],
  takes,
  async turn(turn) {
    const table = await opened(turn);
    const forward = forwards(MANY, CLOSED_PORT);
    await table.apply(forward);
    const at = MANY / 2;
    // The first one may look for what the others know.
    await table.edit(forward, at, CLOSED_PORT + 1);
    const times: number[] = [];
    for (let edit = 0; edit < EDITS; edit++)
      times.push(await table.edit(forward, at, edit % 2 === EDITS % 2 ? CLOSED_PORT : ECHO_PORT));
    await check(turn, at);
    return { [EDIT_TITLE]: [median(times), Math.max(...times)] };
  },
};

const READ_TITLE = `the activity of ${MANY} rules read`;
export const READING: Part<KernelProgram> = {
  name: 'reading',
  mostRounds: 3,
  measures: MEASURES,
  tables: [
    {
      title: READ_TITLE,
      columns: ['ms', 'rules disabled ms', 'the engine ms'],
      targets: [{ program: NATWARD, column: 'the engine ms', at: 'most', limit: 200 }],
    },
  ],
  takes,
  async turn(turn) {
    const table = await opened(turn);
    await table.apply(forwards(MANY, ECHO_PORT));
    await check(turn, MANY - 1);
    const times: number[] = [];
    for (let reading = 0; reading < READINGS; reading++) times.push(await table.read());
    const ms = median(times);
    const idleMs = await table.readIdle?.();
    return {
      [READ_TITLE]: [ms, idleMs, ms === undefined || idleMs === undefined ? undefined : ms - idleMs],
    };
  },
};
