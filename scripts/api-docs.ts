// Writes docs/api.md from the schema that the agent and its clients check by: `npm run api-docs`.
import { writeFileSync } from 'node:fs';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import { toJsonSchema } from '@valibot/to-json-schema';
import type { GenericSchema } from 'valibot';
import { hookSchema } from '../src/agent/hooks/parse.ts';
import { HTTP_STATUS } from '../src/control/failure.ts';
import * as rules from '../src/control/rule-schema.ts';
import * as schema from '../src/control/schema.ts';
import type { ErrorCode } from '../src/errors.ts';

const TARGET = new URL('../docs/api.md', import.meta.url);

/** In the order of the page. */
const DOCUMENTS: readonly GenericSchema[] = [
  schema.keepBodySchema,
  schema.keepRequestSchema,
  schema.rangeSchema,
  schema.remotePeerSchema,
  schema.keepAnswerSchema,
  schema.dropBodySchema,
  schema.selectorSchema,
  schema.dropAnswerSchema,
  schema.intentsAnswerSchema,
  schema.intentSchema,
  schema.agentAnswerSchema,
  schema.statusSchema,
  schema.agentSchema,
  schema.gatewaySchema,
  schema.leaseSchema,
  schema.responderSchema,
  schema.eventSchema,
  rules.rulesAnswerSchema,
  rules.ruleStatusSchema,
  rules.activitySchema,
  rules.editBodySchema,
  rules.ruleEditSchema,
  rules.ruleDocumentSchema,
  rules.editReportSchema,
  rules.firstPacketSchema,
  rules.explainReportSchema,
  rules.pauseReportSchema,
  rules.conversationsAnswerSchema,
  rules.conversationSchema,
  rules.engineEventSchema,
  rules.endpointSchema,
  schema.failureSchema,
];

type Json = ReturnType<typeof toJsonSchema>;
/** A field, its name with the names of the objects that it is in, and whether it may be left out. */
type Field = readonly [name: string, json: Json, optional: boolean];

function jsonOf(document: GenericSchema): Json {
  return toJsonSchema(document, { errorMode: 'ignore', typeMode: 'input' });
}

const PAGES: readonly Json[] = [...DOCUMENTS.map(jsonOf), { ...jsonOf(hookSchema), title: 'Hook' }];
const NAMES: ReadonlySet<string> = new Set(PAGES.map(({ title }) => title ?? ''));

function asJson(json: unknown): Json {
  return json as Json;
}

function fieldsOf(json: Json, prefix = ''): Field[] {
  return Object.entries(json.properties ?? {}).flatMap(([key, value]): Field[] => {
    const field = asJson(value);
    const optional = !(json.required ?? []).includes(key);
    const inner = objectIn(field);
    const name = prefix + key;
    return [[name, field, optional], ...(inner === undefined ? [] : fieldsOf(inner, `${name}.`))];
  });
}

/** The object that a field is, or that it is a list or a maybe of, where it has no name of its own. */
function objectIn(json: Json): Json | undefined {
  if (json.title !== undefined) return undefined;
  if (json.properties !== undefined) return json;
  if (json.items !== undefined && !Array.isArray(json.items)) return objectIn(asJson(json.items));
  return json.anyOf?.map((one) => objectIn(asJson(one))).find((one) => one !== undefined);
}

function literal(value: unknown): string {
  return `\`${typeof value === 'string' ? value : JSON.stringify(value)}\``;
}

function linkTo(name: string): string {
  return `#${name.toLowerCase()}`;
}

function typeOf(json: Json): string {
  if (json.title !== undefined)
    return NAMES.has(json.title) ? `[${json.title}](${linkTo(json.title)})` : json.title;
  if (json.const !== undefined) return literal(json.const);
  if (json.enum !== undefined) return json.enum.map(literal).join(', ');
  if (json.anyOf !== undefined) return json.anyOf.map((one) => typeOf(asJson(one))).join(' or ');
  switch (json.type) {
    case 'array': {
      const items = asJson(Array.isArray(json.items) ? json.items[0] : json.items);
      const unnamed = items.properties !== undefined && items.title === undefined;
      const plain = items.type === 'string' && items.enum === undefined && items.title === undefined;
      const kind = unnamed ? 'objects' : plain ? 'strings' : typeOf(items);
      return `list of ${kind}${bounds(json.minItems ?? 0, json.maxItems)}`;
    }
    case 'integer':
      return `integer${bounds(json.minimum ?? 0, json.maximum)}`;
    case 'string':
      return json.format === 'date-time' ? 'time' : `string${bounds(json.minLength ?? 0, json.maxLength)}`;
    default:
      return String(json.type);
  }
}

