/**
 * When a mapping is renewed. RFC 6887, section 11.2.1, for every protocol: each try at a random moment of its
 * window, so that what was granted together is not renewed together; the first at half of the lifetime (RFC
 * 6886, section 3.3, says the same), each further one at half of what is then left.
 */

export interface RenewalWindow {
  /** Milliseconds since 1970. */
  readonly fromMs: number;
  readonly untilMs: number;
}

/** RFC 6887, section 11.2.1: requests "MUST NOT be sent less than four seconds apart". */
const SHORTEST_GAP_MS = 4000;

/** A mapping without an end is asked for again so often: some routers forget even those. */
const ENDLESS_PERIOD_MS = 3_600_000;

/**
 * The window of the `attempt`th try (from 0) to renew what was granted at `grantedAtMs`; undefined where no
 * try fits any more before it ends. `lifetimeSeconds` is what was granted; 0 is no end.
 */
export function renewalWindow(
  attempt: number,
  grantedAtMs: number,
  lifetimeSeconds: number,
): RenewalWindow | undefined {
  const lifetimeMs = lifetimeSeconds === 0 ? 2 * ENDLESS_PERIOD_MS : lifetimeSeconds * 1000;
  const left = 1 / 2 ** (attempt + 1);
  // The end of the window before it, or the grant itself.
  const beforeMs = attempt === 0 ? 0 : lifetimeMs * (1 - 1.5 * left);
  const fromMs = Math.max(lifetimeMs * (1 - left), beforeMs + SHORTEST_GAP_MS);
  const untilMs = lifetimeMs * (1 - 0.75 * left);
  if (attempt > 0 && fromMs > untilMs) return undefined;
  // What is so short that the first try would come too soon is renewed as early as may be.
  return { fromMs: grantedAtMs + fromMs, untilMs: grantedAtMs + Math.max(fromMs, untilMs) };
}

/** A moment of the window; `random` is 0 to 1. */
export function momentOf({ fromMs, untilMs }: RenewalWindow, random: number): number {
  return fromMs + (untilMs - fromMs) * random;
}
