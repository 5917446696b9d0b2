import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import * as z from "zod";
import { parseAppSecrets } from "../../shared/secrets.ts";
import type { StageConfig, StageConfigInput } from "../config.ts";
import { localStage, parseStageConfig, readStageConfig, systemTokenSecretName } from "../config.ts";
import { synthesizeStage } from "../synth.ts";
import type { OnCall, RoleUse } from "./aws/gateway.ts";
import type { LocalAws } from "./aws/local-aws.ts";
import { startLocalAws } from "./aws/local-aws.ts";
import type { MetaStandIn } from "./meta/meta-server.ts";
import { startMetaStandIn } from "./meta/meta-server.ts";
import type { World, WorldInput } from "./meta/meta-world.ts";
import { readWorld } from "./meta/meta-world.ts";
import { sampleAppSecret, sampleVerifyToken, sampleWabaIds, sampleWorld } from "./sample/world.ts";

export type LocalStackOptions = {
  port?: number;
  /** JSON of design.md §9, laid over the stage `local`. */
  stageConfigFile?: string;
  /** JSON, secret name → value. */
  secretsFile?: string;
  /** What Meta knows; the sample world unless given. */
  worldFile?: string;
  /** Another Graph server in place of the stand-in. */
  graphUrl?: string;
  /** A Graph server that is not on this machine is refused unless allowed: it would be sent the token. */
  allowRemoteGraph?: boolean;
  dataDirectory?: string;
  /** One line of a function's output. */
  onLog?: (line: string) => void;
  onCall?: OnCall;
  onRoleUse?: (use: RoleUse) => void;
};

export type LocalStack = {
  config: StageConfig;
  aws: LocalAws;
  /** Undefined with `graphUrl`. */
  meta: MetaStandIn | undefined;
  /** What others need to drive it (design.md §10). */
  about: LocalStackAbout;
  /** The clock of the functions and of the stand-in, ms. */
  now(): number;
  /** The synthesized stage: its template, and the bundles that the functions run from. */
  templateDirectory: string;
  close(): Promise<void>;
};

export type LocalStackAbout = {
  endpoint: string;
  graphUrl: string;
  /** Where webhooks go; absent when the stage takes none. */
  webhookUrl?: string;
  queues: Record<"share" | "verify" | "revoke", string>;
  deadLetterQueues: Record<"share" | "verify" | "revoke", string>;
  tables: { state: string; audit: string };
  eventBus: string;
  secrets: { systemToken: string; businessTokenPrefix: string };
  sampleWabaIds: string[];
};

/**
 * Synthesizes the stage and runs what the template says, with the stand-in for Meta beside it.
 * @throws Error that says what is wrong with a file or an option, or what could not be started.
 */
