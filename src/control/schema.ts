/**
 * Every document of the control API: one schema for the server, the client and docs/api.md. Each is tied to
 * the type it stands for, both ways: a field or a word that one of them lacks does not compile.
 *
 * What is asked is checked strictly, unknown fields included: they are misspelt, or of a natward that is newer
 * than the agent. In answers unknown fields are left out, so that an older program reads a newer agent.
 */

import * as v from 'valibot';
import type { AgentEvent } from '../agent/events.ts';
import { hookSchema } from '../agent/hooks/parse.ts';
import type { DropReport, DropSelector, KeeperStatus } from '../agent/keeping.ts';
import {
  type GatewayStatus,
  type Intent,
  type KeepRequest,
  type LeaseStatus,
  type Owner,
  OWN_OWNERS,
  USER_OWNER,
} from '../agent/lease.ts';
import { NatwardError } from '../errors.ts';
import { family } from '../net/address.ts';
import type { RemotePeer } from '../net/endpoint.ts';
import { type PortRange, portCount } from '../net/port-range.ts';
import type { ResponderStatus } from '../agent/responder-status.ts';
import type { RuleStatus } from '../agent/rule-keeping.ts';
import { ERROR_CODES, type Failure } from './failure.ts';
import { endpointSchema, ruleStatusSchema } from './rule-schema.ts';
import {
  address,
  count,
  described,
  ipFamily,
  of,
  omissible,
  port,
  said,
  seconds,
  text,
  time,
  transport,
  via,
  whole,
  word,
} from './vocabulary.ts';

/** Who answers on a socket. */
export interface AgentFacts {
  readonly version: string;
  readonly pid: number;
  /** ISO 8601. */
  readonly startedAt: string;
  /** Where it remembers. */
  readonly directory: string;
}

export interface AgentAnswer {
  readonly agent: AgentFacts;
}

export interface StatusAnswer extends KeeperStatus {
  readonly agent: AgentFacts;
  readonly rulesPaused: boolean;
  readonly rules: readonly RuleStatus[];
  /** Where it is a gateway for other programs. */
  readonly responders: readonly ResponderStatus[];
}

export interface KeepBody {
  readonly requests: readonly KeepRequest[];
  readonly owner: Owner;
  readonly timeoutMs: number;
}

export interface KeepAnswer {
  readonly leases: readonly LeaseStatus[];
}

export interface DropBody {
  readonly selectors: readonly DropSelector[];
}

export interface IntentsAnswer {
  readonly intents: readonly Intent[];
}

export const PATHS = {
  agent: '/v1/agent',
  status: '/v1/status',
  leases: '/v1/leases',
  drop: '/v1/drop',
  intents: '/v1/intents',
  events: '/v1/events',
  rules: '/v1/rules',
  explain: '/v1/rules/explain',
  panic: '/v1/rules/panic',
  resume: '/v1/rules/resume',
  conversations: '/v1/conversations',
  conversationEvents: '/v1/conversations/events',
} as const;

/** The name of an event stream's last event, whose data is a Failure: no event of the agent has it. */
export const END_EVENT = 'end';

/** Documents in one call. */
const MAX_ITEMS = 1000;
/** That one call may ask for: a status takes about a kilobyte each. */
const MAX_LEASES = 10_000;
const MAX_HOOKS = 64;
const MAX_LIFETIME_SECONDS = 604_800;
const DEFAULT_LIFETIME_SECONDS = 7200;
const MAX_TIMEOUT_MS = 600_000;
const DEFAULT_TIMEOUT_MS = 5000;

const MAX_PROBLEM_LENGTH = 300;

/** Reads a document. Throws MALFORMED, and names the field. */
export function parseDocument<T>(schema: v.GenericSchema<unknown, T>, json: string): T {
  let document: unknown;
  try {
    document = JSON.parse(json);
  } catch (cause) {
    const what = (cause as Error).message.slice(0, MAX_PROBLEM_LENGTH);
    throw new NatwardError('MALFORMED', `not JSON: ${what}`, { cause });
  }
  const { success, output, issues } = v.safeParse(schema, document, { abortEarly: true });
  if (success) return output;
  const [issue] = issues;
  const problem = `${v.getDotPath(issue) ?? 'the document'}: ${issue.message}`;
  throw new NatwardError('MALFORMED', problem.slice(0, MAX_PROBLEM_LENGTH));
}

// What is asked.

export const rangeSchema: v.GenericSchema<unknown, PortRange> = of<PortRange>('PortRange')(
  v.pipe(
    v.strictObject({
      first: described(port, 'The first port.'),
      last: described(port, 'The last one, the same for a single port.'),
    }),
    v.check(({ first, last }) => first <= last, 'the range runs backwards'),
  ),
);

