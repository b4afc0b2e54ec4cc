/**
 * Runs the conformance suite: `npm run conformance -- natward haproxy`, or `all`. Prints a table, one row a case
 * and one column a program, with the reasons below.
 */

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { type Case, inapplicable, isBeside } from './case.ts';
import { cases } from './cases.ts';
import { ownNetworkUnavailable } from '../support/own-network.ts';
import { Apart } from './apart.ts';
import type { Program } from './program.ts';
import { PROGRAMS } from './programs.ts';

/** Cases that mostly wait are run beside each other. */
const AT_ONCE = 4;

interface Verdict {
  readonly word: 'pass' | 'FAIL' | 'n/a';
  readonly reason?: string;
}

const noNetwork = ownNetworkUnavailable();
const wanted = process.argv.slice(2);
await using apart = new Apart();
const unknown = wanted.find((name) => name !== 'all' && !PROGRAMS.some((program) => program.name === name));
if (wanted.length === 0 || unknown !== undefined) {
  if (unknown !== undefined) console.error(`conformance: there is no program ${unknown}`);
  console.error(`usage: npm run conformance -- ${PROGRAMS.map(({ name }) => name).join('|')}|all [...]`);
  process.exitCode = 2;
} else {
  const chosen = PROGRAMS.filter(({ name }) => wanted.includes(name) || wanted.includes('all'));
  if (chosen.some(({ file }) => !existsSync(file)))
    spawnSync('bash', [fileURLToPath(new URL('install.sh', import.meta.url))], { stdio: 'inherit' });
  const columns: Map<Case, Verdict>[] = [];
  for (const program of chosen) columns.push(await judge(program));
  print(chosen, columns);
  if (columns.some((column) => [...column.values()].some(({ word }) => word === 'FAIL')))
    process.exitCode = 1;
}

async function judge(program: Program): Promise<Map<Case, Verdict>> {
  const verdicts = new Map<Case, Verdict>();
  const run = async (each: Case): Promise<void> => {
    const startedMs = performance.now();
    const verdict = await judgeCase(each, program);
    verdicts.set(each, verdict);
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1);
    console.error(`${program.name}  ${verdict.word}  ${seconds} s  ${each.name}`);
  };
  const waiting = cases.filter((each) => isBeside(each, program));
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await run(next);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  for (const each of cases) if (!isBeside(each, program)) await run(each);
  return verdicts;
}

async function judgeCase(each: Case, program: Program): Promise<Verdict> {
  if (!existsSync(program.file)) return { word: 'n/a', reason: 'the program is not installed' };
  const reason = inapplicable(each, program) ?? (program.isAlone === true ? noNetwork : undefined);
  if (reason !== undefined) return { word: 'n/a', reason };
  try {
    await apart.run(each, program);
    return { word: 'pass' };
  } catch (error) {
    return { word: 'FAIL', reason: error instanceof Error ? error.message : String(error) };
  }
}

function print(programs: readonly Program[], columns: readonly Map<Case, Verdict>[]): void {
  const width = Math.max(...cases.map(({ name }) => name.length));
  const cell = (word: string, index: number) => word.padEnd(Math.max(7, programs[index]?.name.length ?? 0));
  const row = (title: string, words: readonly string[]): string =>
    [title.padEnd(width), ...words.map(cell)].join('  ').trimEnd();
  console.log(
    `${row(
      '',
      programs.map(({ name }) => name),
    )}\n`,
  );
  for (const each of cases)
    console.log(
      row(
        each.name,
        columns.map((column) => column.get(each)?.word ?? ''),
      ),
    );
  for (const [index, { name, setting }] of programs.entries()) {
    console.log(`\n${name}: ${setting}`);
    const verdicts = [...(columns[index] ?? [])];
    for (const [{ name: title }, { word, reason }] of verdicts)
      if (word === 'FAIL') console.log(`  FAIL  ${title}: ${reason?.split('\n')[0]}`);
    const outside = verdicts.flatMap(([, { word, reason }]) => (word === 'n/a' ? [reason] : []));
    for (const reason of new Set(outside))
      console.log(
        `  n/a   ${outside.filter((other) => other === reason).length} of ${cases.length}: ${reason}`,
      );
  }
}
