import type { App } from "aws-cdk-lib";
import { ArnFormat, CfnOutput, Duration, Stack, Validations } from "aws-cdk-lib";
import { AttributeType, BillingMode, CfnTable, ProjectionType, StreamViewType, Table } from "aws-cdk-lib/aws-dynamodb";
import { EventBus } from "aws-cdk-lib/aws-events";
import { AccountPrincipal, AnyPrincipal, Effect, Policy, PolicyDocument, PolicyStatement } from "aws-cdk-lib/aws-iam";
import type { Code } from "aws-cdk-lib/aws-lambda";
import { CfnSecret } from "aws-cdk-lib/aws-secretsmanager";
import { eventSource } from "../shared/contracts/events.ts";
import { revokeEnvironment } from "../functions/revoke/environment.ts";
import { shareEnvironment } from "../functions/share/environment.ts";
import { verifyEnvironment } from "../functions/verify/environment.ts";
import type { StageConfig } from "./config.ts";
import { systemTokenSecretName } from "./config.ts";
import {
  type Grant,
  type GraphAccess,
  namedSecret,
  removalPolicy,
  sharedPolicy,
} from "./constructs/credit-lines-function.ts";
import { onCallRoles } from "./constructs/on-call.ts";
import { publishFunction } from "./constructs/publish-function.ts";
import type { QueueEnvironment } from "./constructs/queue-function.ts";
import { queueFunction } from "./constructs/queue-function.ts";
import { reconcileFunction } from "./constructs/reconcile-function.ts";
import { signals } from "./constructs/signals.ts";
import { webhookFunction } from "./constructs/webhook-function.ts";

const dueIndexName = "DueIndex";

