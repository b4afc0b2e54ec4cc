/** All rules off at once, and on again: `natward rule panic`. */

export interface PauseReport {
  /** As it is now: no rule is carried out. */
  readonly isPaused: boolean;
  /** It was not so before. */
  readonly isNew: boolean;
  /** Those that are off now, or on again; a disabled one is neither. */
  readonly rules: number;
  /** Conversations that were ended. */
  readonly ended: number;
}

export interface RulePause {
  readonly isPaused: boolean;
  /** From now on no rule is carried out, whatever is edited, and no conversation goes on; also after a restart. */
  pause(): Promise<PauseReport>;
  /** The table is carried out again, as it is now. */
  resume(): Promise<PauseReport>;
}

export const PAUSED = 'natward rule panic has stopped all rules';
export const PAUSED_ADVICE = 'natward rule resume has them carried out again.';
