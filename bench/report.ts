/** What is said about measurements: medians, ranges, ratios, and whether a target was met. Plain text. */

export interface Row {
  readonly name: string;
  readonly samplesMs: readonly number[];
  /** Medians of what else was measured, by column. */
  readonly more?: Readonly<Record<string, number | undefined>>;
  readonly remark?: string | undefined;
}

/** A target of natward's, and what came of it. */
export interface Verdict {
  readonly target: string;
  readonly measured: string;
  /** Undefined where there is nothing to judge by. */
  readonly met: boolean | undefined;
}

export interface Section {
  readonly title: string;
  /** What the figures are shown in; milliseconds where nothing is said. */
  readonly unit?: 's';
  /** Where a measurement is given up: a sample of Infinity has taken longer. */
  readonly limitMs?: number;
  /** The row that every median is divided by. */
  readonly floor?: string;
  readonly rows: readonly Row[];
  readonly verdicts: readonly Verdict[];
}

/** Figures of several kinds, where one column of times says too little. */
export interface Table {
  readonly title: string;
  readonly columns: readonly string[];
  readonly rows: readonly {
    readonly name: string;
    /** One for each column: medians, or what could not be measured. */
    readonly figures: readonly (number | undefined)[];
    readonly remark?: string | undefined;
  }[];
  readonly verdicts: readonly Verdict[];
}

export function formatTable({ title, columns, rows, verdicts }: Table): string {
  const lines = align([
    ['', ...columns],
    ...rows.map(({ name, figures }) => [name, ...figures.map((figure) => plain(figure))]),
  ]).map((line, at) => {
    const remark = rows[at - 1]?.remark;
    return remark === undefined ? line : `${line}  ${remark}`;
  });
  return [title, ...lines.map((line) => `  ${line.trimEnd()}`), ...verdicts.map(formatVerdict), ''].join(
    '\n',
  );
}

/** Counts as they are, measurements with three digits or so. */
function plain(figure: number | undefined): string {
  return figure !== undefined && Number.isInteger(figure) ? String(figure) : ms(figure);
}

/** Undefined where there are no samples. */
export function median(samples: readonly number[]): number | undefined {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle];
  return sorted.length % 2 === 1 ? upper : mean(sorted[middle - 1], upper);
}

function mean(a: number | undefined, b: number | undefined): number | undefined {
  return a === undefined || b === undefined ? undefined : (a + b) / 2;
}

export function medianOf(rows: readonly Row[], name: string): number | undefined {
  return median(rows.find((row) => row.name === name)?.samplesMs ?? []);
}

/** Judges a median, or a quotient of two, by its upper limit. */
export function atMost(target: string, value: number | undefined, limit: number, unit: 'ms' | 'x'): Verdict {
  return {
    target,
    measured:
      value === undefined ? 'not measured' : unit === 'ms' ? `${ms(value)} ms` : `${value.toFixed(2)} x`,
    met: value === undefined ? undefined : value <= limit,
  };
}

export function quotient(a: number | undefined, b: number | undefined): number | undefined {
  if (a === undefined || b === undefined) return undefined;
  return Number.isFinite(a) && Number.isFinite(b) ? a / b : undefined;
}

export function formatSection({ title, floor, rows, verdicts, unit, limitMs }: Section): string {
  const shown = (value: number | undefined) => {
    if (value === Number.POSITIVE_INFINITY && limitMs !== undefined) return `> ${time(limitMs, unit)}`;
    return time(value, unit);
  };
  const floorMs = floor === undefined ? undefined : medianOf(rows, floor);
  const extra = [...new Set(rows.flatMap(({ more }) => Object.keys(more ?? {})))];
  const head = [
    '',
    `median ${unit ?? 'ms'}`,
    'min..max',
    ...(floor === undefined ? [] : [`x ${floor}`]),
    ...extra,
    'n',
  ];
  const body = rows.map((row) => {
    const middle = median(row.samplesMs);
    const range = `${shown(Math.min(...row.samplesMs))}..${shown(Math.max(...row.samplesMs))}`;
    return [
      row.name,
      shown(middle),
      middle === undefined ? '-' : range,
      ...(floor === undefined ? [] : [quotient(middle, floorMs)?.toFixed(2) ?? '-']),
      ...extra.map((column) => shown(row.more?.[column])),
      String(row.samplesMs.length),
    ];
  });
  const table = align([head, ...body]).map((line, at) => {
    const remark = rows[at - 1]?.remark;
    return remark === undefined ? line : `${line}  ${remark}`;
  });
  return [title, ...table.map((line) => `  ${line.trimEnd()}`), ...verdicts.map(formatVerdict), ''].join(
    '\n',
  );
}

function formatVerdict({ target, measured, met }: Verdict): string {
  const word = met === undefined ? 'open  ' : met ? 'met   ' : 'MISSED';
  return `  ${word} ${target}: ${measured}`;
}

function time(value: number | undefined, unit: 's' | undefined): string {
  return ms(value === undefined || unit === undefined ? value : value / 1000);
}

function ms(value: number | undefined): string {
  if (value === undefined) return '-';
  return value < 10 ? value.toFixed(2) : value < 100 ? value.toFixed(1) : value.toFixed(0);
}

/** The first column to the left, the others to the right. */
function align(lines: readonly (readonly string[])[]): string[] {
  const widths = (lines[0] ?? []).map((_, at) => Math.max(...lines.map((cells) => cells[at]?.length ?? 0)));
  return lines.map((cells) =>
    cells
      .map((cell, at) => (at === 0 ? cell.padEnd(widths[at] ?? 0) : cell.padStart(widths[at] ?? 0)))
      .join('  '),
  );
}
