/** What no router should do and some network does: answers late, lost, forged, endless. */

export type Junk =
  | 'truncated'
  | 'oversized'
  /** NAT-PMP has no nonce: its answer is for another port. SSDP has none: its answer is to another search. */
  | 'wrong-nonce'
  | 'wrong-source'
  | 'wrong-opcode'
  | 'request-echo';

export interface Misbehaviour {
  /** Requests are executed at once and answered late. */
  readonly delayMs?:
    | {
        readonly pcp?: number;
        readonly natpmp?: number;
        readonly ssdp?: number;
        readonly http?: number;
      }
    | undefined;
  /** Nothing is executed and nothing answered: as if it were off. What is mapped is still carried; `wipe()` ends that. */
  readonly silent?: boolean;
  /** Kinds, as the counters call them, that are neither executed nor answered. */
  readonly silentOn?: readonly string[];
  /** Kinds that are executed; the first so many of each are not answered. */
  readonly loseAnswers?: Readonly<Record<string, number>> | undefined;
  /** Sent before the right answer, on PCP, NAT-PMP and SSDP. Whoever believes one gets another port or host. */
  readonly junkFirst?: readonly Junk[];
  /** LOCATION, whatever it is. */
  readonly location?: string | undefined;
  /** Every HTTP request is redirected there. */
  readonly redirect?: string | undefined;
  /** HTTP bodies of 100 MB. */
  readonly hugeBody?: boolean;
  /** HTTP bodies that begin, and drip, and never end. */
  readonly slowBody?: boolean;
  /** Documents that grow in the reader's memory: entities of entities, or very deep elements. */
  readonly xmlBomb?: 'entities' | 'nesting' | undefined;
  /** Each protocol has a table, and external ports, of its own. */
  readonly separateTables?: boolean;
}
