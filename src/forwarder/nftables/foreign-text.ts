/** A rule of a listing in nft's own words, as far as it goes: for people to find it again. Pure. */

import { arrayOf, type ForeignRule, isObject, type Json, textOf } from './foreign-ruleset.ts';

const MAX_LENGTH = 160;
const MAX_DEPTH = 8;
const MAX_ELEMENTS = 8;

/** `tcp dport 8080 drop comment "no web" (handle 12)` */
export function ruleText({ text, expressions, comment, handle }: ForeignRule): string {
  const printed = text ?? expressions.slice(0, 32).map(statement).filter(Boolean).join(' ');
  const note = text === undefined && comment !== undefined ? ` comment "${comment}"` : '';
  const whole = (printed + note).replace(/ ?\bcounter packets \d+ bytes \d+/g, '');
  // Anybody who may write a rule may write a comment; terminals act on control characters.
  const clean = whole
    .slice(0, 4096)
    .replace(/\p{C}+/gu, ' ')
    .trim();
  const short = clean.length > MAX_LENGTH ? `${clean.slice(0, MAX_LENGTH)} ...` : clean;
  return handle === undefined ? short : `${short} (handle ${handle})`;
}

function statement(expression: unknown): string {
  if (!isObject(expression)) return '';
  const [kind = '', value] = Object.entries(expression)[0] ?? [];
  switch (kind) {
    case 'match': {
      if (!isObject(value)) return '...';
      const op = value['op'] === '==' || value['op'] === 'in' ? '' : `${word(value['op'])} `;
      return `${operand(value['left'], 0)} ${op}${operand(value['right'], 0)}`;
    }
    case 'vmap':
      return isObject(value) ? `${operand(value['key'], 0)} vmap ${operand(value['data'], 0)}` : '...';
    case 'jump':
    case 'goto':
      return verdictText(expression);
    case 'xt': {
      if (!isObject(value)) return 'xt';
      return value['type'] === 'target' ? word(value['name']) : `-m ${word(value['name'])}`;
    }
    case 'reject':
      return value === null || !isObject(value) ? 'reject' : `reject ${textOf(value['type']) ?? ''}`.trim();
    case 'counter':
      return '';
    default:
      return kind;
  }
}

function verdictText(expression: Json): string {
  const [kind = '', value] = Object.entries(expression)[0] ?? [];
  return isObject(value) ? `${kind} ${word(value['target'])}` : kind;
}

function operand(value: unknown, depth: number): string {
  if (depth > MAX_DEPTH) return '...';
  const list = (items: readonly unknown[], separator: string): string =>
    items
      .slice(0, MAX_ELEMENTS)
      .map((item) => operand(item, depth + 1))
      .concat(items.length > MAX_ELEMENTS ? ['...'] : [])
      .join(separator);
  if (Array.isArray(value)) {
    const [key, verdict] = value as readonly unknown[];
    return isObject(verdict) ? `${operand(key, depth + 1)} : ${verdictText(verdict)}` : list(value, ',');
  }
  if (!isObject(value)) return word(value);
  const [kind, inner] = Object.entries(value)[0] ?? [];
  if (kind === 'set') return `{ ${list(arrayOf(inner), ', ')} }`;
  if (kind === 'concat') return list(arrayOf(inner), ' . ');
  if (kind === 'range') return list(arrayOf(inner), '-');
  if (kind === '&') return list(arrayOf(inner), ' & ');
  return isObject(inner) ? field(kind, inner, depth) : '...';
}

function field(kind: string | undefined, inner: Json, depth: number): string {
  const words = (...names: readonly string[]): string =>
    names
      .map((name) => textOf(inner[name]))
      .filter((word) => word !== undefined)
      .join(' ');
  switch (kind) {
    case 'payload':
      return (
        words('protocol', 'field') || `@${word(inner['base'])},${word(inner['offset'])},${word(inner['len'])}`
      );
    case 'meta':
      return /^[io]if|^mark$/.test(words('key')) ? words('key') : `meta ${words('key')}`;
    case 'ct':
      return `ct ${words('dir', 'key')}`;
    case 'fib':
      return `fib ${arrayOf(inner['flags']).slice(0, 4).map(word).join(' . ')} ${words('result')}`;
    case 'prefix':
      return `${words('addr')}/${word(inner['len'])}`;
    case 'elem':
      return operand(inner['val'], depth + 1);
    default:
      return '...';
  }
}

// Only what has no parts of its own: the listing may nest as deep as it likes.
function word(value: unknown): string {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    ? String(value)
    : '...';
}
