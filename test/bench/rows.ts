/** One measured thing, as `--json` prints it. */
export type Row = {
  name: string;
  value: number;
  unit: string;
  /** What the baseline needs for the same, in the same unit. */
  baseline?: number;
  /** 25th and 75th percentile of repeated measurements, of which `value` is the median. */
  spread?: [number, number];
  target?: string;
  held?: boolean;
  /** Why a target is missed and what would change it; or why something could not be measured. */
  reason?: string;
};

type Target = { atMost: number } | { atLeast: number };

type About = Pick<Row, "baseline" | "spread"> & {
  target?: Target;
  /** Told only when the target is missed. */
  ifMissed?: string;
};

/** What stands in a missed row whose cause nobody has written down: the run then ends with an error. */
export const unexplained = "not explained yet";

export function row(name: string, value: number, unit: string, about: About = {}): Row {
  const { target, ifMissed, baseline, spread } = about;
  return {
    name,
    value: rounded(value),
    unit,
    ...(baseline === undefined ? {} : { baseline: rounded(baseline) }),
    ...(spread === undefined ? {} : { spread: [rounded(spread[0]), rounded(spread[1])] }),
    ...(target === undefined ? {} : verdict(value, target, ifMissed ?? unexplained)),
  };
}

/** A thing that could not be measured. */
export function unmeasured(name: string, unit: string, reason: string): Row {
  return { name, value: Number.NaN, unit, held: false, reason };
}

function verdict(value: number, target: Target, ifMissed: string): Pick<Row, "target" | "held" | "reason"> {
  // NaN holds neither.
  const held = "atMost" in target ? value <= target.atMost : value >= target.atLeast;
  const text = "atMost" in target ? `≤ ${target.atMost}` : `≥ ${target.atLeast}`;
  return { target: text, held, ...(held ? {} : { reason: ifMissed }) };
}

/** Median and quartiles. Throws on an empty list. */
export function summarize(values: readonly number[]): { median: number; spread: [number, number] } {
  return { median: quantile(values, 0.5), spread: [quantile(values, 0.25), quantile(values, 0.75)] };
}

/** @param fraction 0.99 is the 99th percentile. Throws on an empty list. */
export function quantile(values: readonly number[], fraction: number): number {
  const sorted = values.toSorted((one, other) => one - other);
  if (sorted.length === 0) throw new Error("Nothing was measured");
  const place = (sorted.length - 1) * fraction;
  const [low = Number.NaN, high = low] = sorted.slice(Math.floor(place), Math.floor(place) + 2);
  return low + (high - low) * (place - Math.floor(place));
}

/** Ratios of what was measured in the same round: what slows a whole round down falls out of them. */
export function ratios(values: readonly number[], baseline: readonly number[]): number[] {
  return values.map((value, round) => value / (baseline[round] ?? Number.NaN));
}

const columns = ["name", "value", "unit", "baseline", "spread", "target", "held"] as const;

/** The rows as a table of Markdown, padded so that a terminal shows it as well; the reasons follow it. */
export function tableOf(rows: readonly Row[]): string {
  const cells = rows.map((one) => columns.map((column) => cellOf(one, column)));
  const widths = columns.map((column, index) =>
    Math.max(column.length, ...cells.map((line) => line[index]?.length ?? 0)),
  );
  function lineOf(line: readonly string[]): string {
    return `| ${line.map((cell, index) => cell.padEnd(widths[index] ?? 0)).join(" | ")} |`;
  }
  const rule = `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`;
  const reasons = rows.flatMap(({ name, reason }) => (reason === undefined ? [] : [`- \`${name}\`: ${reason}`]));
  const table = [lineOf(columns), rule, ...cells.map(lineOf)].join("\n");
  return reasons.length === 0 ? table : `${table}\n\n${reasons.join("\n")}`;
}

function cellOf(one: Row, column: (typeof columns)[number]): string {
  if (column === "held") return one.held === undefined ? "" : one.held ? "yes" : "NO";
  if (column === "spread") return one.spread?.join(" – ") ?? "";
  return String(one[column] ?? "");
}

/** Four digits say all that is known of a measurement. */
function rounded(value: number): number {
  return Math.abs(value) >= 1000 ? Math.round(value) : Number(value.toPrecision(4));
}
