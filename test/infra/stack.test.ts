import { Validations } from "aws-cdk-lib";
import { Match, Template } from "aws-cdk-lib/assertions";
import { Queue } from "aws-cdk-lib/aws-sqs";
import { AwsSolutionsChecks } from "cdk-nag";
import { describe, expect, test } from "vitest";
import { publishEnvironment } from "../../functions/publish/environment.ts";
import { reconcileEnvironment } from "../../functions/reconcile/environment.ts";
import { revokeEnvironment } from "../../functions/revoke/environment.ts";
import { shareEnvironment } from "../../functions/share/environment.ts";
import { verifyEnvironment } from "../../functions/verify/environment.ts";
import { webhookEnvironment } from "../../functions/webhook/environment.ts";
import { localStage, parseStageConfig, type StageConfig } from "../../infra/config.ts";
import { parseEnvironment } from "../../shared/environment.ts";
import { expectWritten } from "../support/documents.ts";
import { deployedStage, flatten, stackOf, templateOf } from "./stages.ts";

const topic = "arn:aws:sns:eu-west-1:111111111111:alarms";
const template = templateOf(
  deployedStage({
    alarmTopicArns: [topic],
    producers: ["222222222222"],
    consumers: ["333333333333"],
    systemUserId: "300000000000001",
    quota: { sharesStopAt: 0.7, verifiesStopAt: 0.85 },
  }),
);
const schemas = {
  share: shareEnvironment,
  verify: verifyEnvironment,
  revoke: revokeEnvironment,
  publish: publishEnvironment,
  reconcile: reconcileEnvironment,
};
const functionNames = ["share", "verify", "revoke", "publish", "reconcile"] as const;
const commandNames = ["share", "verify", "revoke"] as const;

type Properties = ReturnType<Template["findResources"]>[string];

function propertiesOf(type: string): Properties[] {
  return Object.values(template.findResources(type)).map(({ Properties }) => Properties ?? {});
}

/** The one resource of `type` whose logical id, without its hash, is `id`. */
function resource(type: string, id: string): Properties & { DeletionPolicy?: string } {
  const found = Object.entries(template.findResources(type)).filter(
    ([logicalId]) => logicalId.replace(/[0-9A-F]{8}$/, "") === id,
  );
  expect(found, `${type} ${id}`).toHaveLength(1);
  return found[0]![1];
}

function capitalized(name: string): string {
  return name.charAt(0).toUpperCase() + name.slice(1);
}

function functionOf(name: string): Properties {
  return resource("AWS::Lambda::Function", `${capitalized(name)}Function`).Properties;
}

describe("queues", () => {
  test("are standard, encrypted and keep a message for 14 days, dead or alive", () => {
    const queues = propertiesOf("AWS::SQS::Queue");
    expect(queues).toHaveLength(6);
    for (const queue of queues) {
      expect(queue).toMatchObject({ MessageRetentionPeriod: 1_209_600, SqsManagedSseEnabled: true });
      expect(queue.FifoQueue).toBeUndefined();
    }
  });

  test.each(commandNames)("move a %s command to its own dead letters after five receives", (name) => {
    const { RedrivePolicy } = resource("AWS::SQS::Queue", `${capitalized(name)}Queue`).Properties;
    expect(RedrivePolicy.maxReceiveCount).toBe(5);
    expect(flatten(RedrivePolicy.deadLetterTargetArn)).toBe(`<${capitalized(name)}DeadLetterQueue.Arn>`);
  });

  test.each(commandNames)("hide a %s command for six times its function's time-out", (name) => {
    const { VisibilityTimeout } = resource("AWS::SQS::Queue", `${capitalized(name)}Queue`).Properties;
    expect(VisibilityTimeout).toBeGreaterThanOrEqual(6 * functionOf(name).Timeout);
  });

  test.each(commandNames)("let %s dead letters go back to their own queue only", (name) => {
    const { RedriveAllowPolicy } = resource("AWS::SQS::Queue", `${capitalized(name)}DeadLetterQueue`).Properties;
    expect(RedriveAllowPolicy.redrivePermission).toBe("byQueue");
    expect(RedriveAllowPolicy.sourceQueueArns.map(flatten)).toEqual([
      `arn:<AWS::Partition>:sqs:<AWS::Region>:<AWS::AccountId>:credit-lines-prod-${name}`,
    ]);
    expect(resource("AWS::SQS::Queue", `${capitalized(name)}Queue`).Properties.QueueName).toBe(
      `credit-lines-prod-${name}`,
    );
  });

  test("accept commands from the producers' accounts, dead letters from nobody", () => {
    const senders: string[] = propertiesOf("AWS::SQS::QueuePolicy").flatMap((policy) =>
      policy.PolicyDocument.Statement.filter((statement: Properties) => statement.Effect === "Allow").map(
        (statement: Properties) =>
          `${flatten(statement.Principal.AWS)} ${statement.Action} ${flatten(statement.Resource)}`,
      ),
    );
    expect(senders.toSorted()).toEqual([
      "arn:<AWS::Partition>:iam::222222222222:root sqs:SendMessage <RevokeQueue.Arn>",
      "arn:<AWS::Partition>:iam::222222222222:root sqs:SendMessage <ShareQueue.Arn>",
      "arn:<AWS::Partition>:iam::222222222222:root sqs:SendMessage <VerifyQueue.Arn>",
    ]);
  });
});

