/**
 * The port proxy of Windows: what `netsh interface portproxy dump` writes, which is a script and is followed as one,
 * and the tables that `show all` prints, in whatever language. It knows TCP only.
 */

import { family, parseAddress } from '../../net/address.ts';
import { formatHost } from '../target.ts';
import {
  checkedText,
  Findings,
  hostOf,
  type Imported,
  listening,
  portOf,
  quoted,
  targetHostOf,
  usage,
} from './findings.ts';

type Version = '4' | '6';

interface Entry {
  readonly line: number;
  readonly text: string;
}

interface Table {
  readonly from: Version;
  readonly to: Version;
  /** The line of dashes has come, and from there on are rows. */
  isRuled: boolean;
}

/** In the order in which netsh takes them without their names. */
const TAGS = ['listenport', 'connectaddress', 'connectport', 'listenaddress', 'protocol'] as const;
type Tag = (typeof TAGS)[number];
type Values = { readonly [T in Tag]?: string };

const LOCAL: Readonly<Record<Version, string>> = { 4: '127.0.0.1', 6: '::1' };
const EVERY = { 4: 'ipv4', 6: 'ipv6' } as const;
const CONTEXT = /^(?:netsh(?:\.exe)?\s+)?(?:interface\s+portproxy\s*|portproxy\s*)?/i;
const COMMAND = /^(add|set|delete)\s+v([46])tov([46])(?=\s|$)/i;
const PROMPT = /^(?:PS )?[A-Z]:\\[^>]*>\s*/i;
const RULER = /^-+(?:\s+-+)+$/;

/** `file` is what messages call it. Throws USAGE with every error's line. */
export function importPortproxy(text: string, file: string = 'portproxy'): Imported {
  const findings = new Findings(file);
  const script = new Script(findings);
  for (const [index, written] of checkedText(text, file).split(/\r?\n/).entries()) {
    const line = index + 1;
    findings.attempt(line, () => script.read(written.trim(), line));
  }
  for (const { text: rule, line } of script.entries.values()) findings.rule(rule, line);
  return findings.result();
}

/** Reports whether a line could be of this format. */
export function isPortproxyLine(line: string): boolean {
  const text = line.trim().replace(PROMPT, '');
  const isContext = /^(?:pushd\s+|netsh\s+)?interface\s+portproxy\b/i.test(text);
  return isContext || COMMAND.test(text.replace(CONTEXT, '')) || headingOf(text) !== undefined;
}

/** Over each table stands `Listen on ipv4:   Connect to ipv6:`. */
function headingOf(text: string): readonly [from: Version, to: Version] | undefined {
  const versions = [...text.slice(0, 200).matchAll(/\bipv([46])\b/gi)].map(
    ([, version]) => version as Version,
  );
  const [from, to, more] = versions;
  const isHeading = from !== undefined && to !== undefined && more === undefined && !text.includes('=');
  return isHeading ? [from, to] : undefined;
}

class Script {
  /** By what they listen on. */
  readonly entries = new Map<string, Entry>();
  readonly #findings: Findings;
  /** By pushd; commands are of the last. */
  readonly #contexts: string[] = [];
  #table: Table | undefined;

  constructor(findings: Findings) {
    this.#findings = findings;
  }

