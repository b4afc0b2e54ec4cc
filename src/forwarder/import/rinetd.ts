/**
 * rinetd.conf, as rinetd 0.73 reads it: `bindaddress bindport connectaddress connectport [options]`, and allow and
 * deny lines, which before the first rule are for all rules, and after one for that rule. Who may is who is allowed
 * in both places and denied in neither.
 */

import { bracketed, parseAddress } from '../../net/address.ts';
import { formatHost } from '../target.ts';
import { type ClientNetwork, formatNetworks, intersection, parseGlob } from './address-glob.ts';
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

/** What fits into a rule's line, and keeps two such lists quick to compare. */
const MAX_NETWORKS = 100;
/** A rule's longest. */
const MAX_IDLE_SECONDS = 604_800;

/** Who may. A list that is not there lets everybody through. */
interface Gate {
  allow?: ClientNetwork[];
  deny?: ClientNetwork[];
  lines: number;
}

/** A rule's line, but for who may. */
interface Server {
  readonly line: number;
  readonly selector: string;
  readonly target: string;
  readonly idle: string;
}

const NO_LOG = 'natward keeps no file of connections, so that this was left out; its events tell of each.';
const LEFT_OUT: Readonly<Record<string, string>> = {
  logfile: `logfile: ${NO_LOG}`,
  logcommon: `logcommon: ${NO_LOG}`,
  pidlogfile: 'pidlogfile: natward writes no file with its process id here, so that this was left out.',
};
const NO_END = 'rinetd 0.73 passes over a last line that has no end; natward has read it.';
const OVERLOOKED =
  'natward goes by every allow and deny line; where none stands before the first rule, rinetd 0.73 overlooks the ' +
  'first of several after it.';

/** `file` is what messages call it. Throws USAGE with every error's line. */
export function importRinetd(text: string, file: string): Imported {
  const findings = new Findings(file);
  const lines = checkedText(text, file).split(/\r?\n/);
  const general: Gate = { lines: 0 };
  const servers: { readonly server: Server | undefined; readonly gate: Gate }[] = [];
  let firstGate: Gate | undefined;
  for (const [index, written] of lines.entries()) {
    const line = index + 1;
    const body = (written.split('#', 1)[0] ?? '').trim();
    const [word = '', ...rest] = body.split(/[ \t]+/, 3);
    if (word === '') continue;
    if (line === lines.length) findings.note(NO_END, line);
    const leftOut = Object.hasOwn(LEFT_OUT, word) ? LEFT_OUT[word] : undefined;
    if (leftOut !== undefined) findings.note(leftOut, line);
    else if (word === 'allow' || word === 'deny') {
      const own = servers.at(-1)?.gate;
      firstGate ??= own;
      findings.attempt(line, () => admit(own ?? general, word, rest));
      if (own === firstGate && general.lines === 0 && own?.lines === 2) findings.note(OVERLOOKED, line);
    } else {
      // The lines after a rule that cannot be read are still its own.
      servers.push({
        server: findings.attempt(line, () => parseServer(body, line, findings)),
        gate: { lines: 0 },
      });
    }
  }
  for (const { server, gate } of servers) if (server !== undefined) finish(server, general, gate, findings);
  return findings.result();
}

function admit(gate: Gate, verdict: 'allow' | 'deny', [pattern, more]: readonly string[]): void {
  gate.lines++;
  const list = (gate[verdict] ??= []);
  if (pattern === undefined || more !== undefined) {
    throw usage(`${verdict} takes one pattern; write ${verdict} 192.168.1.*, and a line for each`);
  }
  if (list.length >= MAX_NETWORKS) {
    throw usage(
      `the ${verdict} lines come to more than ${MAX_NETWORKS} networks here; write fewer, larger ones`,
    );
  }
  list.push(...parseGlob(pattern).filter(({ bits }) => list.every((one) => one.bits !== bits)));
}