test.each([
  ["AWS::SQS::Queue", "AWS::SQS::QueuePolicy", 6],
  ["AWS::S3::Bucket", "AWS::S3::BucketPolicy", 1],
  ["AWS::DynamoDB::Table", "AWS::DynamoDB::Table", 2],
])("every %s refuses what does not come over TLS", (type, policyType, count) => {
  const refusing = propertiesOf(policyType).filter(({ PolicyDocument, ResourcePolicy }) =>
    (PolicyDocument ?? ResourcePolicy.PolicyDocument).Statement.some(
      (statement: Properties) =>
        statement.Effect === "Deny" &&
        statement.Principal.AWS === "*" &&
        /^(sqs|s3|dynamodb):\*$/.test(statement.Action) &&
        statement.Condition.Bool["aws:SecureTransport"] === "false",
    ),
  );
  expect(refusing).toHaveLength(count);
  template.resourceCountIs(type, count);
});

test("the State table's stream, which tells all that the table holds, refuses it as well", () => {
  const { ResourcePolicy, StreamViewType } = resource("AWS::DynamoDB::Table", "State").Properties.StreamSpecification;
  expect(StreamViewType).toBe("NEW_AND_OLD_IMAGES");
  expect(ResourcePolicy.PolicyDocument.Statement).toEqual([
    {
      Effect: "Deny",
      Principal: { AWS: "*" },
      Action: ["dynamodb:DescribeStream", "dynamodb:GetRecords", "dynamodb:GetShardIterator"],
      Resource: "*",
      Condition: { Bool: { "aws:SecureTransport": "false" } },
    },
  ]);
});

test("everything at rest is encrypted by its service's own key: no queue, table, log, bus or bucket says otherwise", () => {
  for (const queue of propertiesOf("AWS::SQS::Queue")) expect(queue).toMatchObject({ SqsManagedSseEnabled: true });
  const [bucket] = propertiesOf("AWS::S3::Bucket");
  expect(bucket?.BucketEncryption.ServerSideEncryptionConfiguration).toEqual([
    { ServerSideEncryptionByDefault: { SSEAlgorithm: "AES256" } },
  ]);
  // DynamoDB, CloudWatch Logs, EventBridge and Secrets Manager always encrypt; a key of one's own needs grants that nobody has.
  expect(propertiesOf("AWS::DynamoDB::Table").map(({ SSESpecification }) => SSESpecification)).toEqual([
    undefined,
    undefined,
  ]);
  expect(JSON.stringify(template.toJSON())).not.toMatch(/"Kms\w*":(?!"")/);
});

