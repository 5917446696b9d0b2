import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { AwsCall, RoleUse } from "../../infra/local/aws/gateway.ts";
import type { LocalAws } from "../../infra/local/aws/local-aws.ts";
import { flatten, withoutHash } from "../infra/stages.ts";

/**
 * "Share dynamodb:GetItem <State.Arn>": the role (its logical id without "Role"), the action, and the resource as the
 * template writes it, with references by logical id and wildcards as they stand.
 */
export type Permission = { role: string; action: string; resource: string };

export type Statement = { Action: string | string[]; Resource: unknown };

/** The parts of a template that say who may do what. */
export type TemplateJson = {
  Resources: Record<
    string,
    {
      Type: string;
      Properties: {
        Name?: string;
        FunctionName?: string;
        Role?: unknown;
        Target?: { RoleArn: unknown };
        Roles?: unknown[];
        PolicyDocument?: { Statement: Statement[] };
      };
    }
  >;
};

/** The template of a local stack. */
export function readTemplate(templateDirectory: string): TemplateJson {
  return JSON.parse(readFileSync(join(templateDirectory, "credit-lines-local.template.json"), "utf8"));
}

/** Everything that the roles of functions and schedules may do. */
export function allowedBy({ Resources }: TemplateJson): Permission[] {
  const working = new Set(Object.values(holders({ Resources })));
  return Object.values(Resources).flatMap(({ Type, Properties: { Roles = [], PolicyDocument } }) => {
    if (Type !== "AWS::IAM::Policy") return [];
    const roles = Roles.map((role) => roleName(flatten(role))).filter((role) => working.has(role));
    return roles.flatMap((role) => permissionsIn(PolicyDocument?.Statement ?? [], role));
  });
}

/** What one policy allows; `role` is how the answer names who has it. */
export function permissionsIn(statements: readonly Statement[], role: string): Permission[] {
  return statements.flatMap(({ Action, Resource }) =>
    [Action].flat().flatMap((action) => [Resource].flat().map((place) => ({ role, action, resource: flatten(place) }))),
  );
}

/** Who works with which role: functions by their names, schedules by theirs. */
function holders({ Resources }: TemplateJson): Record<string, string> {
  const entries = Object.entries(Resources).flatMap(([logicalId, { Type, Properties }]) => {
    const { Name = logicalId, FunctionName = logicalId, Role, Target } = Properties;
    if (Type === "AWS::Lambda::Function") return [[FunctionName, roleName(flatten(Role))]];
    return Type === "AWS::Scheduler::Schedule" ? [[Name, roleName(flatten(Target?.RoleArn))]] : [];
  });
  return Object.fromEntries(entries);
}

function roleName(reference: string): string {
  return reference.replace(/^<(.*?)Role(\.Arn)?>$/, "$1");
}

/** What a call asks, in the words of `Permission`. A transaction asks for each of its parts. */
export function asked(
  call: Pick<AwsCall, "service" | "operation" | "body">,
  role: string,
  resources: LocalAws["resources"],
): Permission[] {
  const input = JSON.parse(call.body === "" ? "{}" : call.body);
  function known(type: string, value: string | undefined): string | undefined {
    if (value === undefined) return undefined;
    const found = Object.entries(resources).find(
      ([, one]) => one.type === type && [one.name, one.ref, one.arn, one.url].includes(value),
    );
    return found === undefined ? undefined : withoutHash(found[0]);
  }
  function arnOf(type: string, value: string): string {
    return `<${known(type, value) ?? `unknown ${type} ${value}`}.Arn>`;
  }
  function table({ TableName, IndexName }: { TableName: string; IndexName?: string }): string {
    return `${arnOf("AWS::DynamoDB::Table", TableName)}${IndexName === undefined ? "" : `/index/${IndexName}`}`;
  }
  function secret(id: string): string {
    const own = known("AWS::SecretsManager::Secret", id);
    if (own !== undefined) return `<${own}>`;
    // A name that the template does not know: AWS ends its ARN with six characters.
    return `arn:<AWS::Partition>:secretsmanager:<AWS::Region>:<AWS::AccountId>:secret:${id}-local0`;
  }
  function on(...places: string[]): Permission[] {
    const prefix = call.service === "dynamodbstreams" ? "dynamodb" : call.service;
    const action = `${prefix}:${call.operation.replace(/Batch$/, "")}`;
    return places.map((resource) => ({ role, action, resource }));
  }
  switch (call.service) {
    case "dynamodb":
      if (call.operation === "TransactWriteItems") {
        return input.TransactItems.flatMap((item: Record<string, { TableName: string }>) =>
          Object.entries(item).map(([kind, part]) => {
            const action = kind === "ConditionCheck" ? "ConditionCheckItem" : `${kind}Item`;
            return { role, action: `dynamodb:${action}`, resource: table(part) };
          }),
        );
      }
      // Of several tables at once: BatchGetItem, BatchWriteItem.
      if (input.RequestItems !== undefined) {
        return on(...Object.keys(input.RequestItems).map((TableName) => table({ TableName })));
      }
      return on(table(input));
    case "dynamodbstreams": {
      // An iterator names no stream: the stack has one.
      if (input.StreamArn === undefined) return on("<State.StreamArn>");
      const stream = /table\/([^/]+)\/stream/.exec(input.StreamArn)?.[1] ?? "";
      return on(`<${known("AWS::DynamoDB::Table", stream) ?? stream}.StreamArn>`);
    }
    case "sqs":
      return on(arnOf("AWS::SQS::Queue", input.QueueUrl));
    case "secretsmanager":
      return on(secret(input.SecretId ?? input.Name));
    case "events":
      return on(
        ...input.Entries.map((entry: { EventBusName: string }) => arnOf("AWS::Events::EventBus", entry.EventBusName)),
      );
    case "lambda":
      if (call.operation === "ListEventSourceMappings") return on("*");
      if (input.FunctionName !== undefined) return on(arnOf("AWS::Lambda::Function", input.FunctionName));
      return on(
        `arn:<AWS::Partition>:lambda:<AWS::Region>:<AWS::AccountId>:event-source-mapping:<${known("AWS::Lambda::EventSourceMapping", input.UUID) ?? input.UUID}>`,
      );
    case "s3": {
      const bucket = arnOf("AWS::S3::Bucket", input.Bucket);
      return on(call.operation === "ListObjectsV2" ? bucket : `${bucket}/${input.Key}`);
    }
    case "scheduler":
      return on(
        `arn:<AWS::Partition>:scheduler:<AWS::Region>:<AWS::AccountId>:schedule/default/<${known("AWS::Scheduler::Schedule", input.Name) ?? input.Name}>`,
      );
    case "cloudformation":
      return on("<AWS::StackId>");
    // Who one is needs no permission.
    case "sts":
      return [];
    default:
      return on(`unknown service ${call.service}`);
  }
}