function parseServer(body: string, line: number, findings: Findings): Server {
  const [, bindHost, bindPort, host, port, options] =
    /^(\S+)[ \t]+(\S+)[ \t]+(\S+)[ \t]+([^\s[]+)[ \t]*(\[.*)?$/.exec(body) ?? [];
  if (bindHost === undefined || bindPort === undefined || host === undefined || port === undefined) {
    const rule = 'a rule is "bindaddress bindport connectaddress connectport [timeout=SECONDS,src=ADDRESS]"';
    throw usage(
      `${quoted(body)} is no line of rinetd.conf: ${rule}, other lines begin with allow, deny or logfile`,
    );
  }
  const [from, to] = [parsePort(bindPort), parsePort(port)];
  if (from.protocol !== to.protocol) {
    const turned = `${from.protocol.toUpperCase()} into ${to.protocol.toUpperCase()}`;
    throw usage(`this turns ${turned}, which natward does not do; write the same protocol after both ports`);
  }
  const { timeout, source } = options === undefined ? {} : parseOptions(options);
  const isUdp = from.protocol === 'udp';
  if (timeout !== undefined && !isUdp) {
    findings.note('timeout: rinetd goes by it for UDP only, so that it was left out of rules for TCP.', line);
  }
  return {
    line,
    selector: `in ${from.protocol} ${selectorOf(bindHost, from.port)}`,
    target: `${formatHost(targetHostOf(host))}:${to.port}${source === undefined ? '' : ` as ${source}`}`,
    idle: isUdp && timeout !== undefined ? ` idle ${timeout}s` : '',
  };
}

/** rinetd's IPv6 socket takes IPv4 as well, as Linux has it. */
function selectorOf(host: string, port: number): string {
  const address = host === '0' ? '0.0.0.0' : hostOf(host);
  if (address === '0.0.0.0') return listening({ every: 'ipv4' }, port);
  return listening(address === '::' ? { every: 'both' } : { host: address }, port);
}

function parsePort(word: string): { readonly protocol: 'tcp' | 'udp'; readonly port: number } {
  const [port = '', protocol = 'tcp', more] = word.split('/', 3);
  if ((protocol !== 'tcp' && protocol !== 'udp') || more !== undefined) {
    throw usage(`${quoted(word)} is no port of rinetd; write 80, 80/tcp or 53/udp`);
  }
  return { protocol, port: portOf(port) };
}

/** `[timeout=3600,src=10.0.0.2]`; of an option said twice rinetd takes the last. */
function parseOptions(text: string): { timeout?: number; source?: string } {
  const found: { timeout?: number; source?: string } = {};
  const inside = /^\[(.*)\]$/.exec(text)?.[1];
  if (inside === undefined)
    throw usage(`${quoted(text)} is no list of options; write [timeout=3600,src=10.0.0.2]`);
  for (const option of inside.split(',')) {
    const [, name, value = ''] = /^\s*(timeout|src)\s*=\s*(\S+)\s*$/.exec(option) ?? [];
    if (name === 'timeout') Object.assign(found, timeoutOf(value));
    else if (name === 'src') found.source = sourceOf(value);
    else throw usage(`${quoted(option.trim())} is no option of rinetd; write timeout=SECONDS or src=ADDRESS`);
  }
  return found;
}

/** rinetd takes 0 as its usual. */
function timeoutOf(text: string): { timeout?: number } {
  const seconds = /^\d{1,9}$/.test(text) ? Number(text) : Number.NaN;
  if (!(seconds <= MAX_IDLE_SECONDS)) {
    throw usage(`timeout: ${quoted(text)} is no number of seconds; write 1 to ${MAX_IDLE_SECONDS}`);
  }
  return seconds === 0 ? {} : { timeout: seconds };
}

function sourceOf(text: string): string {
  const address = parseAddress(/^\[(.*)\]$/.exec(text)?.[1] ?? text);
  if (address === undefined) throw usage(`src: ${quoted(text)} is no address; write one of this host's`);
  return bracketed(address);
}

/** Joins both gates, and adds the rule. */
function finish(
  { line, selector, target, idle }: Server,
  general: Gate,
  own: Gate,
  findings: Findings,
): void {
  const denied = formatNetworks([...(general.deny ?? []), ...(own.deny ?? [])]);
  const allowed = inBoth(general.allow, own.allow);
  if (allowed?.length === 0) {
    const what = 'the allow lines before the first rule and those after this one have no address in common';
    findings.note(
      `The rule for ${selector.slice(3)} was left out: ${what}, so that nobody may use it.`,
      line,
    );
    return;
  }
  const allow = allowed === undefined ? '' : ` allow ${formatNetworks(allowed)}`;
  // Said as one list, so that no order between allow and deny is needed.
  const except = denied === '' ? '' : allowed === undefined ? ` deny ${denied}` : ` EXCEPT ${denied}`;
  findings.rule(`${selector} -> ${target}${allow}${except}${idle}`, line);
}

function inBoth(
  some: readonly ClientNetwork[] | undefined,
  others: readonly ClientNetwork[] | undefined,
): readonly ClientNetwork[] | undefined {
  return some === undefined || others === undefined ? (some ?? others) : intersection(some, others);
}