describe("functions", () => {
  test.each(functionNames)("%s runs on Node 24 and arm64, from the one bundle", (name) => {
    expect(functionOf(name)).toMatchObject({
      FunctionName: `credit-lines-prod-${name}`,
      Runtime: "nodejs24.x",
      Architectures: ["arm64"],
      MemorySize: 256,
      Handler: `${name}/handler.handler`,
      Code: functionOf("share").Code,
    });
  });

  test("there are five, and no others", () => {
    template.resourceCountIs("AWS::Lambda::Function", functionNames.length);
  });

  // The clock is the local stage's, the app secret a stage's that has one.
  const elsewhere = ["CLOCK_OFFSET_MS", "APP_SECRET_NAME"];
  test.each(functionNames)("%s gets exactly the environment its schema asks for", (name) => {
    const variables: Record<string, unknown> = functionOf(name).Environment.Variables;
    const environment = Object.fromEntries(Object.entries(variables).map(([key, value]) => [key, flatten(value)]));
    expect(() => parseEnvironment(schemas[name], environment)).not.toThrow();
    const asked = Object.keys(schemas[name].shape).filter((key) => !elsewhere.includes(key));
    expect(Object.keys(environment).toSorted()).toEqual(asked.toSorted());
  });

  test("move to a new Graph version by one value of the configuration: nothing else of the template changes", () => {
    const [from, to] = ["v25.0", "v26.0"].map((graphApiVersion) =>
      templateOf(deployedStage({ graphApiVersion })).toJSON(),
    );
    const text = JSON.stringify(from);
    expect(text.split('"v25.0"')).toHaveLength(1 + 4);
    expect(JSON.parse(text.replaceAll('"v25.0"', '"v26.0"'))).toEqual(to);
  });

  test("share is told its own queue, its own dead letters and the queue of verifications", () => {
    const { QUEUE_URL, DEAD_LETTER_QUEUE_URL, VERIFY_QUEUE_URL } = functionOf("share").Environment.Variables;
    expect([QUEUE_URL, DEAD_LETTER_QUEUE_URL, VERIFY_QUEUE_URL].map(flatten)).toEqual([
      "<ShareQueue>",
      "<ShareDeadLetterQueue>",
      "<VerifyQueue>",
    ]);
  });

  test("share, verify and the sweep know from which used fraction on they wait; revoke never does", () => {
    const stops = functionNames.map((name) => {
      const { SHARES_STOP_AT, VERIFIES_STOP_AT } = functionOf(name).Environment.Variables;
      return [name, SHARES_STOP_AT, VERIFIES_STOP_AT];
    });
    expect(stops).toEqual([
      ["share", "0.7", undefined],
      ["verify", undefined, "0.85"],
      ["revoke", undefined, undefined],
      ["publish", undefined, undefined],
      ["reconcile", "0.7", "0.85"],
    ]);
  });

  test("reconcile knows the event sources that it pauses: those of the commands, not the stream's", () => {
    expect(flatten(functionOf("reconcile").Environment.Variables.COMMAND_SOURCE_IDS)).toBe(
      "<ShareFunctionCommands>,<VerifyFunctionCommands>,<RevokeFunctionCommands>",
    );
  });

  test("those that call Meta, and who acts on call, may read the app secret when the stage has one", () => {
    const { app, stack } = stackOf(deployedStage({ appSecretName: "meta/app-secret" }));
    const lambdas = Object.values(Template.fromStack(stack).findResources("AWS::Lambda::Function"));
    const told = lambdas.filter(
      ({ Properties: own }) => own.Environment.Variables.APP_SECRET_NAME === "meta/app-secret",
    );
    const names = told.map(({ Properties: own }) => String(own.FunctionName).replace("credit-lines-prod-", ""));
    expect(names.toSorted()).toEqual(["reconcile", "revoke", "share", "verify"]);
    const policies = Object.values(Template.fromStack(stack).findResources("AWS::IAM::Policy"));
    const naming = policies.filter((policy) => JSON.stringify(policy).includes(":secret:meta/app-secret-??????"));
    expect(naming.map(({ Properties: policy }) => policy.Roles.map(flatten).toSorted())).toEqual([
      ["<OnCallActing>", "<ReconcileRole>", "<RevokeRole>", "<ShareRole>", "<VerifyRole>"],
    ]);
    expect(() => app.synth()).not.toThrow();
  });

  test("none that a queue feeds reserves concurrency: a throttled receive would burn one of five", () => {
    for (const lambda of propertiesOf("AWS::Lambda::Function")) {
      expect(lambda.ReservedConcurrentExecutions).toBeUndefined();
    }
  });

  test("those that copy what waits into their own queue may do so more often than Lambda's sixteen rounds", () => {
    const looping = functionNames.filter((name) => functionOf(name).RecursiveLoop === "Allow");
    expect(looping.toSorted()).toEqual(["revoke", "share", "verify"]);
  });

  test.each(functionNames)("%s is traced by Lambda itself, and is not made before it may send traces", (name) => {
    expect(functionOf(name).TracingConfig).toEqual({ Mode: "Active" });
    const { DependsOn } = resource("AWS::Lambda::Function", `${capitalized(name)}Function`) as { DependsOn?: string[] };
    expect(DependsOn).toContainEqual(expect.stringMatching(/^Tracing/));
    const { Roles } = resource("AWS::IAM::Policy", "Tracing").Properties;
    expect(Roles.map(flatten)).toContain(`<${capitalized(name)}Role>`);
  });

  test("a log group keeps each one's log for as long as the stage says", () => {
    expect(propertiesOf("AWS::Logs::LogGroup").map((group) => group.RetentionInDays)).toEqual([90, 90, 90, 90, 90]);
    for (const name of functionNames) {
      expect(flatten(functionOf(name).LoggingConfig.LogGroup)).toBe(`<${capitalized(name)}LogGroup>`);
    }
  });
});

