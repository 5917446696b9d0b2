import { rmSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const names = ["middy-powertools", "business-sdk", "empty"] as const;
export type Baseline = (typeof names)[number];

/**
 * Bundles each baseline as CDK's `NodejsFunction` does when told nothing: one CommonJS file, not minified, the AWS SDK left
 * to the runtime. Here "the runtime" is this project's node_modules, so the folder must lie within the project.
 * @returns the file of each.
 */
export async function bundleBaselines(outdir: string): Promise<Record<Baseline, string>> {
  rmSync(outdir, { recursive: true, force: true });
  const files = names.map(async (name): Promise<[Baseline, string]> => {
    const outfile = join(outdir, name, "index.cjs");
    await build({
      entryPoints: [join(import.meta.dirname, name, "handler.ts")],
      outfile,
      bundle: true,
      platform: "node",
      target: "node24",
      external: ["@aws-sdk/*", "@smithy/*"],
      logLevel: "error",
    });
    return [name, outfile];
  });
  return Object.fromEntries(await Promise.all(files)) as Record<Baseline, string>;
}
