/**
 * Tells a name service this network's IPv4 address, by the dyndns2 protocol. There is no standard of it; read
 * here are Dyn's pages (help.dyn.com/remote-access-api: perform-update, return-codes, policies) and No-IP's
 * (noip.com/integrate/response). The rule that both stress: a client that repeats what was refused, or what is
 * so already, is locked out.
 */

import { isNatwardError, NatwardError } from '../../errors.ts';
import { family, type IpAddress, kindOf } from '../../net/address.ts';
import type { Clock } from '../../system/clock.ts';
import type { WebResponse } from '../../system/web.ts';
import { type DyndnsHook, eventsOf, type HookedEvent } from './hook.ts';
import type { Setback } from './lanes.ts';
import { checkStatus, type Reach, Service } from './service.ts';

/** Policies: "without user intervention" none of these may be followed by another update. */
const REFUSALS: ReadonlyMap<string, string> = new Map([
  ['badauth', 'it does not know this user and password'],
  ['badagent', 'it does not accept natward as a client'],
  ['badsys', 'it does not know the system that its URL asks for'],
  ['!donator', 'it wants an account that is paid for'],
  ['!yours', 'the name belongs to another account'],
  ['notfqdn', 'the name is no full host name to it'],
  ['nohost', 'it knows no such name in this account'],
  ['numhost', 'it finds too many names'],
  ['abuse', 'it has blocked the name for too many updates'],
]);
/** Troubles of its own; No-IP: "retry no sooner than 30 minutes". */
const TROUBLES: ReadonlySet<string> = new Set(['dnserr', '911']);
const TROUBLE_MS = 30 * 60_000;

const FIRST_RETRY_MS = 30_000;
/** A new address often comes with a connection that is not up yet. */
const TRIES_UNTOLD = 3;

/** What the event says the external address is; undefined where it says nothing of use to the hook. */
export function addressOf(hook: DyndnsHook, event: HookedEvent): IpAddress | undefined {
  if (!eventsOf(hook).includes(event.type)) return undefined;
  const at = 'lease' in event ? event.lease : event.gateway;
  // A pinhole's address is one host's; and what an update with an IPv6 address does, services do not agree on.
  if (at.externalAddress === null || family(at.externalAddress) === 6) return undefined;
  return at.externalAddress;
}

/** One name. Remembers what it was set to, and what the service forbade. */
export class NameUpdate {
  readonly #hook: DyndnsHook;
  readonly #clock: Clock;
  #set: IpAddress | undefined;
  #refusal: NatwardError | undefined;
  /** Of the clock's steady time. */
  #notBeforeMs = 0;

  constructor(hook: DyndnsHook, clock: Clock) {
    this.#hook = hook;
    this.#clock = clock;
  }

  /** Resolves with undefined when the name has the address. Never rejects. */
  async attempt(reach: Reach, address: IpAddress, tries: number): Promise<Setback | undefined> {
    if (address === this.#set) return undefined;
    const unpublished = this.#refusal ?? notPublic(address);
    if (unpublished !== undefined) return { error: unpublished, retryMs: null, isWorthTelling: true };
    const waitMs = this.#notBeforeMs - this.#clock.steady();
    if (waitMs > 0) return { error: waiting(), retryMs: waitMs, isWorthTelling: false };
    try {
      await this.#update(reach, address);
      this.#set = address;
      return undefined;
    } catch (cause) {
      this.#set = undefined; // it may have arrived all the same
      const error = cause instanceof NatwardError ? cause : new NatwardError('FAILED', String(cause));
      return this.#setback(error, tries);
    }
  }

  async #update(reach: Reach, address: IpAddress): Promise<void> {
    const url = new URL(this.#hook.url);
    url.searchParams.set('hostname', this.#hook.hostname);
    url.searchParams.set('myip', address);
    judge(await new Service(reach, this.#hook).ask({ method: 'GET', url: url.href }), address);
  }

  #setback(error: NatwardError, tries: number): Setback {
    if (isNatwardError(error, 'NOT_AUTHORIZED')) {
      this.#refusal = error;
      return { error, retryMs: null, isWorthTelling: true };
    }
    const isSilent = isNatwardError(error, 'TIMEOUT', 'UNREACHABLE');
    const retryMs = isSilent ? Math.min(FIRST_RETRY_MS * 2 ** tries, TROUBLE_MS) : TROUBLE_MS;
    this.#notBeforeMs = isSilent ? 0 : this.#clock.steady() + TROUBLE_MS;
    return { error, retryMs, isWorthTelling: !isSilent || tries >= TRIES_UNTOLD };
  }
}

function waiting(): NatwardError {
  return new NatwardError('REFUSED', 'the service is not to be asked yet');
}

function notPublic(address: IpAddress): NatwardError | undefined {
  if (kindOf(address) === 'public') return undefined;
  return new NatwardError('REFUSED', `${address} is no address of the internet, and was not told`, {
    advice: 'The gateway is behind another one; natward gateway tells more.',
  });
}

/** Throws NOT_AUTHORIZED for what forbids another try, REFUSED for what wants half an hour. */
function judge(response: WebResponse, address: IpAddress): void {
  const [code = '', told] = response.body.trim().split(/\s+/);
  const refusal = REFUSALS.get(code);
  if (refusal !== undefined) throw forbidden(refusal, code);
  if (TROUBLES.has(code)) {
    throw new NatwardError('REFUSED', 'the service has troubles of its own', { protocolCode: code });
  }
  // Many say 401 beside, or instead of, `badauth`.
  checkStatus(response);
  if (code === 'good' && told === '127.0.0.1' && address !== told) {
    // Return codes: the request was ignored, for the client does not follow the rules.
    throw forbidden('it ignores what natward tells', 'good 127.0.0.1');
  }
  if (code !== 'good' && code !== 'nochg') {
    throw new NatwardError('MALFORMED', 'it answers nothing that the dyndns2 protocol knows', {
      advice: 'Look whether the URL is the one for updates: most end in /nic/update.',
    });
  }
}

function forbidden(why: string, code: string): NatwardError {
  return new NatwardError('NOT_AUTHORIZED', `${why} (${code}); it is not asked again`, {
    protocolCode: code,
    advice: 'Put the hook right, or the account, and start natward anew.',
  });
}