describe("permissions", () => {
  function log(name: string): string[] {
    return [`logs:CreateLogStream <${name}LogGroup.Arn>`, `logs:PutLogEvents <${name}LogGroup.Arn>`];
  }
  const state = ["GetItem", "BatchGetItem", "PutItem", "UpdateItem"].map((action) => `dynamodb:${action} <State.Arn>`);
  function ownQueue(name: string): string[] {
    return [
      `sqs:DeleteMessage <${name}Queue.Arn>`,
      `sqs:GetQueueAttributes <${name}Queue.Arn>`,
      `sqs:ReceiveMessage <${name}Queue.Arn>`,
      `sqs:SendMessage <${name}Queue.Arn>`,
      `sqs:SendMessage <${name}DeadLetterQueue.Arn>`,
    ];
  }
  const announce = "events:PutEvents <EventBus.Arn>";
  const systemToken = "secretsmanager:GetSecretValue <SystemToken>";

  test.each([
    [
      "Share",
      [
        ...log("Share"),
        ...state,
        "dynamodb:ConditionCheckItem <State.Arn>",
        ...ownQueue("Share"),
        announce,
        systemToken,
        "sqs:SendMessage <VerifyQueue.Arn>",
      ],
    ],
    ["Verify", [...log("Verify"), ...state, ...ownQueue("Verify"), announce, systemToken]],
    ["Revoke", [...log("Revoke"), ...state, ...ownQueue("Revoke"), announce, systemToken]],
    [
      "Publish",
      [
        ...log("Publish"),
        announce,
        "dynamodb:DescribeStream <State.StreamArn>",
        "dynamodb:GetRecords <State.StreamArn>",
        "dynamodb:GetShardIterator <State.StreamArn>",
        "dynamodb:ListStreams <State.Arn>/stream/*",
        "dynamodb:PutItem <Audit.Arn>",
        "s3:ListBucket <PublishUndeliveredBucket.Arn>",
        "s3:PutObject <PublishUndeliveredBucket.Arn>/aws/lambda/*",
      ],
    ],
    [
      "Reconcile",
      [
        ...log("Reconcile"),
        ...state,
        "dynamodb:Scan <State.Arn>",
        "dynamodb:Query <State.Arn>/index/DueIndex",
        "dynamodb:BatchGetItem <Audit.Arn>",
        "dynamodb:PutItem <Audit.Arn>",
        announce,
        "sqs:SendMessage <ShareQueue.Arn>",
        "sqs:SendMessage <VerifyQueue.Arn>",
        "sqs:SendMessage <RevokeQueue.Arn>",
        systemToken,
        ...["Share", "Verify", "Revoke"].flatMap((name) =>
          ["Get", "Update"].map(
            (verb) =>
              `lambda:${verb}EventSourceMapping arn:<AWS::Partition>:lambda:<AWS::Region>:<AWS::AccountId>:event-source-mapping:<${name}FunctionCommands>`,
          ),
        ),
      ],
    ],
    ["ReconcileSchedule", ["lambda:InvokeFunction <ReconcileFunction.Arn>"]],
  ])("%s may do this and nothing else", (name, expected) => {
    const { Roles, PolicyDocument } = resource("AWS::IAM::Policy", `${name}RoleDefaultPolicy`).Properties;
    expect(Roles.map(flatten)).toEqual([`<${name}Role>`]);
    expect(permissionsOf(PolicyDocument).toSorted()).toEqual(expected.toSorted());
  });

  test("that several roles have stand in a policy of their own: the customers' tokens for share and verify", () => {
    const { Roles, PolicyDocument } = resource("AWS::IAM::Policy", "BusinessTokens").Properties;
    expect(Roles.map(flatten).toSorted()).toEqual(["<ShareRole>", "<VerifyRole>"]);
    expect(permissionsOf(PolicyDocument)).toEqual([
      "secretsmanager:GetSecretValue arn:<AWS::Partition>:secretsmanager:<AWS::Region>:<AWS::AccountId>:secret:credit-lines/prod/business-token/*",
    ]);
  });

  test("can be taken by the service that they are for, the scheduler's for this account alone", () => {
    const roles = propertiesOf("AWS::IAM::Role").filter(({ RoleName }) => RoleName === undefined);
    const takers = roles.map(({ AssumeRolePolicyDocument: { Statement } }) =>
      Statement.map(({ Principal, Condition }: Properties) => JSON.stringify([Principal, Condition])).join(),
    );
    const scheduler = [
      { Service: "scheduler.amazonaws.com" },
      { StringEquals: { "aws:SourceAccount": { Ref: "AWS::AccountId" } } },
    ];
    expect(new Set(takers)).toEqual(
      new Set([JSON.stringify([{ Service: "lambda.amazonaws.com" }, undefined]), JSON.stringify(scheduler)]),
    );
  });

  test("come from no other policy", () => {
    const roles = propertiesOf("AWS::IAM::Role");
    const working = roles.filter(({ RoleName }) => RoleName === undefined);
    expect(working).toHaveLength(6);
    for (const role of working) expect(Object.keys(role)).toEqual(["AssumeRolePolicyDocument"]);
    const shared = Object.keys(template.findResources("AWS::IAM::Policy")).filter(
      (id) => !/RoleDefaultPolicy/.test(id),
    );
    expect(shared.map((id) => id.replace(/[0-9A-F]{8}$/, "")).toSorted()).toEqual([
      "BusinessTokens",
      "OnCallAct",
      "OnCallLook",
      "Tracing",
    ]);
    for (const name of functionNames) {
      expect(flatten(functionOf(name).Role)).toBe(`<${capitalized(name)}Role.Arn>`);
    }
  });

  function permissionsOf(document: Properties): string[] {
    return document.Statement.flatMap((statement: Properties) => {
      expect(statement.Effect).toBe("Allow");
      return [statement.Action]
        .flat()
        .flatMap((action) => [statement.Resource].flat().map((on) => `${action} ${flatten(on)}`));
    });
  }
});

