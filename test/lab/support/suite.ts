/** What every suite of the lab needs: one lab for all its tests, and natward's JSON with its types. */

import { afterAll, beforeAll, describe, expect } from 'vitest';
import { ADDRESSES, createLab, type Lab, labUnavailable, type NatRule, type NatwardOptions } from './lab.ts';
import type { NetworkOptions } from './namespaces.ts';
import type { Result } from './processes.ts';

export interface MapDocument {
  readonly mappings: readonly {
    readonly protocol: 'tcp' | 'udp';
    readonly externalAddress: string | null;
    readonly externalPort: number;
    readonly internalClient: string;
    readonly internalPort: number;
    readonly lifetimeSeconds: number;
    readonly expiresAt: string | null;
    readonly via: string;
    readonly gateway: string;
    readonly description: string;
    readonly notes: readonly string[];
  }[];
  readonly failures: readonly {
    readonly spec: string;
    readonly code: string;
    readonly message: string;
    readonly advice: string | null;
  }[];
}

export interface ListDocument {
  readonly mappings: readonly (NatRule & {
    readonly description: string;
    readonly remainingSeconds: number | null;
    readonly enabled: boolean;
    readonly own: boolean;
  })[];
}

/** The tests of `body` share one lab, which `lab()` answers; they are skipped, with the reason, where none can run. */
export function describeLab(name: string, options: NetworkOptions, body: (lab: () => Lab) => void): void {
  const unavailable = labUnavailable();
  describe.skipIf(unavailable)(`lab: ${name}${unavailable ? ` (${unavailable})` : ''}`, () => {
    let lab: Lab;
    beforeAll(async () => {
      lab = await createLab(options);
    });
    afterAll(() => lab[Symbol.asyncDispose]());
    body(() => lab);
  });
}

let homes = 0;

/** The options that give natward a memory that nobody has used. */
export function freshHome(): { readonly home: string } {
  homes++;
  return { home: `home-${homes}` };
}

/** Runs natward, which has to end with `code`. */
export async function run(
  lab: Lab,
  args: readonly string[],
  options: NatwardOptions & { readonly code?: number } = {},
): Promise<Result> {
  const { code = 0, ...rest } = options;
  const result = await lab.natward(args, rest);
  expect(result, args.join(' ')).toMatchObject({ code });
  return result;
}

/** As `run`, of a command that answers with JSON. */
export async function runJson<Document>(
  lab: Lab,
  args: readonly string[],
  options: NatwardOptions & { readonly code?: number } = {},
): Promise<Document> {
  const { stdout } = await run(lab, [...args, '--json'], options);
  const document: Document = JSON.parse(stdout);
  return document;
}

/** The table as natward reads it, without what changes from second to second. */
export async function listed(
  lab: Lab,
  options: NatwardOptions = {},
): Promise<(NatRule & { readonly own: boolean })[]> {
  const { mappings } = await runJson<ListDocument>(lab, ['list'], options);
  return mappings.map(({ protocol, externalPort, internalClient, internalPort, own }) => ({
    protocol,
    externalPort,
    internalClient,
    internalPort,
    own,
  }));
}

/** The table as `upnpc -l` reads it, without what changes from second to second. */
export async function rowsOf(lab: Lab): Promise<NatRule[]> {
  const rows = await lab.upnpcList();
  return rows
    .map(({ protocol, externalPort, internalClient, internalPort }) => ({
      protocol,
      externalPort,
      internalClient,
      internalPort,
    }))
    .sort((a, b) => a.externalPort - b.externalPort || a.protocol.localeCompare(b.protocol));
}

/** A mapping of this port to the same port of `lan`. */
export function rule(
  protocol: 'tcp' | 'udp',
  externalPort: number,
  to: { readonly internalPort?: number; readonly internalClient?: string } = {},
): NatRule {
  const { internalPort = externalPort, internalClient = ADDRESSES.lan } = to;
  return { protocol, externalPort, internalClient, internalPort };
}

/** The text that natward writes where its output is a fact a line. */
export function linesOf(text: string): string[] {
  return text.split('\n').filter((line) => line !== '');
}