/** A function that writes a line makes its log stream and puts events there: Lambda does it, with the function's role. */
function askedByLog(role: string): Permission[] {
  return ["logs:CreateLogStream", "logs:PutLogEvents"].map((action) => ({
    role,
    action,
    resource: `<${role}LogGroup.Arn>`,
  }));
}

/** Why a permission is there: a step of the run that cannot do without it, or a reason why no run on one machine uses it. */
export type Use = { permission: Permission } & ({ step: string } | { unused: string });

export type Comparison = {
  /** Asked for, and no role's policy allows it. */
  outside: string[];
  /** Allowed, and nothing says what for. */
  idle: string[];
  /** The step that should use it did not, or it is used though it is said not to be, or it is not allowed at all. */
  stale: string[];
};

/** @param seen by step: what was asked for while it ran. */
export function compare(
  allowed: readonly Permission[],
  seen: ReadonlyMap<string, readonly Permission[]>,
  uses: readonly Use[],
): Comparison {
  const all = [...seen.values()].flat();
  const outside = all.filter((one) => !allowed.some((policy) => covers(policy, one)));
  const idle = allowed.filter((policy) => !uses.some(({ permission }) => same(permission, policy)));
  const stale = uses.filter((use) => {
    if (!allowed.some((policy) => same(policy, use.permission))) return true;
    const here = "step" in use ? (seen.get(use.step) ?? []) : all;
    return here.some((one) => covers(use.permission, one)) !== "step" in use;
  });
  return {
    outside: unique(outside.map(text)),
    idle: unique(idle.map(text)),
    stale: unique(stale.map(({ permission }) => text(permission))),
  };
}

export function text({ role, action, resource }: Permission): string {
  return `${role} ${action} ${resource}`;
}

export function covers(policy: Permission, one: Permission): boolean {
  if (policy.role !== one.role) return false;
  return matches(policy.action, one.action) && matches(policy.resource, one.resource);
}

function matches(pattern: string, value: string): boolean {
  const escaped = pattern.replaceAll(/[.+^${}()|[\]\\]/g, "\\$&");
  return new RegExp(`^${escaped.replaceAll("*", ".*").replaceAll("?", ".")}$`).test(value);
}

function same(one: Permission, other: Permission): boolean {
  return text(one) === text(other);
}

function unique(values: readonly string[]): string[] {
  return [...new Set(values)].toSorted();
}

/** The roles' calls, as a local stack tells them; `seen` by the step that is under way. */
export function createWitness() {
  const seen = new Map<string, Permission[]>();
  const early: (() => void)[] = [];
  let names: { template: TemplateJson; resources: LocalAws["resources"] } | undefined;
  let step = "start";

  function note(permissions: readonly Permission[], during: string): void {
    const known = seen.get(during) ?? [];
    seen.set(during, [...known, ...permissions.filter((one) => !known.some((other) => same(one, other)))]);
  }
  /** What comes before the stack is named waits for its names. */
  function witness(
    holder: string,
    permissionsOf: (role: string, resources: LocalAws["resources"]) => Permission[],
  ): void {
    const during = step;
    function tell(): void {
      if (names === undefined) return;
      const role = holders(names.template)[holder] ?? `nobody (${holder})`;
      note(permissionsOf(role, names.resources), during);
    }
    if (names === undefined) early.push(tell);
    else tell();
  }

  return {
    seen,
    begin(next: string) {
      step = next;
    },
    has(role: string, action: string, resource: string) {
      return (seen.get(step) ?? []).some((one) => same(one, { role, action, resource }));
    },
    name(template: TemplateJson, resources: LocalAws["resources"]) {
      names = { template, resources };
      for (const tell of early.splice(0)) tell();
    },
    onCall(call: AwsCall) {
      const { functionName } = call;
      if (functionName !== undefined) witness(functionName, (role, resources) => asked(call, role, resources));
    },
    onRoleUse(use: RoleUse) {
      witness(use.holder, (role, resources) => asked(use, role, resources));
    },
    onLog(line: string) {
      const holder = /^\[(.+?)\] /.exec(line)?.[1];
      if (holder !== undefined) witness(holder, askedByLog);
    },
  };
}