describe("event sources", () => {
  function mappingOf(id: string): Properties {
    return resource("AWS::Lambda::EventSourceMapping", id).Properties;
  }

  test.each([
    ["Share", 1],
    ["Verify", 10],
    ["Revoke", 1],
  ])("%s receives %i at a time, reports each alone and never runs above its concurrency", (name, batchSize) => {
    const mapping = mappingOf(`${name}FunctionCommands`);
    expect(mapping).toMatchObject({
      BatchSize: batchSize,
      FunctionResponseTypes: ["ReportBatchItemFailures"],
      ScalingConfig: { MaximumConcurrency: 5 },
    });
    expect(flatten(mapping.EventSourceArn)).toBe(`<${name}Queue.Arn>`);
    expect(flatten(mapping.FunctionName)).toBe(`<${name}Function>`);
  });

  test("none filters: what does not match a filter is deleted", () => {
    const mappings = propertiesOf("AWS::Lambda::EventSourceMapping");
    expect(mappings).toHaveLength(4);
    for (const mapping of mappings) expect(mapping.FilterCriteria).toBeUndefined();
  });

  test("the stream is given up by age alone, and what is given up is kept whole in a private bucket", () => {
    const mapping = mappingOf("PublishFunctionStream");
    expect(mapping).toMatchObject({
      BisectBatchOnFunctionError: true,
      FunctionResponseTypes: ["ReportBatchItemFailures"],
      MaximumRetryAttempts: -1,
      MaximumRecordAgeInSeconds: 23 * 3600,
      StartingPosition: "TRIM_HORIZON",
    });
    expect(flatten(mapping.DestinationConfig.OnFailure.Destination)).toBe("<PublishUndeliveredBucket.Arn>");
    template.hasResourceProperties("AWS::S3::Bucket", {
      BucketEncryption: Match.anyValue(),
      PublicAccessBlockConfiguration: {
        BlockPublicAcls: true,
        BlockPublicPolicy: true,
        IgnorePublicAcls: true,
        RestrictPublicBuckets: true,
      },
      LifecycleConfiguration: Match.anyValue(),
    });
  });

  test.each([
    ["the due sweep runs every few minutes", "rate(5 minutes)", "due-sweep"],
    ["an estate scan begins every day", "rate(24 hours)", "estate-scan"],
    ["a scan under way goes on every few minutes", "rate(5 minutes)", "continue-scan"],
  ])("%s, at the minute", (_what, ScheduleExpression, task) => {
    template.hasResourceProperties("AWS::Scheduler::Schedule", {
      ScheduleExpression,
      FlexibleTimeWindow: { Mode: "OFF" },
      Target: Match.objectLike({ Input: JSON.stringify({ task }) }),
    });
  });
});

describe("data", () => {
  test("the State table streams both images and finds what is due by a sparse index", () => {
    expect(resource("AWS::DynamoDB::Table", "State").Properties).toMatchObject({
      KeySchema: [{ AttributeName: "pk", KeyType: "HASH" }],
      StreamSpecification: { StreamViewType: "NEW_AND_OLD_IMAGES" },
      TimeToLiveSpecification: { AttributeName: "expiresAt", Enabled: true },
      GlobalSecondaryIndexes: [
        {
          IndexName: "DueIndex",
          KeySchema: [
            { AttributeName: "dueShard", KeyType: "HASH" },
            { AttributeName: "dueAt", KeyType: "RANGE" },
          ],
          Projection: { ProjectionType: "KEYS_ONLY" },
        },
      ],
      AttributeDefinitions: [
        { AttributeName: "pk", AttributeType: "S" },
        { AttributeName: "dueShard", AttributeType: "S" },
        { AttributeName: "dueAt", AttributeType: "N" },
      ],
    });
  });

  test("the Audit table is keyed by subject and version, and nothing in it expires", () => {
    const { Properties: audit } = resource("AWS::DynamoDB::Table", "Audit");
    expect(audit.KeySchema).toEqual([
      { AttributeName: "pk", KeyType: "HASH" },
      { AttributeName: "sk", KeyType: "RANGE" },
    ]);
    expect(audit.TimeToLiveSpecification).toBeUndefined();
  });

  test.each(["State", "Audit"])("the %s table can be restored to any second and outlives its stack", (name) => {
    const { Properties: table, DeletionPolicy } = resource("AWS::DynamoDB::Table", name);
    expect(table).toMatchObject({
      BillingMode: "PAY_PER_REQUEST",
      PointInTimeRecoverySpecification: { PointInTimeRecoveryEnabled: true },
      DeletionProtectionEnabled: true,
    });
    expect(DeletionPolicy).toBe("Retain");
  });

  /** What would become of each thing that holds data, and whether the stack can be deleted at all. */
  function endOf(config: StageConfig) {
    const { stack } = stackOf(config);
    const resources = Object.values(Template.fromStack(stack).toJSON()["Resources"] as Record<string, Properties>);
    const data = resources.filter(({ Type }) => /::(Table|Bucket|LogGroup)$/.test(Type));
    return {
      kept: new Set(data.flatMap(({ DeletionPolicy, UpdateReplacePolicy }) => [DeletionPolicy, UpdateReplacePolicy])),
      isProtected: stack.terminationProtection,
      areTablesProtected: new Set(
        data.filter(({ Type }) => /Table/.test(Type)).map(({ Properties: table }) => table.DeletionProtectionEnabled),
      ),
    };
  }

  test.each([
    ["local", parseStageConfig(localStage, "the test")],
    ["dev", deployedStage({ stage: "dev" })],
  ])("the stage %s, which keeps nothing, can be deleted whole", (_name, config) => {
    const whole = { kept: new Set(["Delete"]), isProtected: false, areTablesProtected: new Set([false]) };
    expect(endOf(config)).toEqual(whole);
  });

  test.each(["prod", "staging"])(
    "the stage %s keeps its tables, its bucket and its logs, and its stack stays",
    (name) => {
      const safe = { kept: new Set(["Retain"]), isProtected: true, areTablesProtected: new Set([true]) };
      expect(endOf(deployedStage({ stage: name }))).toEqual(safe);
    },
  );

  test("the system token's secret has a name and no value", () => {
    expect(propertiesOf("AWS::SecretsManager::Secret")).toEqual([
      { Name: "credit-lines/prod/system-token", Description: expect.any(String) },
    ]);
  });

  test("every event is archived for as long as the logs are kept, so that a consumer can have it again", () => {
    expect(propertiesOf("AWS::Events::Archive")).toMatchObject([
      { ArchiveName: "credit-lines-prod", EventPattern: { source: ["credit-lines"] }, RetentionDays: 90 },
    ]);
  });

  test("a consumer's account may manage the rules that it made on the bus", () => {
    template.hasResourceProperties("AWS::Events::EventBusPolicy", {
      StatementId: "cdk-Consumer333333333333",
      Statement: Match.objectLike({
        Effect: "Allow",
        Principal: { AWS: Match.objectLike({ "Fn::Join": ["", Match.arrayWith([":iam::333333333333:root"])] }) },
        // No PutEvents: what is announced is this system's word alone.
        Action: ["PutRule", "DeleteRule", "DescribeRule", "EnableRule", "DisableRule"]
          .concat(["PutTargets", "RemoveTargets", "ListTargetsByRule"])
          .concat(["TagResource", "UntagResource", "ListTagsForResource"])
          .map((action) => `events:${action}`),
        Condition: { StringEqualsIfExists: { "events:creatorAccount": "${aws:PrincipalAccount}" } },
      }),
    });
  });
});

