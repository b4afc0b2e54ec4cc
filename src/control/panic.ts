/**
 * All steering stopped at once, and let go on: by the agent, or here where none runs or answers. Then what natward has in
 * the kernel is taken away, and the rule books say that the next agent carries nothing out until it is told to.
 */

import { existsSync, lchownSync, lstatSync, statSync } from 'node:fs';
import { RuleBook } from '../agent/rule-book.ts';
import type { PauseReport } from '../agent/rule-pause.ts';
import { isNatwardError, NatwardError } from '../errors.ts';
import { removeKernelRules } from '../forwarder/nftables/panic.ts';
import { mayAdministerNetwork } from '../system/privileges.ts';
import { realSystem, type System } from '../system/system.ts';
import { connectAgent } from './client.ts';
import { SERVICE_STATE, stateDirectory } from './place.ts';

/** What was done without an agent. */
export interface PauseHere {
  /** What the kernel had of natward's, in words. */
  readonly removed: readonly string[];
  /** The directories whose rule books say so now. */
  readonly books: readonly string[];
}

/** Called with what was odd about a rule book. */
type Warn = (error: NatwardError) => void;

/** Throws FAILED where an agent runs and does not answer: what can be is done then as well. */
export async function panic(warn: Warn, system: System = realSystem): Promise<PauseReport | PauseHere> {
  try {
    const agent = await connectAgent();
    if (agent !== undefined) return await agent.pause();
  } catch (error) {
    if (!isNatwardError(error) || isForbidden(error.cause)) throw error;
    const { removed } = await pauseHere(warn, system);
    const gone = removed.length === 0 ? 'nothing of natward' : removed.join(', ');
    throw new NatwardError('FAILED', `${error.message}; taken out of the kernel without it: ${gone}`, {
      cause: error,
      advice: 'End that agent: the next one starts with its rules off.',
    });
  }
  return await pauseHere(warn, system);
}

/** The reverse. Throws FAILED where an agent runs and does not answer. */
export async function resume(warn: Warn): Promise<PauseReport | PauseHere> {
  const agent = await connectAgent();
  return agent === undefined ? { removed: [], books: await mark(false, warn) } : await agent.resume();
}

/** The books are marked also where the kernel does not let go. */
async function pauseHere(warn: Warn, system: System): Promise<PauseHere> {
  const [removed, books] = await Promise.allSettled([panicHere(system), mark(true, warn)]);
  if (removed.status === 'rejected') throw removed.reason;
  if (books.status === 'rejected') throw books.reason;
  return { removed: removed.value, books: books.value };
}

/** Without privileges nobody has put anything there, or root has, and root must take it away. */
async function panicHere(system: System): Promise<readonly string[]> {
  return mayAdministerNetwork() ? await removeKernelRules(system.runProgram) : [];
}

/** Resolves with where it is said. */
async function mark(isPaused: boolean, warn: Warn): Promise<readonly string[]> {
  const directories = await bookDirectories();
  for (const directory of directories) await markBook(directory, isPaused, warn);
  return directories;
}

async function markBook(directory: string, isPaused: boolean, warn: Warn): Promise<void> {
  const book = new RuleBook(directory, warn);
  if (lstatSync(book.file, { throwIfNoEntry: false })?.isSymbolicLink()) {
    // In the service's directory, root would write wherever the service's user wants.
    throw new NatwardError('FAILED', `${book.file} is a symbolic link`, {
      advice: 'Put the file itself there.',
    });
  }
  const record = book.load();
  if (record.isPaused === isPaused) return;
  await book.save({ ...record, isPaused });
  if (process.getuid?.() !== 0) return;
  // The service's user has to read it.
  const { uid, gid } = statSync(directory);
  lchownSync(book.file, uid, gid);
}

/** This user's own. Root's is the service's, and another one where root has had rules without it. */
async function bookDirectories(): Promise<readonly string[]> {
  const own = await stateDirectory();
  const isAlone = Boolean(process.env['NATWARD_HOME']) || process.getuid?.() !== 0;
  if (isAlone || own === SERVICE_STATE || !existsSync(SERVICE_STATE)) return [own];
  return existsSync(new RuleBook(own, () => undefined).file) ? [own, SERVICE_STATE] : [SERVICE_STATE];
}

function isForbidden(cause: unknown): boolean {
  return cause instanceof Error && 'code' in cause && (cause.code === 'EACCES' || cause.code === 'EPERM');
}
