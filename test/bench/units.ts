import type { AttributeValue } from "@aws-sdk/client-dynamodb";

/**
 * What DynamoDB would bill (on-demand request units), by the rules of its developer guide: "Working with items: item sizes",
 * "Transactions: capacity", "Global secondary indexes: write capacity". Computed from the images before and after a write,
 * so that it does not rest on what a stand-in reports.
 */
export type Item = Record<string, AttributeValue>;

export function itemBytes(item: Item): number {
  return Object.entries(item).reduce((sum, [name, value]) => sum + Buffer.byteLength(name) + valueBytes(value), 0);
}

function valueBytes(value: AttributeValue): number {
  if (value.S !== undefined) return Buffer.byteLength(value.S);
  if (value.N !== undefined) return numberBytes(value.N);
  if (value.M !== undefined) {
    return Object.entries(value.M).reduce((sum, [name, one]) => sum + Buffer.byteLength(name) + valueBytes(one) + 1, 3);
  }
  if (value.L !== undefined) return value.L.reduce((sum, one) => sum + valueBytes(one) + 1, 3);
  if (value.BOOL !== undefined || value.NULL !== undefined) return 1;
  throw new Error("An attribute of a kind that the tables do not use");
}

/** A byte for two significant digits, and one more. */
function numberBytes(text: string): number {
  const digits = text.replace(/^-/, "").replace(".", "").replace(/^0+/, "").replace(/0+$/, "");
  return Math.ceil(digits.length / 2) + 1;
}

/** One unit for each KB of the larger image; a failed condition costs as much. */
export function writeUnits(before: Item | undefined, after: Item | undefined): number {
  const bytes = Math.max(before === undefined ? 0 : itemBytes(before), after === undefined ? 0 : itemBytes(after));
  return Math.max(1, Math.ceil(bytes / 1024));
}

/** A strongly consistent read: one unit for each 4 KB, also of what is not there. */
export function readUnits(item: Item | undefined): number {
  return item === undefined ? 1 : Math.max(1, Math.ceil(itemBytes(item) / 4096));
}

/** A keys-only index: an entry that comes or goes is a write, one whose key changes is two. */
export function indexUnits(before: Item | undefined, after: Item | undefined, keys: readonly string[]): number {
  const [old, next] = [entryOf(before, keys), entryOf(after, keys)];
  if (old === next) return 0;
  return (old === undefined ? 0 : 1) + (next === undefined ? 0 : 1);
}

function entryOf(item: Item | undefined, keys: readonly string[]): string | undefined {
  if (item === undefined || keys.some((key) => item[key] === undefined)) return undefined;
  return JSON.stringify(keys.map((key) => item[key]));
}
