/**
 * One packet through one base chain of another program, in three values: what may be dropped there, and how sure that
 * is. A verdict behind a match that may or may not hold is one that may or may not come. Pure.
 */

import type { Packet } from './foreign-field.ts';
import { type Answer, type Budget, both, candidatesOf, meets, type Question } from './foreign-match.ts';
import {
  arrayOf,
  type BaseChain,
  type ForeignChain,
  type ForeignRule,
  isObject,
  numberOf,
  textOf,
} from './foreign-ruleset.ts';
import { ruleText } from './foreign-text.ts';
import { meetsXt, targetVerdict } from './foreign-xt.ts';

export interface Drop {
  readonly chain: ForeignChain;
  readonly what: string;
  readonly isSure: boolean;
}

/** How a packet stands in one chain. */
interface Frame {
  readonly chain: ForeignChain;
  readonly depth: number;
  /** Whether it came here. */
  readonly came: Answer;
  /** Whether it gets to the next rule, having come here. */
  reach: Answer;
  /** It may have met its end: accepted, dropped, handed to a program. */
  mayEnd: boolean;
  /** It may have gone back to where it came from before the last rule. */
  mayReturn: boolean;
}

/** As deep as nft lets chains call each other. */
const MAX_DEPTH = 16;

/** What changes nothing: said in rules beside a verdict. */
const TRANSPARENT: ReadonlySet<string> = new Set([
  'counter',
  'log',
  'notrack',
  'flow',
  'dup',
  'ct helper',
  'ct timeout',
  'ct expectation',
  'tproxy',
]);
const ENDING: ReadonlySet<string> = new Set(['accept', 'snat', 'dnat', 'masquerade', 'redirect']);
const VERDICTS: ReadonlySet<string> = new Set([
  ...ENDING,
  'drop',
  'reject',
  'queue',
  'return',
  'jump',
  'goto',
  'continue',
  'synproxy',
  'mangle',
]);

export class Walk {
  readonly #packet: Packet;
  readonly #budget: Budget;
  readonly #report: (drop: Drop) => void;

  constructor(packet: Packet, budget: Budget, report: (drop: Drop) => void) {
    this.#packet = packet;
    this.#budget = budget;
    this.#report = report;
  }

  base(chain: BaseChain): void {
    const returned = this.#chain(chain, 'yes', 0);
    if (this.#budget.rules < 0) {
      this.#report({ chain, what: 'more rules than are looked at', isSure: false });
    } else if (chain.dropsByPolicy && returned !== 'no') {
      this.#report({ chain, what: 'policy drop', isSure: returned === 'yes' });
    }
  }

  /** Whether the packet leaves the chain with no verdict. */
  #chain(chain: ForeignChain, came: Answer, depth: number): Answer {
    const frame: Frame = { chain, depth, came, reach: 'yes', mayEnd: false, mayReturn: false };
    for (const rule of chain.rules) {
      if (frame.reach === 'no') break;
      // One that asks for much counts for several.
      this.#budget.rules -= 1 + (rule.expressions.length >> 4);
      if (this.#budget.rules < 0) return 'maybe';
      this.#rule(frame, rule);
    }
    if (!frame.mayEnd) return 'yes';
    return frame.reach === 'no' && !frame.mayReturn ? 'no' : 'maybe';
  }

  #rule(frame: Frame, rule: ForeignRule): void {
    const question: Question = { packet: this.#packet, table: frame.chain.table, budget: this.#budget };
    let applies: Answer = 'yes';
    for (const expression of rule.expressions.slice(0, 256)) {
      if (applies === 'no' || frame.reach === 'no') return;
      const [kind, value] = isObject(expression) ? (Object.entries(expression)[0] ?? []) : [];
      if (kind === 'vmap') {
        if (!isObject(value)) return;
        for (const { verdict, answer } of candidatesOf(value, question)) {
          this.#act(frame, rule, verdict, both(applies, answer));
        }
        return;
      }
      const answer = this.#asks(kind, value, rule, question);
      if (answer !== undefined) applies = both(applies, answer);
      else this.#act(frame, rule, expression, applies);
    }
  }

