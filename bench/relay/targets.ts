/** What a program's figures are to be, alone or beside another's, and whether they are. */

import { median, quotient, type Verdict } from '../report.ts';

export interface Target {
  readonly program: string;
  /** Of the table. */
  readonly column: string;
  /** Whose figure of the same round it is divided by; left out: it is taken as it is. */
  readonly against?: string;
  readonly at: 'least' | 'most';
  readonly limit: number;
}

/** By the median of the rounds. Undefined where the program, or the other one, was not measured. */
export function judge(
  { program, column, against, at, limit }: Target,
  figures: (program: string) => readonly number[],
): Verdict | undefined {
  const others = against === undefined ? undefined : figures(against);
  const value = median(
    figures(program).flatMap((figure, round) => {
      if (others === undefined) return figure;
      return quotient(figure, others[round]) ?? [];
    }),
  );
  if (value === undefined) return undefined;
  return {
    target: `${program}, ${column}: at ${at} ${limit}${against === undefined ? '' : ` x ${against}`}`,
    measured: value < 10 ? value.toFixed(2) : value.toFixed(0),
    met: at === 'least' ? value >= limit : value <= limit,
  };
}
