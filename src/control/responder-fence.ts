/**
 * Keeps hosts of other links from speaking as clients of this host's gateway: by a table of nftables where natward may
 * load one, and otherwise by a warning, unless the kernel's own check of sources does it.
 */

import { isNatwardError, NatwardError } from '../errors.ts';
import {
  FENCE_NAME,
  FENCE_TABLE,
  type FencedPlace,
  fencedAddresses,
  fenceText,
} from '../forwarder/nftables/fence.ts';
import { isInterfaceName } from '../forwarder/nftables/syntax.ts';
import { Nft } from '../forwarder/nftables/tools.ts';
import { type Family, family } from '../net/address.ts';
import type { RunProgram } from '../system/program.ts';
import { mayAdministerNetwork } from '../system/privileges.ts';
import { claim } from '../system/sole-owner.ts';
import { laxityOf, linkNames } from '../system/source-validation.ts';
import { type Sysctls, systemSysctls } from '../system/sysctl.ts';

export interface FenceMachine {
  readonly runProgram: RunProgram;
  readonly sysctls: Pick<Sysctls, 'read'>;
  readonly mayLoad: () => boolean;
  /** Undefined where another process has it. */
  readonly claim: () => Promise<Disposable | undefined>;
  readonly linkNames: () => readonly string[];
}

export function realFenceMachine(runProgram: RunProgram): FenceMachine {
  return {
    runProgram,
    sysctls: systemSysctls,
    mayLoad: mayAdministerNetwork,
    claim: () => claim(FENCE_NAME),
    linkNames: () => linkNames(),
  };
}

const FAMILIES: readonly Family[] = [4, 6];
/** Of more, the rest is counted. */
const MAX_NAMED = 6;
const SERVICE_ADVICE =
  'Run the agent as the service (natward service install) or as root: it fences them off then.';

export class ResponderFence {
  readonly #machine: FenceMachine;
  readonly #nft: Nft;
  readonly #warn: (error: NatwardError | undefined) => void;
  #owned: Disposable | undefined;
  /** What was loaded last; undefined: nothing is known of what stands there. */
  #loaded: string | undefined;
  #told: string | undefined;
  #last: Promise<void> = Promise.resolve();

  constructor(machine: FenceMachine, warn: (error: NatwardError | undefined) => void) {
    this.#machine = machine;
    this.#nft = new Nft(machine.runProgram);
    this.#warn = warn;
  }

  /** From now on it is around these; none takes it away. To be called now and then: others flush tables. One after another. */
  raise(places: readonly FencedPlace[]): Promise<void> {
    const turn = this.#last.then(() => this.#raise(places));
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  async #raise(places: readonly FencedPlace[]): Promise<void> {
    const lack = await this.#load(places);
    const exposure = lack === undefined ? undefined : this.#exposure(places, lack);
    if (exposure?.message === this.#told) return;
    this.#told = exposure?.message;
    this.#warn(exposure);
  }

  /** Or why it does not stand. */
  async #load(places: readonly FencedPlace[]): Promise<NatwardError | undefined> {
    const { mayLoad } = this.#machine;
    if (!mayLoad()) return lackOf('natward may not load nftables here (CAP_NET_ADMIN)', SERVICE_ADVICE);
    // Two agents would replace each other's, and each be without.
    this.#owned ??= await this.#machine.claim();
    if (this.#owned === undefined) {
      return lackOf(
        'another natward of this machine has its fence in the kernel',
        'Have one agent answer on all interfaces: a [[respond]] for each.',
      );
    }
    const named = places.filter((place) => isInterfaceName(place.interface));
    const text = fenceText(named);
    try {
      const stands = text === this.#loaded && (await this.#isAsLoaded(named));
      if (!stands) await this.#nft.load(text);
      this.#loaded = text;
    } catch (error) {
      this.#loaded = undefined;
      if (isNatwardError(error)) return error;
      throw error;
    } finally {
      if (places.length === 0) this.#leave();
    }
    const unnamed = places.find((place) => !named.includes(place));
    return unnamed && lackOf(`nftables is given no name such as ${JSON.stringify(unnamed.interface)}`, '');
  }

  async #isAsLoaded(places: readonly FencedPlace[]): Promise<boolean> {
    return places.length === 0 || (await this.#nft.tables()).includes(FENCE_TABLE);
  }

  #leave(): void {
    this.#owned?.[Symbol.dispose]();
    this.#owned = undefined;
  }

  /** Undefined where the kernel lets nobody through. */
  #exposure(places: readonly FencedPlace[], lack: NatwardError): NatwardError | undefined {
    const links = this.#machine.linkNames();
    const open = new Set<string>();
    const settings = new Set<string>();
    let isOfIpv6 = false;
    for (const place of places) {
      const others = links.filter((name) => name !== place.interface);
      for (const of of FAMILIES) {
        if (!fencedAddresses(place.addresses).some((one) => family(one) === of)) continue;
        const lax = laxityOf(of, others, this.#machine.sysctls);
        for (const name of lax.interfaces) open.add(name);
        for (const setting of lax.settings) settings.add(setting);
        isOfIpv6 ||= of === 6 && lax.interfaces.length > 0;
      }
    }
    if (open.size === 0) return undefined;
    const inner = places.map((place) => place.interface).join(', ');
    const bySetting = settings.size === 0 ? '' : `sysctl -w ${[...settings].join(' ')}`;
    const advice = [
      lack.advice ?? 'Where nft works, natward fences them off.',
      bySetting === '' ? '' : `${isOfIpv6 ? 'For IPv4 alone' : 'Or'}: ${bySetting}`,
    ];
    return new NatwardError(
      'FAILED',
      `hosts on ${listed([...open])} can claim to be hosts of the network of ${inner}, and have ports mapped for them: ${lack.message}`,
      { advice: advice.filter((one) => one !== '').join(' '), cause: lack },
    );
  }
}

function lackOf(what: string, advice: string): NatwardError {
  return new NatwardError('FAILED', what, { advice });
}

function listed(names: readonly string[]): string {
  const more = names.length - MAX_NAMED;
  return names.slice(0, MAX_NAMED).join(', ') + (more > 0 ? ` and ${more} more` : '');
}