/** What is only there against an agent gone mad is left unsaid. */
function bounds(least: number, most: number | undefined): string {
  return most === undefined || most > 2 ** 32 || most === 65_536 ? '' : ` (${least}–${most})`;
}

function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}

function about(json: Json): string {
  const fallback = json.default === undefined ? '' : ` Default: \`${JSON.stringify(json.default)}\`.`;
  return `${json.description ?? ''}${fallback}`.trim();
}

function table(fields: readonly Field[]): string[] {
  return [
    '| field | type | |',
    '| --- | --- | --- |',
    ...fields.map(
      ([name, json, optional]) =>
        `| \`${name}\`${optional ? ' (optional)' : ''} | ${cell(typeOf(json))} | ${cell(about(json))} |`,
    ),
  ];
}

/** A document of several kinds: what all of them have, and what each of them has. */
function kinds(options: readonly Json[]): string[] {
  const all = options.map((option) => fieldsOf(option));
  const tag = all[0]?.find(([, json]) => json.const !== undefined)?.[0] ?? '';
  const everywhere = (all[0] ?? []).filter(
    ([name]) => name !== tag && all.every((fields) => fields.some((field) => field[0] === name)),
  );
  const common = new Set(everywhere.map(([name]) => name));
  const rows = all.map((fields) => {
    const own = fields.filter(([name]) => name !== tag && !common.has(name));
    const kind = fields.find(([name]) => name === tag)?.[1] ?? {};
    const words = own.map(([name, json]) =>
      [`\`${name}\`: ${typeOf(json)}`, about(json)].filter(Boolean).join('. '),
    );
    return `| ${typeOf(kind)} | ${cell(about(kind))} | ${cell(words.join('<br>'))} |`;
  });
  return [
    ...(everywhere.length > 0 ? ['Each has:', '', ...table(everywhere), ''] : []),
    `| \`${tag}\` | | ${everywhere.length > 0 ? 'it has as well' : 'it has'} |`,
    '| --- | --- | --- |',
    ...rows,
  ];
}

function section(json: Json): string[] {
  const options = json.oneOf?.map(asJson);
  return [`### ${json.title}`, '', ...(options ? kinds(options) : table(fieldsOf(json))), ''];
}

