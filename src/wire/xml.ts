/**
 * XML as routers write it, read into a small tree: prefixes dropped (bound or not), white space and junk
 * before the document skipped, a bare `<` or `&` taken as text. There is no DTD, no entity but the five of XML, and
 * no way to make the tree larger or deeper than the limits below. What the elements mean is for soap.ts
 * and description.ts.
 */

import { Parser } from 'htmlparser2';
import { NatwardError } from '../errors.ts';

export interface XmlElement {
  /** Local name, without its prefix. */
  readonly name: string;
  /** The namespace that the element itself declares, by any prefix; undefined where it declares none. */
  readonly namespace: string | undefined;
  readonly children: readonly XmlElement[];
  /** The element's own text, trimmed. */
  readonly text: string;
  /** False where the document ends inside it. */
  readonly closed: boolean;
}

/** Deepest real description seen: 12. Largest: under 400 elements. */
const MAX_DEPTH = 32;
const MAX_ELEMENTS = 20_000;

/**
 * A `<` that opens nothing: no name, `/`, `!` or `?` after it, or another `<` before the `>` (`<b>5 < 6 <3</b>`).
 * Comments and CDATA are taken whole, since they may hold any. One pass, however the document is made.
 */
const BARE_LESS_THAN = /<!--[^]*?(?:-->|$)|<!\[CDATA\[[^]*?(?:\]\]>|$)|<(?![!?]|\/?[A-Za-z_:][^<>]*>)/g;

interface Building {
  name: string;
  namespace: string | undefined;
  children: Building[];
  text: string;
  closed: boolean;
}

/**
 * Parses a document and returns its root element.
 * Throws MALFORMED where there is none, HOSTILE for a DTD or a document beyond the limits.
 */
export function parseXml(document: string): XmlElement {
  const root: Building = { name: '', namespace: undefined, children: [], text: '', closed: true };
  const open: Building[] = [root];
  let elements = 0;
  const parser = new Parser(
    {
      onopentag(qualifiedName, attributes) {
        elements++;
        if (elements > MAX_ELEMENTS || open.length > MAX_DEPTH) {
          throw new NatwardError('HOSTILE', 'XML with too many or too deep elements');
        }
        const element: Building = {
          name: localName(qualifiedName),
          namespace: declaredNamespace(qualifiedName, attributes),
          children: [],
          text: '',
          closed: true,
        };
        open.at(-1)?.children.push(element);
        open.push(element);
      },
      ontext(text) {
        const element = open.at(-1);
        if (element !== undefined) element.text += text;
      },
      onclosetag() {
        const element = open.pop();
        if (element !== undefined) element.text = element.text.trim();
      },
      onprocessinginstruction(name) {
        if (/^!(doctype|entity)/i.test(name)) throw new NatwardError('HOSTILE', 'XML with a document type');
      },
    },
    { xmlMode: true, decodeEntities: true },
  );
  parser.write(document.replace(BARE_LESS_THAN, (found) => (found === '<' ? '&lt;' : found)));
  const unfinished = [...open];
  parser.end();
  // A value that its document ends in the middle of is no value.
  for (const element of unfinished) Object.assign(element, { text: '', closed: false });
  const top = root.children[0];
  if (top === undefined) throw new NatwardError('MALFORMED', 'no XML element in the document');
  return top;
}

function localName(qualifiedName: string): string {
  return qualifiedName.slice(qualifiedName.indexOf(':') + 1);
}

function declaredNamespace(qualifiedName: string, attributes: Record<string, string>): string | undefined {
  const colon = qualifiedName.indexOf(':');
  return attributes[colon < 0 ? 'xmlns' : `xmlns:${qualifiedName.slice(0, colon)}`];
}

/** The first child of that name, in any letter case: some routers write `controlUrl` for `controlURL`. */
export function child(element: XmlElement, name: string): XmlElement | undefined {
  const wanted = name.toLowerCase();
  return element.children.find((candidate) => candidate.name.toLowerCase() === wanted);
}

/** The text of the first child of that name; undefined where there is no such child. */
export function childText(element: XmlElement, name: string): string | undefined {
  return child(element, name)?.text;
}

/** The first element of that name at any depth, the element itself included. */
export function descendant(element: XmlElement, name: string): XmlElement | undefined {
  const wanted = name.toLowerCase();
  if (element.name.toLowerCase() === wanted) return element;
  for (const inner of element.children) {
    const found = descendant(inner, wanted);
    if (found !== undefined) return found;
  }
  return undefined;
}

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

// oxlint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g;

/** Text made safe between tags and in attributes; control characters, which XML 1.0 cannot carry, are dropped. */
export function escapeXml(text: string): string {
  return text.replace(CONTROL, '').replace(/[&<>"]/g, (found) => ESCAPES[found] as string);
}

/** `<name>text</name>` for each entry, in order. */
export function elements(values: Readonly<Record<string, string | number>>): string {
  return Object.entries(values)
    .map(([name, value]) => `<${name}>${escapeXml(String(value))}</${name}>`)
    .join('');
}
