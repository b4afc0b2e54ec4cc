/** What nft tells of the sets that natward keeps in the kernel, as values, and back: counts by mark, ids, records. Pure. */

import { numberOf } from './marks.ts';
import { BEGUN, REFUSALS } from './ruleset.ts';
import { markLiteral } from './syntax.ts';

/** Of one rule's mark. */
export interface Count {
  packetsIn: number;
  bytesIn: number;
  packetsOut: number;
  bytesOut: number;
  begun: number;
  /** By tally. */
  refused: Map<number, number>;
}

export interface Element {
  /** Its key, in parts. */
  readonly parts: readonly unknown[];
  readonly comment: string | undefined;
  readonly packets: number;
  readonly bytes: number;
}

/** Of what `nft -j list set` prints; nothing of what is not understood. */
export function elementsOf(json: string): readonly Element[] {
  const listing = parsed(json);
  return fieldOf(listing, 'nftables', []).flatMap((entry) =>
    fieldOf(fieldOf(entry, 'set', {}), 'elem', []).flatMap((one): Element[] => {
      // One without a comment or a counter is its bare key.
      const element: unknown = isObject(one) && 'elem' in one ? one['elem'] : { val: one };
      const value = isObject(element) ? element['val'] : undefined;
      const parts =
        isObject(value) && Array.isArray(value['concat']) ? (value['concat'] as unknown[]) : [value];
      const counter = fieldOf(element, 'counter', {});
      const comment = isObject(element) ? element['comment'] : undefined;
      return [
        {
          parts,
          comment: typeof comment === 'string' ? comment : undefined,
          packets: countOf(counter, 'packets'),
          bytes: countOf(counter, 'bytes'),
        },
      ];
    }),
  );
}

function parsed(json: string): unknown {
  try {
    return JSON.parse(json);
  } catch {
    return undefined;
  }
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}

function fieldOf<T extends object>(value: unknown, name: string, otherwise: T): T {
  const field = isObject(value) ? value[name] : undefined;
  return isObject(field) && Array.isArray(field) === Array.isArray(otherwise) ? (field as T) : otherwise;
}

function countOf(counter: object, name: string): number {
  const value = (counter as Readonly<Record<string, unknown>>)[name];
  return typeof value === 'number' ? value : 0;
}

/** By mark number; `counts` and `tallies` are the elements of the sets of these names. */
export function countsOf(counts: readonly Element[], tallies: readonly Element[]): Map<number, Count> {
  const found = new Map<number, Count>();
  const of = (mark: unknown) => {
    const number = typeof mark === 'number' ? numberOf(mark) : 0;
    let count = found.get(number);
    if (count === undefined) {
      count = { packetsIn: 0, bytesIn: 0, packetsOut: 0, bytesOut: 0, begun: 0, refused: new Map() };
      found.set(number, count);
    }
    return count;
  };
  for (const { parts, packets, bytes } of counts) {
    const [mark, direction] = parts;
    const count = of(mark);
    if (direction === 'original') Object.assign(count, { packetsIn: packets, bytesIn: bytes });
    else Object.assign(count, { packetsOut: packets, bytesOut: bytes });
  }
  for (const { parts, packets } of tallies) {
    const [mark, tally] = parts;
    if (tally === BEGUN) of(mark).begun = packets;
    else if (typeof tally === 'number') of(mark).refused.set(tally, packets);
  }
  return found;
}

/** What of the machine was changed: names, and what was recorded of them. */
export function recordsOf(json: string): ReadonlyMap<string, string> {
  return new Map(
    elementsOf(json).flatMap(({ comment = '' }) => {
      const [, name, value] = /^([^=]+)=(.*)$/.exec(comment) ?? [];
      return name === undefined || value === undefined ? [] : [[name, value] as const];
    }),
  );
}

/** In words, of a tally of refusals. */
export function reasonOf(tally: number): string {
  return Object.values(REFUSALS).find((one) => one.tally === tally)?.reason ?? 'it was refused';
}

/** Counting goes on from there in a table that is made anew. */
export function restored(table: string, counts: ReadonlyMap<number, Count>): string {
  const [moved, tallied]: [string[], string[]] = [[], []];
  for (const [mark, { packetsIn, bytesIn, packetsOut, bytesOut, begun, refused }] of counts) {
    const key = markLiteral(mark);
    if (packetsIn > 0) moved.push(`${key} . original counter packets ${packetsIn} bytes ${bytesIn}`);
    if (packetsOut > 0) moved.push(`${key} . reply counter packets ${packetsOut} bytes ${bytesOut}`);
    if (begun > 0) tallied.push(`${key} . ${BEGUN} counter packets ${begun} bytes 0`);
    for (const [tally, packets] of refused)
      tallied.push(`${key} . ${tally} counter packets ${packets} bytes 0`);
  }
  return added(table, 'counts', moved) + added(table, 'tallies', tallied);
}

/** Nothing is counted of these marks any more. An element that is not there cannot be deleted: it is made first. */
export function forgotten(table: string, marks: readonly number[]): string {
  const moved = marks.flatMap((mark) => ['original', 'reply'].map((way) => `${markLiteral(mark)} . ${way}`));
  const kinds = [BEGUN, ...Object.values(REFUSALS).map(({ tally }) => tally)];
  const tallied = marks.flatMap((mark) => kinds.map((kind) => `${markLiteral(mark)} . ${kind}`));
  return [
    ['counts', moved],
    ['tallies', tallied],
  ]
    .map(
      ([set, keys]) =>
        added(table, set as string, keys as string[]) + removed(table, set as string, keys as string[]),
    )
    .join('');
}

function added(table: string, set: string, elements: readonly string[]): string {
  return elements.length === 0 ? '' : `add element ${table} ${set} { ${elements.join(', ')} }\n`;
}

function removed(table: string, set: string, elements: readonly string[]): string {
  return elements.length === 0 ? '' : `delete element ${table} ${set} { ${elements.join(', ')} }\n`;
}
