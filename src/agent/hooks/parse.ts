/**
 * Reads hooks: from the words of a command line, from a document that a person writes (TOML, JSON), and from
 * JSON that natward wrote. What passes here is a valid hook and is checked nowhere else. No message repeats a
 * URL or a command: there may be a password in it.
 */

import * as v from 'valibot';
import { NatwardError } from '../../errors.ts';
import {
  type DyndnsHook,
  eventsOf,
  HOOK_EVENTS,
  type Hook,
  type RunHook,
  SYNC_CLIENTS,
  type SyncClient,
  type SyncHook,
  type WebhookHook,
} from './hook.ts';

const MAX_URL_LENGTH = 2048;
const MAX_ARGUMENTS = 64;
const MAX_TEXT_LENGTH = 4096;
const MAX_TIMEOUT_SECONDS = 3600;

/** RFC 1035, section 2.3.4; underscores are no letters of host names, and in use. */
const HOST_NAME =
  /^(?=.{1,253}$)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)+$/i;

/** `--run PROGRAM`: without arguments. Throws USAGE. */
export function parseRun(program: string): RunHook {
  return { kind: 'run', argv: [checked(word, program, 'the program of a hook')] };
}

/** `--shell LINE`. Throws USAGE. */
export function parseShell(line: string): RunHook {
  return { kind: 'shell', line: checked(word, line, 'the line for the shell') };
}

/** `--webhook URL`. Throws USAGE. */
export function parseWebhook(url: string): WebhookHook {
  return { kind: 'webhook', url: checked(serviceUrl, url, 'the URL of a webhook') };
}

/** `--sync CLIENT=URL`. Throws USAGE. */
export function parseSync(text: string): SyncHook {
  const [name, url] = pair(text);
  const client = SYNC_CLIENTS.find((one) => one === name.toLowerCase());
  if (client === undefined || url === undefined) {
    throw usage(`a sync is CLIENT=URL, and the client one of ${SYNC_CLIENTS.join(', ')}`);
  }
  return { kind: 'sync', client, url: checked(syncUrl(client), url, `the URL of ${client}`) };
}

/** `--dyndns HOSTNAME=URL`. Throws USAGE. */
export function parseDyndns(text: string): DyndnsHook {
  const [hostname, url] = pair(text);
  if (url === undefined) throw usage('a name update is HOSTNAME=URL');
  return {
    kind: 'dyndns',
    hostname: checked(hostName, hostname, 'the name to update'),
    url: checked(serviceUrl, url, 'the URL of a name service'),
  };
}

/** URLs hold `=` themselves. */
function pair(text: string): [string, string | undefined] {
  const at = text.indexOf('=');
  return at < 0 ? [text, undefined] : [text.slice(0, at).trim(), text.slice(at + 1).trim()];
}

function checked<T>(schema: v.GenericSchema<unknown, T>, value: string, what: string): T {
  const result = v.safeParse(schema, value);
  if (!result.success) throw usage(`${what} ${result.issues[0].message}`);
  return result.output;
}

function usage(message: string): NatwardError {
  return new NatwardError('USAGE', message);
}

// The pieces. Each message goes on where the name of what is wrong ends.

// A NUL ends a string for the kernel; Node refuses it with the whole text in its message.
const text = v.pipe(
  v.string('is no text'),
  v.maxLength(MAX_TEXT_LENGTH, `is longer than ${MAX_TEXT_LENGTH} characters`),
  v.check((one) => !one.includes('\0'), 'has a NUL in it'),
);
const word = v.pipe(
  text,
  v.check((one) => one.trim() !== '', 'is empty'),
);
const argv = v.pipe(
  v.tupleWithRest([word], text, 'is a list: the program, then its arguments'),
  v.maxLength(MAX_ARGUMENTS, `is longer than ${MAX_ARGUMENTS} arguments`),
);

const serviceUrl = v.pipe(
  v.string('is no text'),
  v.maxLength(MAX_URL_LENGTH, `is longer than ${MAX_URL_LENGTH} characters`),
  v.check(
    isServiceUrl,
    'has to be an http:// or https:// URL, with % and @ in a password written %25 and %40',
  ),
);
const hostName = v.pipe(v.string('is no text'), v.regex(HOST_NAME, 'has to be a full host name'));

