/** Takes everything of natward's rules out of the kernel, for somebody who only has the machine. Not the fence (fence.ts). */

import type { RunProgram } from '../../system/program.ts';
import { type Sysctls, systemSysctls } from '../../system/sysctl.ts';
import { replacement } from './change.ts';
import { type Element, elementsOf, recordsOf } from './counters.ts';
import { cutFlows } from './flow-cut.ts';
import { readIds } from './id-record.ts';
import { numberOf } from './marks.ts';
import { removePlumbing } from './plumber.ts';
import { MAIN_TABLE, TABLES } from './ruleset.ts';
import { Nft } from './tools.ts';

/** Answers what was there, in words. Throws NOT_AUTHORIZED, or FAILED with what a program says. */
export async function removeKernelRules(
  runProgram: RunProgram,
  sysctls: Sysctls = systemSysctls,
): Promise<readonly string[]> {
  const nft = new Nft(runProgram);
  const present = (await nft.tables()).filter((one) => TABLES.includes(one));
  const ids = [...readIds(elementsOf(await listed(nft, present, 'ids'))).keys()];
  // Rules that are gone, and still have conversations, are among those that were counted.
  const counts = elementsOf(await listed(nft, present, 'counts'));
  const originals = recordsOf(await listed(nft, present, 'records'));
  if (present.length > 0) await nft.load(replacement(new Map(), present));
  await removePlumbing(runProgram, originals, sysctls);
  if (present.length === 0) return [];
  const ended = await cutFlows(runProgram, new Set([...ids, ...marksOf(counts)]));
  return [
    `the kernel's tables (${ids.length} rules)`,
    ...(ended === 0 ? [] : [`${ended} conversations`]),
    ...(originals.size === 0 ? [] : [`${originals.size} settings of the network`]),
  ];
}

async function listed(nft: Nft, present: readonly string[], set: string): Promise<string> {
  return present.includes(MAIN_TABLE) ? ((await nft.list(MAIN_TABLE, set)) ?? '') : '';
}

function marksOf(elements: readonly Element[]): readonly number[] {
  return elements.flatMap(({ parts: [mark] }) => (typeof mark === 'number' ? [numberOf(mark)] : []));
}
