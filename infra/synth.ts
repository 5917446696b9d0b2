import { join } from "node:path";
import type { Stack } from "aws-cdk-lib";
import { App, Validations } from "aws-cdk-lib";
import { Code } from "aws-cdk-lib/aws-lambda";
import { AwsSolutionsChecks } from "cdk-nag";
import cdk from "../cdk.json" with { type: "json" };
import { bundleFunctions } from "./bundle.ts";
import type { StageConfig } from "./config.ts";
import { creditLinesStack } from "./stack.ts";

/**
 * Adds a stage's stack to the app, and the checks that make its synthesis fail on a finding.
 * @param functionsDirectory the bundled functions, one folder for all.
 */
export function addStage(app: App, config: StageConfig, functionsDirectory: string): Stack {
  Validations.of(app).addPlugins(new AwsSolutionsChecks(app));
  return creditLinesStack(app, config, Code.fromAsset(functionsDirectory));
}

/**
 * Bundles and synthesizes a stage in this process, without the CDK command line.
 * @param outdir gets the cloud assembly (`credit-lines-<stage>.template.json`, assets) and the bundle it was made from.
 * @throws Error on findings of cdk-nag.
 */
export async function synthesizeStage(config: StageConfig, outdir: string): Promise<void> {
  const functionsDirectory = await bundleFunctions({ outdir: join(outdir, "functions") });
  const app = inProcessApp(outdir);
  addStage(app, config, functionsDirectory);
  app.synth();
}

/** An app as the CDK command line would make it from cdk.json, less what only that needs (1.5 s of 2). */
export function inProcessApp(outdir?: string): App {
  return new App({
    outdir,
    context: cdk.context,
    analyticsReporting: false,
    treeMetadata: false,
    builtinCloudFormationValidation: false,
  });
}
