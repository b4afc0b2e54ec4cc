/**
 * Command lines of ssh (OpenSSH) with `-L`: what ssh listens on here, and connects to from its server. natward connects
 * from here, so that only what the server's host reaches as this host does comes out the same, and a note says so.
 */

import { formatHost, isOwnHost } from '../target.ts';
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
import { commandsOf, type Word } from './shell-words.ts';

/** Options that take a value, the next word where none is attached. */
const WITH_VALUE = 'BbcDEeFIiJLlmOopPQRSWw';
const WITHOUT_VALUE = '1246AaCfGgKkMNnqsTtVvXxYy';
/** What may stand before the program's name. */
const BEFORE = new Set(['$', 'sudo', 'exec', 'nohup', 'nice']);
const PROGRAM = /^(?:.*[/\\])?((?:auto)?ssh)(?:\.exe)?$/i;

const ONLY_LOCAL = 'natward takes over -L only';
const REFUSED: Readonly<Record<string, string>> = {
  R: `-R listens on the ssh server, where natward does not run; ${ONLY_LOCAL}`,
  D: `-D is a SOCKS proxy, whose clients choose the target; ${ONLY_LOCAL}`,
  W: `-W connects ssh's own input and output, which nobody sends packets to; ${ONLY_LOCAL}`,
  w: `-w joins two tunnel interfaces, which is no forwarding of ports; ${ONLY_LOCAL}`,
};
const DIRECTLY =
  'natward connects to the targets directly and not through the ssh server: nothing is encrypted by ssh any more, and ' +
  'the targets must be reachable from here.';
const LOOPBACK =
  'ssh listens on ::1 as well here; add [::1] to the address of the rule where clients use it.';
/** The same, as settings. */
const SETTINGS: Readonly<Record<string, string>> = {
  remoteforward: 'R',
  dynamicforward: 'D',
  localforward: 'L',
};

interface Option {
  readonly letter: string;
  readonly value: string;
  readonly line: number;
}

interface Command {
  readonly options: readonly Option[];
  readonly destination: string | undefined;
  readonly line: number;
}

/** `file` is what messages call it. Throws USAGE with every error's line. */
export function importSsh(text: string, file: string = 'ssh'): Imported {
  const findings = new Findings(file);
  for (const words of commandsOf(checkedText(text, file), findings)) {
    const line = words[0]?.line ?? 1;
    const command = findings.attempt(line, () => parseCommand(words, line));
    if (command !== undefined) takeOver(command, findings);
  }
  return findings.result();
}

/** Reports whether a line could begin such a command. */
export function isSshLine(line: string): boolean {
  const words = line.trim().split(/\s+/, 8);
  const program = words.find((word) => !BEFORE.has(word)) ?? '';
  return PROGRAM.test(program) && words.length > 1;
}

function takeOver({ options, destination, line }: Command, findings: Findings): void {
  const isOpen = options.some(({ letter }) => letter === 'g');
  const forwards = options.filter(({ letter }) => letter === 'L');
  for (const { letter, line: at } of options) {
    findings.attempt(at, () => {
      if (REFUSED[letter] !== undefined) throw usage(REFUSED[letter]);
    });
  }
  if (options.some(({ letter }) => letter === 'F')) {
    findings.note(
      '-F: the forwardings in that file were not read; write them as -L to take them over.',
      line,
    );
  }
  if (forwards.length === 0)
    return findings.note('This ssh command has no -L, and nothing was taken over from it.', line);
  findings.note(DIRECTLY, line);
  for (const { value, line: at } of forwards) {
    findings.attempt(at, () => findings.rule(ruleOf(value, { isOpen, destination, at, findings }), at));
  }
}

interface Around {
  readonly isOpen: boolean;
  readonly destination: string | undefined;
  readonly at: number;
  readonly findings: Findings;
}

