import { randomUUID } from "node:crypto";
import {
  CloudFormationClient,
  DescribeStacksCommand,
  paginateListStackResources,
} from "@aws-sdk/client-cloudformation";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { GetFunctionConfigurationCommand, LambdaClient } from "@aws-sdk/client-lambda";
import { SQSClient } from "@aws-sdk/client-sqs";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import * as z from "zod/mini";
import { reconcileEnvironment } from "../../functions/reconcile/environment.ts";
import { revokeEnvironment } from "../../functions/revoke/environment.ts";
import { shareEnvironment } from "../../functions/share/environment.ts";
import { clockOf } from "../../shared/command-deps.ts";
import type { CommandType } from "../../shared/contracts/commands.ts";
import type { Policy } from "../../shared/domain/business.ts";
import { parseEnvironment } from "../../shared/environment.ts";
import type { StateStore } from "../../shared/store/state-store.ts";
import { createStateStore } from "../../shared/store/state-store.ts";
import { exitCodes, OpsError } from "./errors.ts";

export type StageOptions = { stage?: string | undefined; endpoint?: string | undefined };

/** For the constructors of AWS's clients. Empty on AWS: the environment decides there. */
export type ClientConfig = {
  endpoint?: string;
  region?: string;
  credentials?: { accessKeyId: string; secretAccessKey: string };
};

/** A deployed stage, as its stack's outputs and its share function's environment describe it. */
export type Stage = {
  name: string;
  /** As the functions run with it; never a guess of this machine's configuration files. */
  settings: z.output<typeof shareEnvironment>;
  policy: Policy;
  queues: Record<CommandType, { url: string; deadLetterUrl: string }>;
  tables: { state: string; audit: string };
  dueIndexName: string;
  eventBus: string;
  systemTokenSecret: string;
  clientConfig: ClientConfig;
  dynamo: DynamoDBClient;
  lambda: LambdaClient;
  sqs: SQSClient;
  store: StateStore;
  /** AWS's clock, ms: windows are not to be measured by a laptop's that is minutes off. */
  now: () => number;
  functionName(name: string): string;
  /** The physical ids of the stack's resources of one type. */
  resources(type: string): Promise<string[]>;
  /** The ARN of whoever runs this, from STS. */
  whoAmI(): Promise<string>;
  close(): void;
};

/**
 * Finds a stage by the outputs of its stack, on AWS or at `npm run local`.
 * @throws OpsError when there is no such stack, or it lacks what this version needs.
 */
export async function connect(options: StageOptions): Promise<Stage> {
  const endpoint = options.endpoint ?? nonEmpty(process.env["AWS_ENDPOINT_URL"]);
  const name =
    options.stage ?? nonEmpty(process.env["CREDIT_LINES_STAGE"]) ?? (isLocal(endpoint) ? "local" : undefined);
  if (name === undefined) {
    const remedy =
      "Name it: --stage NAME, or CREDIT_LINES_STAGE in the environment. `npm run local` has its own: --endpoint.";
    throw new OpsError("no_stage", "Of which stage?", remedy, exitCodes.usage);
  }
  const clientConfig = clientConfigOf(endpoint);
  const cloudFormation = new CloudFormationClient(clientConfig);
  const lambda = new LambdaClient(clientConfig);
  const stackName = `credit-lines-${name}`;
  function functionName(own: string): string {
    return `${stackName}-${own}`;
  }
  const clock = watchClock(cloudFormation);
  const outputs = await readOutputs(cloudFormation, stackName);
  function output(key: string): string {
    const value = outputs[key];
    if (value !== undefined) return value;
    const remedy = "Deploy the stage anew, or use the command line of the version that it runs.";
    throw new OpsError("no_output", `The stack ${stackName} has no output ${key}`, remedy, exitCodes.unreachable);
  }
  async function environmentOf(own: string): Promise<Record<string, string>> {
    const FunctionName = functionName(own);
    const { Environment } = await lambda.send(new GetFunctionConfigurationCommand({ FunctionName }));
    return Environment?.Variables ?? {};
  }
  const settings = parseEnvironment(shareEnvironment, await environmentOf("share"));
  const reconcile = parseEnvironment(reconcileEnvironment, await environmentOf("reconcile"));
  const removal = parseEnvironment(revokeEnvironment, await environmentOf("revoke"));
  const ownNow = clockOf(settings);
  const dynamo = new DynamoDBClient(clientConfig);
  const sqs = new SQSClient(clientConfig);
  const state = output("StateTableName");

  return {
    name,
    settings,
    policy: policyOf(settings, removal),
    queues: {
      share: { url: output("ShareQueueUrl"), deadLetterUrl: output("ShareDeadLetterQueueUrl") },
      verify: { url: output("VerifyQueueUrl"), deadLetterUrl: output("VerifyDeadLetterQueueUrl") },
      revoke: { url: output("RevokeQueueUrl"), deadLetterUrl: output("RevokeDeadLetterQueueUrl") },
    },
    tables: { state, audit: output("AuditTableName") },
    dueIndexName: reconcile.DUE_INDEX_NAME,
    eventBus: output("EventBusName"),
    systemTokenSecret: output("SystemTokenSecretName"),
    clientConfig,
    dynamo,
    lambda,
    sqs,
    store: createStateStore({ client: dynamo, tableName: state, newId: randomUUID }),
    now: () => ownNow() + clock.offsetMs,
    functionName,
    async resources(type) {
      const found: string[] = [];
      for await (const page of paginateListStackResources({ client: cloudFormation }, { StackName: stackName })) {
        for (const { ResourceType, PhysicalResourceId } of page.StackResourceSummaries ?? []) {
          if (ResourceType === type && PhysicalResourceId !== undefined) found.push(PhysicalResourceId);
        }
      }
      return found;
    },
    async whoAmI() {
      const sts = new STSClient(clientConfig);
      const { Arn } = await sts.send(new GetCallerIdentityCommand());
      sts.destroy();
      if (Arn === undefined) throw new Error("STS does not say who we are");
      return Arn;
    },
    close() {
      for (const client of [cloudFormation, lambda, dynamo, sqs]) client.destroy();
    },
  };
}

