import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { Template } from "aws-cdk-lib/assertions";
import { beforeAll, describe, expect, test } from "vitest";
import { bundleFunctions } from "../../infra/bundle.ts";
import { localStage, parseStageConfig } from "../../infra/config.ts";
import { addStage, inProcessApp, synthesizeStage } from "../../infra/synth.ts";
import { flatten, temporaryFolder } from "./stages.ts";

const repository = join(import.meta.dirname, "../..");
const local = parseStageConfig(localStage, "the test");

/** Every file below `directory`: path → content. */
function contentOf(directory: string): Record<string, string> {
  const files = readdirSync(directory, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  return Object.fromEntries(
    files.map(({ parentPath, name }) => {
      const file = join(parentPath, name);
      return [file.slice(directory.length + 1), readFileSync(file, "utf8")];
    }),
  );
}

describe("the bundle of the functions", () => {
  const outdir = join(temporaryFolder(), "functions");
  beforeAll(() => bundleFunctions({ outdir }));

  test("is the same, byte for byte, wherever and whenever it is built", async () => {
    expect(contentOf(await bundleFunctions({ outdir: join(temporaryFolder(), "elsewhere") }))).toEqual(
      contentOf(outdir),
    );
  });

  test("takes credentials from the environment and knows no other place to look for them", () => {
    const code = Object.values(contentOf(outdir)).join("\n");
    const places = ["AWS_SESSION_TOKEN", "169.254.170.2", "AssumeRoleWithWebIdentity", "GetRoleCredentials"];
    expect(places.filter((place) => code.includes(place))).toEqual(["AWS_SESSION_TOKEN"]);
  });

  test("loads neither undici nor a client of AWS that an invocation may not need until it does", () => {
    const load = `import("${pathToFileURL(join(outdir, "share/handler.mjs")).href}").catch((error) => {
      console.log(error.message, process.moduleLoadList.filter((name) => name.includes("undici")).length);
    })`;
    const said = execFileSync(process.execPath, ["-e", load], { env: {}, encoding: "utf8" });
    // All modules are there when the handler finds its environment empty.
    expect(said).toMatch(/^Environment variables missing.* 0\n$/);
    const files = contentOf(outdir);
    function reachedFrom(file: string, seen = new Set<string>()): Set<string> {
      if (seen.has(file)) return seen;
      seen.add(file);
      for (const [, name] of (files[file] ?? "").matchAll(
        /(?:from|import)"(?:\.\.\/chunks\/|\.\/)([A-Z0-9]+\.mjs)"/g,
      )) {
        reachedFrom(`chunks/${name}`, seen);
      }
      return seen;
    }
    const code = [...reachedFrom("share/handler.mjs")].map((file) => files[file]).join("\n");
    const clients = ["AmazonSQS", "AWSEvents", "AWSLambda", "DynamoDB_20120810"];
    expect(clients.filter((client) => code.includes(client))).toEqual(["DynamoDB_20120810"]);
  });

  test("starts each function with exactly the environment that the stack gives it", () => {
    const app = inProcessApp(temporaryFolder());
    const template = Template.fromStack(addStage(app, local, outdir));
    const functions = Object.values(template.findResources("AWS::Lambda::Function"));
    const started = functions.map(({ Properties }) => {
      const [file] = Properties.Handler.split(".");
      const variables = Object.entries(Properties.Environment.Variables).map(([name, value]) => [name, flatten(value)]);
      const url = pathToFileURL(join(outdir, `${file}.mjs`)).href;
      return execFileSync(process.execPath, ["-e", `import("${url}").then((m) => console.log(typeof m.handler))`], {
        env: { ...Object.fromEntries(variables), AWS_REGION: "eu-west-1" },
        encoding: "utf8",
      }).trim();
    });
    expect(started).toEqual(["function", "function", "function", "function", "function"]);
  });
});

describe("bundling", () => {
  const functionsRoot = temporaryFolder();

  test("takes each folder that has a handler and empties what was there before", async () => {
    const outdir = temporaryFolder();
    writeFileSync(join(outdir, "stale.mjs"), "");
    mkdirSync(join(functionsRoot, "greet"));
    mkdirSync(join(functionsRoot, "unfinished"));
    writeFileSync(join(functionsRoot, "greet/handler.ts"), `export function handler(): string { return "hello"; }\n`);
    await bundleFunctions({ functionsRoot, outdir });
    expect(Object.keys(contentOf(outdir))).toEqual(["greet/handler.mjs"]);
  });

  test("of a folder without handlers says so", async () => {
    await expect(bundleFunctions({ functionsRoot: temporaryFolder(), outdir: temporaryFolder() })).rejects.toThrow(
      "nothing to bundle",
    );
  });
});

describe("synthesis", () => {
  test("gives the same assembly in this process, a second time, and by the CDK app", async () => {
    const [first, second, byApp] = [temporaryFolder(), temporaryFolder(), temporaryFolder()];
    await synthesizeStage(local, first);
    await synthesizeStage(local, second);
    const { context } = JSON.parse(readFileSync(join(repository, "cdk.json"), "utf8"));
    execFileSync(process.execPath, ["infra/app.ts"], {
      cwd: repository,
      env: { ...process.env, CDK_OUTDIR: byApp, CDK_CONTEXT_JSON: JSON.stringify(context), CDK_VALIDATION: "false" },
      stdio: "pipe",
    });
    for (const file of ["credit-lines-local.template.json", "credit-lines-local.assets.json"]) {
      const expected = readFileSync(join(first, file), "utf8");
      expect(readFileSync(join(second, file), "utf8")).toBe(expected);
      expect(readFileSync(join(byApp, file), "utf8")).toBe(expected);
    }
  });
});
