/**
 * What an importer finds in another program's configuration: rules, notes on what has no counterpart, and errors. All
 * of a file's errors are said at once. What the importers have in common on the way to a rule's line is here as well.
 */

import { isNatwardError, NatwardError } from '../../errors.ts';
import { parseAddress } from '../../net/address.ts';
import { parsePort } from '../../net/port-range.ts';
import { formatPortSet } from '../../net/port-set.ts';
import type { RuleSpec } from '../rule.ts';
import { formatHost, parseHostName } from '../target.ts';
import { formatRule, parseRule } from '../text.ts';

export interface Imported {
  /** In the order in which they decide. `text` is what parseRule takes and formatRule writes. */
  readonly rules: readonly { readonly text: string; readonly line: number }[];
  /** What was read and has no counterpart, or another meaning: full sentences. */
  readonly notes: readonly { readonly line: number; readonly message: string }[];
}

interface Found {
  readonly text: string;
  readonly line: number;
  /** Rules of one socket's port may both match. */
  readonly socket: string;
  /** 0 for named addresses, 1 for all of a family, 2 for all. */
  readonly width: number;
}

interface Finding {
  readonly line: number;
  readonly message: string;
}

const MAX_CHARACTERS = 2 ** 20;
const MAX_RULES = 10_000;
const ERRORS_SHOWN = 20;
/** More are only counted. */
const ERRORS_KEPT = 1000;
const WORD_SHOWN = 60;

export class Findings {
  readonly #file: string;
  readonly #rules: Found[] = [];
  readonly #notes: Finding[] = [];
  readonly #noted = new Set<string>();
  readonly #errors: Finding[] = [];
  #errorCount = 0;
  #isFull = false;

  constructor(file: string) {
    this.#file = file;
  }

  /** `text` may still be wrong, which is then an error of this line. */
  rule(text: string, line: number): void {
    if (this.#rules.length === MAX_RULES) {
      if (!this.#isFull) this.#error(`there are more than ${MAX_RULES} rules; split the file`, line);
      this.#isFull = true;
      return;
    }
    this.attempt(line, () => {
      const spec = parseRule(text);
      this.#rules.push({ text: formatRule(spec), line, socket: socketOf(spec), width: widthOf(spec) });
    });
  }

  /** Said once, however often it is found. */
  note(message: string, line: number): void {
    if (this.#noted.has(message)) return;
    this.#noted.add(message);
    this.#notes.push({ line, message });
  }

  /** A USAGE error of `work` is one of this line, and `undefined` comes back. */
  attempt<T>(line: number, work: () => T): T | undefined {
    try {
      return work();
    } catch (error) {
      if (!isNatwardError(error, 'USAGE')) throw error;
      this.#error(error.message, line);
      return undefined;
    }
  }

  /** Throws USAGE where there were errors. */
  result(): Imported {
    if (this.#errorCount === 0) {
      const rules = narrowestFirst(this.#rules).map(({ text, line }) => ({ text, line }));
      return { rules, notes: inOrder(this.#notes) };
    }
    const errors = inOrder(this.#errors).slice(0, ERRORS_SHOWN);
    const shown = errors.map(({ line, message }) => `${this.#file}:${line}: ${message}`).join('; ');
    const more = this.#errorCount - errors.length;
    throw usage(more > 0 ? `${shown}; and ${more} more` : shown);
  }

  #error(message: string, line: number): void {
    this.#errorCount++;
    if (this.#errors.length < ERRORS_KEPT) this.#errors.push({ line, message });
  }
}

function socketOf({ protocols, to }: RuleSpec): string {
  return `${protocols.join('+')} ${formatPortSet(to.ports)}`;
}

function widthOf({ to }: RuleSpec): number {
  if (to.addresses.length === 0) return 2;
  return to.addresses.some((one) => one.kind === 'network' && one.prefixLength === 0) ? 1 : 0;
}

/**
 * With sockets the address that is named more closely wins, with rules the first that matches: the wider rules of a
 * port move to the end where narrower ones come after them.
 */
function narrowestFirst(rules: readonly Found[]): readonly Found[] {
  const widest = new Map<string, number>();
  const mixed = new Set<string>();
  for (const { socket, width } of rules) {
    const before = widest.get(socket) ?? 0;
    if (width < before) mixed.add(socket);
    widest.set(socket, Math.max(before, width));
  }
  const moves = ({ socket, width }: Found) => width > 0 && mixed.has(socket);
  const moved = rules.filter(moves).toSorted((a, b) => a.width - b.width);
  return [...rules.filter((rule) => !moves(rule)), ...moved];
}

function inOrder(findings: readonly Finding[]): Finding[] {
  return findings.toSorted((a, b) => a.line - b.line);
}

/** Throws USAGE for more text than anybody writes. */
export function checkedText(text: string, file: string): string {
  if (text.length > MAX_CHARACTERS) {
    throw usage(`${file}:1: this is longer than ${MAX_CHARACTERS} characters; split it`);
  }
  return text.replace(/^\uFEFF/, '');
}

/** An address (IPv6 with or without brackets) or a host name, ready for a rule. Throws USAGE. */
export function hostOf(word: string): string {
  const host = parseAddress(/^\[(.*)\]$/.exec(word)?.[1] ?? word) ?? parseHostName(word);
  if (host === undefined) {
    throw usage(
      `${quoted(word)} is neither an address nor a host name; write 10.0.0.5, 2001:db8::5 or nas.lan`,
    );
  }
  return host;
}

/** Where a rule sends what it takes. Throws USAGE. */
export function targetHostOf(word: string): string {
  const host = hostOf(word);
  if (host === '0.0.0.0' || host === '::') {
    throw usage(`nobody can connect to ${host}; write ${host === '::' ? '::1' : '127.0.0.1'} for this host`);
  }
  return host;
}

/** A number. Names are refused: what they stand for is another machine's /etc/services to say. Throws USAGE. */
export function portOf(word: string): number {
  if (/^\d{1,9}$/.test(word)) return parsePort(word);
  if (/^[a-z][\w-]*$/i.test(word)) {
    throw usage(
      `${quoted(word)} is the name of a service; write the number of its port, as /etc/services has it`,
    );
  }
  throw usage(`${quoted(word)} is no port; write a number from 1 to 65535`);
}

/** Every address of one family, or of both. */
export type Everywhere = 'ipv4' | 'ipv6' | 'both';

/** A rule's selector. `host` is one of hostOf; an empty one is no address at all: any. */
export function listening(
  at: { readonly host: string } | { readonly every: Everywhere },
  port: number,
): string {
  if ('host' in at) return `${formatHost(at.host)}:${port}`;
  if (at.every === 'both') return String(port);
  return `${at.every === 'ipv4' ? '0.0.0.0/0' : '[::]/0'}:${port}`;
}

/** For messages: short, without what moves a terminal's cursor. */
export function quoted(word: string): string {
  const shown = word.length > WORD_SHOWN ? `${word.slice(0, WORD_SHOWN)}...` : word;
  return `"${shown.replace(/\p{C}/gu, '?')}"`;
}

export function usage(message: string): NatwardError {
  return new NatwardError('USAGE', message);
}
