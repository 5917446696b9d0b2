import { describe, expect, test } from "vitest";
import { deployedStage, flatten, templateOf } from "./stages.ts";

const template = templateOf(deployedStage());

type Statement = { Effect: string; Action: string | string[]; Resource: unknown };

/** "action resource" of everything that the role may do. */
function mayDo(role: "Looking" | "Acting"): string[] {
  const policies = Object.values(template.findResources("AWS::IAM::Policy")).map(({ Properties }) => Properties);
  return policies
    .filter(({ Roles }) => Roles.map(flatten).includes(`<OnCall${role}>`))
    .flatMap(({ PolicyDocument }) => PolicyDocument.Statement as Statement[])
    .flatMap(({ Action, Resource }) =>
      [Action].flat().flatMap((action) => [Resource].flat().map((on) => `${action} ${flatten(on)}`)),
    );
}

describe("who is on call", () => {
  test("can look without being able to change anything, or to read a secret", () => {
    const reading =
      /^(dynamodb:(GetItem|BatchGetItem|Query|Scan|DescribeTable|DescribeStream|GetShardIterator|GetRecords)|sqs:(GetQueueAttributes|ReceiveMessage|ChangeMessageVisibility)|lambda:(GetFunctionConfiguration|GetEventSourceMapping|ListEventSourceMappings)|scheduler:GetSchedule|cloudformation:(DescribeStacks|ListStackResources)|logs:(StartQuery|FilterLogEvents|GetQueryResults|DescribeQueryDefinitions)|cloudwatch:(GetDashboard|GetMetricData|DescribeAlarms|ListDashboards)|xray:(GetTraceSummaries|BatchGetTraces)) /;
    expect(mayDo("Looking").filter((permission) => !reading.test(permission))).toEqual([]);
    expect(mayDo("Looking").length).toBeGreaterThan(20);
  });

  test("takes no command off its queue while looking: only dead letters are received", () => {
    const received = mayDo("Looking").filter((permission) => permission.startsWith("sqs:ReceiveMessage"));
    expect(received.toSorted()).toEqual(
      ["Revoke", "Share", "Verify"].map((name) => `sqs:ReceiveMessage <${name}DeadLetterQueue.Arn>`),
    );
  });

  test("can act with these permissions more, and no others", () => {
    const looking = new Set(mayDo("Looking"));
    const queues = ["Revoke", "Share", "Verify"];
    const mapping = "arn:<AWS::Partition>:lambda:<AWS::Region>:<AWS::AccountId>:event-source-mapping:";
    const sources = queues.map((name) => `${name}FunctionCommands`);
    expect(
      mayDo("Acting")
        .filter((permission) => !looking.has(permission))
        .toSorted(),
    ).toEqual(
      [
        "dynamodb:PutItem <State.Arn>",
        "dynamodb:UpdateItem <State.Arn>",
        "lambda:InvokeFunction <ReconcileFunction.Arn>",
        ...sources.map((source) => `lambda:UpdateEventSourceMapping ${mapping}<${source}>`),
        "secretsmanager:GetSecretValue <SystemToken>",
        "secretsmanager:PutSecretValue <SystemToken>",
        ...queues.map((name) => `sqs:DeleteMessage <${name}DeadLetterQueue.Arn>`),
        ...queues.map((name) => `sqs:SendMessage <${name}Queue.Arn>`),
      ].toSorted(),
    );
  });

  test("is on call for an hour at a time, and is whom the stage names, or the account lets", () => {
    function rolesOf(of: typeof template) {
      const roles = Object.values(of.findResources("AWS::IAM::Role")).map(({ Properties }) => Properties);
      return roles.filter(({ RoleName }) => RoleName !== undefined);
    }
    expect(rolesOf(template).map(({ RoleName, MaxSessionDuration }) => [RoleName, MaxSessionDuration])).toEqual([
      ["credit-lines-prod-on-call-looking", 3600],
      ["credit-lines-prod-on-call-acting", 3600],
    ]);
    const principal = "arn:aws:iam::111111111111:role/on-call";
    for (const role of rolesOf(templateOf(deployedStage({ onCallPrincipals: [principal] })))) {
      expect(role.AssumeRolePolicyDocument.Statement).toMatchObject([{ Principal: { AWS: principal } }]);
    }
  });
});