export const remotePeerSchema: v.GenericSchema<unknown, RemotePeer> = of<RemotePeer>('RemotePeer')(
  v.pipe(
    v.strictObject({
      address: described(address, 'A host, or a network.'),
      prefixLength: described(whole(0, 128), 'The network’s; 32 or 128 for a host.'),
      port: described(whole(0, 65_535), 'There; 0: any.'),
    }),
    v.check(
      (peer) => family(peer.address) === 6 || peer.prefixLength <= 32,
      'an IPv4 prefix has at most 32 bits',
    ),
  ),
);

const portsAsked = {
  protocols: described(
    v.pipe(
      v.array(transport),
      v.minLength(1),
      v.maxLength(2),
      v.check((all) => new Set(all).size === all.length, 'the same protocol twice'),
    ),
    'TCP and UDP together share one external port, or neither is mapped.',
  ),
  external: described(
    v.union([v.literal('any'), rangeSchema]),
    '`any`: whatever the gateway gives. Otherwise as many ports as `internal`.',
  ),
  internal: described(rangeSchema, 'Where the traffic goes.'),
  host: described(omissible(address), 'Another host, or this one by a certain address; left out: this host.'),
};

function asManyPorts<T extends Pick<KeepRequest, 'external' | 'internal'>>(): v.CheckAction<T, string> {
  return v.check(
    ({ external, internal }) => external === 'any' || portCount(external) === portCount(internal),
    'external and internal are not equally many ports',
  );
}

const keepRequestEntries = {
  spec: described(word(300), 'What people call it; the command line puts the spec as typed.'),
  ...portsAsked,
  lifetimeSeconds: described(
    v.optional(whole(1, MAX_LIFETIME_SECONDS), DEFAULT_LIFETIME_SECONDS),
    'What the gateway is asked for, each time; what it grants is what is renewed.',
  ),
  choice: described(v.optional(v.picklist(['exact', 'any']), 'any'), '`exact`: this external port or none.'),
  description: described(
    v.optional(text(250)),
    'What the gateway shows for it; left out: natward, port and protocol.',
  ),
  remotePeer: described(
    v.optional(remotePeerSchema),
    'Only traffic from there is let in, where the gateway can tell; left out: from anywhere.',
  ),
  via: described(v.optional(via), 'Only by this protocol.'),
  gateway: described(v.optional(address), 'Of this gateway alone.'),
  interface: described(v.optional(word(256)), 'On this network interface alone.'),
  family: described(
    v.optional(ipFamily),
    'Left out: the IPv4 mapping, and the IPv6 pinhole as well where the gateway can do both.',
  ),
  carry: described(
    v.optional(v.picklist(['always', 'never'])),
    'To another host: `always` by a rule of this one, `never` by one. Left out: where the gateway maps to this host alone.',
  ),
  client: described(
    omissible(
      v.strictObject({
        via: described(via, 'How it was asked for.'),
        nonce: described(v.nullable(word(24)), 'Of PCP, in hex.'),
        isEndless: described(v.boolean(), 'Until it is deleted.'),
      }),
    ),
    'Whose request it is, where the agent is a gateway for other programs.',
  ),
  hooks: described(
    v.optional(v.pipe(v.array(v.pipe(hookSchema, v.title('Hook'))), v.maxLength(MAX_HOOKS)), []),
    'Beside the hooks of the configuration, for these leases alone.',
  ),
};

export const keepRequestSchema: v.GenericSchema<unknown, KeepRequest> = of<KeepRequest>('KeepRequest')(
  v.pipe(v.strictObject(keepRequestEntries), asManyPorts()),
);

export const keepBodySchema: v.GenericSchema<unknown, KeepBody> = of<KeepBody>('KeepBody')(
  v.strictObject({
    requests: described(
      v.pipe(
        v.array(keepRequestSchema),
        v.minLength(1),
        v.maxLength(MAX_ITEMS),
        v.check(
          (all) => all.reduce((sum, one) => sum + leasesOf(one), 0) <= MAX_LEASES,
          `more than ${MAX_LEASES} leases in one call`,
        ),
      ),
      `What to keep; together at most ${MAX_LEASES} ports, TCP and UDP counted each.`,
    ),
    owner: described(
      v.optional(
        v.pipe(
          word(64),
          v.check((name) => !OWN_OWNERS.includes(name), 'is a name that natward itself has'),
        ),
        USER_OWNER,
      ),
      'Who asks: a program gives its own name.',
    ),
    timeoutMs: described(
      v.optional(whole(0, MAX_TIMEOUT_MS), DEFAULT_TIMEOUT_MS),
      'How long to wait for each lease’s first answer; what has none by then is still kept.',
    ),
  }),
);

