/**
 * Whether what a gateway has granted is still in its table. UPnP shows a table, and looking changes nothing; what
 * other protocols were granted may be in the same one, or in another that nobody sees.
 */

import { isNatwardError } from '../errors.ts';
import type { PortMapper } from '../mapping/mapping.ts';
import type { Line } from './gateway-watch.ts';
import type { Holding } from './lease-record.ts';
import { isSilence } from './silence.ts';

export type Found =
  | 'there'
  | 'gone'
  /** Nobody can look. */
  | 'unknown'
  /** Not shown: gone, or in another table. When it was asked for again, and is looked at next, that tells which. */
  | 'unseen'
  /** Shown, now that it was asked for again: it was gone, and so may others be. */
  | 'seen-again';

/** For one conversation: the gateway of the next one may be another, or have other settings. */
export class TableLook {
  /** Whether UPnP shows what other protocols were granted. `unseen`: not the one that was looked at first. */
  #tables: 'unknown' | 'unseen' | 'one' | 'separate' = 'unknown';

  /** Looks for all that is held for one lease. Throws where nobody answers. */
  async find(holdings: readonly Holding[], line: Line): Promise<Found> {
    try {
      if (line.gateway.family === 6) return await this.#findPinholes(holdings, line);
      return await this.#findMappings(holdings, line);
    } catch (error) {
      if (!isNatwardError(error) || isSilence(error)) throw error;
      return 'unknown'; // It answers, and cannot tell.
    }
  }

  /** What UPnP has opened has a number. No table shows the others; the epoch tells when they are lost. */
  async #findPinholes(holdings: readonly Holding[], line: Line): Promise<'there' | 'gone'> {
    const upnp = lookerOf(line);
    for (const { mapping } of holdings) {
      const pinholeId = mapping.pinholeId ?? undefined;
      if (upnp?.holds === undefined || pinholeId === undefined) continue;
      if (!(await upnp.holds({ ...mapping, nonce: undefined, pinholeId }, line.signal))) return 'gone';
    }
    return 'there';
  }

  /**
   * What UPnP shows. A mapping of another protocol that it does not show may be gone, or in another table: it is
   * asked for again, and what is seen then tells which.
   */
  async #findMappings(holdings: readonly Holding[], line: Line): Promise<Found> {
    const upnp = lookerOf(line);
    if (upnp?.holds === undefined) return 'unknown';
    for (const { mapping } of holdings) {
      if (mapping.via !== 'upnp' && this.#tables === 'separate') return 'unknown';
      const there = await upnp.holds({ ...mapping, nonce: undefined, pinholeId: undefined }, line.signal);
      if (mapping.via === 'upnp') {
        if (!there) return 'gone';
      } else if (there) {
        const wasUnseen = this.#tables === 'unseen';
        this.#tables = 'one';
        if (wasUnseen) return 'seen-again';
      } else if (this.#tables === 'one') {
        return 'gone';
      } else {
        this.#tables = this.#tables === 'unseen' ? 'separate' : 'unseen';
        return 'unseen';
      }
    }
    return 'there';
  }
}

function lookerOf({ session }: Line): PortMapper | undefined {
  return session.race.mappers.find((mapper) => mapper.holds !== undefined);
}
