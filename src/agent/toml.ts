/**
 * TOML as plain values, with the place of each. Values come from a parser that is quick and knows no places; where
 * something is wrong, and only there, the text is read again by one that knows them. That one's own way to values
 * (`getStaticTOMLValue`) is not taken: it writes what stands under `[__proto__]` into every object of the process.
 */

import { parse } from 'smol-toml';
import { type AST, ParseError, parseTOML } from 'toml-eslint-parser';
import { NatwardError } from '../errors.ts';

/** Both from 1. */
export interface TomlPlace {
  readonly line: number;
  readonly column: number;
}

export type TomlPath = readonly (string | number)[];

export interface TomlDocument {
  /** Tables have no prototype: any key is a key. */
  readonly value: unknown;
  /** Of the key or element; of the nearest thing around it where that does not stand in the text. */
  readonly placeOf: (path: TomlPath) => TomlPlace;
}

type Container = Record<string | number, unknown>;

/** More than any file needs; what is deeper would exhaust the stack of whoever walks it. */
const MAX_DEPTH = 32;

/** Throws USAGE with the error's place, `config.toml:7:12: ...`. `file` is what the text is called. */
export function parseToml(text: string, file: string): TomlDocument {
  // Notepad's mark at the start of UTF-8 is no part of the text.
  const bare = text.replace(/^\uFEFF/, '');
  const value = quickly(bare);
  if (value === undefined) return withPlaces(bare, file);
  let document: TomlDocument | undefined;
  return { value, placeOf: (path) => (document ??= withPlaces(bare, file)).placeOf(path) };
}

/** Undefined where it is not to be read, for whatever reason. */
function quickly(text: string): unknown {
  try {
    return parse(text, { maxDepth: MAX_DEPTH });
  } catch {
    return undefined;
  }
}

function withPlaces(text: string, file: string): TomlDocument {
  const reader = new Reader(file);
  const root = table();
  for (const node of parsed(text, file).body[0].body) {
    if (node.type === 'TOMLKeyValue') reader.pairs([node], root, []);
    else reader.table(node, root);
  }
  return { value: root, placeOf: (path) => placeIn(reader.places, path) };
}

function parsed(text: string, file: string): AST.TOMLProgram {
  try {
    return parseTOML(text);
  } catch (error) {
    if (error instanceof ParseError) {
      throw usage(`${file}:${error.lineNumber}:${error.column + 1}: ${error.message}`);
    }
    // The parser recurses by depth, and hands a string's characters on as the arguments of one call.
    if (error instanceof RangeError) throw usage(`${file}:1:1: something in it is too long or too deep`);
    throw error;
  }
}

class Reader {
  readonly places = new Map<string, TomlPlace>();
  readonly #file: string;

  constructor(file: string) {
    this.#file = file;
  }

  /** `[a.b]`, or `[[a.b]]`, whose path ends with the element's number. */
  table(node: AST.TOMLTable, root: Container): void {
    this.#note(node.resolvedKey, node);
    this.pairs(node.body, within(root, node.resolvedKey), node.resolvedKey);
  }

  pairs(nodes: readonly AST.TOMLKeyValue[], into: Container, path: TomlPath): void {
    for (const { key, value } of nodes) {
      const keys = key.keys.map((part) => (part.type === 'TOMLBare' ? part.name : part.value));
      for (const [at] of keys.entries()) this.#note([...path, ...keys.slice(0, at + 1)], key);
      const last = keys.pop() as string;
      within(into, keys)[last] = this.#value(value, [...path, ...keys, last]);
    }
  }

  #value(node: AST.TOMLContentNode, path: TomlPath): unknown {
    if (node.type === 'TOMLValue') return node.value;
    if (node.type === 'TOMLInlineTable') {
      const into = table();
      this.pairs(node.body, into, path);
      return into;
    }
    return node.elements.map((element, at) => {
      this.#note([...path, at], element);
      return this.#value(element, [...path, at]);
    });
  }

  #note(path: TomlPath, { loc }: AST.TOMLNode): void {
    const place = { line: loc.start.line, column: loc.start.column + 1 };
    if (path.length > MAX_DEPTH) {
      throw usage(`${this.#file}:${place.line}:${place.column}: it is more than ${MAX_DEPTH} levels deep`);
    }
    const key = JSON.stringify(path);
    if (!this.places.has(key)) this.places.set(key, place);
  }
}

function table(): Container {
  return Object.create(null) as Container;
}

/** The table at `path`, made where there is none; the parser has seen to it that nothing else is there. */
function within(root: Container, path: TomlPath): Container {
  let container = root;
  for (const [at, key] of path.entries()) {
    container[key] ??= typeof path[at + 1] === 'number' ? [] : table();
    container = container[key] as Container;
  }
  return container;
}

function placeIn(places: ReadonlyMap<string, TomlPlace>, path: TomlPath): TomlPlace {
  for (let length = path.length; length > 0; length--) {
    const place = places.get(JSON.stringify(path.slice(0, length)));
    if (place !== undefined) return place;
  }
  return { line: 1, column: 1 };
}

function usage(message: string): NatwardError {
  return new NatwardError('USAGE', message);
}