/** `[BIND:]PORT:HOST:HOSTPORT` */
function ruleOf(value: string, { isOpen, destination, at, findings }: Around): string {
  if (value.includes('/')) {
    throw usage(`-L ${quoted(value)} is of a Unix socket, and rules are of ports; write PORT:HOST:HOSTPORT`);
  }
  const [, bind, port, host, hostPort] =
    /^(?:(\[[^\]]*\]|[^:[\]]*):)?([^:[\]]*):(\[[^\]]*\]|[^:[\]]*):([^:[\]]*)$/.exec(value) ?? [];
  if (port === undefined || host === undefined || hostPort === undefined) {
    const form = '[BIND:]PORT:HOST:HOSTPORT, with IPv6 addresses in brackets';
    throw usage(`-L ${quoted(value)} is no forwarding; write ${form}`);
  }
  const selector = selectorOf(bind, portOf(port), isOpen);
  if (bind === 'localhost' || (bind === undefined && !isOpen)) findings.note(LOOPBACK, at);
  let target = targetHostOf(host);
  if (isOwnHost(target, [])) {
    if (destination === undefined) {
      throw usage(
        `-L ${quoted(value)}: ${target} is the ssh server's own; write the server's name after the options`,
      );
    }
    const server = serverOf(destination);
    const what = `${target} is the ssh server itself, so that the rule goes to ${server}`;
    findings.note(`-L ${quoted(value)}: ${what}, where the service must listen to other hosts as well.`, at);
    target = server;
  }
  return `in tcp ${selector} -> ${formatHost(target)}:${portOf(hostPort)}`;
}

/** Without an address ssh listens on the loopback address, with `*` or none before the colon everywhere. */
function selectorOf(bind: string | undefined, port: number, isOpen: boolean): string {
  if (bind === undefined) return listening(isOpen ? { every: 'both' } : { host: '127.0.0.1' }, port);
  if (bind === '' || bind === '*') return listening({ every: 'both' }, port);
  if (bind === 'localhost') return listening({ host: '127.0.0.1' }, port);
  const host = hostOf(bind);
  if (host === '0.0.0.0') return listening({ every: 'ipv4' }, port);
  return listening(host === '::' ? { every: 'ipv6' } : { host }, port);
}

/** The host of `user@host` and `ssh://user@host:port`. */
function serverOf(destination: string): string {
  const isUrl = destination.startsWith('ssh://');
  const host = destination.slice(destination.lastIndexOf('@') + 1).replace(/^ssh:\/\//, '');
  return hostOf(isUrl ? host.replace(/(?::\d*)?\/?$/, '') : host);
}

/** Throws USAGE where it is no ssh command. */
function parseCommand(words: readonly Word[], line: number): Command {
  const start = words.findIndex(({ text }) => !BEFORE.has(text));
  const program = PROGRAM.exec(words[start]?.text ?? '')?.[1]?.toLowerCase();
  if (program === undefined) {
    throw usage(`${quoted(words[0]?.text ?? '')} begins no ssh command; leave the line out`);
  }
  const options: Option[] = [];
  let destination: string | undefined;
  let at = start + 1;
  for (let word = words[at]; word !== undefined; word = words[++at]) {
    if (word.text === '--') continue;
    if (!word.text.startsWith('-') || word.text === '-') {
      // ssh takes options after the host as well; then comes what is to be run there.
      if (destination !== undefined) break;
      destination = word.text;
      continue;
    }
    if (readOptions(word, words[at + 1], program, options)) at++;
  }
  return { options, destination, line };
}

/** Reports whether the next word was the last option's value. */
function readOptions(word: Word, next: Word | undefined, program: string, options: Option[]): boolean {
  for (let at = 1; at < word.text.length; at++) {
    const letter = word.text.charAt(at);
    if (WITHOUT_VALUE.includes(letter) && !(program === 'autossh' && letter === 'M')) {
      options.push({ letter, value: '', line: word.line });
      continue;
    }
    if (letter !== 'M' && !WITH_VALUE.includes(letter)) {
      throw usage(`${quoted(word.text)} has no option of ssh at its character ${at + 1}; leave it out`);
    }
    const attached = word.text.slice(at + 1);
    if (attached === '' && next === undefined)
      throw usage(`-${letter} has no value; write what belongs to it`);
    const { text, line } = attached === '' ? (next as Word) : { text: attached, line: word.line };
    options.push(letter === 'o' ? settingOf(text, line) : { letter, value: text, line });
    return attached === '';
  }
  return false;
}

/** `-o LocalForward="8080 db:80"` is `-L 8080:db:80`. */
function settingOf(text: string, line: number): Option {
  const [, name = '', value = ''] = /^\s*(\w+)(?:\s*=\s*|\s+)(.*)$/.exec(text) ?? [];
  const key = name.toLowerCase();
  if (key === 'gatewayports' && /^yes$/i.test(value)) return { letter: 'g', value: '', line };
  const letter = Object.hasOwn(SETTINGS, key) ? (SETTINGS[key] ?? 'o') : 'o';
  return { letter, value: value.trim().replace(/\s+/, ':'), line };
}