describe("alarms", () => {
  const alarms = propertiesOf("AWS::CloudWatch::Alarm");

  test("tell in a sentence who is hurt, and wake the configured topics", () => {
    expect(alarms).toHaveLength(3 * 4 + 6 + 8 + 14);
    for (const alarm of alarms) {
      expect(alarm.AlarmDescription).toMatch(/^[A-Z].{40,}\. Runbook: infra\/ops\/runbooks\/[a-z-]+\.md$/);
      expect(alarm.AlarmActions).toEqual([topic]);
    }
  });

  test.each(functionNames)("rise at the first failed invocation of %s", (name) => {
    expect(alarms).toContainEqual(
      expect.objectContaining({
        MetricName: "Errors",
        Dimensions: [{ Name: "FunctionName", Value: { Ref: expect.stringContaining(`${capitalized(name)}Function`) } }],
        Threshold: 1,
      }),
    );
  });

  test.each(commandNames)(
    "H27i: rise when a %s command is dead, some are dead every day for a week, or one waits for 30 minutes",
    (name) => {
      const watched = alarms
        .filter((alarm) => alarm.Namespace === "AWS/SQS")
        .map(({ MetricName, Dimensions, Threshold, Statistic, Period, EvaluationPeriods }) => {
          const queue = flatten(Dimensions[0].Value["Fn::GetAtt"][0]);
          return `${MetricName} ${queue} ${Threshold} (${Statistic} of ${Period} s, ${EvaluationPeriods} in a row)`;
        })
        .map((line) => line.replace(/[0-9A-F]{8} /, " "))
        .filter((line) => line.includes(` ${capitalized(name)}`));
      expect(watched.toSorted()).toEqual([
        `ApproximateAgeOfOldestMessage ${capitalized(name)}Queue ${30 * 60} (Maximum of 300 s, 1 in a row)`,
        // Never by the age of the oldest: who looks at a dead letter three times takes it out of that.
        `ApproximateNumberOfMessagesVisible ${capitalized(name)}DeadLetterQueue 1 (Maximum of 60 s, 1 in a row)`,
        `ApproximateNumberOfMessagesVisible ${capitalized(name)}DeadLetterQueue 1 (Maximum of 86400 s, 7 in a row)`,
      ]);
    },
  );

  test("rise when announcements lag, go to the bucket or are lost", () => {
    const byFunction = [{ Name: "FunctionName", Value: { Ref: expect.stringContaining("PublishFunction") } }];
    const byMapping = [
      { Name: "EventSourceMappingUUID", Value: { Ref: expect.stringContaining("PublishFunctionStream") } },
    ];
    for (const [MetricName, Dimensions] of [
      ["IteratorAge", byFunction],
      ["DestinationDeliveryFailures", byFunction],
      ["OnFailureDestinationDeliveredEventCount", byMapping],
      ["DroppedEventCount", byMapping],
    ] as const) {
      expect(alarms).toContainEqual(expect.objectContaining({ Namespace: "AWS/Lambda", MetricName, Dimensions }));
    }
    // Lambda tells the last two only where the mapping is asked to.
    expect(propertiesOf("AWS::Lambda::EventSourceMapping")).toContainEqual(
      expect.objectContaining({ MetricsConfig: { Metrics: ["EventCount"] } }),
    );
  });

  test("rise when nobody reads the stream of a table that is written: then there is no age of an iterator to tell", () => {
    const [stopped] = alarms.filter((alarm) => /its stream was not read/.test(alarm.AlarmDescription));
    expect(stopped).toMatchObject({
      Threshold: 1,
      ComparisonOperator: "GreaterThanOrEqualToThreshold",
      EvaluationPeriods: 24,
      DatapointsToAlarm: 2,
    });
    const { expr_1: expression, ...metrics } = metricsOf(stopped);
    expect(expression).toBe("IF(FILL(writes, 0) > 0 AND FILL(runs, 0) == 0, 1, 0)");
    expect(metrics).toEqual({
      writes: "AWS/DynamoDB ConsumedWriteCapacityUnits TableName=<State>: Sum of 3600 s",
      runs: "AWS/Lambda Invocations FunctionName=<PublishFunction>: Sum of 3600 s",
    });
  });

  test("rise when a run finds commands waiting for the system token", () => {
    template.hasResourceProperties("AWS::CloudWatch::Alarm", {
      Namespace: "CreditLines",
      MetricName: "SystemTokenDead",
      Dimensions: [{ Name: "service", Value: "credit-lines-prod" }],
      Statistic: "Maximum",
      Period: 300,
      Threshold: 1,
      TreatMissingData: "notBreaching",
    });
  });

  test("rise when the due sweep or the scan stays away: silence is its fault, not its rest", () => {
    const bySilence = alarms.filter(({ TreatMissingData }) => TreatMissingData === "breaching");
    // Not by Lambda's invocations: those of one schedule would hide that another is off.
    expect(bySilence).toMatchObject([
      { ComparisonOperator: "LessThanThreshold", Threshold: 1, EvaluationPeriods: 2 },
      { MetricName: "EstateScanAge", ComparisonOperator: "GreaterThanOrEqualToThreshold", Period: 3600 },
    ]);
    // Filled: CloudWatch goes back to older periods before it calls one of them missing, and the sweep's quarter became an hour.
    expect(metricsOf(bySilence[0])).toEqual({
      expr_1: "FILL(sweeps, 0)",
      sweeps: "CreditLines SystemTokenDead service=credit-lines-prod: SampleCount of 900 s",
    });
  });

  /** What an alarm over several metrics computes, and from which. */
  function metricsOf(alarm: Properties | undefined): Record<string, string> {
    return Object.fromEntries(
      (alarm?.["Metrics"] ?? []).map(({ Id, Expression, MetricStat }: Properties) => {
        if (MetricStat === undefined) return [Id, Expression];
        const { Metric, Stat, Period } = MetricStat;
        const dimensions = Metric.Dimensions.map(({ Name, Value }: Properties) => `${Name}=${flatten(Value)}`);
        return [Id, `${Metric.Namespace} ${Metric.MetricName} ${dimensions.join()}: ${Stat} of ${Period} s`];
      }),
    );
  }
});

