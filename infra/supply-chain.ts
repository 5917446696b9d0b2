import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Metafile } from "esbuild";
import * as z from "zod";
import { buildFunctions } from "./bundle.ts";

/** What is shipped: permissive licences, whose one duty (to name the author) package-lock.json and this page fulfil. */
const shippedLicences = ["Apache-2.0", "MIT", "MIT-0", "ISC", "0BSD", "BSD-3-Clause"];

/** Beside them, for tools that build and test and are given to nobody. Of two licences to choose from, one is enough. */
const toolLicences = [...shippedLicences, "BlueOak-1.0.0", "MPL-2.0", "Python-2.0", "CC0-1.0", "CC-BY-4.0"];

/** Tools whose licence was looked at by a person, since it goes by no name of that list. */
const reviewedTools: Readonly<Record<string, string>> = {
  "facebook-nodejs-business-sdk": "Meta's Platform License; only a baseline of the benchmark",
  "email-validator": "comes with it; its file says Unlicense",
  nub: "comes with it; MIT/X11 is MIT",
};

const lockSchema = z.object({
  packages: z.record(
    z.string(),
    z.object({
      version: z.string().optional(),
      license: z.string().optional(),
      dev: z.boolean().default(false),
      optional: z.boolean().default(false),
      devOptional: z.boolean().default(false),
    }),
  ),
});

export type LockedPackage = { name: string; version: string; licence: string; isTool: boolean };

/** Every package of the lockfile but our own. */
export function lockedPackages(lockfile: unknown): LockedPackage[] {
  return Object.entries(lockSchema.parse(lockfile).packages)
    .filter(([path]) => path !== "")
    .map(([path, { version = "?", license: licence = "none named", dev, optional, devOptional }]) => ({
      name: path.slice(path.lastIndexOf("node_modules/") + "node_modules/".length),
      version,
      licence,
      isTool: dev || optional || devOptional,
    }));
}

/** The packages whose licence nobody has allowed, in words. */
export function licenceFaults(packages: readonly LockedPackage[]): string[] {
  return packages
    .filter(({ name, licence, isTool }) => {
      if (isTool && name in reviewedTools) return false;
      const allowed = isTool ? toolLicences : shippedLicences;
      return !licence
        .replaceAll(/[()]/g, "")
        .split(" OR ")
        .some((one) => allowed.includes(one));
    })
    .map(({ name, version, licence, isTool }) => `${name} ${version}: ${licence} (${isTool ? "tool" : "shipped"})`);
}

/** Small differences are no news: sizes are told to the nearest five kilobytes. */
function kilobytes(bytes: number): string {
  const rounded = Math.round(bytes / 5000) * 5;
  return rounded === 0 ? "< 5" : String(rounded);
}

/** Bytes that each package, or our own code, puts into the files that one function loads; by name. */
export function contentOf({ outputs }: Metafile, handler: string): Record<string, number> {
  const bytes: Record<string, number> = {};
  const seen = new Set<string>();
  function visit(file: string): void {
    const output = outputs[file];
    if (seen.has(file) || output === undefined) return;
    seen.add(file);
    for (const [input, { bytesInOutput }] of Object.entries(output.inputs)) {
      const owner = ownerOf(input);
      bytes[owner] = (bytes[owner] ?? 0) + bytesInOutput;
    }
    for (const { path, kind } of output.imports) if (kind === "import-statement") visit(path);
  }
  visit(handler);
  return bytes;
}

function ownerOf(input: string): string {
  const [, inside] = /.*node_modules\/(.*)$/.exec(input) ?? [];
  if (inside === undefined) return "our own code";
  const [scope = "", name = ""] = inside.split("/");
  if (scope === "@smithy" || scope === "@aws-sdk" || scope === "@aws-lambda-powertools") return `${scope}/*`;
  return scope.startsWith("@") ? `${scope}/${name}` : scope;
}

/** The two tables of infra/supply-chain.md. */
export async function describeSupplyChain(outdir?: string): Promise<string> {
  const { metafile } = await buildFunctions(outdir === undefined ? {} : { outdir });
  const handlers = Object.keys(metafile.outputs).filter((file) => file.endsWith("/handler.mjs"));
  const contents = handlers.map((file) => ({ name: file.split("/").at(-2) ?? file, bytes: contentOf(metafile, file) }));
  const owners = [...new Set(contents.flatMap(({ bytes }) => Object.keys(bytes)))].toSorted();
  const rows = owners.map((owner) => {
    const cells = contents.map(({ bytes }) => (bytes[owner] === undefined ? "–" : kilobytes(bytes[owner])));
    return `| ${owner} | ${cells.join(" | ")} |`;
  });
  const totals = contents.map(({ bytes }) => kilobytes(Object.values(bytes).reduce((sum, one) => sum + one, 0)));
  const names = contents.map(({ name }) => name);
  const packages = lockedPackages(JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8")));
  const shipped = packages.filter(({ isTool }) => !isTool);
  const licences = [...new Set(packages.map(({ licence }) => licence))].toSorted();
  return [
    `| kB, minified | ${names.join(" | ")} |`,
    `|---|${names.map(() => "---:|").join("")}`,
    ...rows,
    `| **all** | ${totals.join(" | ")} |`,
    "",
    "| Licence | Shipped | Tools |",
    "|---|---|---:|",
    ...licences.map((licence) => {
      const own = shipped.filter((one) => one.licence === licence).map(({ name }) => name);
      const tools = packages.filter((one) => one.licence === licence && one.isTool).length;
      return `| ${licence} | ${[...new Set(own)].toSorted().join(", ") || "–"} | ${tools} |`;
    }),
  ].join("\n");
}

const root = join(import.meta.dirname, "..");
const page = join(root, "infra/supply-chain.md");

/** Lays the tables into the page. */
export function withTables(text: string, tables: string): string {
  return text.replace(/(<!-- tables: .*?-->\n)[^]*?(\n<!-- end of tables -->)/, (_all, start: string, end: string) =>
    [start, tables, end].join(""),
  );
}

if (import.meta.main) {
  const faults = licenceFaults(lockedPackages(JSON.parse(readFileSync(join(root, "package-lock.json"), "utf8"))));
  for (const fault of faults) console.error(`Licence not allowed: ${fault}`);
  if (faults.length > 0) process.exitCode = 1;
  writeFileSync(page, withTables(readFileSync(page, "utf8"), await describeSupplyChain()));
  console.log("infra/supply-chain.md is up to date");
}
