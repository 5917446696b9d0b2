import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { App, Stack } from "aws-cdk-lib";
import { Template } from "aws-cdk-lib/assertions";
import { afterAll } from "vitest";
import type { StageConfig, StageConfigInput } from "../../infra/config.ts";
import { parseStageConfig } from "../../infra/config.ts";
import { addStage, inProcessApp } from "../../infra/synth.ts";

const folders: string[] = [];
afterAll(() => folders.splice(0).forEach((folder) => rmSync(folder, { recursive: true })));

/** An empty folder that is removed when the tests of this file are done. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "infra-test-"));
  folders.push(folder);
  return folder;
}

/** A deployed stage, as an operator would configure it, with `overrides`. */
export function deployedStage(overrides: Partial<StageConfigInput> = {}): StageConfig {
  return parseStageConfig(
    { stage: "prod", partnerBusinessId: "100000000000001", creditLineId: "200000000000001", ...overrides },
    "the test",
  );
}

/** The stage's stack around one file of code: what is bundled is no matter of the stack. */
export function stackOf(config: StageConfig): { app: App; stack: Stack } {
  const code = temporaryFolder();
  writeFileSync(join(code, "handler.mjs"), "export function handler() {}\n");
  const app = inProcessApp(temporaryFolder());
  return { app, stack: addStage(app, config, code) };
}

export function templateOf(config: StageConfig): Template {
  return Template.fromStack(stackOf(config).stack);
}

/** A value of the template as text, references as `<LogicalId>` or `<LogicalId.Attribute>` without the ids' hashes. */
export function flatten(value: unknown): string {
  if (typeof value === "string") return value;
  const [[intrinsic, argument] = []] = Object.entries(value as object);
  if (intrinsic === "Ref") return `<${withoutHash(argument)}>`;
  if (intrinsic === "Fn::GetAtt") return `<${withoutHash(argument[0])}.${argument[1]}>`;
  if (intrinsic === "Fn::Join") return argument[1].map(flatten).join(argument[0]);
  throw new Error(`Not a value of the template: ${JSON.stringify(value)}`);
}

export function withoutHash(logicalId: string): string {
  return logicalId.replace(/[0-9A-F]{8}$/, "");
}
