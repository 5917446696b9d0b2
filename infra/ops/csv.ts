/** RFC 4180, with the names of the columns first. */
export function toCsv(
  columns: readonly string[],
  rows: readonly Record<string, string | number | undefined>[],
): string {
  const lines = rows.map((row) => columns.map((column) => cellOf(String(row[column] ?? ""))).join(","));
  return [columns.join(","), ...lines, ""].join("\r\n");
}

function cellOf(value: string): string {
  // A name that begins like a formula would be one to a spreadsheet.
  const inert = /^[=+@\t-]/.test(value) ? `'${value}` : value;
  return /^[\w.:-]*$/.test(inert) ? inert : `"${inert.replaceAll('"', '""')}"`;
}
