/** The documents of the control API that are about rules. */

import * as v from 'valibot';
import type { EditReport, ExplainReport, RuleDocument, RuleEdit, RuleStatus } from '../agent/rule-keeping.ts';
import type { PauseReport } from '../agent/rule-pause.ts';
import type { FirstPacket } from '../forwarder/decide.ts';
import type { Activity, Conversation, EngineEvent } from '../forwarder/engine.ts';
import { MAX_RULES } from '../forwarder/table.ts';
import type { Endpoint } from '../net/endpoint.ts';
import {
  address,
  count,
  described,
  of,
  omissible,
  said,
  text,
  transport,
  whole,
  word,
} from './vocabulary.ts';

export interface EditBody {
  readonly edit: RuleEdit;
  readonly conversations: 'drain' | 'cut';
  readonly dryRun: boolean;
}

export interface RulesAnswer {
  readonly isPaused: boolean;
  readonly rules: readonly RuleStatus[];
}

export interface ConversationsAnswer {
  readonly conversations: readonly Conversation[];
}

const MAX_RULE_LENGTH = 8192;
const name = described(word(64), 'An id, or a position counted from 1.');
const names = v.pipe(v.array(name), v.minLength(1), v.maxLength(MAX_RULES));

export const endpointSchema: v.GenericSchema<unknown, Endpoint> = of<Endpoint>('Endpoint')(
  v.object({ address, port: described(whole(0, 65_535), 'The port.') }),
);

// What is asked.

export const ruleDocumentSchema: v.GenericSchema<unknown, RuleDocument> = of<RuleDocument>('RuleDocument')(
  v.strictObject({
    id: described(
      omissible(word(64)),
      'Its own for as long as it lives; left out: that of a rule that says the same, or a new one.',
    ),
    rule: described(word(MAX_RULE_LENGTH), 'As docs/rules.md has it: `in tcp 80 -> 10.0.0.5:8080`.'),
    enabled: described(omissible(v.boolean()), 'Left out: true.'),
    description: described(omissible(text(250)), 'Instead of the one at the end of `rule`.'),
  }),
);

export const ruleDocumentsSchema: v.GenericSchema<unknown, RuleDocument[]> = v.pipe(
  v.array(ruleDocumentSchema),
  v.maxLength(MAX_RULES),
);
const before = described(omissible(word(64)), 'Of this rule, by its id or position; left out: to the end.');

export const ruleEditSchema: v.GenericSchema<unknown, RuleEdit> = of<RuleEdit>('RuleEdit')(
  v.variant('kind', [
    v.strictObject({
      kind: v.literal('add'),
      rules: described(ruleDocumentsSchema, 'From the top.'),
      before,
    }),
    v.strictObject({
      kind: v.literal('replace'),
      rules: described(ruleDocumentsSchema, 'All that there are to be, from the top.'),
    }),
    v.strictObject({
      kind: v.literal('edit'),
      name,
      rule: described(omissible(word(MAX_RULE_LENGTH)), 'What it is to say.'),
      description: omissible(text(250)),
    }),
    v.strictObject({ kind: v.picklist(['enable', 'disable', 'remove']), names }),
    v.strictObject({ kind: v.literal('move'), name, before }),
  ]),
);

export const editBodySchema: v.GenericSchema<unknown, EditBody> = of<EditBody>('EditBody')(
  v.strictObject({
    edit: described(ruleEditSchema, 'What changes: all of it or nothing.'),
    conversations: described(
      v.optional(v.picklist(['drain', 'cut']), 'drain'),
      'What becomes of those whose rule goes or changes: they go on, or end at once.',
    ),
    dryRun: described(v.optional(v.boolean(), false), 'Says what would happen, and does nothing.'),
  }),
);

export const firstPacketSchema: v.GenericSchema<unknown, FirstPacket> = of<FirstPacket>('FirstPacket')(
  v.strictObject({
    direction: v.picklist(['in', 'out']),
    protocol: transport,
    source: described(endpointSchema, 'Who sends it.'),
    destination: described(endpointSchema, 'Where it goes.'),
    names: described(v.optional(v.pipe(v.array(word(253)), v.maxLength(8)), []), 'Of the source.'),
    adapter: described(omissible(word(32)), 'Where it comes in, or goes out.'),
    mac: described(omissible(word(17)), 'Of the neighbour that sent it.'),
  }),
);

// What is answered.

export const activitySchema: v.GenericSchema<unknown, Activity> = of<Activity>('Activity')(
  v.object({
    bytesIn: described(count, 'From those who began the conversations …'),
    bytesOut: described(count, '… and back.'),
    packetsIn: described(count, 'Datagrams; of TCP what was read at once.'),
    packetsOut: count,
    open: described(count, 'Conversations now.'),
    conversations: described(count, 'Ever begun.'),
    refused: described(count, 'Ever refused.'),
    lastAtMs: described(v.nullable(count), 'Of the last that began or was refused, in Unix milliseconds.'),
    lastRefusal: described(v.nullable(said), 'Whom, and why.'),
  }),
);

