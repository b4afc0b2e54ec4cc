/** Who the gateway says it is, and since when: what a reboot and a new external address change. */

import { randomUUID } from 'node:crypto';
import type { IpAddress } from '../net/address.ts';
import type { Clock } from '../system/clock.ts';

export class Identity {
  readonly #clock: Clock;
  readonly #uuid: string;
  #epochStartMs: number;
  /** BOOTID.UPNP.ORG: rises with each restart, and so begins at the time (UDA 2.0, section 1.2.2). */
  #bootId: number;
  /** undefined: nobody knows it just now. */
  externalAddress: IpAddress | undefined;

  /** `uuid` is of the UPnP device; a new one where nothing is said. */
  constructor(clock: Clock, externalAddress: IpAddress | undefined, uuid: string = randomUUID()) {
    this.#clock = clock;
    this.#uuid = uuid;
    this.#epochStartMs = clock.now();
    this.#bootId = Math.floor(clock.now() / 1000) % 2 ** 31;
    this.externalAddress = externalAddress;
  }

  get bootId(): number {
    return this.#bootId;
  }

  /** Seconds since the table was last emptied (RFC 6886, section 3.6; RFC 6887, section 8.5). */
  get epochSeconds(): number {
    return Math.max(0, Math.floor((this.#clock.now() - this.#epochStartMs) / 1000));
  }

  resetEpoch(): void {
    this.#epochStartMs = this.#clock.now();
  }

  reboot(): void {
    this.#bootId++;
  }

  /** One for each device in the tree; they differ in their last digit. */
  udn(device: number): string {
    const last = (Number.parseInt(this.#uuid.slice(-1), 16) + device) % 16;
    return `uuid:${this.#uuid.slice(0, -1)}${last.toString(16)}`;
  }
}
