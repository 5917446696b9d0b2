import { existsSync, readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { build, type Metafile, type Plugin } from "esbuild";

const root = join(import.meta.dirname, "..");

/**
 * Bundles every `<functionsRoot>/<name>/handler.ts` into one folder of ES modules, `<name>/handler.mjs`, with what they
 * have in common in shared chunks. One asset for all functions: one build, one upload, and a hash that only code changes.
 * @param outdir is emptied first.
 * @returns outdir
 * @throws Error when there is no handler, or esbuild's own.
 */
export async function bundleFunctions(options: BundleOptions = {}): Promise<string> {
  return (await buildFunctions(options)).outdir;
}

type BundleOptions = { functionsRoot?: string; outdir?: string };

/** As `bundleFunctions`, with esbuild's account of what went into the bundle. */
export async function buildFunctions({
  functionsRoot = join(root, "functions"),
  outdir = join(root, "dist/functions"),
}: BundleOptions): Promise<{ outdir: string; metafile: Metafile }> {
  const entryPoints = readdirSync(functionsRoot)
    .map((name) => join(functionsRoot, name, "handler.ts"))
    .filter((file) => existsSync(file));
  if (entryPoints.length === 0) throw new Error(`No <name>/handler.ts in ${functionsRoot}: nothing to bundle`);
  rmSync(outdir, { recursive: true, force: true });
  const { metafile } = await build({
    metafile: true,
    absWorkingDir: root,
    entryPoints,
    outbase: functionsRoot,
    outdir,
    bundle: true,
    splitting: true,
    format: "esm",
    outExtension: { ".js": ".mjs" },
    chunkNames: "chunks/[hash]",
    platform: "node",
    target: "node24",
    mainFields: ["module", "main"],
    alias: { "@aws-sdk/credential-provider-node": join(import.meta.dirname, "lambda-credentials.ts") },
    plugins: [httpOnDemand],
    // Identifiers stay: a stack trace in the log must name our functions, and source maps would cost each cold start more.
    minifySyntax: true,
    minifyWhitespace: true,
    legalComments: "none",
    logLevel: "warning",
  });
  return { outdir, metafile };
}

/**
 * `import … from "node:http"` makes Node read every export, and one of them, `WebSocket`, loads all of undici: 20 ms of each
 * cold start. The module itself loads it only for who asks.
 */
const httpOnDemand: Plugin = {
  name: "http-on-demand",
  setup(bundle) {
    bundle.onResolve({ filter: /^node:http$/ }, ({ path }) => ({ path, namespace: "on-demand" }));
    bundle.onLoad({ filter: /./, namespace: "on-demand" }, ({ path }) => ({
      contents: `module.exports = process.getBuiltinModule("${path}")`,
    }));
  },
};

if (import.meta.main) console.log(await bundleFunctions());