export const ruleStatusSchema: v.GenericSchema<unknown, RuleStatus> = of<RuleStatus>('Rule')(
  v.object({
    id: described(said, 'Never changes.'),
    position: described(count, 'From 1, the top: the first that matches decides.'),
    owner: described(
      v.picklist(['user', 'config', 'lease']),
      '`config`: the configuration file has it. `lease`: a lease needs it, and it goes with the lease.',
    ),
    enabled: v.boolean(),
    text: described(said, 'As one line.'),
    description: said,
    engine: described(v.picklist(['relay', 'nftables', 'nftables+relay']), 'Who carries it out.'),
    waiting: described(v.nullable(said), 'Why it is not carried out now; it is tried again.'),
    activity: described(activitySchema, 'What it has let through.'),
  }),
);

export const rulesAnswerSchema: v.GenericSchema<unknown, RulesAnswer> = of<RulesAnswer>('RulesAnswer')(
  v.object({
    isPaused: described(v.boolean(), 'None of them is carried out: natward rule panic.'),
    rules: described(v.array(ruleStatusSchema), 'From the top.'),
  }),
);

export const conversationSchema: v.GenericSchema<unknown, Conversation> = of<Conversation>('Conversation')(
  v.object({
    id: described(count, 'Counts up by one in each agent’s life.'),
    ruleId: described(said, 'Under which it began.'),
    protocol: transport,
    client: described(endpointSchema, 'Who began it.'),
    local: described(endpointSchema, 'Where the client sent to.'),
    target: described(v.nullable(endpointSchema), 'Null until it is reached.'),
    beganAtMs: described(count, 'In Unix milliseconds.'),
    bytesIn: described(count, 'From the client …'),
    bytesOut: described(count, '… and back.'),
  }),
);

export const conversationsAnswerSchema: v.GenericSchema<unknown, ConversationsAnswer> =
  of<ConversationsAnswer>('ConversationsAnswer')(
    v.object({ conversations: described(v.array(conversationSchema), 'Those that run.') }),
  );

export const editReportSchema: v.GenericSchema<unknown, EditReport> = of<EditReport>('EditReport')(
  v.object({
    added: described(v.array(said), 'Ids, as the next ones.'),
    removed: v.array(said),
    changed: v.array(said),
    moved: v.array(said),
    unchanged: described(count, 'How many stay as they are.'),
    affected: described(v.array(conversationSchema), 'Whose rule goes or changes: they drain, or are cut.'),
    notes: described(
      v.array(v.object({ ruleId: said, position: count, message: said, advice: v.nullable(said) })),
      'What is odd and no error: a rule that can never match.',
    ),
    rules: described(
      v.array(v.object({ id: said, position: count, text: said, waiting: v.nullable(said) })),
      'Those that were added, changed and moved, from the top, as they are now, or would be.',
    ),
  }),
);

export const pauseReportSchema: v.GenericSchema<unknown, PauseReport> = of<PauseReport>('PauseReport')(
  v.object({
    isPaused: described(v.boolean(), 'As it is now: no rule is carried out.'),
    isNew: described(v.boolean(), 'It was not so before.'),
    rules: described(count, 'Those that are off now, or on again.'),
    ended: described(count, 'Conversations that were ended.'),
  }),
);

export const explainReportSchema: v.GenericSchema<unknown, ExplainReport> = of<ExplainReport>('Explanation')(
  v.object({
    rule: described(v.nullable(ruleStatusSchema), 'The one that decides; null: none.'),
    refusal: described(v.nullable(said), 'Why it does not let this client through; null: it does.'),
    obstacles: described(v.array(said), 'What of other programs on that machine stands in its way.'),
    passed: described(
      v.array(v.object({ position: count, id: said, reason: said })),
      'Those above it, and why they do not match.',
    ),
  }),
);

export const engineEventSchema: v.GenericSchema<unknown, EngineEvent> = of<EngineEvent>('ConversationEvent')(
  v.variant('type', [
    v.object({ type: described(v.literal('opened'), 'It has begun.'), conversation: conversationSchema }),
    v.object({
      type: described(v.literal('closed'), 'It is over.'),
      conversation: conversationSchema,
      reason: described(said, 'Why.'),
    }),
    v.object({
      type: described(v.literal('refused'), 'It was not let through.'),
      ruleId: described(v.nullable(said), 'Null: no rule is for it.'),
      client: endpointSchema,
      reason: described(said, 'Why.'),
    }),
  ]),
);
