/**
 * Writes docs/library-api.md, the reference of the library, from the declarations that src/index.ts exports and what is
 * said above them: `npm run library-docs`.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import { parseAst } from 'rolldown/parseAst';

const TARGET = new URL('../docs/library-api.md', import.meta.url);
const INDEX = new URL('../src/index.ts', import.meta.url);

/** What people look up first; the others come as the index has them. */
const FIRST = [
  'Agent',
  'AgentOptions',
  'connect',
  'KeepPortRequest',
  'PortRequest',
  'PortEnd',
  'Lease',
  'LeaseEvents',
];

interface Node {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [field: string]: unknown;
}

interface Source {
  readonly text: string;
  readonly body: readonly Node[];
}

function parsed(url: URL): Source {
  const text = readFileSync(url, 'utf8');
  return { text, body: parseAst(text, { lang: 'ts' }, url.pathname).body as unknown as readonly Node[] };
}

function list(value: unknown): readonly Node[] {
  return Array.isArray(value) ? (value as readonly Node[]) : [];
}

function nameOf(node: unknown): string {
  const { name, value } = node as { readonly name?: string; readonly value?: string };
  return name ?? value ?? '';
}

/** The names that the index exports, with the file that declares each. */
function* exported(): Generator<readonly [name: string, file: URL]> {
  for (const node of parsed(INDEX).body) {
    const source = node['source'] as Node | null;
    if (node.type !== 'ExportNamedDeclaration' || source === null) continue;
    const file = new URL(String(source['value']), INDEX);
    for (const specifier of list(node['specifiers'])) yield [nameOf(specifier['exported']), file];
  }
}

function declarationOf(name: string, { body }: Source): Node {
  for (const { declaration } of body.map((node) => node as { readonly declaration?: Node | null })) {
    if (declaration === undefined || declaration === null) continue;
    const [first] = list(declaration['declarations']);
    if (nameOf(declaration['id'] ?? first?.['id']) === name) return declaration;
  }
  throw new Error(`${name} is declared nowhere`);
}

/** What is said right above `start`, as one paragraph. */
function said(text: string, start: number): string {
  const above = text.slice(0, start).replace(/export\s+(default\s+)?$/, '');
  const comment = /\/\*\*((?:(?!\*\/)[\s\S])*)\*\/\s*$/.exec(above)?.[1] ?? '';
  return comment
    .split('\n')
    .map((line) => line.replace(/^\s*\*? ?/, '').trim())
    .join(' ')
    .trim();
}

/** Source on one line. */
function oneLine(text: string): string {
  return text
    .replace(/\/\*\*[\s\S]*?\*\//g, '')
    .replace(/\s+/g, ' ')
    .replace(/([([<]) /g, '$1')
    .replace(/,? ([)\]>])/g, '$1')
    .trim();
}

function code(text: string): string {
  return `\`${oneLine(text).replaceAll('|', '\\|')}\``;
}

/** A member as a row: what it is, and what is said of it. */
function row(member: Node, source: Source): string | undefined {
  const { text } = source;
  const key = member['key'] as Node | undefined;
  if (key?.type === 'PrivateIdentifier') return undefined;
  const about = said(text, member.start).replaceAll('|', '\\|');
  const value = member['value'] as Node | null | undefined;
  const bodyStart = (value?.['body'] as Node | null | undefined)?.start;
  const end = member.type === 'MethodDefinition' && bodyStart !== undefined ? bodyStart : member.end;
  const signature = oneLine(text.slice(member.start, end))
    .replace(/^readonly /, '')
    .replace(/;$/, '')
    .replace(/^(\w+\?: .*) \| undefined$/, '$1');
  return `| ${code(signature)} | ${about} |`;
}

function members(nodes: readonly Node[], source: Source): string[] {
  const rows = nodes.flatMap((node) => row(node, source) ?? []);
  return rows.length === 0 ? [] : ['| | |', '| --- | --- |', ...rows, ''];
}

function section(name: string, source: Source): string[] {
  const { text } = source;
  const node = declarationOf(name, source);
  const about = said(text, node.start);
  const lines = [`## ${name}`, '', ...(about === '' ? [] : [about, ''])];
  const body = node['body'] as Node | undefined;
  switch (node.type) {
    case 'ClassDeclaration':
    case 'TSInterfaceDeclaration': {
      const head = oneLine(text.slice(node.start, body?.start));
      return [
        ...lines,
        ...(head.includes(' ', head.indexOf(name)) ? [code(head), ''] : []),
        ...members(list(body?.['body']), source),
      ];
    }
    case 'FunctionDeclaration':
      return [...lines, '```ts', oneLine(text.slice(node.start, body?.start)), '```', ''];
    case 'VariableDeclaration': {
      const [first] = list(node['declarations']);
      const id = first?.['id'] as Node;
      return [...lines, '```ts', `const ${oneLine(text.slice(id.start, id.end))}`, '```', ''];
    }
    default:
      return [
        ...lines,
        '```ts',
        text.slice(node.start, node.end).replace(/\n {2}(?=\/\*\*)/g, '\n  '),
        '```',
        '',
      ];
  }
}

export function libraryDocs(): string {
  const files = new Map(exported());
  const sources = new Map<string, Source>();
  const sourceOf = (file: URL) => {
    const known = sources.get(file.href) ?? parsed(file);
    sources.set(file.href, known);
    return known;
  };
  const names = [...FIRST, ...[...files.keys()].filter((name) => !FIRST.includes(name))];
  return `${[
    `# The library, name by name

Written by \`npm run library-docs\` from what stands above each declaration; a test fails where the two differ. How it is
used: [library.md](library.md).
`,
    ...names.flatMap((name) => section(name, sourceOf(files.get(name) as URL))),
  ]
    .join('\n')
    .trimEnd()}\n`;
}

if (argv[1] === fileURLToPath(import.meta.url)) writeFileSync(TARGET, libraryDocs());
