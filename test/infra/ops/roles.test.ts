import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { DynamoDBClient } from "@aws-sdk/client-dynamodb";
import { PutSecretValueCommand, SecretsManagerClient } from "@aws-sdk/client-secrets-manager";
import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { AwsCall } from "../../../infra/local/aws/gateway.ts";
import { errorAnswer } from "../../../infra/local/aws/protocol.ts";
import { type LocalStack, startLocalStack } from "../../../infra/local/local-stack.ts";
import { localClient } from "../../../infra/local/observe.ts";
import { businessId, sampleSystemToken, wabaId } from "../../../infra/local/sample/world.ts";
import { newBusiness, type Waba } from "../../../shared/domain/business.ts";
import { createFindingStore } from "../../../shared/store/finding-store.ts";
import { createStateStore } from "../../../shared/store/state-store.ts";
import { revokeCommand, revokeRequest, shareCommand, shareRequest, verifyCommand } from "../../support/commands.ts";
import { commandLine, type Ran } from "../../support/ops.ts";
import { expectWritten } from "../../support/documents.ts";
import type { Permission, TemplateJson, Use } from "../../support/permissions.ts";
import { asked, compare, covers, permissionsIn, readTemplate, text } from "../../support/permissions.ts";
import { flatten } from "../stages.ts";

/**
 * The command line against the two roles of who is on call, held as AWS would hold them: a call that its role's policies do
 * not allow is denied. Every permission is used by a command, or has its reason.
 */
const month = new Date().toISOString().slice(0, 7);
const looking = {
  explain: `explain ${wabaId(9)} ${businessId(9)} replayed`,
  list: "list",
  held: "held list",
  findings: "findings list",
  status: "reconcile status",
  letters: "dlq list",
  letter: "dlq show",
  report: `report --month ${month}`,
  tail: "tail --seconds 2",
  preflight: "preflight",
} as const;
const acting = {
  preflight: "preflight",
  live: `explain ${wabaId(9)} --live`,
  settle: `settle ${wabaId(9)} --why test`,
  share: `share ${wabaId(4)} --currency EUR`,
  verify: `verify ${wabaId(4)}`,
  revoke: `revoke ${businessId(9)} --reason operator --yes-business-id ${businessId(9)}`,
  release: `held release ${businessId(1)} --yes-business-id ${businessId(1)}`,
  close: `findings close unfunded ${wabaId(5)} --why test`,
  proceed: "revocations resume",
  run: "reconcile run",
  scan: "reconcile run --scan",
  replay: "dlq replay --command replayed --yes --wait 0 --journal JOURNAL",
  discard: "dlq discard --command discarded-verify --command discarded-revoke --yes --to LETTERS",
  pauseShare: "pause share --why test",
  pauseVerify: "pause verify --why test",
  pauseRevoke: "pause revoke --why test",
  resume: "resume share",
} as const;
const putToken = "aws secretsmanager put-secret-value";

type Step = { role: "Looking" | "Acting"; line: string };
/** By the access key that its calls carry. */
const stepsByKey = new Map<string, Step>(
  [
    ...Object.values(looking).map((line): Step => ({ role: "Looking", line })),
    ...[...Object.values(acting), putToken].map((line): Step => ({ role: "Acting", line })),
  ].map((step, index) => [`oncall${index}`, step]),
);

const queues = ["Share", "Verify", "Revoke"];
function arns(kind: string, of: readonly string[] = queues): string[] {
  return of.map((name) => `<${name}${kind}.Arn>`);
}
const local = "<AWS::Region>:<AWS::AccountId>";
function mapping(name: string): string {
  return `arn:<AWS::Partition>:lambda:${local}:event-source-mapping:<${name}>`;
}
const state = ["<State.Arn>"];
const inConsole = "In AWS's console: no command needs it.";