export async function startLocalStack(options: LocalStackOptions): Promise<LocalStack> {
  if (options.graphUrl !== undefined && options.allowRemoteGraph !== true && !isLoopback(options.graphUrl)) {
    throw new Error(
      `--graph-url ${options.graphUrl} is not on this machine: it would be sent the token (--allow-remote-graph)`,
    );
  }
  const world = options.worldFile === undefined ? undefined : readWorld(options.worldFile);
  const secrets = options.secretsFile === undefined ? {} : readSecrets(options.secretsFile);
  // Another Graph server is not known to send webhooks, nor to take a proof by a made-up app secret.
  const stage = options.graphUrl === undefined ? { ...localWebhook, ...localStage } : localStage;
  const base =
    options.stageConfigFile === undefined
      ? parseStageConfig(stage, "infra/config.ts")
      : readStageConfig(options.stageConfigFile, stage);
  if (base.stage !== "local") throw new Error(`${options.stageConfigFile ?? ""} must leave "stage" at "local"`);

  const clock = clockOffset();
  function now(): number {
    return Date.now() + clock.offsetMs;
  }
  const cleanUps: (() => unknown)[] = [];
  async function close(): Promise<void> {
    for (let cleanUp = cleanUps.pop(); cleanUp !== undefined; cleanUp = cleanUps.pop()) await cleanUp();
  }
  try {
    const meta =
      options.graphUrl === undefined ? await startMetaStandIn({ world: world ?? sampleWorld, now }) : undefined;
    if (meta !== undefined) cleanUps.push(() => meta.close());
    const graphUrl = meta?.url ?? options.graphUrl ?? "";
    const config = parseStageConfig({ ...base, graphApiBaseUrl: graphUrl }, "--graph-url");

    const templateDirectory = mkdtempSync(path.join(tmpdir(), "credit-lines-"));
    cleanUps.push(() => rmSync(templateDirectory, { recursive: true, force: true }));
    await synthesizeStage(config, templateDirectory);

    const known = { ...defaultSecrets(config, world ?? sampleWorld), ...secrets };
    const aws = await startLocalAws({
      templateDirectory,
      secrets: known,
      environment: clock.environment,
      ...defined({
        port: options.port,
        dataDirectory: options.dataDirectory,
        onLog: options.onLog,
        onCall: options.onCall,
        onRoleUse: options.onRoleUse,
      }),
    });
    cleanUps.push(aws.close);
    const webhookUrl = aws.outputs["WebhookUrl"];
    if (webhookUrl !== undefined) {
      const [appSecret] = parseAppSecrets(known[config.appSecretName ?? ""] ?? "");
      meta?.subscribe({ url: webhookUrl, appSecret });
    }
    return { config, aws, meta, about: describe(aws, graphUrl, config, world), now, templateDirectory, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function describe(aws: LocalAws, graphUrl: string, config: StageConfig, world: World | undefined): LocalStackAbout {
  function output(name: string): string {
    const value = aws.outputs[name];
    if (value === undefined) throw new Error(`The stack has no output ${name}`);
    return value;
  }
  const funded = new Set(world?.allocations.flatMap((allocation) => allocation.wabaIds));
  const open = world?.wabas.filter(
    (waba) => waba.sharedWithPartner && waba.primaryFundingId === null && !funded.has(waba.id),
  );
  return {
    endpoint: aws.endpoint,
    graphUrl,
    ...(aws.outputs["WebhookUrl"] === undefined ? {} : { webhookUrl: aws.outputs["WebhookUrl"] }),
    queues: { share: output("ShareQueueUrl"), verify: output("VerifyQueueUrl"), revoke: output("RevokeQueueUrl") },
    deadLetterQueues: {
      share: output("ShareDeadLetterQueueUrl"),
      verify: output("VerifyDeadLetterQueueUrl"),
      revoke: output("RevokeDeadLetterQueueUrl"),
    },
    tables: { state: output("StateTableName"), audit: output("AuditTableName") },
    eventBus: output("EventBusName"),
    secrets: { systemToken: output("SystemTokenSecretName"), businessTokenPrefix: config.businessTokenSecretPrefix },
    sampleWabaIds: open === undefined ? sampleWabaIds : open.slice(0, 20).map((waba) => waba.id),
  };
}

/** The stand-in plays the customer who leaves, too. */
const localWebhook = {
  webhook: true,
  appSecretName: "credit-lines/local/app-secret",
  verifyTokenSecretName: "credit-lines/local/verify-token",
} satisfies Partial<StageConfigInput>;

/** The system token and the app secret are the world's own, unless a secrets file says otherwise. */
function defaultSecrets(config: StageConfig, world: WorldInput): Record<string, string> {
  const token = world.tokens?.find((one) => one.kind === "system");
  const { appSecretName, verifyTokenSecretName } = config;
  return {
    ...(token === undefined ? {} : { [systemTokenSecretName(config.stage)]: token.value }),
    ...(appSecretName === undefined ? {} : { [appSecretName]: world.appSecret ?? sampleAppSecret }),
    ...(verifyTokenSecretName === undefined ? {} : { [verifyTokenSecretName]: sampleVerifyToken }),
  };
}

function readSecrets(file: string): Record<string, string> {
  try {
    return z.record(z.string(), z.string()).parse(JSON.parse(readFileSync(file, "utf8")));
  } catch {
    // The parser's own message would quote the file.
    throw new Error(`Cannot read the secrets ${file}: it must be a JSON object of secret name → value`);
  }
}

/** The whole stack may run ahead of the real time: the functions honour it in this stage only, the stand-in with them. */
function clockOffset(): { offsetMs: number; environment: Record<string, string> } {
  const text = process.env["CLOCK_OFFSET_MS"];
  if (text === undefined || text === "") return { offsetMs: 0, environment: {} };
  if (!/^-?\d+$/.test(text)) throw new Error("CLOCK_OFFSET_MS must be a whole number of milliseconds");
  return { offsetMs: Number(text), environment: { CLOCK_OFFSET_MS: text } };
}

function isLoopback(url: string): boolean {
  const { hostname } = new URL(url);
  return hostname === "localhost" || hostname === "[::1]" || /^127\.\d+\.\d+\.\d+$/.test(hostname);
}

function defined<T extends object>(value: T): { [K in keyof T]?: Exclude<T[K], undefined> } {
  return Object.assign({}, ...Object.entries(value).map(([key, one]) => (one === undefined ? {} : { [key]: one })));
}
