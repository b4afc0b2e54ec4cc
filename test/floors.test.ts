/**
 * The floors of docs/architecture.md, held against the imports themselves. Every source file is parsed, so
 * that a comment is no import and no way of importing is missed: `import`, `export ... from`, `import()`,
 * `import type`, `import('...').Type`.
 */

import { readdirSync, readFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { posix } from 'node:path';
import { parseAst } from 'rolldown/parseAst';
import { describe, expect, test } from 'vitest';

/** From the ground up. Rooms of one floor do not import each other, but for the ground, which is common. */
const FLOORS: readonly (readonly string[])[] = [
  ['net', 'errors'],
  ['wire', 'system'],
  ['discovery', 'forwarder'],
  ['mapping'],
  ['responder', 'tunnel'],
  ['agent'],
  ['control'],
  ['console', 'cli', 'library'],
  ['drop-in'],
  ['index'],
];
const GROUND = 0;

const PURE = new Set(['net', 'wire']);
const IMPURE = new Set(
  [
    ['Date', 'performance', 'process', 'crypto', 'fetch', 'WebSocket', 'EventSource', 'console'],
    ['setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask', 'require', 'globalThis', 'global'],
  ].flat(),
);

const NETWORK = new Set(['dgram', 'net', 'tls', 'http', 'https', 'http2', 'child_process']);
const ON_THE_NETWORK = ['system/', 'forwarder/relay/', 'tunnel/', 'responder/', 'control/'];

const FACES = new Set(['cli', 'console']);
/** What a face may import, beside the types of `system`. */
const BENEATH_A_FACE = new Set(['errors', 'net', 'control']);
/** The machine, whole, which a caller hands in: a command resolves names with it. */
const SEAM = 'system/system.ts';

interface Node {
  readonly type: string;
  readonly [field: string]: unknown;
}

interface Import {
  /** Undefined where it is not written as one string: nobody can tell what is imported. */
  readonly specifier: string | undefined;
  readonly typeOnly: boolean;
}

interface Source {
  /** Below src/. */
  readonly path: string;
  readonly text: string;
}

interface Rule {
  readonly name: string;
  readonly appliesTo: (path: string) => boolean;
  /** What is wrong in a file, a line each. */
  readonly offences: (source: Source) => string[];
}

function isNode(value: unknown): value is Node {
  return typeof value === 'object' && value !== null && 'type' in value && typeof value.type === 'string';
}

/** Fields that hold a name which refers to nothing. */
function isMereName(node: Node, field: string): boolean {
  if (node['computed'] === true) return false;
  return (
    (node.type === 'MemberExpression' && field === 'property') ||
    (node.type === 'TSQualifiedName' && field === 'right') ||
    (node.type === 'ImportSpecifier' && field === 'imported') ||
    field === 'key'
  );
}

function* nodesOf(value: unknown): Generator<Node> {
  if (Array.isArray(value)) {
    for (const item of value) yield* nodesOf(item);
  } else if (isNode(value)) {
    yield value;
    for (const [field, inner] of Object.entries(value)) {
      if (!isMereName(value, field)) yield* nodesOf(inner);
    }
  }
}

function parse({ path, text }: Source): Node[] {
  return [...nodesOf(parseAst(text, { lang: 'ts' }, path))];
}

function importsOf(source: Source): Import[] {
  return parse(source).flatMap((node): Import[] => {
    switch (node.type) {
      case 'ImportDeclaration':
      case 'ExportAllDeclaration':
      case 'ExportNamedDeclaration':
      case 'ImportExpression':
      case 'TSImportType':
        return node['source'] === null ? [] : [importOf(node, node['source'])];
      case 'TSExternalModuleReference':
        return [importOf(node, node['expression'])];
      default:
        return [];
    }
  });
}

function importOf(node: Node, from: unknown): Import {
  const literal = isNode(from) && from.type === 'Literal' && typeof from['value'] === 'string';
  return {
    specifier: literal ? String(from['value']) : undefined,
    typeOnly: node['importKind'] === 'type' || node['exportKind'] === 'type' || node.type === 'TSImportType',
  };
}

/** `wire/pcp.ts` is in the room `wire`, `errors.ts` is a room of its own. */
function roomOf(path: string): string {
  return path.split('/', 1)[0]?.replace(/\.ts$/, '') ?? '';
}

function floorOf(room: string): number {
  return FLOORS.findIndex((rooms) => rooms.includes(room));
}

/** The path below src/ that a relative import leads to; undefined for a package or a builtin. */
function targetOf(path: string, specifier: string): string | undefined {
  return specifier.startsWith('.') ? posix.join(posix.dirname(path), specifier) : undefined;
}

function builtinOf(specifier: string): string | undefined {
  return !specifier.startsWith('.') && isBuiltin(specifier) ? specifier.replace(/^node:/, '') : undefined;
}

/** A rule on each import of a file; `judge` answers what is wrong with it. */
function importRule(
  name: string,
  appliesTo: (path: string) => boolean,
  judge: (path: string, specifier: string, typeOnly: boolean) => string | undefined,
): Rule {
  return {
    name,
    appliesTo,
    offences: (source) =>
      importsOf(source).flatMap(({ specifier, typeOnly }) => {
        if (specifier === undefined) return [`${source.path} imports what only runs tell`];
        const wrong = judge(source.path, specifier, typeOnly);
        return wrong === undefined ? [] : [`${source.path} imports ${specifier}: ${wrong}`];
      }),
  };
}

const RULES: readonly Rule[] = [
  {
    name: 'every file stands in a room of the house',
    appliesTo: () => true,
    offences: ({ path }) => (floorOf(roomOf(path)) < 0 ? [`${path} stands in no room`] : []),
  },
  importRule(
    'imports go down, or sideways within their room',
    () => true,
    (path, specifier) => {
      const target = targetOf(path, specifier);
      if (target === undefined) return undefined;
      const [from, to] = [roomOf(path), roomOf(target)];
      const [here, there] = [floorOf(from), floorOf(to)];
      if (there < 0) return 'it leads out of the house';
      if (there > here) return `${to} is above ${from}`;
      if (there === here && from !== to && here !== GROUND) return `${to} is the room next door`;
      return undefined;
    },
  ),
  importRule(
    'net and wire import nothing of the machine',
    (path) => PURE.has(roomOf(path)),
    (_, specifier) => (builtinOf(specifier) === undefined ? undefined : 'it is pure'),
  ),
  {
    name: 'net and wire have no clock, no randomness and no I/O',
    appliesTo: (path) => PURE.has(roomOf(path)),
    offences: (source) =>
      parse(source).flatMap((node) => {
        const used = impurityOf(node);
        return used === undefined ? [] : [`${source.path} uses ${used}`];
      }),
  },
  importRule(
    'only system, forwarder/relay, tunnel, responder and control touch the network',
    (path) => !ON_THE_NETWORK.some((room) => path.startsWith(room)),
    (_, specifier) => {
      const builtin = builtinOf(specifier)?.split('/', 1)[0];
      return builtin !== undefined && NETWORK.has(builtin)
        ? 'that is for the rooms on the network'
        : undefined;
    },
  ),
  importRule(
    'cli and console reach the agent, the mappers and discovery through control',
    (path) => FACES.has(roomOf(path)),
    (path, specifier, typeOnly) => {
      const target = targetOf(path, specifier);
      if (target === undefined) return undefined;
      const room = roomOf(target);
      if (room === roomOf(path) || BENEATH_A_FACE.has(room)) return undefined;
      if (room === 'system' && (typeOnly || target === SEAM)) return undefined;
      return 'a face goes through control';
    },
  ),
];

function impurityOf(node: Node): string | undefined {
  if (node.type === 'MemberExpression' && isNode(node['object']) && node['object']['name'] === 'Math') {
    const property = node['property'];
    const plain = isNode(property) && node['computed'] === false && property['name'] !== 'random';
    return plain ? undefined : 'Math.random';
  }
  // `Math` handed on is `Math.random` handed on.
  if (node.type === 'VariableDeclarator' && isNode(node['init']) && node['init']['name'] === 'Math')
    return 'Math';
  if (node.type !== 'Identifier') return undefined;
  const name = String(node['name']);
  return IMPURE.has(name) ? name : undefined;
}

const ROOT = new URL('../src/', import.meta.url);
const sources: readonly Source[] = readdirSync(ROOT, { recursive: true, encoding: 'utf8' })
  .map((path) => path.replaceAll('\\', '/'))
  .filter((path) => /\.[cm]?[jt]sx?$/.test(path))
  .map((path) => ({ path, text: readFileSync(new URL(path, ROOT), 'utf8') }));

describe.each(RULES)('$name', ({ appliesTo, offences }) => {
  const checked = sources.filter(({ path }) => appliesTo(path));

  test('there are files to check', () => {
    expect(checked).not.toEqual([]);
  });

  test('in all of them', () => {
    expect(checked.flatMap(offences)).toEqual([]);
  });
});

test('the files have imports, and they are seen', () => {
  const pcp = sources.find(({ path }) => path === 'wire/pcp.ts');
  expect(pcp && importsOf(pcp)).toContainEqual({ specifier: '../errors.ts', typeOnly: false });
  expect(sources.flatMap(importsOf).length).toBeGreaterThan(sources.length);
});

describe('an offence is caught', () => {
  const MADE_UP: Readonly<Record<string, readonly (readonly [path: string, text: string])[]>> = {
    'every file stands in a room of the house': [
      ['common/a.ts', ''],
      ['utils.ts', ''],
    ],
    'imports go down, or sideways within their room': [
      ['wire/a.ts', "import { x } from '../mapping/x.ts';"],
      ['wire/a.ts', "import type { X } from '../mapping/x.ts';"],
      ['wire/a.ts', "let x: import('../mapping/x.ts').X;"],
      ['wire/a.ts', "export { x } from '../mapping/x.ts';"],
      ['wire/a.ts', "export * from '../mapping/x.ts';"],
      ['wire/a.ts', "const x = await import('../mapping/x.ts');"],
      ['wire/a.ts', 'const x = await import(`../mapping/${name}.ts`);'],
      ['wire/a.ts', "import '../mapping/x.ts';"],
      ['wire/a.ts', "import x = require('../mapping/x.ts');"],
      ['wire/a.ts', "import { systemClock } from '../system/clock.ts';"],
      ['discovery/a.ts', "import { x } from '../forwarder/x.ts';"],
      ['forwarder/relay/a.ts', "import { x } from '../../discovery/x.ts';"],
      ['cli/a.ts', "import { x } from '../console/x.ts';"],
      ['cli/a.ts', "import { x } from '../index.ts';"],
      ['cli/a.ts', "import { x } from '../library/x.ts';"],
      ['library/a.ts', "import { x } from '../cli/x.ts';"],
      ['library/a.ts', "import { x } from '../drop-in/x.ts';"],
      ['agent/a.ts', "import x from '../../package.json';"],
      ['index.ts', "export * from '../test/x.ts';"],
    ],
    'net and wire import nothing of the machine': [
      ['net/a.ts', "import { isIP } from 'node:net';"],
      ['wire/a.ts', "import { inspect } from 'util';"],
      ['wire/a.ts', "import { readFile } from 'fs/promises';"],
      ['wire/a.ts', "import type { Socket } from 'node:dgram';"],
    ],
    'net and wire have no clock, no randomness and no I/O': [
      ['wire/a.ts', 'export const x = Date.now();'],
      ['wire/a.ts', 'export const x = new Date();'],
      ['wire/a.ts', 'const x = { now: Date };'],
      ['net/a.ts', 'performance.now();'],
      ['wire/a.ts', 'setTimeout(() => {}, 1);'],
      ['wire/a.ts', 'export const x = Math.random();'],
      ['wire/a.ts', "export const x = Math['random']();"],
      ['wire/a.ts', 'const { random } = Math;'],
      ['wire/a.ts', 'crypto.getRandomValues(x);'],
      ['wire/a.ts', "if (process.env['X']) {}"],
      ['wire/a.ts', "globalThis['Da' + 'te'].now();"],
    ],
    'only system, forwarder/relay, tunnel, responder and control touch the network': [
      ['discovery/a.ts', "import { createSocket } from 'node:dgram';"],
      ['mapping/a.ts', "import http from 'http';"],
      ['agent/a.ts', "await import('node:child_process');"],
      ['forwarder/nftables/a.ts', "import { spawn } from 'node:child_process';"],
      ['cli/a.ts', "import type { Socket } from 'net';"],
      ['library/a.ts', "import { connect } from 'node:net';"],
      ['drop-in/a.ts', "import http from 'node:http';"],
      ['errors.ts', "export * from 'node:tls';"],
      ['index.ts', "import 'node:http2';"],
    ],
    'cli and console reach the agent, the mappers and discovery through control': [
      ['cli/commands/a.ts', "import { x } from '../../agent/one-shot.ts';"],
      ['cli/a.ts', "import { x } from '../discovery/discover.ts';"],
      ['console/a.ts', "import type { X } from '../mapping/mapping.ts';"],
      ['cli/a.ts', "import { systemClock } from '../system/clock.ts';"],
      ['cli/a.ts', "import { decodeSsdp } from '../wire/ssdp.ts';"],
    ],
  };

  test('of every rule', () => {
    expect(Object.keys(MADE_UP)).toEqual(RULES.map(({ name }) => name));
  });

  describe.each(RULES)('$name', ({ name, appliesTo, offences }) => {
    test.each(MADE_UP[name] ?? [])('in %s, %s', (path, text) => {
      expect(appliesTo(path)).toBe(true);
      expect(offences({ path, text })).not.toEqual([]);
    });
  });
});

test.each([
  ['wire/a.ts', "import { NatwardError } from '../errors.ts'; import { Parser } from 'htmlparser2';"],
  ['net/a.ts', "import { NatwardError } from '../errors.ts'; import { b } from './b.ts';"],
  ['errors.ts', "import type { IpAddress } from './net/address.ts';"],
  ['system/a.ts', "import { createSocket } from 'node:dgram';"],
  ['forwarder/relay/a.ts', "import net from 'node:net';"],
  ['responder/quirks/a.ts', "import { x } from '../../mapping/x.ts'; import { y } from '../site.ts';"],
  ['cli/a.ts', "import { x } from '../control/x.ts'; import type { Clock } from '../system/clock.ts';"],
  ['library/a.ts', "import { x } from '../agent/x.ts'; const y = await import('../control/client.ts');"],
  ['drop-in/a.ts', "import { Agent } from '../library/agent.ts'; import { x } from '../errors.ts';"],
  ['index.ts', "export { x } from './library/agent.ts'; export * from './errors.ts';"],
  ['wire/a.ts', "// import '../agent/a.ts'; Date.now()\nexport const text = 'import x from \"node:net\"';"],
  ['wire/a.ts', 'const x = { process: 1 }; x.process; Math.min(1, 2); interface Y { Date: string }'],
])('no offence is seen where there is none: in %s, %j', (path, text) => {
  const rules = RULES.filter(({ appliesTo }) => appliesTo(path));
  expect(rules.flatMap(({ offences }) => offences({ path, text }))).toEqual([]);
});