/** What each permission is for. `Look` is on both roles, `Act` on the one that acts. */
const uses: Use[] = [
  ...usesOf("Look", ["dynamodb:GetItem"], state, looking.explain),
  ...usesOf("Look", ["dynamodb:BatchGetItem"], state, looking.status),
  ...usesOf("Look", ["dynamodb:Scan"], state, looking.list),
  ...usesOf("Look", ["dynamodb:DescribeTable"], [...state, "<Audit.Arn>"], looking.preflight),
  ...usesOf("Look", ["dynamodb:Query"], ["<State.Arn>/index/DueIndex"], looking.status),
  ...usesOf("Look", ["dynamodb:Query"], ["<Audit.Arn>"], looking.explain),
  ...usesOf("Look", ["dynamodb:Scan"], ["<Audit.Arn>"], looking.report),
  ...usesOf(
    "Look",
    ["dynamodb:DescribeStream", "dynamodb:GetShardIterator", "dynamodb:GetRecords"],
    ["<State.StreamArn>"],
    looking.tail,
  ),
  ...usesOf("Look", ["sqs:GetQueueAttributes"], [...arns("Queue"), ...arns("DeadLetterQueue")], looking.preflight),
  ...usesOf("Look", ["sqs:ReceiveMessage", "sqs:ChangeMessageVisibility"], arns("DeadLetterQueue"), looking.letters),
  ...usesOf(
    "Look",
    ["lambda:GetFunctionConfiguration"],
    arns("Function", ["Share", "Revoke", "Reconcile"]),
    looking.list,
  ),
  ...usesOf(
    "Look",
    ["lambda:GetEventSourceMapping"],
    [...queues.map((name) => `${name}FunctionCommands`), "PublishFunctionStream"].map(mapping),
    looking.preflight,
  ),
  ...usesOf("Look", ["lambda:ListEventSourceMappings"], ["*"], acting.pauseShare),
  ...usesOf(
    "Look",
    ["scheduler:GetSchedule"],
    ["DueSweep", "EstateScan", "ScanContinuation"].map(
      (name) => `arn:<AWS::Partition>:scheduler:${local}:schedule/default/<Reconcile${name}>`,
    ),
    looking.preflight,
  ),
  ...usesOf("Look", ["cloudformation:DescribeStacks"], ["<AWS::StackId>"], looking.list),
  ...usesOf("Look", ["cloudformation:ListStackResources"], ["<AWS::StackId>"], looking.preflight),
  ...usesOf(
    "Look",
    ["logs:StartQuery", "logs:FilterLogEvents"],
    arns("LogGroup", [...queues, "Publish", "Reconcile", "Webhook"]),
    { unused: inConsole },
  ),
  ...usesOf(
    "Look",
    [
      "logs:GetQueryResults",
      "logs:DescribeQueryDefinitions",
      "cloudwatch:GetMetricData",
      "cloudwatch:DescribeAlarms",
      "cloudwatch:ListDashboards",
      "xray:GetTraceSummaries",
      "xray:BatchGetTraces",
    ],
    ["*"],
    { unused: inConsole },
  ),

  ...usesOf(
    "Look",
    ["cloudwatch:GetDashboard"],
    ["arn:<AWS::Partition>:cloudwatch::<AWS::AccountId>:dashboard/credit-lines-local"],
    { unused: inConsole },
  ),

  ...usesOf("Act", ["sqs:SendMessage"], ["<ShareQueue.Arn>"], acting.share),
  ...usesOf("Act", ["sqs:SendMessage"], ["<VerifyQueue.Arn>"], acting.verify),
  ...usesOf("Act", ["sqs:SendMessage"], ["<RevokeQueue.Arn>"], acting.revoke),
  ...usesOf("Act", ["sqs:DeleteMessage"], ["<ShareDeadLetterQueue.Arn>"], acting.replay),
  ...usesOf("Act", ["sqs:DeleteMessage"], arns("DeadLetterQueue", ["Verify", "Revoke"]), acting.discard),
  ...usesOf("Act", ["lambda:InvokeFunction"], ["<ReconcileFunction.Arn>"], acting.run),
  ...usesOf("Act", ["lambda:UpdateEventSourceMapping"], [mapping("ShareFunctionCommands")], acting.pauseShare),
  ...usesOf("Act", ["lambda:UpdateEventSourceMapping"], [mapping("VerifyFunctionCommands")], acting.pauseVerify),
  ...usesOf("Act", ["lambda:UpdateEventSourceMapping"], [mapping("RevokeFunctionCommands")], acting.pauseRevoke),
  ...usesOf("Act", ["dynamodb:PutItem"], state, acting.settle),
  ...usesOf("Act", ["dynamodb:UpdateItem"], state, acting.proceed),
  ...usesOf("Act", ["secretsmanager:GetSecretValue"], ["<SystemToken>"], acting.live),
  ...usesOf("Act", ["secretsmanager:PutSecretValue"], ["<SystemToken>"], putToken),
  ...usesOf(
    "Act",
    ["secretsmanager:GetSecretValue"],
    [`arn:<AWS::Partition>:secretsmanager:${local}:secret:credit-lines/local/app-secret-??????`],
    acting.live,
  ),
];

