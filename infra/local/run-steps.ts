import { SendMessageCommand, SQSClient } from "@aws-sdk/client-sqs";
import * as z from "zod";
import type { Waba } from "../../shared/domain/business.ts";
import type { LocalStack } from "./local-stack.ts";
import type { MetaModel } from "./meta/meta-model.ts";
import { exportWorld, upsertWorld } from "./meta/meta-model.ts";
import { parseWorld } from "./meta/meta-world.ts";
import { compareWithLedger, isQuiet, localClient, type Observation, observe, recordOf } from "./observe.ts";
import type { Expected, Step } from "./sample/morning.ts";

/** A command on its way: what was sent, and what is known of it. */
export type Sent = {
  queue: "share" | "verify" | "revoke";
  text: string;
  sentAt: number;
  commandId: string;
  type: string;
  wabaId?: string;
  businessId?: string;
  expected?: Expected;
};

/** What became of everything that was sent, and what is not as it should be. */
export type RunResult = { sent: Sent[]; faults: string[]; observation: Observation };

/**
 * Takes the steps one after the other; each ends when all it set going has come to rest.
 * @param options.say progress, one line a call.
 * @param options.patienceMs a step that makes no progress for this long is given up, and its open commands are faults.
 */
export async function runSteps(
  steps: readonly Step[],
  stack: LocalStack,
  options: { say: (line: string) => void; patienceMs: number },
): Promise<RunResult> {
  const sent: Sent[] = [];
  const faults: string[] = [];
  for (const [index, step] of steps.entries()) {
    options.say(`${index + 1}/${steps.length} ${step.title}`);
    const taken = await take(step, stack, options);
    for (let scans = 0; scans < (step.scans ?? 0); scans += 1) {
      await scan(stack);
      // What the scan has set going.
      await take({ title: "", commands: [] }, stack, options);
    }
    const observation = await observe(stack);
    faults.push(...judge(taken, observation, stack), ...judgeFindings(step, observation), ...unmet(step, observation));
    sent.push(...taken);
  }
  return { sent, faults, observation: await observe(stack) };
}

/** Sends a step's commands and waits until everything they set going has come to rest. */
async function take(
  step: Step,
  stack: LocalStack,
  { say, patienceMs }: { say: (line: string) => void; patienceMs: number },
): Promise<Sent[]> {
  const { meta, about, aws } = stack;
  const sent: Sent[] = [];
  await pause(step.pauseMs ?? 0);
  if (meta !== undefined && step.world !== undefined) {
    if (step.isUnheard === true) changeWorld(meta.model, step.world, stack.now());
    else await control(`${meta.url}/_world`, step.world);
  }
  if (meta !== undefined && step.faults !== undefined) await control(`${meta.url}/_faults`, step.faults);
  const sqs = new SQSClient(localClient(aws.endpoint));
  for (const { queue, body, copies = 1, expected } of step.commands) {
    const defaults = { version: "1", requestedAt: new Date().toISOString(), requestedBy: "npm start" };
    const text = typeof body === "string" ? body : JSON.stringify({ ...defaults, ...body });
    for (let copy = 0; copy < copies; copy += 1) {
      await sqs.send(new SendMessageCommand({ QueueUrl: about.queues[queue], MessageBody: text }));
    }
    sent.push({
      queue,
      text,
      sentAt: Date.now(),
      ...subjectOf(text, queue),
      ...(expected === undefined ? {} : { expected }),
    });
  }
  sqs.destroy();

  let last = "";
  let lastAt = Date.now();
  let said = "";
  for (;;) {
    // The schedule's minutes are seconds here.
    await aws.invoke("reconcile", { task: "due-sweep" });
    const observation = await observe(stack);
    const open = sent.filter((one) => !hasEnded(one, observation, stack));
    const isAsExpected = unmet(step, observation).length === 0;
    if (open.length === 0 && isAsExpected && isQuiet(observation, stack.now())) return sent;
    const now = JSON.stringify([open.length, observation.businesses.map((business) => business.version)]);
    if (now !== last) {
      last = now;
      lastAt = Date.now();
    }
    const progress = `    ${sent.length - open.length} of ${sent.length} commands ended`;
    if (sent.length > 0 && progress !== said) say(progress);
    said = progress;
    if (Date.now() - lastAt > patienceMs) {
      say(
        `    nothing happens any more; without an outcome: ${open.map(({ commandId }) => commandId).join(", ") || "none"}`,
      );
      return sent;
    }
    await pause(500);
  }
}

function changeWorld(model: MetaModel, world: Record<string, unknown>, now: number): void {
  const parsed = parseWorld(world, exportWorld(model));
  if (!parsed.success) throw parsed.error;
  upsertWorld(model, parsed.data, now);
}

const reportSchema = z.object({ state: z.string() });

/** A whole estate scan, once everything that was changed before it is older than the settle window. */
async function scan({ aws, config }: LocalStack): Promise<void> {
  await pause(config.settleWindowSeconds * 1000 + 500);
  for (let task = "estate-scan"; ;) {
    const result = await aws.invoke("reconcile", { task });
    if (!result.ok) throw new Error(`The estate scan failed: ${result.error.errorMessage}`);
    const { state } = reportSchema.parse(result.payload);
    if (state === "done") return;
    // Idle: the last one began less than a settle window ago.
    if (state === "waits") task = "continue-scan";
    await pause(200);
  }
}