/** Everything of one stage, for whichever account and region it is deployed to. */
export function creditLinesStack(app: App, config: StageConfig, code: Code): Stack {
  const stack = new Stack(app, `credit-lines-${config.stage}`, {
    description: `Shares, verifies and revokes WhatsApp credit lines (${config.stage})`,
    terminationProtection: config.retention.keepDataOnDelete,
  });
  const stage = { config, code, tracing: tracingPolicy(stack) };
  const { state, audit } = tables(stack, config);
  const bus = eventBus(stack, config);
  const tokens = tokenSecrets(stack, config);
  const graph = graphAccess(stack, config, tokens.systemTokenArn);

  function command(own: QueueEnvironment) {
    return {
      ...own,
      STAGE: config.stage,
      STATE_TABLE_NAME: state.tableName,
      EVENT_BUS_NAME: bus.eventBusName,
      ...graph.environment,
      BUSINESS_TOKEN_SECRET_PREFIX: config.businessTokenSecretPrefix,
      PARTNER_BUSINESS_ID: config.partnerBusinessId,
      CREDIT_LINE_ID: config.creditLineId,
      SETTLE_WINDOW_SECONDS: String(config.settleWindowSeconds),
      CLOCK_SKEW_SECONDS: String(config.clockSkewSeconds),
      VERIFY_GRACE_SECONDS: config.verifyGraceSeconds.join(","),
    };
  }
  const grants = [
    {
      actions: ["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:PutItem", "dynamodb:UpdateItem"],
      resources: [state.tableArn],
    },
    { actions: ["events:PutEvents"], resources: [bus.eventBusArn] },
    ...graph.grants,
  ];
  const businessTokens = sharedPolicy(stack, "BusinessTokens", {
    actions: ["secretsmanager:GetSecretValue"],
    resources: [tokens.businessTokenArns],
    wildcardReason: "One secret for each customer, made by the onboarding service: only their prefix is known here.",
  });

  const verify = queueFunction(stack, "Verify", stage, {
    name: "verify",
    description: "Proves at Meta that a shared credit line funds its WABA",
    batchSize: 10,
    schema: verifyEnvironment,
    environment: (own) => ({ ...command(own), VERIFIES_STOP_AT: String(config.quota.verifiesStopAt) }),
    grants,
    policies: [...graph.policies, businessTokens],
    errorImpact: "Shares are not proved: customers who are not funded go unnoticed.",
    backlogImpact: "Its share is not proved: a customer who is not funded goes unnoticed.",
  });
  const share = queueFunction(stack, "Share", stage, {
    name: "share",
    description: "Shares the credit line with a customer, at most once",
    batchSize: 1,
    schema: shareEnvironment,
    environment: (own) => ({
      ...command(own),
      VERIFY_QUEUE_URL: verify.queue.queueUrl,
      CURRENCIES: config.currencies.join(","),
      SHARE_METHOD: config.shareMethod,
      SECOND_POST: config.secondPost,
      SHARES_STOP_AT: String(config.quota.sharesStopAt),
      ...(config.systemUserId === undefined ? {} : { SYSTEM_USER_ID: config.systemUserId }),
    }),
    grants: [
      ...grants,
      { actions: ["sqs:SendMessage"], resources: [verify.queue.queueArn] },
      // A share that is true already is answered only while its business is as it was judged (T4).
      { actions: ["dynamodb:ConditionCheckItem"], resources: [state.tableArn] },
    ],
    policies: [...graph.policies, businessTokens],
    errorImpact: "Customers are not funded: they cannot send messages until their share is made.",
    backlogImpact: "Its customer is not funded and cannot send messages.",
  });
  const revoke = queueFunction(stack, "Revoke", stage, {
    name: "revoke",
    description: "Takes the credit line back from a business, wherever it was shared",
    batchSize: 1,
    schema: revokeEnvironment,
    environment: (own) => ({
      ...command(own),
      ON_PARTNER_REMOVED: config.onPartnerRemoved,
      BREAKER_REMOVALS: String(config.breaker.removals),
      BREAKER_WINDOW_SECONDS: String(config.breaker.windowMinutes * 60),
    }),
    grants,
    policies: graph.policies,
    errorImpact: "Credit lines stay shared: the partner keeps paying for customers who left or do not pay.",
    backlogImpact: "The partner keeps paying for a customer who left or does not pay.",
  });
  const commands = { Share: share, Verify: verify, Revoke: revoke };

  publishFunction(stack, stage, { state, audit, bus });
  reconcileFunction(stack, stage, {
    state,
    audit,
    bus,
    dueIndexName,
    graph,
    commands: { share, verify, revoke },
  });

  const { webhook, appSecretName, verifyTokenSecretName } = config;
  if (webhook && appSecretName !== undefined && verifyTokenSecretName !== undefined) {
    const secrets = { appSecretName, appSecret: graph.policies, verifyTokenSecretName };
    output(stack, "WebhookUrl", webhookFunction(stack, stage, { revoke, ...secrets }));
  }
  onCallRoles(stack, {
    config,
    state,
    audit,
    dueIndexName,
    commands: [share, verify, revoke],
    systemTokenArn: tokens.systemTokenArn,
    // Meta is asked as the functions ask it: where the stage has an app secret, with its proof.
    appSecret: graph.policies,
  });
  signals(stack, config);

  for (const [name, { queue, deadLetterQueue }] of Object.entries(commands)) {
    output(stack, `${name}QueueUrl`, queue.queueUrl);
    output(stack, `${name}DeadLetterQueueUrl`, deadLetterQueue.queueUrl);
  }
  output(stack, "StateTableName", state.tableName);
  output(stack, "AuditTableName", audit.tableName);
  output(stack, "EventBusName", bus.eventBusName);
  output(stack, "SystemTokenSecretName", systemTokenSecretName(config.stage));
  output(stack, "BusinessTokenSecretPrefix", config.businessTokenSecretPrefix);
  return stack;
}

function tables(stack: Stack, config: StageConfig): { state: Table; audit: Table } {
  const common = {
    partitionKey: { name: "pk", type: AttributeType.STRING },
    billingMode: BillingMode.PAY_PER_REQUEST,
    pointInTimeRecoverySpecification: { pointInTimeRecoveryEnabled: true },
    deletionProtection: config.retention.keepDataOnDelete,
    removalPolicy: removalPolicy(config),
    resourcePolicy: overTlsOnly("dynamodb:*"),
  };
  const state = new Table(stack, "State", {
    ...common,
    stream: StreamViewType.NEW_AND_OLD_IMAGES,
    timeToLiveAttribute: "expiresAt",
  });
  // The stream is a resource of its own, with all that the table holds; `Table` has no word for its policy.
  if (state.node.defaultChild instanceof CfnTable) {
    const policyDocument = overTlsOnly("dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator");
    state.node.defaultChild.streamSpecification = {
      streamViewType: StreamViewType.NEW_AND_OLD_IMAGES,
      resourcePolicy: { policyDocument },
    };
  }
  state.addGlobalSecondaryIndex({
    indexName: dueIndexName,
    partitionKey: { name: "dueShard", type: AttributeType.STRING },
    sortKey: { name: "dueAt", type: AttributeType.NUMBER },
    // An index lags behind its table: the sweep reads each item again, strongly, so the keys are all it needs.
    projectionType: ProjectionType.KEYS_ONLY,
  });
  const audit = new Table(stack, "Audit", { ...common, sortKey: { name: "sk", type: AttributeType.STRING } });
  return { state, audit };
}