function leasesOf({ internal, protocols }: KeepRequest): number {
  return portCount(internal) * protocols.length;
}

export const selectorSchema: v.GenericSchema<unknown, DropSelector> = of<DropSelector>('Selector')(
  v.variant('kind', [
    v.strictObject({
      kind: described(v.literal('id'), 'By its number.'),
      text: described(word(300), 'As the person wrote it: what failures name.'),
      id: described(word(64), 'The `intentId` of its leases.'),
    }),
    v.strictObject({
      kind: described(v.literal('spec'), 'By what was kept.'),
      text: described(word(300), 'As the person wrote it: what failures name.'),
      ask: described(v.pipe(v.strictObject(portsAsked), asManyPorts()), 'As in the request to keep it.'),
    }),
  ]),
);

export const dropBodySchema: v.GenericSchema<unknown, DropBody> = of<DropBody>('DropBody')(
  v.strictObject({
    selectors: described(
      v.pipe(v.array(selectorSchema), v.minLength(1), v.maxLength(MAX_ITEMS)),
      'What to keep no longer.',
    ),
  }),
);

// What is answered.

const reason = {
  code: described(v.picklist(ERROR_CODES), 'What went wrong, as a stable word.'),
  message: described(said, 'What was asked, of whom, what came back.'),
  advice: described(v.nullable(said), 'What to do next.'),
};

export const failureSchema: v.GenericSchema<unknown, Failure> = of<Failure>('Failure')(
  v.object({ error: described(v.object(reason), 'Why.') }),
);

export const leaseSchema: v.GenericSchema<unknown, LeaseStatus> = of<LeaseStatus>('Lease')(
  v.object({
    id: described(said, 'Its own: `3fa94c01/tcp/8080`, with `/ipv6` at the end for a pinhole.'),
    intentId: described(said, 'The request’s, which several leases may share.'),
    owner: described(said, 'Who asked.'),
    spec: described(said, 'What people call it.'),
    state: described(
      v.picklist(['asking', 'held', 'lost', 'refused', 'no-gateway']),
      '`asking`: not answered yet. `held`: granted, and as far as anybody knows it is there. `lost`: it is gone and asked for again. `refused`: the gateway said no; it is asked again from time to time. `no-gateway`: there is none to ask.',
    ),
    protocol: transport,
    family: described(ipFamily, '6: a pinhole.'),
    requestedExternalPort: described(v.nullable(port), 'As asked; null: any.'),
    externalAddress: described(v.nullable(address), 'Null where the gateway does not know it.'),
    externalPort: described(v.nullable(port), 'Null until granted, as the next ones.'),
    internalClient: described(v.nullable(address), 'Where the traffic arrives, …'),
    internalPort: described(port, '… and on which port: VPN gateways deliver to the external one’s number.'),
    target: described(
      v.nullable(endpointSchema),
      'Where a rule takes it on to from there: the gateway maps to this host alone. Null: nowhere.',
    ),
    lifetimeSeconds: described(v.nullable(seconds), 'As granted; 0: no end.'),
    expiresAt: described(v.nullable(time), 'ISO 8601.'),
    renewsAt: described(v.nullable(time), 'ISO 8601.'),
    via: v.nullable(via),
    gateway: v.nullable(address),
    description: described(said, 'What the gateway shows for it.'),
    notes: described(v.array(said), 'What is not quite as asked: full sentences.'),
    error: described(v.nullable(v.object(reason)), 'Why it is not held.'),
  }),
);

export const gatewaySchema: v.GenericSchema<unknown, GatewayStatus> = of<GatewayStatus>('Gateway')(
  v.object({
    address: address,
    family: ipFamily,
    interface: described(said, 'This host’s, towards it.'),
    localAddress: described(address, 'This host’s, towards it.'),
    state: v.picklist(['up', 'down']),
    protocols: described(v.array(via), 'Those it answers.'),
    externalAddress: v.nullable(address),
  }),
);

export const agentSchema: v.GenericSchema<unknown, AgentFacts> = of<AgentFacts>('Agent')(
  v.object({
    version: described(said, 'Of natward.'),
    pid: count,
    startedAt: described(time, 'ISO 8601.'),
    directory: described(said, 'Where it remembers.'),
  }),
);

export const agentAnswerSchema: v.GenericSchema<unknown, AgentAnswer> = of<AgentAnswer>('AgentAnswer')(
  v.object({ agent: described(agentSchema, 'Who answers.') }),
);

export const responderSchema: v.GenericSchema<unknown, ResponderStatus> = of<ResponderStatus>('Responder')(
  v.object({
    interface: described(said, 'This host’s: those behind it are answered.'),
    addresses: described(v.array(address), 'Where it answers.'),
    protocols: described(v.array(via), 'Those it speaks.'),
    clients: described(count, 'That have mappings.'),
    mappings: described(count, 'Of those clients: leases whose owner is `responder`.'),
  }),
);

