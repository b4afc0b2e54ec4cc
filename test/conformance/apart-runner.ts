/** A process that apart.ts starts: runs the cases that it is told, one after the other. */

import type { Outcome, Task } from './apart.ts';
import { runCase } from './case.ts';
import { cases } from './cases.ts';
import { PROGRAMS } from './programs.ts';

process.on('message', (task: Task) => void run(task).then((outcome) => process.send?.(outcome)));
process.once('disconnect', () => process.exit());

async function run(task: Task): Promise<Outcome> {
  const program = PROGRAMS.find(({ name }) => name === task.program);
  const each = cases.find(({ name }) => name === task.case);
  if (program === undefined || each === undefined) return { reason: 'there is no such case' };
  try {
    await runCase(each, program);
    return { reason: undefined };
  } catch (error) {
    return { reason: error instanceof Error ? error.message : String(error) };
  }
}
