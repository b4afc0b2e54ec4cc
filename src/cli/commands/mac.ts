/** `natward mac`: shows, changes and restores the MAC addresses of this machine's adapters. */

import {
  type AdapterReport,
  type AddressChange,
  type KnownAddress,
  localAdapters,
} from '../../control/adapters.ts';
import { NatwardError } from '../../errors.ts';
import type { MacAddress } from '../../net/mac-address.ts';
import { print, printError, printJson } from '../output.ts';

interface MacFlags {
  readonly set?: MacAddress;
  readonly random?: true;
  readonly vendor?: string;
  readonly restore?: true;
  readonly json?: true;
}

export async function run(name: string | undefined, flags: MacFlags): Promise<void> {
  const { set, random, vendor, restore, json } = flags;
  if (vendor !== undefined && random === undefined) {
    throw new NatwardError('USAGE', '--vendor says whose prefix --random takes: write both');
  }
  const adapters = await localAdapters(printError);
  if (set === undefined && random === undefined && restore === undefined) {
    const reports = name === undefined ? await adapters.list() : [await adapters.show(name)];
    if (json) printJson({ adapters: reports });
    else if (name === undefined) printList(reports);
    else reports.forEach(printReport);
    return;
  }
  if (name === undefined) {
    throw new NatwardError('USAGE', 'the adapter that is to change is not named', {
      advice: 'Write its name, as natward mac shows it: natward mac eth0 --random',
    });
  }
  const change =
    set !== undefined
      ? await adapters.set(name, set)
      : await (random ? adapters.randomize(name, vendor) : adapters.restore(name));
  if (json) printJson(change);
  else printChange(change);
}

function printList(reports: readonly AdapterReport[]): void {
  const width = Math.max(0, ...reports.map(({ adapter }) => adapter.length));
  for (const { adapter, current, original } of reports) {
    print(`${adapter.padEnd(width)} ${words(current)}${wasOriginally(current, original)}`);
  }
  if (reports.length === 0) print('no adapters');
}

function printReport({ adapter, current, permanent, original }: AdapterReport): void {
  const rows = { current, permanent, original };
  for (const [label, one] of Object.entries(rows)) {
    if (one !== null) print(`${adapter} ${label.padEnd('permanent'.length)} ${words(one)}`);
  }
}

function printChange({ adapter, before, current, original, notes }: AddressChange): void {
  const from = before.address === current.address ? 'has already' : `${before.address} ->`;
  print(`${adapter} ${from} ${words(current)}${wasOriginally(current, original)}`);
  for (const note of notes) print(`note: ${note}`);
}

function wasOriginally(current: KnownAddress, original: KnownAddress | null): string {
  return original === null || original.address === current.address ? '' : `, originally ${original.address}`;
}

function words({ address, vendor, locallyAdministered }: KnownAddress): string {
  return `${address} ${vendor ?? (locallyAdministered ? 'locally administered' : 'unknown vendor')}`;
}
