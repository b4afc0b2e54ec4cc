/** Whether a packet meets what a rule asks: yes, no, or maybe, where that hangs on what is not known. Pure. */

import { type Bits, type Field, fieldOf, ones, type Packet, rangeOf } from './foreign-field.ts';
import { arrayOf, type ForeignTable, isObject, type Json, textOf } from './foreign-ruleset.ts';

export type Answer = 'yes' | 'no' | 'maybe';

/** How much work is left. At zero nothing more is looked at, and the answer is maybe. */
export interface Budget {
  rules: number;
  elements: number;
}

export interface Question {
  readonly packet: Packet;
  /** Whose sets are meant. */
  readonly table: ForeignTable;
  readonly budget: Budget;
}

/** One verdict of a verdict map, and whether it is the packet's. */
export interface Candidate {
  readonly verdict: unknown;
  readonly answer: Answer;
}

const MAX_DEPTH = 8;

export function both(a: Answer, b: Answer): Answer {
  if (a === 'no' || b === 'no') return 'no';
  return a === 'yes' && b === 'yes' ? 'yes' : 'maybe';
}

/** `{"op": ..., "left": ..., "right": ...}` */
export function meets({ op, left, right }: Json, question: Question): Answer {
  const fields = fieldsOf(left, question.packet);
  if (fields.some(({ kind }) => kind === 'absent')) return 'no';
  const [field] = fields;
  switch (op) {
    case '==':
      return holds(fields, right, question);
    case '!=':
      return not(holds(fields, right, question));
    case 'in':
      return isObject(right) && 'set' in right ? holds(fields, right, question) : hasFlag(field, right);
    case '!':
      return not(hasFlag(field, right));
    case '<':
    case '>':
    case '<=':
    case '>=':
      return compares(field, op, right);
    default:
      return 'maybe';
  }
}

/** The verdicts of `{"key": ..., "data": ...}` that may be the packet's; nothing more comes after a sure one. */
export function candidatesOf({ key, data }: Json, question: Question): readonly Candidate[] {
  const fields = fieldsOf(key, question.packet);
  if (fields.some(({ kind }) => kind === 'absent')) return [];
  const found: Candidate[] = [];
  let otherwise: unknown;
  for (const element of elementsOf(data, question.table) ?? []) {
    if (--question.budget.elements < 0) {
      found.push({ verdict: undefined, answer: 'maybe' });
      break;
    }
    const [wanted, verdict] = arrayOf(element);
    if (wanted === '*') otherwise = verdict;
    else {
      const answer = isElement(fields, wanted, 0);
      if (answer !== 'no') found.push({ verdict, answer });
      if (answer === 'yes') return found;
    }
  }
  if (otherwise !== undefined) {
    found.push({ verdict: otherwise, answer: found.length === 0 ? 'yes' : 'maybe' });
  }
  return found;
}

function fieldsOf(left: unknown, packet: Packet): readonly Field[] {
  const parts = isObject(left) ? left['concat'] : undefined;
  // nft takes five.
  return Array.isArray(parts)
    ? parts.slice(0, 16).map((part) => fieldOf(part, packet))
    : [fieldOf(left, packet)];
}

/** Reports whether the fields, side by side, are what `right` names: one value, a range, or an element of a set. */
function holds(fields: readonly Field[], right: unknown, question: Question): Answer {
  const elements = elementsOf(right, question.table);
  if (elements === undefined) return isElement(fields, right, 0);
  // What is not known at all may be in any set, which need not be read for that.
  if (elements.length > 16 && fields.every((field) => field.kind === 'bits' && field.known === 0n))
    return 'maybe';
  let answer: Answer = 'no';
  for (const element of elements) {
    if (--question.budget.elements < 0) return 'maybe';
    const one = isElement(fields, element, 0);
    if (one === 'yes') return 'yes';
    if (one === 'maybe') answer = 'maybe';
  }
  return answer;
}

function elementsOf(right: unknown, { sets }: ForeignTable): readonly unknown[] | undefined {
  if (typeof right === 'string' && right.startsWith('@')) return sets.get(right.slice(1)) ?? [{}];
  const set = isObject(right) ? right['set'] : undefined;
  return Array.isArray(set) ? set : undefined;
}

function isElement(fields: readonly Field[], element: unknown, depth: number): Answer {
  if (depth > MAX_DEPTH) return 'maybe';
  if (element === '*') return 'yes';
  if (isObject(element)) {
    const inner = element['elem'];
    if (isObject(inner)) return isElement(fields, inner['val'], depth + 1);
    const parts = element['concat'];
    if (Array.isArray(parts)) {
      if (parts.length !== fields.length) return 'maybe';
      return fields.reduce<Answer>(
        (answer, field, at) => both(answer, isElement([field], parts[at], depth + 1)),
        'yes',
      );
    }
  }
  const [field] = fields;
  return field === undefined || fields.length > 1 ? 'maybe' : equals(field, element);
}

function equals(field: Field, value: unknown): Answer {
  if (field.kind === 'name') return isNamed(field.name, textOf(value));
  if (field.kind !== 'bits') return 'maybe';
  const range = rangeOf(value, field);
  return range === undefined ? 'maybe' : isWithin(field, range);
}

// `eth*` is every name that begins so.
function isNamed(name: string | undefined, wanted: string | undefined): Answer {
  if (name === undefined || wanted === undefined) return 'maybe';
  const matches =
    wanted.endsWith('*') && !wanted.endsWith('\\*')
      ? name.startsWith(wanted.slice(0, -1))
      : name === wanted.replace(/\\\*$/, '*');
  return matches ? 'yes' : 'no';
}

function isWithin(field: Bits, [low, high]: readonly [bigint, bigint]): Answer {
  const [least, most] = boundsOf(field);
  if (most < low || least > high) return 'no';
  if (low === high && ((low ^ field.value) & field.known) !== 0n) return 'no';
  return low <= least && most <= high ? 'yes' : 'maybe';
}

function hasFlag(field: Field | undefined, flags: unknown): Answer {
  if (field?.kind !== 'bits') return 'maybe';
  const range = rangeOf(flags, field);
  if (range === undefined || range[0] !== range[1] || range[0] < 0n) return 'maybe';
  if ((field.value & field.known & range[0]) !== 0n) return 'yes';
  return (range[0] & ~field.known) === 0n ? 'no' : 'maybe';
}

function compares(field: Field | undefined, op: '<' | '>' | '<=' | '>=', right: unknown): Answer {
  if (field?.kind !== 'bits') return 'maybe';
  const range = rangeOf(right, field);
  if (range === undefined || range[0] !== range[1]) return 'maybe';
  const [number] = range;
  switch (op) {
    case '<':
      return isWithin(field, [0n, number - 1n]);
    case '<=':
      return isWithin(field, [0n, number]);
    case '>':
      return isWithin(field, [number + 1n, ones(field.width)]);
    case '>=':
      return isWithin(field, [number, ones(field.width)]);
  }
}

function boundsOf({ value, known, width }: Bits): readonly [bigint, bigint] {
  const least = value & known;
  return [least, least | (ones(width) & ~known)];
}

function not(answer: Answer): Answer {
  if (answer === 'maybe') return answer;
  return answer === 'yes' ? 'no' : 'yes';
}