/** How far AWS's clock, as the `Date` of its answers tells it to the second, is ahead of this machine's. */
function watchClock(client: CloudFormationClient): { offsetMs: number } {
  const clock = { offsetMs: 0 };
  client.middlewareStack.add(
    (next) => async (args) => {
      const result = await next(args);
      const answer = z.object({ headers: z.object({ date: z.string() }) }).safeParse(result.response);
      const offsetMs = Date.parse(answer.data?.headers.date ?? "") - Date.now();
      if (Math.abs(offsetMs) > clockToleranceMs) clock.offsetMs = offsetMs;
      return result;
    },
    { step: "deserialize", priority: "low" },
  );
  return clock;
}

const clockToleranceMs = 3000;

async function readOutputs(client: CloudFormationClient, StackName: string): Promise<Record<string, string>> {
  try {
    const { Stacks } = await client.send(new DescribeStacksCommand({ StackName }));
    const pairs = Stacks?.[0]?.Outputs?.map(({ OutputKey, OutputValue }) => [OutputKey, OutputValue]) ?? [];
    return Object.fromEntries(pairs);
  } catch (error) {
    if (!(error instanceof Error) || !error.message.includes("does not exist")) throw error;
    const region = await client.config.region();
    throw new OpsError(
      "no_stack",
      `There is no stack ${StackName} in ${region}`,
      "Check --stage, AWS_PROFILE and AWS_REGION; or deploy it: npx cdk deploy -c stage=NAME -c config=FILE",
      exitCodes.unreachable,
    );
  }
}

/** What decisions rest on, as the functions have it. */
function policyOf(settings: Stage["settings"], removal: z.output<typeof revokeEnvironment>): Policy {
  return {
    partnerBusinessId: settings.PARTNER_BUSINESS_ID,
    creditLineId: settings.CREDIT_LINE_ID,
    currencies: settings.CURRENCIES,
    shareMethod: settings.SHARE_METHOD,
    secondPost: settings.SECOND_POST,
    settleWindowMs: settings.SETTLE_WINDOW_SECONDS * 1000,
    clockSkewMs: settings.CLOCK_SKEW_SECONDS * 1000,
    verifyGraceMs: settings.VERIFY_GRACE_SECONDS.map((seconds) => seconds * 1000),
    onPartnerRemoved: removal.ON_PARTNER_REMOVED,
    breaker: {
      removals: removal.BREAKER_REMOVALS,
      windowMs: removal.BREAKER_WINDOW_SECONDS * 1000,
    },
    ...(settings.SYSTEM_USER_ID === undefined ? {} : { systemUserId: settings.SYSTEM_USER_ID }),
  };
}

function clientConfigOf(endpoint: string | undefined): ClientConfig {
  if (endpoint === undefined) return {};
  if (!isLocal(endpoint)) return { endpoint };
  // Any will do there; the key's id is who one is.
  const accessKeyId = nonEmpty(process.env["AWS_ACCESS_KEY_ID"]) ?? "local";
  return { endpoint, region: "us-east-1", credentials: { accessKeyId, secretAccessKey: "local" } };
}

function isLocal(endpoint: string | undefined): boolean {
  const url = endpoint === undefined ? null : URL.parse(endpoint);
  return url !== null && (url.hostname === "localhost" || /^127\.\d+\.\d+\.\d+$/.test(url.hostname));
}

function nonEmpty(value: string | undefined): string | undefined {
  return value === "" ? undefined : value;
}