export const statusSchema: v.GenericSchema<unknown, StatusAnswer> = of<StatusAnswer>('Status')(
  v.object({
    agent: described(agentSchema, 'Who answers.'),
    gateways: v.array(gatewaySchema),
    leases: v.array(leaseSchema),
    rulesPaused: described(v.boolean(), 'None of the rules is carried out: natward rule panic.'),
    rules: described(v.array(ruleStatusSchema), 'From the top.'),
    responders: described(v.array(responderSchema), 'Where the agent is a gateway for other programs.'),
    warnings: described(v.array(said), 'What does not go well just now: full sentences.'),
    lastEventId: described(
      count,
      'Of the last event that this status takes in: the stream goes on from there without a gap.',
    ),
  }),
);

export const keepAnswerSchema: v.GenericSchema<unknown, KeepAnswer> = of<KeepAnswer>('KeepAnswer')(
  v.object({ leases: described(v.array(leaseSchema), 'As they stand when all are answered.') }),
);

export const intentSchema: v.GenericSchema<unknown, Intent> = of<Intent>('Intent')(
  v.object({
    id: described(said, 'The `intentId` of its leases.'),
    owner: described(said, 'Who asked.'),
    ...keepRequestEntries,
  }),
);

export const intentsAnswerSchema: v.GenericSchema<unknown, IntentsAnswer> = of<IntentsAnswer>(
  'IntentsAnswer',
)(v.object({ intents: described(v.array(intentSchema), 'What is to be kept, whoever asked for it.') }));

export const dropAnswerSchema: v.GenericSchema<unknown, DropReport> = of<DropReport>('DropAnswer')(
  v.object({
    released: described(
      v.array(leaseSchema),
      'As they stood. `error` says what could not be taken back: it ends by its lifetime.',
    ),
    failures: described(
      v.array(
        v.object({
          selector: described(said, 'Its `text`.'),
          code: v.picklist(['NOT_FOUND', 'NOT_OWN', 'FAILED']),
          message: said,
          advice: v.nullable(said),
        }),
      ),
      'Which selectors came to nothing, and why.',
    ),
  }),
);

const anyEvent = {
  id: described(count, 'Counts up by one in each agent’s life: a jump means that events were missed.'),
  at: described(time, 'ISO 8601.'),
};
const lease = described(leaseSchema, 'As it stands now.');
const gateway = described(gatewaySchema, 'As it stands now.');

export const eventSchema: v.GenericSchema<unknown, AgentEvent> = of<AgentEvent>('Event')(
  v.variant('type', [
    v.object({
      type: described(v.literal('granted'), 'For the first time, or again after it was lost.'),
      lease,
      ...anyEvent,
    }),
    v.object({ type: described(v.literal('renewed'), 'As it was, for longer.'), lease, ...anyEvent }),
    v.object({
      type: described(
        v.literal('changed'),
        'Held, and not as before: another external port or address, or another address of this host.',
      ),
      lease,
      previous: described(
        v.object({
          externalAddress: v.nullable(address),
          externalPort: port,
          internalClient: address,
        }),
        'What it had.',
      ),
      ...anyEvent,
    }),
    v.object({
      type: described(v.literal('lost'), 'The gateway no longer has it. It is being asked for again.'),
      lease,
      reason: described(said, 'How that is known.'),
      ...anyEvent,
    }),
    v.object({
      type: described(
        v.literal('refused'),
        'The gateway said no: `lease.error` says why. Told once for each reason.',
      ),
      lease,
      ...anyEvent,
    }),
    v.object({
      type: described(v.literal('released'), 'Nobody wants it any more, and it was taken back.'),
      lease,
      reason: described(v.nullable(said), 'Why it could not be taken back.'),
      ...anyEvent,
    }),
    v.object({ type: described(v.literal('gateway-up'), 'It answers.'), gateway, ...anyEvent }),
    v.object({
      type: described(v.literal('gateway-down'), 'It does not answer any more, or is not there.'),
      gateway,
      reason: described(said, 'How that is known.'),
      ...anyEvent,
    }),
    v.object({
      type: described(v.literal('address-changed'), 'It has another external address.'),
      gateway,
      previous: described(v.nullable(address), 'The one before.'),
      ...anyEvent,
    }),
    v.object({
      type: described(v.literal('warning'), 'Something beside the leases did not go well: a hook, a file.'),
      message: said,
      advice: described(v.nullable(said), 'What to do next.'),
      ...anyEvent,
    }),
  ]),
);