describe("the webhook", () => {
  const secrets = { appSecretName: "my/app-secret", verifyTokenSecretName: "my/verify-token" };
  const withWebhook = templateOf(deployedStage({ webhook: true, ...secrets }));
  const [[id, lambda] = []] = Object.entries(
    withWebhook.findResources("AWS::Lambda::Function", {
      Properties: { FunctionName: "credit-lines-prod-webhook" },
    }),
  );

  test("is there only when the stage asks for it", () => {
    template.resourceCountIs("AWS::Lambda::Url", 0);
    expect(template.findOutputs("WebhookUrl")).toEqual({});
    withWebhook.resourceCountIs("AWS::Lambda::Url", 1);
    withWebhook.hasResourceProperties("AWS::Lambda::Url", { AuthType: "NONE" });
    expect(withWebhook.findOutputs("WebhookUrl")).toHaveProperty("WebhookUrl");
  });

  test("takes no more of the account's concurrency than is reserved for it, however many call its address", () => {
    expect(lambda?.["Properties"].ReservedConcurrentExecutions).toBe(20);
    const unlimited = { share: 5, verify: 5, revoke: 5, webhook: null };
    const free = templateOf(deployedStage({ webhook: true, ...secrets, concurrency: unlimited }));
    const functions = Object.values(free.findResources("AWS::Lambda::Function"));
    expect(functions.filter(({ Properties: own }) => own?.["ReservedConcurrentExecutions"] !== undefined)).toEqual([]);
  });

  test("raises an alarm when calls of its address are turned away", () => {
    withWebhook.hasResourceProperties("AWS::CloudWatch::Alarm", {
      MetricName: "Throttles",
      Dimensions: [{ Name: "FunctionName", Value: { Ref: id } }],
      Threshold: 1,
    });
  });

  test("gets exactly the environment its schema asks for", () => {
    const variables = Object.entries(lambda?.["Properties"].Environment.Variables ?? {});
    const environment = Object.fromEntries(variables.map(([key, value]) => [key, flatten(value)]));
    expect(() => parseEnvironment(webhookEnvironment, environment)).not.toThrow();
    expect(Object.keys(environment).toSorted()).toEqual(
      Object.keys(webhookEnvironment.shape)
        .filter((key) => key !== "CLOCK_OFFSET_MS")
        .toSorted(),
    );
  });

  test("may queue revocations and read its two secrets, and nothing else: no table, no bus, no token", () => {
    const role = lambda?.["Properties"].Role["Fn::GetAtt"][0];
    const policies = Object.values(withWebhook.findResources("AWS::IAM::Policy")).filter(({ Properties: policy }) =>
      policy.Roles.some((one: Properties) => one["Ref"] === role),
    );
    const grants: string[] = policies.flatMap(({ Properties: policy }) =>
      policy.PolicyDocument.Statement.flatMap((statement: Properties) =>
        [statement["Action"]]
          .flat()
          .flatMap((action) =>
            [statement["Resource"]].flat().map((one) => `${action} ${flatten(one).split(":").at(-1)}`),
          ),
      ),
    );
    expect(id).toBeDefined();
    expect(grants.toSorted()).toEqual([
      "logs:CreateLogStream <WebhookLogGroup.Arn>",
      "logs:PutLogEvents <WebhookLogGroup.Arn>",
      "secretsmanager:GetSecretValue my/app-secret-??????",
      "secretsmanager:GetSecretValue my/verify-token-??????",
      "sqs:SendMessage <RevokeQueue.Arn>",
      "xray:PutTelemetryRecords *",
      "xray:PutTraceSegments *",
    ]);
  });
});