function judgeFindings({ findings }: Step, observation: Observation): string[] {
  if (findings === undefined) return [];
  const open = observation.findings
    .filter(({ state }) => state === "open")
    .map(({ kind, subject }) => `${kind} ${subject}`);
  const missing = findings.filter((one) => !open.includes(one)).map((one) => `the finding ${one} is not open`);
  const others = open.filter((one) => !findings.includes(one)).map((one) => `the finding ${one} is open`);
  return [...missing, ...others];
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

function hasEnded(sent: Sent, observation: Observation, { config }: LocalStack): boolean {
  const record = recordOf(observation, sent, config.clockSkewSeconds * 1000);
  if (record?.outcome === undefined) return record?.blockedAnnounced === true;
  return record.event !== undefined && observation.announced.has(record.event.eventId);
}

/** Everything that is not as it should be when a step is over, in words. */
function judge(sent: readonly Sent[], observation: Observation, stack: LocalStack): string[] {
  const faults = compareWithLedger(observation, stack.config.creditLineId);
  const wabas = wabasOf(observation);
  for (const command of sent) {
    const { commandId, expected, wabaId } = command;
    const record = recordOf(observation, command, stack.config.clockSkewSeconds * 1000);
    if (!hasEnded(command, observation, stack)) {
      faults.push(
        `${commandId}: ${record?.outcome === undefined ? "has no outcome" : "its outcome was not announced"}`,
      );
      continue;
    }
    if (expected === undefined) continue;
    const { outcome, reason } = expected;
    if (record?.outcome !== outcome || (reason !== undefined && record.reason !== reason)) {
      faults.push(
        `${commandId}: expected ${outcome} ${reason ?? ""}, found ${record?.outcome ?? "blocked"} ${record?.reason ?? ""}`,
      );
    }
    const status = wabaId === undefined ? undefined : wabas.get(wabaId)?.waba.status;
    if (wabaId !== undefined && expected.status !== undefined && status !== expected.status) {
      faults.push(`${commandId}: expected WABA ${wabaId} to be ${expected.status}, found ${status ?? "nothing"}`);
    }
  }
  return faults;
}

/** What is not as the step expects of the WABAs, in words. */
function unmet({ wabas: expected = {} }: Step, observation: Observation): string[] {
  const wabas = wabasOf(observation);
  const held = new Set(
    observation.businesses.flatMap((one) => one.held?.requests.flatMap(({ wabaId }) => wabaId ?? []) ?? []),
  );
  return Object.entries(expected).flatMap(([wabaId, wanted]) => {
    const found = held.has(wabaId) ? "held" : wabas.get(wabaId)?.waba.status;
    return found === wanted ? [] : [`WABA ${wabaId}: expected ${wanted}, found ${found ?? "nothing"}`];
  });
}

/** Every WABA of the table, by id. */
export function wabasOf({
  businesses,
}: Observation): Map<string, { businessId: string; waba: Waba; openReason: string | undefined }> {
  const found = businesses.flatMap(({ businessId, wabas, revocation }) =>
    Object.entries(wabas).map(
      ([wabaId, waba]) => [wabaId, { businessId, waba, openReason: revocation?.openReason }] as const,
    ),
  );
  return new Map(found);
}

/** A row for each command that was sent: how it ended, and what it cost at Meta. */
export function commandRows(
  sent: readonly Sent[],
  observation: Observation,
  { config }: LocalStack,
  graphCalls: Map<string, number>,
) {
  const wabas = wabasOf(observation);
  return sent.map((command) => {
    const record = recordOf(observation, command, config.clockSkewSeconds * 1000);
    const { commandId, type, wabaId, businessId } = command;
    const status = wabaId === undefined ? undefined : wabas.get(wabaId)?.waba.status;
    return {
      commandId,
      type,
      wabaId,
      businessId: businessId ?? record?.businessId,
      outcome: record?.outcome ?? (record?.blockedAnnounced === true ? "blocked" : "none"),
      reason: record?.reason,
      status,
      graphCalls: graphCalls.get(commandId) ?? 0,
    };
  });
}

const optionalText = z.string().optional().catch(undefined);
const subjectSchema = z.object({
  commandId: optionalText,
  type: optionalText,
  wabaId: optionalText,
  businessId: optionalText,
});

/** What a body says of itself, as far as it can be read. */
export function subjectOf(
  text: string,
  queue: string,
): { commandId: string; type: string; wabaId?: string; businessId?: string } {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { commandId: `(${text.slice(0, 24)})`, type: queue };
  }
  const known = subjectSchema.safeParse(value).data ?? {};
  const { commandId = `(${text.slice(0, 24)})`, type = queue, wabaId, businessId } = known;
  return {
    commandId,
    type,
    ...(wabaId === undefined ? {} : { wabaId }),
    ...(businessId === undefined ? {} : { businessId }),
  };
}

/** Tells the stand-in for Meta what it must know or do next (design.md §10). */
export async function control(url: string, body: unknown): Promise<void> {
  const answer = await fetch(url, { method: "POST", body: JSON.stringify(body) });
  if (!answer.ok) throw new Error(`The stand-in for Meta refused ${url}: ${await answer.text()}`);
}
