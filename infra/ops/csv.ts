import { writeFileSync } from "node:fs";
import { count, type Output } from "./output.ts";

/** RFC 4180, with the names of the columns first. */
function toCsv(columns: readonly string[], rows: readonly Record<string, string | number | undefined>[]): string {
  const lines = rows.map((row) => columns.map((column) => cellOf(String(row[column] ?? ""))).join(","));
  return [columns.join(","), ...lines, ""].join("\r\n");
}

function cellOf(value: string): string {
  // A name that begins like a formula would be one to a spreadsheet.
  const inert = /^[=+@\t\r-]/.test(value) ? `'${value}` : value;
  return /^[\w.:-]*$/.test(inert) ? inert : `"${inert.replaceAll('"', '""')}"`;
}

export const exportHelp = "as CSV: `csv` for standard output, or a file to be written";

/**
 * Writes rows to a file, and says so; for `csv` it answers the text that stands in for the table.
 * @param to what was given to `--export`.
 */
export function exportCsv(
  out: Output,
  to: string | undefined,
  columns: readonly string[],
  rows: Parameters<typeof toCsv>[1],
): string | undefined {
  if (to === undefined) return undefined;
  const text = toCsv(columns, rows);
  if (to === "csv") return text.trimEnd();
  writeFileSync(to, text);
  out.note(`${count(rows.length, "row")} written to ${to}`);
  return undefined;
}
