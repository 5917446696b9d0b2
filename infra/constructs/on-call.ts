import { ArnFormat, Duration, Stack, Validations } from "aws-cdk-lib";
import type { Table } from "aws-cdk-lib/aws-dynamodb";
import type { IPrincipal } from "aws-cdk-lib/aws-iam";
import { AccountPrincipal, ArnPrincipal, CompositePrincipal, Policy, PolicyStatement, Role } from "aws-cdk-lib/aws-iam";
import { CfnEventSourceMapping, Function as LambdaFunction } from "aws-cdk-lib/aws-lambda";
import { LogGroup } from "aws-cdk-lib/aws-logs";
import { CfnSchedule } from "aws-cdk-lib/aws-scheduler";
import { Construct } from "constructs";
import type { StageConfig } from "../config.ts";
import type { QueueFunction } from "./queue-function.ts";

type OnCallProps = {
  config: StageConfig;
  state: Table;
  audit: Table;
  dueIndexName: string;
  commands: readonly QueueFunction[];
  systemTokenArn: string;
  /** By which the app's secret can be read, when there is one. */
  appSecret: readonly Policy[];
};

/**
 * Two roles for whoever is on call, each for an hour at a time: one that can only look, and one that can also do what
 * `credit-lines` does. Neither can change code, roles or queues, and no table can be written but State. The looking one reads
 * no secret: a laptop that is taken while somebody looks around holds no token.
 */
export function onCallRoles(scope: Construct, props: OnCallProps): void {
  const { config, state, audit, dueIndexName, commands, systemTokenArn, appSecret } = props;
  const construct = new Construct(scope, "OnCall");
  const stack = Stack.of(construct);
  const all = stack.node.findAll();
  const functions = all.filter((one) => one instanceof LambdaFunction);
  const sources = all
    .filter((one) => one instanceof CfnEventSourceMapping)
    .map(({ ref }) =>
      stack.formatArn({
        service: "lambda",
        resource: "event-source-mapping",
        resourceName: ref,
        arnFormat: ArnFormat.COLON_RESOURCE_NAME,
      }),
    );
  const schedules = all
    .filter((one) => one instanceof CfnSchedule)
    .map(({ ref }) => stack.formatArn({ service: "scheduler", resource: "schedule", resourceName: `default/${ref}` }));
  const queueArns = commands.map(({ queue }) => queue.queueArn);
  const deadLetterArns = commands.map(({ deadLetterQueue }) => deadLetterQueue.queueArn);

  const [first, ...others] = config.onCallPrincipals.map((arn): IPrincipal => new ArnPrincipal(arn));
  const assumedBy =
    first === undefined ? new AccountPrincipal(stack.account) : new CompositePrincipal(first, ...others);
  function role(id: string, name: string, description: string): Role {
    const roleName = `credit-lines-${config.stage}-${name}`;
    return new Role(construct, id, { roleName, description, assumedBy, maxSessionDuration: Duration.hours(1) });
  }
  const looking = role("Looking", "on-call-looking", "Reads state, queues, logs and signals; no secret");
  const acting = role("Acting", "on-call-acting", "Does what the on-call command line does");

  const look = new Policy(construct, "Look", { roles: [looking, acting] });
  function lookAt(actions: string[], resources: string[]): void {
    look.addStatements(new PolicyStatement({ actions, resources }));
  }
  lookAt(["dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Scan", "dynamodb:DescribeTable"], [state.tableArn]);
  lookAt(["dynamodb:Query"], [`${state.tableArn}/index/${dueIndexName}`]);
  lookAt(["dynamodb:Query", "dynamodb:Scan", "dynamodb:DescribeTable"], [audit.tableArn]);
  if (state.tableStreamArn !== undefined) {
    lookAt(["dynamodb:DescribeStream", "dynamodb:GetShardIterator", "dynamodb:GetRecords"], [state.tableStreamArn]);
  }
  lookAt(["sqs:GetQueueAttributes"], [...queueArns, ...deadLetterArns]);
  // Looking into a queue is receiving: the dead letters come back by themselves.
  lookAt(["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility"], deadLetterArns);
  // From their environment the command line learns how the stage is set.
  const telling = functions.filter(({ node }) => /\/(Share|Revoke|Reconcile)\//.test(node.path));
  lookAt(
    ["lambda:GetFunctionConfiguration"],
    telling.map(({ functionArn }) => functionArn),
  );
  lookAt(["lambda:GetEventSourceMapping"], sources);
  lookAt(["scheduler:GetSchedule"], schedules);
  lookAt(["cloudformation:DescribeStacks", "cloudformation:ListStackResources"], [stack.stackId]);
  lookAt(
    ["logs:StartQuery", "logs:FilterLogEvents"],
    all.filter((one) => one instanceof LogGroup).map(({ logGroupArn }) => logGroupArn),
  );
  const dashboard = { service: "cloudwatch", region: "", resource: "dashboard" };
  lookAt(
    ["cloudwatch:GetDashboard"],
    [stack.formatArn({ ...dashboard, resourceName: `credit-lines-${config.stage}` })],
  );
  const everywhere = [
    "lambda:ListEventSourceMappings",
    "logs:GetQueryResults",
    "logs:DescribeQueryDefinitions",
    "cloudwatch:GetMetricData",
    "cloudwatch:DescribeAlarms",
    "cloudwatch:ListDashboards",
    "xray:GetTraceSummaries",
    "xray:BatchGetTraces",
  ];
  lookAt(everywhere, ["*"]);
  Validations.of(look).acknowledge({
    id: "AwsSolutions-IAM5[Resource::*]",
    reason:
      "AWS lets these reads be allowed for all resources only; none of them shows a message, an item or a secret.",
  });

  const act = new Policy(construct, "Act", { roles: [acting] });
  function actOn(actions: string[], resources: string[]): void {
    act.addStatements(new PolicyStatement({ actions, resources }));
  }
  actOn(["sqs:SendMessage"], queueArns);
  actOn(["sqs:DeleteMessage"], deadLetterArns);
  actOn(
    ["lambda:InvokeFunction"],
    functions.filter(({ node }) => node.path.includes("/Reconcile/")).map((one) => one.functionArn),
  );
  actOn(
    ["lambda:UpdateEventSourceMapping"],
    commands.map(({ source }) => source.eventSourceMappingArn),
  );
  actOn(["dynamodb:PutItem", "dynamodb:UpdateItem"], [state.tableArn]);
  actOn(["secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"], [systemTokenArn]);
  for (const policy of appSecret) policy.attachToRole(acting);
}
