import type { Use } from "../support/permissions.ts";
import { steps } from "./local/everything.ts";

/**
 * What each permission of a function's or a schedule's role is for: a step of the run in everything.ts that cannot do
 * without it, or why no run on one machine uses it. ROLE stands for the role's own name.
 */
type Row = { roles: string[]; actions: string[]; on: string[] } & ({ step: string } | { unused: string });

const commands = ["Share", "Verify", "Revoke"];
const callers = [...commands, "Reconcile"];
const functions = [...callers, "Publish"];

const received = ["sqs:ReceiveMessage", "sqs:DeleteMessage"];
const state = ["<State.Arn>"];
const systemToken = ["<SystemToken>"];
const appSecret = [secret("credit-lines/local/app-secret-??????")];

const rows: Row[] = [
  {
    roles: functions,
    actions: ["logs:CreateLogStream", "logs:PutLogEvents"],
    on: ["<ROLELogGroup.Arn>"],
    step: steps.due,
  },

  {
    roles: [...functions, "Webhook"],
    actions: ["xray:PutTraceSegments", "xray:PutTelemetryRecords"],
    on: ["*"],
    unused: "Lambda itself sends the traces; there is no X-Ray on one machine.",
  },

  { roles: ["Share", "Verify"], actions: received, on: ["<ROLEQueue.Arn>"], step: steps.shared },
  { roles: ["Revoke"], actions: received, on: ["<ROLEQueue.Arn>"], step: steps.revoked },
  {
    roles: commands,
    actions: ["sqs:GetQueueAttributes"],
    on: ["<ROLEQueue.Arn>"],
    unused: "Lambda's own pollers ask it before they scale; AWS refuses an event source mapping without it.",
  },
  { roles: commands, actions: ["sqs:SendMessage"], on: ["<ROLEQueue.Arn>"], step: steps.tokenDead },
  { roles: commands, actions: ["sqs:SendMessage"], on: ["<ROLEDeadLetterQueue.Arn>"], step: steps.rejected },
  { roles: ["Share"], actions: ["sqs:SendMessage"], on: ["<VerifyQueue.Arn>"], step: steps.shared },

  { roles: ["Share", "Verify"], actions: ["dynamodb:GetItem", "dynamodb:PutItem"], on: state, step: steps.shared },
  { roles: ["Revoke"], actions: ["dynamodb:GetItem", "dynamodb:PutItem"], on: state, step: steps.revoked },
  { roles: ["Share", "Verify"], actions: ["dynamodb:BatchGetItem"], on: state, step: steps.shared },
  { roles: ["Revoke"], actions: ["dynamodb:BatchGetItem"], on: state, step: steps.revoked },
  { roles: ["Share"], actions: ["dynamodb:UpdateItem"], on: state, step: steps.shared },
  { roles: ["Verify", "Revoke"], actions: ["dynamodb:UpdateItem"], on: state, step: steps.tokenDead },
  { roles: ["Share"], actions: ["dynamodb:ConditionCheckItem"], on: state, step: steps.unchanged },
  { roles: commands, actions: ["events:PutEvents"], on: ["<EventBus.Arn>"], step: steps.again },

  { roles: ["Share", "Verify"], actions: ["secretsmanager:GetSecretValue"], on: systemToken, step: steps.shared },
  { roles: ["Revoke"], actions: ["secretsmanager:GetSecretValue"], on: systemToken, step: steps.revoked },
  { roles: ["Reconcile"], actions: ["secretsmanager:GetSecretValue"], on: systemToken, step: steps.scanned },
  { roles: ["Share", "Verify"], actions: ["secretsmanager:GetSecretValue"], on: appSecret, step: steps.shared },
  { roles: ["Revoke"], actions: ["secretsmanager:GetSecretValue"], on: appSecret, step: steps.revoked },
  { roles: ["Reconcile"], actions: ["secretsmanager:GetSecretValue"], on: appSecret, step: steps.scanned },
  {
    roles: ["Share", "Verify"],
    actions: ["secretsmanager:GetSecretValue"],
    on: [secret("credit-lines/local/business-token/*")],
    step: steps.customersToken,
  },

  {
    roles: ["Webhook"],
    actions: ["logs:CreateLogStream", "logs:PutLogEvents"],
    on: ["<ROLELogGroup.Arn>"],
    step: steps.left,
  },
  { roles: ["Webhook"], actions: ["sqs:SendMessage"], on: ["<RevokeQueue.Arn>"], step: steps.left },
  {
    roles: ["Webhook"],
    actions: ["secretsmanager:GetSecretValue"],
    on: [...appSecret, secret("credit-lines/local/verify-token-??????")],
    step: steps.left,
  },

  {
    roles: ["Publish"],
    actions: ["dynamodb:DescribeStream", "dynamodb:GetRecords"],
    on: ["<State.StreamArn>"],
    step: steps.shared,
  },
  { roles: ["Publish"], actions: ["dynamodb:GetShardIterator"], on: ["<State.StreamArn>"], step: steps.shared },
  { roles: ["Publish"], actions: ["dynamodb:PutItem"], on: ["<Audit.Arn>"], step: steps.shared },
  { roles: ["Publish"], actions: ["events:PutEvents"], on: ["<EventBus.Arn>"], step: steps.shared },
  {
    roles: ["Publish"],
    actions: ["dynamodb:ListStreams"],
    on: ["<State.Arn>/stream/*"],
    unused: "AWS refuses a stream's event source mapping without it; the local one is told its stream.",
  },
  {
    roles: ["Publish"],
    actions: ["s3:PutObject"],
    on: ["<PublishUndeliveredBucket.Arn>/aws/lambda/*"],
    unused: "Lambda keeps there what could not be announced for 23 hours; streams.test.ts shows it with a shorter age.",
  },
  {
    roles: ["Publish"],
    actions: ["s3:ListBucket"],
    on: ["<PublishUndeliveredBucket.Arn>"],
    unused: "AWS asks for it beside PutObject, so that Lambda can tell a missing bucket from a forbidden one.",
  },

  {
    roles: ["Reconcile"],
    actions: ["dynamodb:Query"],
    on: ["<State.Arn>/index/DueIndex"],
    step: steps.due,
  },
  { roles: ["Reconcile"], actions: ["dynamodb:GetItem", "dynamodb:PutItem"], on: state, step: steps.due },
  { roles: ["Reconcile"], actions: ["dynamodb:UpdateItem"], on: state, step: steps.tokenDead },
  {
    roles: ["Reconcile"],
    actions: ["sqs:SendMessage"],
    on: commands.map((name) => `<${name}Queue.Arn>`),
    step: steps.due,
  },
  {
    roles: ["Reconcile"],
    actions: ["lambda:GetEventSourceMapping", "lambda:UpdateEventSourceMapping"],
    on: commands.map(
      (name) =>
        `arn:<AWS::Partition>:lambda:<AWS::Region>:<AWS::AccountId>:event-source-mapping:<${name}FunctionCommands>`,
    ),
    step: steps.tokenDead,
  },
  { roles: ["Reconcile"], actions: ["dynamodb:Scan"], on: state, step: steps.scanned },
  {
    roles: ["Reconcile"],
    actions: ["dynamodb:BatchGetItem"],
    on: ["<State.Arn>", "<Audit.Arn>"],
    step: steps.scanned,
  },
  { roles: ["Reconcile"], actions: ["dynamodb:PutItem"], on: ["<Audit.Arn>"], step: steps.scanned },
  { roles: ["Reconcile"], actions: ["events:PutEvents"], on: ["<EventBus.Arn>"], step: steps.scanned },
  {
    roles: ["ReconcileSchedule"],
    actions: ["lambda:InvokeFunction"],
    on: ["<ReconcileFunction.Arn>"],
    step: steps.scanned,
  },
];

export const uses: Use[] = rows.flatMap(({ roles, actions, on, ...why }) =>
  roles.flatMap((role) =>
    actions.flatMap((action) =>
      on.map((place) => ({ permission: { role, action, resource: place.replace("ROLE", role) }, ...why })),
    ),
  ),
);

function secret(name: string): string {
  return `arn:<AWS::Partition>:secretsmanager:<AWS::Region>:<AWS::AccountId>:secret:${name}`;
}
