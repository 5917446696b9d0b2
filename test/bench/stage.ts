import { rmSync } from "node:fs";
import { join } from "node:path";
import * as z from "zod";
import { localStage, parseStageConfig } from "../../infra/config.ts";
import { loadStack } from "../../infra/local/aws/stack.ts";
import { synthesizeStage } from "../../infra/synth.ts";
import { type Baseline, bundleBaselines } from "./baselines/bundle-baselines.ts";

const folder = join(import.meta.dirname, "../../dist/bench");

/** A function as it would be deployed: its file, and the environment that Lambda would give it. */
export type Deployed = { name: string; file: string; environment: Record<string, string> };

const functionSchema = z.looseObject({
  Handler: z.string(),
  Environment: z.looseObject({ Variables: z.record(z.string(), z.string()) }),
});

const nowhere = "http://127.0.0.1:9";

/**
 * The functions of the stage `local` and the baselines, bundled. The baselines get the environment of `share`.
 * @param endpoint the gateway of a local AWS that runs the same stage, for functions that are to do something.
 */
export async function deploy({ endpoint = nowhere, graphUrl = nowhere } = {}): Promise<{
  functions: Deployed[];
  baselines: Record<Baseline, Deployed>;
}> {
  rmSync(folder, { recursive: true, force: true });
  const config = parseStageConfig({ ...localStage, graphApiBaseUrl: graphUrl }, "the bench");
  const stage = join(folder, "stage");
  await synthesizeStage(config, stage);
  const lambda = {
    AWS_ENDPOINT_URL: endpoint,
    AWS_REGION: "us-east-1",
    AWS_ACCESS_KEY_ID: "bench",
    AWS_SECRET_ACCESS_KEY: "bench",
    AWS_EXECUTION_ENV: "AWS_Lambda_nodejs24.x",
    AWS_LAMBDA_FUNCTION_NAME: "bench",
    AWS_LAMBDA_FUNCTION_MEMORY_SIZE: "256",
  };
  const functions = loadStack(stage, endpoint)
    .each("AWS::Lambda::Function", functionSchema, [])
    .map(({ properties }): Deployed => {
      const [path = ""] = properties.Handler.split(".");
      const environment = { ...properties.Environment.Variables, ...lambda };
      return { name: path.split("/")[0] ?? "", file: join(stage, "functions", `${path}.mjs`), environment };
    });
  const share = functions.find(({ name }) => name === "share");
  if (share === undefined) throw new Error("The stack has no function share");
  const files = await bundleBaselines(join(folder, "baselines"));
  const baselines = Object.fromEntries(
    Object.entries(files).map(([name, file]) => [name, { name, file, environment: share.environment }]),
  );
  return { functions, baselines: baselines as Record<Baseline, Deployed> };
}