test("the outputs by which the other parts find the stage keep their names", () => {
  const outputs = Object.entries(template.findOutputs("*")).map(([name, { Value }]) => [name, flatten(Value)]);
  expect(Object.fromEntries(outputs)).toEqual({
    ShareQueueUrl: "<ShareQueue>",
    ShareDeadLetterQueueUrl: "<ShareDeadLetterQueue>",
    VerifyQueueUrl: "<VerifyQueue>",
    VerifyDeadLetterQueueUrl: "<VerifyDeadLetterQueue>",
    RevokeQueueUrl: "<RevokeQueue>",
    RevokeDeadLetterQueueUrl: "<RevokeDeadLetterQueue>",
    StateTableName: "<State>",
    AuditTableName: "<Audit>",
    EventBusName: "<EventBus>",
    SystemTokenSecretName: "credit-lines/prod/system-token",
    BusinessTokenSecretPrefix: "credit-lines/prod/business-token/",
  });
});

describe("cdk-nag", () => {
  const acknowledged = [
    "BusinessTokens/Resource: AwsSolutions-IAM5[Resource::arn:<AWS::Partition>:secretsmanager:<AWS::Region>:<AWS::AccountId>:secret:credit-lines/prod/business-token/*]",
    "OnCall/Look/Resource: AwsSolutions-IAM5[Resource::*]",
    "Publish/Role/DefaultPolicy/Resource: AwsSolutions-IAM5[Resource::<PublishUndeliveredBucket.Arn>/aws/lambda/*]",
    "Publish/Role/DefaultPolicy/Resource: AwsSolutions-IAM5[Resource::<State.Arn>/stream/*]",
    "Publish/UndeliveredBucket/Resource: AwsSolutions-S1",
    "SystemToken: AwsSolutions-SMG4",
    "Tracing/Resource: AwsSolutions-IAM5[Resource::*]",
  ];

  test.each([
    ["as little", {}],
    [
      "all",
      {
        webhook: true,
        appSecretName: "my/app",
        verifyTokenSecretName: "my/verify",
        producers: ["222222222222", "444444444444"],
        consumers: ["333333333333", "555555555555"],
        onCallPrincipals: ["arn:aws:iam::111111111111:role/on-call"],
        alarmTopicArns: [topic],
      },
    ],
  ])("finds nothing but what is acknowledged with a reason in a stage that has %s", (_what, overrides) => {
    const { app } = stackOf(deployedStage(overrides));
    expect(() => app.synth()).not.toThrow();
  });

  test("and what is acknowledged stands in infra/permissions.md, with its reason, and nothing else does", () => {
    const { stack } = stackOf(deployedStage({ webhook: true, appSecretName: "a/b", verifyTokenSecretName: "c/d" }));
    const rows = stack.node.findAll().flatMap(({ node }) =>
      node.metadata
        .filter(({ type }) => type === Validations.ACKNOWLEDGED_RULES_METADATA_KEY)
        .flatMap(({ data }) => Object.entries(data as Record<string, string>))
        .map(([rule, reason]) => {
          const place = node.path.replace(`${stack.node.path}/`, "").replace(/\/(Resource|DefaultPolicy)/g, "");
          return `| ${place} | \`${rule.replace(/^.*?(AwsSolutions-)/, "$1").replaceAll(/[0-9A-F]{8}\./g, ".")}\` | ${reason} |`;
        }),
    );
    expect(rows).toHaveLength(acknowledged.length);
    expect(rows.filter((row) => !/ \| [A-Z].{40,}\. \|$/.test(row))).toEqual([]);
    const head = ["| Resource | Rule | Why it is so |", "|---|---|---|"];
    expectWritten("infra/permissions.md", "acknowledged", [...head, ...rows.toSorted()].join("\n"));
  });

  test("makes synthesis fail on a finding", () => {
    const { app, stack } = stackOf(deployedStage());
    const bare = new Queue(stack, "Bare");
    expect(() => app.synth()).toThrow(new RegExp(`${bare.node.path}/.*\n.*AwsSolutions-SQS3`));
  });

  test.each([
    ["without", {}],
    ["with", { webhook: true, appSecretName: "my/app", verifyTokenSecretName: "my/verify" }],
  ])("would find these seven things %s a webhook, were they not acknowledged", (_webhook, overrides) => {
    const { app, stack } = stackOf(deployedStage(overrides));
    Template.fromStack(stack);
    const checks = new AwsSolutionsChecks(app);
    Object.assign(checks, { isAcknowledged: () => false });
    const found = checks
      .validateScope(app)
      .violations.flatMap(({ ruleName, violatingResources }) =>
        violatingResources.map(({ constructPath }) => `${constructPath}: ${ruleName.replace(/[0-9A-F]{8}\./, ".")}`),
      );
    expect(found.map((finding) => finding.replace(/^credit-lines-prod\//, "")).toSorted()).toEqual(acknowledged);
  });
});
