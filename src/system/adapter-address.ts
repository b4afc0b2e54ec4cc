/**
 * Changes the MAC address of an adapter. Most drivers do it while the link is up. Some insist on its being down:
 * then it is taken down and up again, and the IPv4 routes that go with it are put back (link-routes.ts).
 */

import { type ErrorCode, NatwardError } from '../errors.ts';
import type { MacAddress } from '../net/mac-address.ts';
import { failureOf, readAdapters, runIp } from './adapters.ts';
import { putBackRoutes, mainRoutes } from './link-routes.ts';
import type { RunProgram } from './program.ts';

/**
 * Resolves when the adapter has the address, with what its owner should know of the way there. Rejects with
 * NOT_AUTHORIZED, UNSUPPORTED, REFUSED, NOT_FOUND or FAILED. It cannot be stopped halfway: a link might stay down.
 */
export async function changeAddress(
  run: RunProgram,
  name: string,
  address: MacAddress,
): Promise<readonly string[]> {
  const set = async () => failureOf(await runIp(run, ['link', 'set', 'dev', name, 'address', address]));
  const notes: string[] = [];
  let failure = await set();
  if (failure !== undefined && /resource busy/.test(failure)) {
    failure = await whileDown(run, name, set, notes);
  }
  if (failure !== undefined) throw refusal(name, address, failure, notes);
  await readBack(run, name, address);
  return notes;
}

/** Answers what `change` answers, with the link up again in any case. What became of it is added to `notes`. */
async function whileDown(
  run: RunProgram,
  name: string,
  change: () => Promise<string | undefined>,
  notes: string[],
): Promise<string | undefined> {
  const routes = await mainRoutes(run, name);
  const down = failureOf(await runIp(run, ['link', 'set', 'dev', name, 'down']));
  if (down !== undefined) return down;
  let failure: string | undefined;
  try {
    failure = await change();
  } finally {
    const up = failureOf(await runIp(run, ['link', 'set', 'dev', name, 'up']));
    if (up !== undefined) notes.push(`${name} was taken down for it and cannot be taken up again: ${up}`);
    else notes.push(`${name} was taken down for it and up again: IPv6 addresses set by hand went with that`);
    for (const { route, why } of await putBackRoutes(run, name, routes)) {
      notes.push(`this route of ${name} is lost, since it cannot be put back (${why}): ${route}`);
    }
  }
  return failure;
}

const REFUSALS: readonly (readonly [said: RegExp, code: ErrorCode, advice: string])[] = [
  [/not permitted|permission denied/i, 'NOT_AUTHORIZED', 'Run it as root (sudo), or give it CAP_NET_ADMIN.'],
  [/not supported/i, 'UNSUPPORTED', 'The driver of this adapter does not change it.'],
  [/cannot assign|invalid argument/i, 'REFUSED', 'The driver does not take this address: try another one.'],
  [/cannot find device|no such device/i, 'NOT_FOUND', 'It was there a moment ago: natward mac shows them.'],
];

function refusal(name: string, address: MacAddress, failure: string, notes: readonly string[]): NatwardError {
  const what = [`ip was asked to give ${name} the address ${address}: ${failure}`, ...notes].join('; ');
  for (const [said, code, advice] of REFUSALS) {
    if (said.test(failure)) return new NatwardError(code, what, { advice });
  }
  return new NatwardError('FAILED', what);
}

/** There are drivers that say yes and keep the old one. */
async function readBack(run: RunProgram, name: string, address: MacAddress): Promise<void> {
  const now = (await readAdapters(run)).find((adapter) => adapter.name === name)?.address;
  if (now === address) return;
  throw new NatwardError('REFUSED', `${name} was given ${address}, and still has ${now ?? 'none'}`, {
    advice: 'Its driver, or a program that manages the network, does not let it change.',
  });
}