  /** The answer to what a rule asks; undefined for what it does. */
  #asks(
    kind: string | undefined,
    value: unknown,
    { text }: ForeignRule,
    question: Question,
  ): Answer | undefined {
    switch (kind) {
      case 'match':
        return isObject(value) ? meets(value, question) : 'maybe';
      // Within the rate, the rule's traffic is: how much there will be nobody knows.
      case 'limit':
      case 'ct count':
        return isObject(value) ? (value['inv'] === true ? 'no' : 'yes') : 'maybe';
      case 'set':
      case 'meter': {
        const inner = isObject(value) ? [...arrayOf(value['stmt']), value['stmt']] : [];
        const limit = inner.find((part) => isObject(part) && ('limit' in part || 'ct count' in part));
        const [amount] = isObject(limit) ? Object.values(limit) : [];
        return isObject(amount) && amount['inv'] === true ? 'no' : 'yes';
      }
      case 'xt': {
        const name = isObject(value) ? textOf(value['name']) : undefined;
        if (name === undefined) return 'maybe';
        return isObject(value) && value['type'] === 'target' ? undefined : meetsXt(name, text, question);
      }
      case 'quota':
      case undefined:
        return 'maybe';
      default:
        return VERDICTS.has(kind) || TRANSPARENT.has(kind) ? undefined : 'maybe';
    }
  }

  #act(frame: Frame, rule: ForeignRule, expression: unknown, applies: Answer): void {
    if (applies === 'no' || frame.reach === 'no') return;
    const [kind = '', value] = isObject(expression) ? (Object.entries(expression)[0] ?? []) : [];
    const verdict =
      kind === 'xt' && isObject(value)
        ? targetVerdict(textOf(value['name']) ?? '')
        : ENDING.has(kind)
          ? 'accept'
          : kind;
    switch (verdict) {
      case 'accept':
        leave(frame, applies, 'end');
        return;
      case 'drop':
      case 'reject':
      case 'synproxy':
      case 'queue': {
        const isSure = both(both(frame.came, frame.reach), applies) === 'yes';
        // A program decides, or another server answers.
        const isDrop = verdict === 'drop' || verdict === 'reject';
        this.#report({ chain: frame.chain, what: ruleText(rule), isSure: isSure && isDrop });
        leave(frame, applies, 'end');
        return;
      }
      case 'return':
        leave(frame, applies, 'return');
        return;
      case 'jump':
      case 'goto':
        this.#call(frame, isObject(value) ? textOf(value['target']) : undefined, applies, verdict);
        return;
      case 'mark':
        this.#packet.mark = undefined;
        return;
      case 'mangle':
        this.#mangle(frame, value, applies);
        return;
      case 'unknown':
      case '':
        frame.mayEnd = true;
        frame.reach = 'maybe';
        return;
      default:
        return;
    }
  }

  #call(frame: Frame, target: string | undefined, applies: Answer, verdict: 'jump' | 'goto'): void {
    const chain = frame.chain.table.chains.get(target ?? '');
    const came = both(both(frame.came, frame.reach), applies);
    const returned =
      chain === undefined || frame.depth >= MAX_DEPTH ? 'maybe' : this.#chain(chain, came, frame.depth + 1);
    if (verdict === 'goto') {
      if (returned !== 'yes') frame.mayEnd = true;
      leave(frame, applies, returned === 'no' ? 'end' : 'return');
    } else if (returned !== 'yes') {
      leave(frame, both(applies, returned === 'no' ? 'yes' : 'maybe'), 'end');
    }
  }

  #mangle(frame: Frame, value: unknown, applies: Answer): void {
    const key = isObject(value) ? value['key'] : undefined;
    const meta = isObject(key) ? key['meta'] : undefined;
    if (!isObject(meta) || meta['key'] !== 'mark' || !isObject(value)) return;
    const isSure = both(both(frame.came, frame.reach), applies) === 'yes';
    this.#packet.mark = isSure ? numberOf(value['value']) : undefined;
  }
}

function leave(frame: Frame, applies: Answer, how: 'end' | 'return'): void {
  if (how === 'end') frame.mayEnd = true;
  else frame.mayReturn = true;
  frame.reach = applies === 'yes' ? 'no' : 'maybe';
}