function usesOf(role: string, actions: string[], resources: string[], why: string | { unused: string }): Use[] {
  return actions.flatMap((action) =>
    resources.map((resource): Use => {
      const permission = { role, action, resource };
      return typeof why === "string" ? { permission, step: `${roleOf(why)}: ${why}` } : { permission, ...why };
    }),
  );
}

function roleOf(line: string): Step["role"] {
  return Object.values<string>(looking).includes(line) ? "Looking" : "Acting";
}

let stack: LocalStack;
let folder: string;
let template: TemplateJson;
let allowed: Permission[];
const ran = new Map<string, Ran>();
const seen = new Map<string, Permission[]>();
const denied: string[] = [];

/** What the policies of the roles allow, in the template as it stands or as a test has changed it. */
function allowedBy({ Resources }: TemplateJson): Permission[] {
  return Object.values(Resources).flatMap(({ Type, Properties }) => {
    const roles = (Properties.Roles ?? []).map(flatten);
    if (Type !== "AWS::IAM::Policy" || !roles.includes("<OnCallActing>")) return [];
    return permissionsIn(
      Properties.PolicyDocument?.Statement ?? [],
      roles.includes("<OnCallLooking>") ? "Look" : "Act",
    );
  });
}

/** Notes what the call asks of its role. Answers whether the role's policies allow all of it. */
function isAllowed(call: AwsCall, { role, line }: Step): boolean {
  const wanted = asked(call, "Look", stack.aws.resources).map((one) => {
    const isLook = allowed.some((policy) => covers(policy, one));
    return isLook || role === "Looking" ? one : { ...one, role: "Act" };
  });
  seen.set(`${role}: ${line}`, [...(seen.get(`${role}: ${line}`) ?? []), ...wanted]);
  const beyond = wanted.filter((one) => !allowed.some((policy) => covers(policy, one)));
  denied.push(...beyond.map((one) => `${role}: ${line}: ${one.action}`));
  return beyond.length === 0;
}

beforeAll(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "roles-"));
  const stageConfigFile = path.join(folder, "stage.json");
  // Nothing is served behind the commands' backs.
  writeFileSync(stageConfigFile, JSON.stringify({ dueSweepMinutes: 60, onPartnerRemoved: "hold" }));
  stack = await startLocalStack({
    port: 0,
    stageConfigFile,
    onCall: async (call, proceed) => {
      const step = stepsByKey.get(call.accessKeyId ?? "");
      if (step === undefined || isAllowed(call, step)) return proceed();
      return errorAnswer("AccessDeniedException", `not authorized to perform ${call.service}:${call.operation}`);
    },
  });
  template = readTemplate(stack.templateDirectory);
  allowed = allowedBy(template);
  await prepare();
  const [last, ...others] = [...stepsByKey].toReversed();
  // Those that look come first, some at a time; what is paused stays so.
  const parallel = others.toReversed().filter(([, { role }]) => role === "Looking");
  for (let from = 0; from < parallel.length; from += 3) await Promise.all(parallel.slice(from, from + 3).map(run));
  for (const one of others.toReversed().filter(([, { role }]) => role === "Acting")) await run(one);
  const [accessKeyId = ""] = last ?? [];
  const secrets = new SecretsManagerClient(clientOf(accessKeyId));
  const SecretId = stack.about.secrets.systemToken;
  await secrets.send(new PutSecretValueCommand({ SecretId, SecretString: sampleSystemToken }));
  secrets.destroy();
}, 400_000);
afterAll(async () => {
  await stack?.close();
  rmSync(folder, { recursive: true });
});

