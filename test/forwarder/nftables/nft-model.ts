/**
 * What nft makes of the text that change.ts writes: tables with objects, sets and chains, and the complaints of the
 * kernel where something is there already, is not there, or is still referred to.
 */

interface Table {
  readonly objects: Map<string, string>;
  readonly sets: Map<string, { readonly head: string; readonly elements: Map<string, string> }>;
  readonly chains: Map<string, { readonly hook: string | undefined; readonly lines: string[] }>;
}

const NAMED = /^(set|map|chain|quota|ct timeout) (\w+) \{$/;

export class NftModel {
  #tables = new Map<string, Table>();

  /** One batch; where one statement fails, nothing has changed. Throws. */
  load(text: string): void {
    const before = structuredClone(this.#tables);
    try {
      const lines = text.split('\n').map((line) => line.trim());
      for (let at = 0; at < lines.length; ) at = this.#statement(lines, at);
      this.#checkReferences();
    } catch (error) {
      this.#tables = before;
      throw error;
    }
  }

  /** To be compared, whatever the order in which things were made. */
  get listing(): unknown {
    const sorted = <T>(map: ReadonlyMap<string, T>, of: (value: T) => unknown) =>
      [...map].sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, value]) => [name, of(value)]);
    return sorted(this.#tables, ({ objects, sets, chains }) => [
      sorted(objects, (body) => body),
      sorted(sets, ({ head, elements }) => [head, sorted(elements, (what) => what)]),
      sorted(chains, (chain) => chain),
    ]);
  }

  #statement(lines: readonly string[], at: number): number {
    const line = lines[at] as string;
    if (line === '') return at + 1;
    const [, block] = /^table (\w+ \w+) \{$/.exec(line) ?? [];
    if (block !== undefined) return this.#block(block, lines, at + 1);
    const [, verb = '', kind = '', name = '', word = '', rest = ''] =
      /^(delete|flush|add) (table|element|set|map|chain|quota|ct timeout) (\w+ \w+)(?: (\w+))?(?: \{ (.*) \})?$/.exec(
        line,
      ) ?? [];
    const table = this.#tables.get(name);
    if (table === undefined) throw new Error(`no such table: ${line}`);
    switch (`${verb} ${kind}`) {
      case 'delete table':
        this.#tables.delete(name);
        break;
      case 'flush chain':
        must(table.chains.get(word), line).lines.splice(0);
        break;
      case 'delete chain':
        if (must(table.chains.get(word), line).lines.length > 0) throw new Error(`it is in use: ${line}`);
        table.chains.delete(word);
        break;
      case 'flush set':
      case 'flush map':
        must(table.sets.get(`${kind} ${word}`), line).elements.clear();
        break;
      case 'delete set':
      case 'delete map':
        must(table.sets.get(`${kind} ${word}`), line);
        table.sets.delete(`${kind} ${word}`);
        break;
      case 'add element':
        add(setOf(table, word, line).elements, rest);
        break;
      case 'delete element':
        for (const key of rest.split(', ')) {
          if (!setOf(table, word, line).elements.delete(key)) throw new Error(`no such element: ${key}`);
        }
        break;
      case 'delete quota':
      case 'delete ct timeout':
        must(table.objects.get(`${kind} ${word}`), line);
        table.objects.delete(`${kind} ${word}`);
        break;
      default:
        throw new Error(`syntax: ${line}`);
    }
    return at + 1;
  }

  #block(name: string, lines: readonly string[], from: number): number {
    let table = this.#tables.get(name);
    if (table === undefined) {
      table = { objects: new Map(), sets: new Map(), chains: new Map() };
      this.#tables.set(name, table);
    }
    let at = from;
    for (; lines[at] !== '}'; at++) {
      const [, kind = '', word = ''] = must(
        NAMED.exec(lines[at] as string) ?? undefined,
        lines[at] ?? 'the end',
      );
      const body: string[] = [];
      for (at++; lines[at] !== '}'; at++) body.push(must(lines[at], 'the end'));
      if (kind === 'chain') chain(table, word, body);
      else if (kind === 'set' || kind === 'map') set(table, `${kind} ${word}`, body);
      else if (table.objects.has(`${kind} ${word}`)) throw new Error(`it is there already: ${kind} ${word}`);
      else table.objects.set(`${kind} ${word}`, body.join('\n'));
    }
    return at + 1;
  }

  /** Whatever is gone at the end must not be meant by anything. */
  #checkReferences(): void {
    for (const { objects, sets, chains } of this.#tables.values()) {
      const names = new Set([...objects.keys(), ...sets.keys()].map((one) => one.split(' ').at(-1)));
      const texts = [
        ...[...chains.values()].flatMap(({ lines }) => lines),
        ...[...sets.values()].flatMap(({ elements }) => [...elements.values()]),
      ];
      for (const text of texts) {
        for (const [, chainName = ''] of text.matchAll(/\b(?:goto|jump) (\w+)/g))
          must(chains.get(chainName), text);
        for (const [, other, quoted] of text.matchAll(/@(\w+)|(?:quota name|timeout set) "(\w+)"/g)) {
          if (!names.has(other ?? quoted)) throw new Error(`there is nothing of that name: ${text}`);
        }
      }
    }
  }
}

function must<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new Error(`there is no such thing: ${what}`);
  return value;
}

function setOf({ sets }: Table, word: string, line: string): { readonly elements: Map<string, string> } {
  return must(sets.get(`set ${word}`) ?? sets.get(`map ${word}`), line);
}

/** A key that is there already has to mean the same. */
function add(elements: Map<string, string>, text: string): void {
  for (const one of text.split(', ')) {
    const [, key = '', what = ''] = /^([^:"]*?)(?:\s+(: .*|comment ".*"))?$/.exec(one) ?? [];
    if (key === '') throw new Error(`syntax: ${one}`);
    if ((elements.get(key) ?? what) !== what) throw new Error(`it is there already: ${one}`);
    elements.set(key, what);
  }
}

function set(table: Table, name: string, [head = '', ...others]: readonly string[]): void {
  const elements = others.find((one) => !one.startsWith('size '));
  const known = table.sets.get(name);
  if (known !== undefined && known.head !== head) throw new Error(`it is there already: ${name}`);
  const made = known ?? { head, elements: new Map<string, string>() };
  table.sets.set(name, made);
  if (elements !== undefined) add(made.elements, /^elements = \{ (.*) \}$/.exec(elements)?.[1] ?? '');
}

function chain(table: Table, name: string, body: readonly string[]): void {
  const [first = ''] = body;
  const hook = first.startsWith('type ') ? first : undefined;
  const lines = hook === undefined ? body : body.slice(1);
  const known = table.chains.get(name);
  if (known === undefined) table.chains.set(name, { hook, lines: [...lines] });
  else if (hook !== undefined && hook !== known.hook) throw new Error(`it is there already: ${name}`);
  else known.lines.push(...lines);
}
