/**
 * Runs a person's program when something happened: the event as JSON on its standard input, the gist of it in
 * NATWARD_* variables. What a gateway wrote reaches the program in these two ways only: it is never part of a
 * command.
 */

import { type ErrorCode, NatwardError } from '../../errors.ts';
import type { ProgramResult, RunProgram } from '../../system/program.ts';
import type { HookedEvent, RunHook } from './hook.ts';

const RUN_SECONDS = 30;
/** Of each stream: enough for the line that says why. */
const KEPT_BYTES = 16 * 1024;
const FLOOD_BYTES = 2 ** 20;
/** A variable that is larger than 128 KiB keeps a program from being started at all (execve(2)). */
const MAX_VARIABLE_LENGTH = 4096;

/** Throws FAILED (it could not be started, failed, or was cut for its flood), TIMEOUT or ABORTED. */
export async function runHook(
  runProgram: RunProgram,
  hook: RunHook,
  event: HookedEvent,
  signal: AbortSignal,
): Promise<void> {
  const seconds = hook.timeoutSeconds ?? RUN_SECONDS;
  const result = await runProgram({
    command: hook.kind === 'run' ? hook.argv : { shell: hook.line },
    env: environmentOf(event),
    input: `${JSON.stringify(event)}\n`,
    timeLimitMs: seconds * 1000,
    keptBytes: KEPT_BYTES,
    floodBytes: FLOOD_BYTES,
    signal,
  });
  const [code, what] = failureOf(result, seconds) ?? [];
  if (code === undefined) return;
  const said = lastLine(result.stderr) || lastLine(result.stdout);
  throw new NatwardError(code, said === '' ? `${what}` : `${what}: ${said}`);
}

function failureOf({ cut, exitCode, endedBy }: ProgramResult, seconds: number): [ErrorCode, string] | null {
  if (cut === 'time') return ['TIMEOUT', `it was not done after ${seconds} s and was ended`];
  if (cut === 'output') return ['FAILED', `it wrote more than ${FLOOD_BYTES / 2 ** 20} MiB and was ended`];
  if (endedBy !== null) return ['FAILED', `it was ended by ${endedBy}`];
  return exitCode === 0 ? null : ['FAILED', `it ended with exit code ${exitCode}`];
}

/** Where programs say what went wrong. */
function lastLine(output: string): string {
  const line = output.trimEnd().split('\n').at(-1) ?? '';
  return line
    .replace(/\p{Cc}/gu, ' ')
    .trim()
    .slice(0, 200);
}

/** Each variable that there is, undefined where it has no value: none is inherited. */
export function environmentOf(event: HookedEvent): Record<string, string | undefined> {
  const lease = 'lease' in event ? event.lease : undefined;
  const gateway = 'gateway' in event ? event.gateway : undefined;
  const before = event.type === 'changed' ? event.previous : undefined;
  const values: Readonly<Record<string, string | number | null | undefined>> = {
    NATWARD_EVENT: event.type,
    NATWARD_LEASE_ID: lease?.id,
    NATWARD_SPEC: lease?.spec,
    NATWARD_PROTOCOL: lease?.protocol,
    NATWARD_EXTERNAL_ADDRESS: lease?.externalAddress ?? gateway?.externalAddress,
    NATWARD_EXTERNAL_PORT: lease?.externalPort,
    NATWARD_INTERNAL_CLIENT: lease?.internalClient,
    NATWARD_INTERNAL_PORT: lease?.internalPort,
    NATWARD_GATEWAY: lease?.gateway ?? gateway?.address,
    NATWARD_VIA: lease?.via,
    NATWARD_LIFETIME_SECONDS: lease?.lifetimeSeconds,
    NATWARD_EXPIRES_AT: lease?.expiresAt,
    NATWARD_PREVIOUS_EXTERNAL_PORT: before?.externalPort,
    NATWARD_PREVIOUS_EXTERNAL_ADDRESS:
      event.type === 'address-changed' ? event.previous : before?.externalAddress,
    NATWARD_REASON: event.type === 'lost' ? event.reason : undefined,
  };
  return Object.fromEntries(
    Object.entries(values).map(([name, value]) => [name, value == null ? undefined : variable(`${value}`)]),
  );
}

function variable(value: string): string {
  return value.replaceAll('\0', '').slice(0, MAX_VARIABLE_LENGTH);
}