async function run([accessKeyId, { role, line }]: [string, Step]): Promise<void> {
  const files = { JOURNAL: path.join(folder, "journal.jsonl"), LETTERS: path.join(folder, "letters.json") };
  const words = line.split(" ").map((word) => (word in files ? files[word as keyof typeof files] : word));
  const credit = commandLine(stack.aws.endpoint, { AWS_ACCESS_KEY_ID: accessKeyId });
  ran.set(`${role}: ${line}`, await credit(...words));
}

function clientOf(accessKeyId: string) {
  return { ...localClient(stack.aws.endpoint), credentials: { accessKeyId, secretAccessKey: "local" } };
}

/** Something for each command to do: a share in doubt, a held removal, a stopped breaker, a finding, dead letters. */
async function prepare(): Promise<void> {
  const dynamo = new DynamoDBClient(clientOf("test"));
  const sqs = new SQSClient(clientOf("test"));
  const tableName = stack.about.tables.state;
  const store = createStateStore({ client: dynamo, tableName, newId: randomUUID });
  const now = Date.now();
  const longAgo = now - 600_000;
  const request = shareRequest(wabaId(9), { requestedAt: longAgo });
  const intent = { id: "lost", epoch: 0, attempt: 2, madeAt: longAgo, sendDeadline: longAgo + 1 };
  const inDoubt: Waba = {
    status: "sharing",
    currency: "EUR",
    method: "share-and-attach",
    creditLineId: stack.config.creditLineId,
    request,
    intent: { ...intent, absentAt: longAgo + 2, inDoubt: true },
    due: { request, nextAt: now + 3_600_000, looks: 5, sweeps: 0 },
  };
  await store.claimOwner(wabaId(9), businessId(9), { overPendingRevoke: false });
  const doubted = newBusiness(businessId(9), now);
  const withDoubt = { ...doubted, wabas: { [wabaId(9)]: inDoubt } };
  await store.commit(doubted, { business: withDoubt, events: [], conclusions: [] }, now);

  const removal = revokeRequest({ reason: "partner_removed", wabaId: wabaId(1), requestedAt: longAgo });
  const due = { nextAt: now + 3_600_000, looks: 0, sweeps: 0 };
  const leaving = newBusiness(businessId(1), now);
  const held = { requests: [removal], reason: "by_policy" as const, since: longAgo, due };
  await store.commit(leaving, { business: { ...leaving, held }, events: [], conclusions: [] }, now);
  await store.saveRemovals(undefined, { next: { state: "stopped", recent: {} }, events: [] }, now);

  const findings = createFindingStore({ client: dynamo, tableName, indexName: "DueIndex", newId: randomUUID });
  const times = { firstScanId: 1, firstSeenAt: now, lastScanId: 1, lastSeenAt: now, openedAt: now };
  const about = { kind: "unfunded", subject: wabaId(5), wabaId: wabaId(5), businessId: businessId(5) } as const;
  await findings.saveFinding(undefined, { ...about, state: "open", version: 1, ...times }, [], now);

  for (const [queue, body] of [
    ["share", shareCommand(wabaId(6), { commandId: "replayed" })],
    ["verify", verifyCommand(wabaId(6), { commandId: "discarded-verify" })],
    ["revoke", revokeCommand({ wabaId: wabaId(6), commandId: "discarded-revoke" })],
  ] as const) {
    const QueueUrl = stack.about.deadLetterQueues[queue];
    await sqs.send(new SendMessageCommand({ QueueUrl, MessageBody: JSON.stringify(body) }));
  }
  sqs.destroy();
  dynamo.destroy();
}

