/** Has the kernel forget all conversations that bear some marks, whatever their state. */

import type { RunProgram } from '../../system/program.ts';
import { deleteCommand, type Flow, listCommand, parseFlow } from './flow.ts';
import { numberOf, OWN_MASK } from './marks.ts';
import { runConntrack } from './tools.ts';

/** The marks of all but very large tables have it. */
const COMMON_BIT = 0x8000;

/**
 * Where another program translates addresses as well, the kernel would carry them on without natward's tables; and
 * their marks may be another rule's next time. Answers how many there were.
 */
export async function cutFlows(runProgram: RunProgram, marks: ReadonlySet<number>): Promise<number> {
  const found = await flowsOf(runProgram, listCommand());
  const numbers = new Set(found.map(({ mark }) => numberOf(mark)).filter((one) => one !== 0));
  const isCommon = (number: number) => (number & COMMON_BIT) !== 0;
  const own = [...numbers].filter((number) => marks.has(number));
  const common = own.filter(isCommon);
  // One command for all of them, where no other program's are among those.
  const areAlone = [...numbers].every((number) => marks.has(number) || !isCommon(number));
  const commands =
    areAlone && common.length > 1
      ? [[COMMON_BIT, COMMON_BIT * 0x1_0000] as const, ...own.filter((one) => !isCommon(one)).map(exactly)]
      : own.map(exactly);
  let cut = 0;
  for (const [number, mask] of commands) {
    cut += (await flowsOf(runProgram, deleteCommand(number * 0x1_0000, mask))).length;
  }
  return cut;
}

function exactly(number: number): readonly [number: number, mask: number] {
  return [number, OWN_MASK];
}

async function flowsOf(runProgram: RunProgram, command: readonly [string, ...string[]]): Promise<Flow[]> {
  return (await runConntrack(runProgram, command)).flatMap((line) => parseFlow(line) ?? []);
}