function failureTable(): string[] {
  const byStatus = new Map<number, ErrorCode[]>();
  for (const [code, status] of Object.entries(HTTP_STATUS) as [ErrorCode, number][]) {
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return [
    '| HTTP | codes |',
    '| --- | --- |',
    ...[...byStatus]
      .sort(([a], [b]) => a - b)
      .map(([status, codes]) => `| ${status} | ${codes.map((code) => `\`${code}\``).join(', ')} |`),
  ];
}

export function apiDocs(): string {
  const {
    agent,
    status,
    leases,
    drop,
    intents,
    events,
    rules: ruleTable,
    explain,
    panic,
    resume,
    conversations,
    conversationEvents,
  } = schema.PATHS;
  return `${[
    `# The control API

Written by \`npm run api-docs\` from the schema that the agent checks by; a test fails where the two differ.

The agent speaks HTTP/1.1 and JSON over a Unix socket (on Windows over a named pipe) that its user alone, and root, can
open. There is no other password. The command line is a client of this API and has no other way.

## The socket

The first of these that is there:

| whose | path |
| --- | --- |
| \`NATWARD_HOME\` is set | \`$NATWARD_HOME/control.sock\`, and no other |
| a user’s agent | \`$XDG_RUNTIME_DIR/natward/control.sock\` |
| where there is no such directory (cron, macOS) | \`control.sock\` in the directory where natward remembers: on Linux \`~/.local/share/natward\`, on macOS \`~/Library/Application Support/natward\` |
| the system’s service | \`/run/natward/control.sock\`, with sudo |

A user’s agent can be asked from a shell, on Linux, so:

\`\`\`sh
SOCKET="\${NATWARD_HOME:-\${XDG_RUNTIME_DIR:-$HOME/.local/share}/natward}/control.sock"
curl --silent --show-error --unix-socket "$SOCKET" http://localhost${status}
\`\`\`

## Questions

| | asks | answers |
| --- | --- | --- |
| \`GET ${agent}\` | | [AgentAnswer](#agentanswer): who answers, at once |
| \`GET ${status}\` | | [Status](#status): what is kept, and how it stands |
| \`POST ${leases}\` | [KeepBody](#keepbody): keep these | [KeepAnswer](#keepanswer), when each has its first answer or its time is over. Who hangs up earlier stops waiting |
| \`POST ${drop}\` | [DropBody](#dropbody): keep these no longer | [DropAnswer](#dropanswer), when they are taken back |
| \`GET ${intents}\` | | [IntentsAnswer](#intentsanswer): the requests that are kept, as they were asked |
| \`GET ${events}\` | | what happens, as [Server-Sent Events](#events) |
| \`GET ${ruleTable}\` | | [RulesAnswer](#rulesanswer): the rules and their activity |
| \`POST ${ruleTable}\` | [EditBody](#editbody): change them, all of it or nothing | [EditReport](#editreport) |
| \`POST ${explain}\` | [FirstPacket](#firstpacket): which rule decides for it? | [Explanation](#explanation) |
| \`POST ${panic}\` | nothing, no body: carry no rule out any more, and end all conversations | [PauseReport](#pausereport) |
| \`POST ${resume}\` | nothing, no body: carry them out again | [PauseReport](#pausereport) |
| \`GET ${conversations}\` | | [ConversationsAnswer](#conversationsanswer): those that run |
| \`GET ${conversationEvents}\` | \`?rule=ID\` for one rule’s | what happens to conversations, as Server-Sent Events of [ConversationEvent](#conversationevent) |

Keep TCP 8443 of this host open as 443 outside:

\`\`\`sh
curl --silent --show-error --unix-socket "$SOCKET" http://localhost${leases} \\
  --header 'Content-Type: application/json' --data '{
    "owner": "my-script",
    "requests": [{
      "spec": "443:8443", "protocols": ["tcp"], "choice": "exact",
      "external": { "first": 443, "last": 443 }, "internal": { "first": 8443, "last": 8443 }
    }]
  }'
\`\`\`

Keep it no longer:

\`\`\`sh
curl --silent --show-error --unix-socket "$SOCKET" http://localhost${drop} \\
  --header 'Content-Type: application/json' --data '{
    "selectors": [{
      "kind": "spec", "text": "443:8443",
      "ask": {
        "protocols": ["tcp"],
        "external": { "first": 443, "last": 443 }, "internal": { "first": 8443, "last": 8443 }
      }
    }]
  }'
\`\`\`

Unknown fields of a question are refused: they are misspelt, or of a newer natward. Answers may have fields that are not on
this page: pass them over.

Limits: 1 MiB a body, 8 KiB of headers, 64 connections at once, 32 of them event streams. A question must have come
whole within 10 seconds. Bodies are \`application/json\` in UTF-8, not compressed. Whoever sends \`Origin\` is a web page and
is refused.

## Events

What has happened in the last minute, and what happens from then on:

\`\`\`sh
curl --silent --show-error --no-buffer --max-time 60 --unix-socket "$SOCKET" http://localhost${events} \\
  --header 'Last-Event-ID: 0'
\`\`\`

Each message has the event’s id, its type as the name, and the [Event](#event) as JSON. A comment comes every 15
seconds, so a stream that is silent for longer is dead. With \`Last-Event-ID\` come first the events after that one, as far
as the agent remembers them (the last 512, until it stops); without it, none of the past. To miss nothing, read the status
first and then the stream from its \`lastEventId\` on.

The last message of a stream is called \`${schema.END_EVENT}\`, has no id, and tells in a [Failure](#failure) why there are
no more: the agent stops (\`ABORTED\`), or the reader was 8 MiB behind and was cut (\`NO_RESOURCES\`).

## Failures

Every answer that is not 200 is a [Failure](#failure). \`code\` is a stable word and the one to go by.
`,
    ...failureTable(),
    `
HTTP itself adds, with \`USAGE\`: 403 (a web page), 405 (another method), 408 (too slow), 413 (too long a body), 415 (no
JSON), 431 (too long a head), 503 (too many streams). 404 with \`NOT_FOUND\` is a path that is not on this page.

## Documents

Times are ISO 8601 in UTC. An IP address is IPv4 as a dotted quad, or IPv6 in its short form (RFC 5952) with the zone
where it is link-local.
`,
    ...PAGES.flatMap(section),
    `\`run\` starts a program, \`shell\` a line in the shell, \`webhook\` POSTs the event as JSON, \`sync\` tells a BitTorrent
client the port to listen on, \`dyndns\` tells a name service the external address (dyndns2). \`on\` are the events it runs
on; left out, all that concern it.`,
  ]
    .join('\n')
    .trimEnd()}\n`;
}

if (argv[1] === fileURLToPath(import.meta.url)) writeFileSync(TARGET, apiDocs());
