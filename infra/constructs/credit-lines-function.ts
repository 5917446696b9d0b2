import { ArnFormat, Duration, RemovalPolicy, Stack, Validations } from "aws-cdk-lib";
import { Policy, PolicyStatement, Role, ServicePrincipal } from "aws-cdk-lib/aws-iam";
import type { Code, RecursiveLoop } from "aws-cdk-lib/aws-lambda";
import { Architecture, CfnFunction, Function as LambdaFunction, Runtime } from "aws-cdk-lib/aws-lambda";
import { LogGroup } from "aws-cdk-lib/aws-logs";
import { flattenCfnReference } from "cdk-nag/lib/utils/flatten-cfn-reference.js";
import type { Construct } from "constructs";
import type * as z from "zod/mini";
import { type graphFields, parseEnvironment } from "../../shared/environment.ts";
import type { StageConfig } from "../config.ts";
import { type functionTimeoutSeconds, timeoutSecondsOf } from "../config.ts";
import { alarm } from "./alarm.ts";

/** What every function of a stage has in common. */
export type Stage = { config: StageConfig; code: Code; tracing: Policy };

/** One permission. A resource with a wildcard needs the reason why no narrower one will do. */
export type Grant = { actions: string[]; resources: string[]; wildcardReason?: string };

/** What a function needs to reach Meta. `policies`: those that other roles have, too. */
export type GraphAccess = {
  environment: z.input<z.ZodMiniObject<typeof graphFields>>;
  grants: Grant[];
  policies: Policy[];
};

export type FunctionProps<Environment> = {
  name: keyof typeof functionTimeoutSeconds;
  description: string;
  /** The schema the handler reads its environment by; synthesis fails on an environment that it refuses. */
  schema: z.ZodMiniType<unknown, Environment>;
  /** What this function may do beside writing its own log. */
  grants: Grant[];
  /** What it may do as other functions may, written once. */
  policies?: Policy[];
  /** Only where anybody can call the function: a queue's receive that is throttled is lost to its message. */
  reservedConcurrency?: number | undefined;
  recursiveLoop?: RecursiveLoop | undefined;
  /** One sentence for the alarm: who is hurt when this function fails. */
  errorImpact: string;
};

/**
 * A function with its own role and its own log group. The role holds only what is listed: no AWS managed policy, whose
 * log permissions would reach every log group of the account.
 * @throws Error that names the variables of `environment` that the schema refuses.
 */
export function creditLinesFunction<Environment>(
  scope: Construct,
  { config, code, tracing }: Stage,
  props: FunctionProps<Environment> & { environment: NoInfer<Environment> & Record<string, string> },
): LambdaFunction {
  parseEnvironment(props.schema, props.environment);
  const logGroup = new LogGroup(scope, "LogGroup", {
    retention: config.retention.logDays,
    removalPolicy: removalPolicy(config),
  });
  const role = new Role(scope, "Role", { assumedBy: new ServicePrincipal("lambda.amazonaws.com") });
  for (const grant of [
    { actions: ["logs:CreateLogStream", "logs:PutLogEvents"], resources: [logGroup.logGroupArn] },
    ...props.grants,
  ]) {
    addGrant(role, grant);
  }
  for (const policy of props.policies ?? []) policy.attachToRole(role);

  const lambda = new LambdaFunction(scope, "Function", {
    // Named: the person on call and the local stack ask for it by name.
    functionName: `credit-lines-${config.stage}-${props.name}`,
    description: props.description,
    runtime: Runtime.NODEJS_24_X,
    architecture: Architecture.ARM_64,
    memorySize: 256,
    timeout: Duration.seconds(timeoutSecondsOf(config.stage, props.name)),
    code,
    handler: `${props.name}/handler.handler`,
    environment: props.environment,
    reservedConcurrentExecutions: props.reservedConcurrency,
    recursiveLoop: props.recursiveLoop,
    role,
    logGroup,
  });
  // Not by `tracing`, which would write the same permission, and its wildcard, into each role.
  tracing.attachToRole(role);
  lambda.node.addDependency(tracing);
  if (lambda.node.defaultChild instanceof CfnFunction) lambda.node.defaultChild.tracingConfig = { mode: "Active" };
  alarm(scope, "ErrorsAlarm", {
    config,
    metric: lambda.metricErrors({ period: Duration.minutes(5) }),
    at: 1,
    impact: props.errorImpact,
    runbook: "function-errors",
  });
  return lambda;
}

/** A permission with a wildcard that several roles need: it is written, and its reason given, once. */
export function sharedPolicy(stack: Stack, id: string, grant: Grant): Policy {
  const policy = new Policy(stack, id);
  addGrant(policy, grant);
  return policy;
}

export function addGrant(to: Role | Policy, { actions, resources, wildcardReason }: Grant): void {
  const statement = new PolicyStatement({ actions, resources });
  if (to instanceof Role) to.addToPolicy(statement);
  else to.addStatements(statement);
  if (wildcardReason === undefined) return;
  for (const resource of resources) {
    const finding = flattenCfnReference(Stack.of(to).resolve(resource));
    Validations.of(to).acknowledge({ id: `AwsSolutions-IAM5[Resource::${finding}]`, reason: wildcardReason });
  }
}

/** Reading a secret that somebody else made, by its name. */
export function namedSecret(stack: Stack, secretName: string): Grant {
  const secretArn = stack.formatArn({
    service: "secretsmanager",
    resource: "secret",
    // Secrets Manager ends each ARN with six characters of its own; the secret is not this stack's.
    resourceName: `${secretName}-??????`,
    arnFormat: ArnFormat.COLON_RESOURCE_NAME,
  });
  return { actions: ["secretsmanager:GetSecretValue"], resources: [secretArn] };
}

/** What becomes of data when the stack is deleted. */
export function removalPolicy(config: StageConfig): RemovalPolicy {
  return config.retention.keepDataOnDelete ? RemovalPolicy.RETAIN : RemovalPolicy.DESTROY;
}