describe("the role that looks", () => {
  test("is enough to look: nothing is denied but the secrets, without which the rest is told", () => {
    const failed = Object.values(looking).filter((line) => (ran.get(`Looking: ${line}`)?.code ?? 9) > 1);
    expect(failed.map((line) => [line, ran.get(`Looking: ${line}`)])).toEqual([]);
    const ofLooking = denied.filter((one) => one.startsWith("Looking: "));
    expect(new Set(ofLooking)).toEqual(
      new Set(
        [looking.letters, looking.letter, looking.preflight].map(
          (line) => `Looking: ${line}: secretsmanager:GetSecretValue`,
        ),
      ),
    );
    const { stdout = "" } = ran.get(`Looking: ${looking.preflight}`) ?? {};
    expect(stdout).toMatch(/^token +unknown /m);
    expect(stdout).toContain("credit-lines-local-on-call-acting");
    expect(ran.get(`Looking: ${looking.letters}`)?.stdout).toContain("replayed");
  });
});

describe("the role that acts", () => {
  test("is enough for every command: nothing is denied", () => {
    expect(denied.filter((one) => one.startsWith("Acting: "))).toEqual([]);
    const failed = Object.values(acting).filter((line) => (ran.get(`Acting: ${line}`)?.code ?? 9) > 1);
    expect(failed.map((line) => [line, ran.get(`Acting: ${line}`)])).toEqual([]);
  });
});

describe("both roles", () => {
  function judged(by: readonly Permission[]) {
    const secretsOfLooking = new Map(
      [...seen].map(([step, all]) => [
        step,
        step.startsWith("Looking") ? all.filter(({ action }) => action !== "secretsmanager:GetSecretValue") : all,
      ]),
    );
    return compare(by, secretsOfLooking, uses);
  }

  test("are one, but for what only the one that acts may do", () => {
    const ofLooking = Object.values(template.Resources).filter(({ Properties: { Roles = [] } }) =>
      Roles.map(flatten).includes("<OnCallLooking>"),
    );
    expect(ofLooking.map(({ Properties }) => Properties.Roles?.map(flatten))).toEqual([
      ["<OnCallLooking>", "<OnCallActing>"],
    ]);
  });

  test("allow every call that is made, and nothing that no command makes and that has no reason", () => {
    expect(judged(allowed)).toEqual({ outside: [], idle: [], stale: [] });
  });

  test.each(uses.filter((use) => "step" in use).map(({ permission }) => [text(permission), permission] as const))(
    "are found too narrow without %s",
    (_title, { role, action, resource }) => {
      const others = allowed.filter((one) => text(one) !== text({ role, action, resource }));
      expect(judged(others).outside).toContainEqual(expect.stringContaining(` ${action} `));
    },
  );

  test("stand in infra/permissions.md with what each permission is for", () => {
    const lines = uses.toSorted((one, other) => text(one.permission).localeCompare(text(other.permission)));
    const rows = lines.map((use) => {
      const { role, action, resource } = use.permission;
      const who = role === "Look" ? "looks, acts" : "acts";
      const why = "step" in use ? `\`${commandOf(use.step)}\`` : `*${use.unused}*`;
      return `| ${who} | \`${action}\` | \`${shorter(resource)}\` | ${why} |`;
    });
    const head = ["| Who | Action | Resource | Used by |", "|---|---|---|---|"];
    expectWritten("infra/permissions.md", "on-call permissions", [...head, ...rows].join("\n"));
  });

  /** Without what only this run gave it. */
  function commandOf(step: string): string {
    const [, line = ""] = /^\w+: (.*)$/.exec(step) ?? [];
    return line.replaceAll(/ (\d{5,}|--(?!scan|live)\S+( [^-]\S*)?|replayed)/g, "");
  }

  function shorter(resource: string): string {
    return resource.replace("arn:<AWS::Partition>:", "").replace("<AWS::Region>:<AWS::AccountId>:", "");
  }

  test("are found too wide with a permission more", () => {
    const more = { role: "Act", action: "dynamodb:DeleteItem", resource: "<State.Arn>" };
    expect(judged([...allowed, more]).idle).toEqual([text(more)]);
    const wider = allowed.map((one) => (one.action === "sqs:DeleteMessage" ? { ...one, resource: "*" } : one));
    expect(judged(wider).idle).toEqual(["Act sqs:DeleteMessage *"]);
  });
});
