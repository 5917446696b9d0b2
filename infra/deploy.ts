import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { parseArgs } from "node:util";
import { CloudFormationClient, DescribeStacksCommand } from "@aws-sdk/client-cloudformation";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { readStageConfig, type StageConfig, systemTokenSecretName } from "./config.ts";

const help = `npm run deploy -- --stage NAME [options]

Checks what a deployment needs, then runs cdk deploy.

  --stage NAME     the stage; its configuration must name the same
  --config FILE    its configuration, JSON (default: NAME.json; see infra/config.ts)
  --yes            deploy changes of permissions without asking (for a pipeline that has reviewed them)
  --check          only check
  --help`;

/** What stands in the way of a deployment, with what to do about it. */
export class NotReady extends Error {
  override readonly name = "NotReady";
  readonly reason: string;
  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

export type DeployOptions = { stage: string; configFile: string; yes: boolean };

/** @throws NotReady for a stage that runs on one machine, or a configuration that is missing, wrong or of another stage. */
export function readyConfig({ stage, configFile }: DeployOptions): StageConfig {
  if (stage === "local") throw new NotReady("stage_is_local", "The stage local runs on this machine: npm run local");
  if (!existsSync(configFile)) {
    const needed = `{ "stage": "${stage}", "partnerBusinessId": "…", "creditLineId": "…", "alarmTopicArns": ["…"] }`;
    throw new NotReady(
      "no_config",
      `There is no ${configFile}. It must hold at least ${needed}; infra/config.ts has every key`,
    );
  }
  let config: StageConfig;
  try {
    config = readStageConfig(configFile, { stage });
  } catch (error) {
    throw new NotReady("config_not_valid", error instanceof Error ? error.message : String(error));
  }
  if (config.stage !== stage) {
    throw new NotReady("config_of_other_stage", `${configFile} is of the stage ${config.stage}, not of ${stage}`);
  }
  if (stage === "prod" && config.alarmTopicArns.length === 0) {
    throw new NotReady("no_alarm_topics", `${configFile} names no alarmTopicArns: in prod an alarm must wake somebody`);
  }
  if (stage === "prod" && config.onCallPrincipals.length === 0) {
    throw new NotReady(
      "no_on_call_principals",
      `${configFile} names no onCallPrincipals: in prod it must say who may take the roles, of which one reads the token`,
    );
  }
  return config;
}

/** @returns the account. @throws NotReady without credentials, or when CDK has not been set up in the account and region. */
export async function readyAccount(): Promise<string> {
  const sts = new STSClient();
  const cloudFormation = new CloudFormationClient();
  try {
    const { Account = "", Arn = "" } = await sts.send(new GetCallerIdentityCommand());
    const region = await cloudFormation.config.region();
    await cloudFormation.send(new DescribeStacksCommand({ StackName: "CDKToolkit" })).catch((error: unknown) => {
      const message = error instanceof Error ? error.message : String(error);
      if (!message.includes("does not exist")) throw error;
      throw new NotReady(
        "not_bootstrapped",
        `CDK is not set up in account ${Account}, region ${region}: npx cdk bootstrap aws://${Account}/${region}`,
      );
    });
    console.error(`Deploying as ${Arn} to region ${region}`);
    return Account;
  } catch (error) {
    if (error instanceof NotReady) throw error;
    const message = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    throw new NotReady("no_credentials", `AWS cannot be asked: log in, and set AWS_PROFILE and AWS_REGION. ${message}`);
  } finally {
    sts.destroy();
    cloudFormation.destroy();
  }
}

export function cdkArguments({ stage, configFile, yes }: DeployOptions): string[] {
  const context = ["-c", `stage=${stage}`, "-c", `config=${configFile}`];
  return ["cdk", "deploy", `credit-lines-${stage}`, ...context, "--require-approval", yes ? "never" : "broadening"];
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      stage: { type: "string" },
      config: { type: "string" },
      yes: { type: "boolean", default: false },
      check: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(help);
    return 0;
  }
  if (values.stage === undefined)
    throw new NotReady("no_stage", "Which stage? --stage NAME (--help tells the options)");
  const options = { stage: values.stage, configFile: values.config ?? `${values.stage}.json`, yes: values.yes };
  const config = readyConfig(options);
  await readyAccount();
  if (values.check) return 0;
  const { status } = spawnSync("npx", cdkArguments(options), { stdio: "inherit" });
  if (status !== 0) return status ?? 1;
  console.error(`
Deployed. If the stage is new, or its token has changed, put the token in, without a trace in your shell's history:
  aws secretsmanager put-secret-value --secret-id ${systemTokenSecretName(config.stage)} --secret-string file://token.txt
Then look whether it can work, and try one customer:
  npx credit-lines preflight --stage ${config.stage}
  npx credit-lines verify WABA_ID --wait --stage ${config.stage}`);
  return 0;
}

if (import.meta.main) {
  try {
    process.exitCode = await main();
  } catch (error) {
    const reason = error instanceof NotReady ? error.reason : "usage";
    console.error(`${reason}: ${error instanceof Error ? error.message : String(error)}`);
    process.exitCode = 2;
  }
}