function isServiceUrl(url: string): boolean {
  if (!/^https?:\/\//i.test(url) || !URL.canParse(url)) return false;
  const { username, password } = new URL(url);
  try {
    decodeURIComponent(username + password);
    return true;
  } catch {
    return false;
  }
}

function syncUrl(client: SyncClient): v.GenericSchema<unknown, string> {
  return v.pipe(
    serviceUrl,
    v.check(
      (url) => client !== 'deluge' || new URL(url).password !== '',
      'needs the password of its web page: deluge=http://:PASSWORD@127.0.0.1:8112',
    ),
  );
}

const base = {
  on: v.optional(
    v.pipe(
      v.array(
        v.picklist(HOOK_EVENTS, `has to be of ${HOOK_EVENTS.join(', ')}`),
        `is a list of ${HOOK_EVENTS.join(', ')}`,
      ),
      v.minLength(1, 'names no event; leave it out for all of them'),
      v.maxLength(HOOK_EVENTS.length, 'names an event twice'),
    ),
  ),
  timeoutSeconds: v.optional(
    v.pipe(
      v.number('is a number of seconds'),
      v.integer('is a whole number of seconds'),
      v.minValue(1, 'is at least 1 second'),
      v.maxValue(MAX_TIMEOUT_SECONDS, `is at most ${MAX_TIMEOUT_SECONDS} seconds`),
    ),
  ),
};

const NEVER_MOVED = 'names no event on which this kind of hook acts';

function isMoved(hook: Pick<Hook, 'kind' | 'on'>): boolean {
  return eventsOf(hook).length > 0;
}

/** A hook as it stands in memory, and in what natward writes down. */
export const hookSchema: v.GenericSchema<unknown, Hook> = v.pipe(
  v.variant('kind', [
    v.strictObject({ ...base, kind: v.literal('run'), argv }),
    v.strictObject({ ...base, kind: v.literal('shell'), line: word }),
    v.strictObject({ ...base, kind: v.literal('webhook'), url: serviceUrl }),
    v.pipe(
      v.strictObject({
        ...base,
        kind: v.literal('sync'),
        client: v.picklist(SYNC_CLIENTS),
        url: serviceUrl,
      }),
      v.check(({ client, url }) => v.is(syncUrl(client), url), 'needs a password in its URL'),
    ),
    v.strictObject({ ...base, kind: v.literal('dyndns'), url: serviceUrl, hostname: hostName }),
  ]),
  v.check((hook) => isMoved(hook), NEVER_MOVED),
);

const KINDS = ['run', 'shell', 'webhook', 'sync', 'dyndns'] as const;

const sync = v.pipe(
  text,
  v.rawTransform(({ dataset, addIssue, NEVER }) => {
    try {
      return parseSync(dataset.value);
    } catch (error) {
      addIssue({ message: error instanceof Error ? error.message : String(error) });
      return NEVER;
    }
  }),
);

/**
 * A hook as a person writes it, one key saying its kind: `{ on?, timeoutSeconds?, webhook: "https://..." }`. Its
 * issues have a path, and a message to put behind it.
 */
export const hookDocumentSchema: v.GenericSchema<unknown, Hook> = v.pipe(
  v.strictObject({
    ...base,
    run: v.optional(argv),
    shell: v.optional(word),
    webhook: v.optional(serviceUrl),
    sync: v.optional(sync),
    dyndns: v.optional(v.strictObject({ url: serviceUrl, hostname: hostName })),
  }),
  v.check(
    (document) => KINDS.filter((kind) => document[kind] !== undefined).length === 1,
    `says what to do by exactly one of ${KINDS.join(', ')}`,
  ),
  v.transform(({ on, timeoutSeconds, ...action }): Hook => {
    const common = {
      ...(on === undefined ? {} : { on }),
      ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
    };
    if (action.run !== undefined) return { ...common, kind: 'run', argv: action.run };
    if (action.shell !== undefined) return { ...common, kind: 'shell', line: action.shell };
    if (action.webhook !== undefined) return { ...common, kind: 'webhook', url: action.webhook };
    if (action.sync !== undefined) return { ...common, ...action.sync };
    return { ...common, kind: 'dyndns', ...(action.dyndns as { url: string; hostname: string }) };
  }),
  v.check((hook) => isMoved(hook), NEVER_MOVED),
);