  read(written: string, line: number): void {
    const text = written.replace(PROMPT, '');
    if (text === '' || /^(#|;|::($|\s)|@?rem\b|@?echo\b|exit$)/i.test(text)) return;
    const [, , context] = /^(pushd|popd)\b\s*(.*)$/i.exec(text) ?? [];
    if (context !== undefined) return this.#enter(text, context.toLowerCase().replace(/\s+/g, ' '));
    const current = this.#contexts.at(-1) ?? 'interface portproxy';
    if (current !== 'interface portproxy') {
      const what = `What stands under ${quoted(`pushd ${current}`)}`;
      return this.#findings.note(`${what} is not of the port proxy, and was left out.`, line);
    }
    const heading = headingOf(text);
    if (heading !== undefined) {
      this.#table = { from: heading[0], to: heading[1], isRuled: false };
      return undefined;
    }
    const command = text.replace(CONTEXT, '');
    if (command === '' || /^(?:show|dump)\b/i.test(command)) return undefined;
    if (/^reset$/i.test(command)) return this.entries.clear();
    const [start, verb = '', listen, connect] = COMMAND.exec(command) ?? [];
    if (start !== undefined) {
      const values = parseValues(command.slice(start.length));
      return this.#put(line, verb.toLowerCase(), listen as Version, connect as Version, values);
    }
    if (this.#table !== undefined) return this.#row(text, line, this.#table);
    throw usage(
      `${quoted(text)} is not of the port proxy; write add v4tov4 listenport=80 connectaddress=10.0.0.5`,
    );
  }

  #enter(text: string, context: string): void {
    if (/^pushd/i.test(text)) this.#contexts.push(context);
    else this.#contexts.pop();
  }

  /** Between the heading and the ruler stand names of columns. */
  #row(text: string, line: number, table: Table): void {
    if (RULER.test(text)) {
      table.isRuled = true;
      return;
    }
    const [listenaddress = '', listenport = '', connectaddress = '', connectport, more] = text.split(
      /\s+/,
      5,
    );
    const isRow = connectport !== undefined && more === undefined;
    if (isRow && (table.isRuled || (/^\d+$/.test(listenport) && /^\d+$/.test(connectport)))) {
      const values = { listenaddress, listenport, connectaddress, connectport };
      this.#put(line, 'add', table.from, table.to, values);
    } else if (table.isRuled) {
      throw usage(`${quoted(text)} is no row of the table; write ADDRESS PORT ADDRESS PORT`);
    }
  }

  #put(line: number, verb: string, from: Version, to: Version, values: Values): void {
    const { listenport, listenaddress = '*', protocol = 'tcp' } = values;
    if (protocol.toLowerCase() !== 'tcp')
      throw usage(`${quoted(protocol)}: the port proxy knows protocol=tcp only`);
    if (listenport === undefined) throw usage('listenport is missing; write listenport=80');
    const port = portOf(listenport);
    const selector = `in tcp ${selectorOf(listenaddress, from, port)}`;
    this.entries.delete(`${from} ${selector}`);
    if (verb === 'delete') return;
    const connectPort = values.connectport === undefined ? port : portOf(values.connectport);
    const host = targetOf(values.connectaddress, to);
    this.entries.set(`${from} ${selector}`, {
      line,
      text: `${selector} -> ${formatHost(host)}:${connectPort}`,
    });
  }
}

function selectorOf(word: string, version: Version, port: number): string {
  if (word === '*') return listening({ every: EVERY[version] }, port);
  const host = hostOf(word);
  if (host === '0.0.0.0' && version === '4') return listening({ every: 'ipv4' }, port);
  if (host === '::' && version === '6') return listening({ every: 'ipv6' }, port);
  return listening({ host: ofVersion(host, version, 'listens on') }, port);
}

/** This host, where nothing is said. */
function targetOf(word: string | undefined, version: Version): string {
  return word === undefined ? LOCAL[version] : ofVersion(targetHostOf(word), version, 'connects to');
}

function ofVersion(host: string, version: Version, does: string): string {
  if (parseAddress(host) === undefined || String(family(host)) === version) return host;
  throw usage(
    `${host} is no address of IPv${version}, which this ${does}; write one, or v${family(host)} there`,
  );
}

/** `name=value` in any order, or the values alone in theirs; in quotes or not. */
function parseValues(text: string): Values {
  const values: { [T in Tag]?: string } = {};
  let place = 0;
  for (const [, name, inQuotes, bare] of text.matchAll(/(?:([A-Za-z]+)\s*=\s*)?(?:"([^"]*)"|([^\s"]+))/g)) {
    const tag = name === undefined ? TAGS[place++] : TAGS.find((one) => one === name.toLowerCase());
    if (tag === undefined) {
      throw usage(`${quoted(name ?? bare ?? '')} is nothing that a port proxy has; write ${TAGS.join(', ')}`);
    }
    values[tag] = inQuotes ?? bare ?? '';
  }
  return values;
}