/** DynamoDB answers plain HTTP too. No resource by name: a policy cannot refer to the table that it is part of. */
function overTlsOnly(...actions: string[]): PolicyDocument {
  const statement = new PolicyStatement({
    effect: Effect.DENY,
    principals: [new AnyPrincipal()],
    actions,
    resources: ["*"],
    conditions: { Bool: { "aws:SecureTransport": "false" } },
  });
  return new PolicyDocument({ statements: [statement] });
}

/** What Lambda needs to send traces, which X-Ray lets be allowed for all resources only: one policy for all functions. */
function tracingPolicy(stack: Stack): Policy {
  const statement = new PolicyStatement({
    actions: ["xray:PutTraceSegments", "xray:PutTelemetryRecords"],
    resources: ["*"],
  });
  const policy = new Policy(stack, "Tracing", { statements: [statement] });
  Validations.of(policy).acknowledge({
    id: "AwsSolutions-IAM5[Resource::*]",
    reason: "X-Ray knows no resources; these two actions can only send traces.",
  });
  return policy;
}

/** What managing a rule takes, by CloudFormation and with tags, too. */
const rulesOfTheirOwn = [
  "PutRule",
  "DeleteRule",
  "DescribeRule",
  "EnableRule",
  "DisableRule",
  "PutTargets",
  "RemoveTargets",
  "ListTargetsByRule",
  "TagResource",
  "UntagResource",
  "ListTagsForResource",
];

/** The accounts in `consumers` may attach rules of their own to the bus. */
function eventBus(stack: Stack, config: StageConfig): EventBus {
  const bus = new EventBus(stack, "EventBus", { eventBusName: `credit-lines-${config.stage}` });
  // Whoever missed events, a new consumer too, can have them again under the same ids.
  bus.archive("Archive", {
    archiveName: `credit-lines-${config.stage}`,
    description: "Every event of the stage",
    eventPattern: { source: [eventSource] },
    retention: Duration.days(config.retention.logDays),
  });
  const rules = stack.formatArn({ service: "events", resource: "rule", resourceName: `${bus.eventBusName}/*` });
  for (const account of config.consumers) {
    bus.addToResourcePolicy(
      new PolicyStatement({
        sid: `Consumer${account}`,
        principals: [new AccountPrincipal(account)],
        actions: rulesOfTheirOwn.map((action) => `events:${action}`),
        resources: [rules],
        conditions: { StringEqualsIfExists: { "events:creatorAccount": "${aws:PrincipalAccount}" } },
      }),
    );
  }
  return bus;
}

/** The system token's secret, empty until a person puts the token there, and the names the customers' tokens go by. */
function tokenSecrets(stack: Stack, config: StageConfig): { systemTokenArn: string; businessTokenArns: string } {
  // Not the L2 `Secret`: it would generate a value, and a random token is worse than none.
  const systemToken = new CfnSecret(stack, "SystemToken", {
    name: systemTokenSecretName(config.stage),
    description: "Meta system user token of the partner",
  });
  Validations.of(systemToken).acknowledge({
    id: "AwsSolutions-SMG4",
    reason: "Meta has no call that rotates a system user's token: a person makes a new one in Meta's console.",
  });
  const businessTokenArns = stack.formatArn({
    service: "secretsmanager",
    resource: "secret",
    resourceName: `${config.businessTokenSecretPrefix}*`,
    arnFormat: ArnFormat.COLON_RESOURCE_NAME,
  });
  return { systemTokenArn: systemToken.ref, businessTokenArns };
}

/** What a function needs to reach Meta: the address, the system token and, when the stage has one, the app secret. */
function graphAccess(stack: Stack, config: StageConfig, systemTokenArn: string): GraphAccess {
  const actions = ["secretsmanager:GetSecretValue"];
  const environment = {
    SYSTEM_TOKEN_SECRET_ARN: systemTokenArn,
    GRAPH_API_BASE_URL: config.graphApiBaseUrl,
    GRAPH_API_VERSION: config.graphApiVersion,
    GRAPH_TIMEOUT_MS: String(config.graphTimeoutMs),
  };
  const grants: Grant[] = [{ actions, resources: [systemTokenArn] }];
  const { appSecretName } = config;
  if (appSecretName === undefined) return { environment, grants, policies: [] };
  const policies = [sharedPolicy(stack, "AppSecret", namedSecret(stack, appSecretName))];
  return { environment: { ...environment, APP_SECRET_NAME: appSecretName }, grants, policies };
}

/** Outputs are a contract: the local stack and the on-call command line find everything by them. */
function output(stack: Stack, name: string, value: string): void {
  new CfnOutput(stack, name, { value });
}
