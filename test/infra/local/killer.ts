import process from "node:process";
import { DynamoDBClient, GetItemCommand } from "@aws-sdk/client-dynamodb";
import { marshall, unmarshall } from "@aws-sdk/util-dynamodb";
import { vi } from "vitest";
import type { AwsCall } from "../../../infra/local/aws/gateway.ts";
import type { Answer } from "../../../infra/local/aws/protocol.ts";
import type { LocalStack } from "../../../infra/local/local-stack.ts";
import type { LedgerCall } from "../../../infra/local/meta/meta-model.ts";
import { localClient } from "../../../infra/local/observe.ts";
import type { Business } from "../../../shared/domain/business.ts";
import { businessSchema, keys } from "../../../shared/store/items.ts";

/**
 * Where a process dies, seen from outside it. `noted`: its intent is written, the POST not sent. `lost`, `late`, `acted`: Meta
 * holds its call, and will never act on it, acts when the process is dead, has acted. `answered`: it has the answer, and
 * asks the table to settle. The others only lose the answer.
 */
export type Moment = "noted" | "lost" | "late" | "acted" | "answered" | "cut-before" | "cut-after" | "hang-after";

/** "E2 <WABA>", "E4 <business>", "E5 <WABA>" or "E9 <business>": what goes wrong, call by call. */
export type Plan = ReadonlyMap<string, readonly Moment[]>;

export type Kill = {
  target: string;
  moment: Moment;
  pid: number;
  /** When it was dead the table held its intent (of a DELETE: the open revocation), and not what became of it. */
  hit: boolean;
};

const faultKinds = {
  lost: { kind: "hang-before" },
  acted: { kind: "hang-after" },
  late: { kind: "latency", ms: 3000 },
  answered: { kind: "latency", ms: 0 },
  "cut-before": { kind: "cut-before" },
  "cut-after": { kind: "cut-after" },
  "hang-after": { kind: "hang-after" },
} as const satisfies Record<Exclude<Moment, "noted">, object>;

/** For Meta's `/_faults`: each call of a target takes the next one. */
export function faultsOf(plan: Plan): object[] {
  return [...plan].flatMap(([target, moments]) => {
    const [match = "", id = ""] = target.split(" ");
    const subject = match === "E4" || match === "E9" ? { businessId: id } : { wabaId: id };
    return callMoments(moments).map((moment) => ({ match, ...subject, ...faultKinds[moment], times: 1 }));
  });
}

function callMoments(moments: readonly Moment[]) {
  return moments.filter((moment) => moment !== "noted");
}

/** Something that a process has begun, and that only it may record the end of. A revocation has no intent and no one owner. */
type Attempt = {
  target: string;
  businessId: string;
  intent?: { id: string; wabaId: string; sessionToken: string };
};

/** Kills processes of functions as planned: each the very one that serves the command, by what it is seen to do. */
export function createKiller(plan: Plan) {
  const kills: Kill[] = [];
  const missed: string[] = [];
  const failures: unknown[] = [];
  const attempts = new Map<string, Attempt>();
  const attemptsAt = new Map<string, Attempt[]>();
  const callsLeft = new Map([...plan].map(([target, moments]) => [target, callMoments(moments)]));
  /** Targets whose answer is on its way to a process that must not live to record it. */
  const answered = new Set<string>();
  const underWay = new Set<Promise<void>>();
  let stack: LocalStack | undefined;
  let client: DynamoDBClient | undefined;
  let timer: NodeJS.Timeout | undefined;
  let callsSeen = 0;

  async function onCall(call: AwsCall, proceed: () => Promise<Answer>): Promise<Answer> {
    const { functionName = "", sessionToken = "", operation, body, service } = call;
    const isWrite = ["PutItem", "UpdateItem", "TransactWriteItems"].includes(operation);
    if (service !== "dynamodb" || !isWrite || !/-(share|revoke)$/.test(functionName)) return proceed();
    const doomed = settledBy(body) ?? revocationRecordedBy(functionName, body);
    if (doomed !== undefined && answered.delete(doomed.target) && (await kill(doomed, "answered"))) {
      throw new Error("The process that asked is dead, and its request was lost with it");
    }
    const answer = await proceed();
    if (answer.status !== 200) return answer;
    for (const attempt of newAttempts(body, sessionToken)) {
      const { target } = attempt;
      attempts.set(attempt.intent.id, attempt);
      const earlier = attemptsAt.get(target) ?? [];
      attemptsAt.set(target, [...earlier, attempt]);
      if (plan.get(target)?.[earlier.length] === "noted") await kill(attempt, "noted");
    }
    return answer;
  }

  /** Those whose intents this write is the first to hold. */
  function newAttempts(body: string, sessionToken: string) {
    return itemsPut(body).flatMap(({ businessId, wabas, recordIntent }) => {
      const noted = Object.entries(wabas).map(([wabaId, { status, intent }]) => ({
        target: `${status === "allocated" ? "E5" : "E2"} ${wabaId}`,
        wabaId,
        id: intent?.id,
      }));
      const record = { target: `E4 ${businessId}`, wabaId: recordIntent?.request.wabaId ?? "", id: recordIntent?.id };
      return [...noted, record].flatMap(({ target, wabaId, id }) =>
        id === undefined || attempts.has(id) ? [] : [{ target, businessId, intent: { id, wabaId, sessionToken } }],
      );
    });
  }

  function settledBy(body: string): Attempt | undefined {
    const intentId = /":intent":\{"S":"([^"]+)"\}/.exec(body)?.[1];
    return intentId === undefined ? undefined : attempts.get(intentId);
  }

  function revocationRecordedBy(functionName: string, body: string): Attempt | undefined {
    const [business] = functionName.endsWith("-revoke") ? itemsPut(body) : [];
    return business === undefined ? undefined : revocationOf(business.businessId);
  }

  function revocationOf(businessId: string): Attempt {
    return { target: `E9 ${businessId}`, businessId };
  }

  function look(): void {
    const calls = stack?.meta?.model.calls ?? [];
    for (; callsSeen < calls.length; callsSeen += 1) {
      const call = calls[callsSeen];
      const attempt = call === undefined ? undefined : attemptOf(call);
      if (attempt === undefined || call?.fault === undefined) continue;
      const moment = callsLeft.get(attempt.target)?.shift();
      if (moment === "answered") answered.add(attempt.target);
      if (moment !== "lost" && moment !== "acted" && moment !== "late") continue;
      const killing = kill(attempt, moment).then(
        () => void underWay.delete(killing),
        (error: unknown) => void failures.push(error),
      );
      underWay.add(killing);
    }
  }

  function attemptOf({ name, query, path }: LedgerCall): Attempt | undefined {
    if (name === "E9") {
      const allocation = stack?.meta?.model.allocations.get(path.split("/").at(-1) ?? "");
      return allocation === undefined ? undefined : revocationOf(allocation.receivingBusinessId);
    }
    return attemptsAt.get(`${name} ${query["waba_id"] ?? query["receiving_business_id"] ?? ""}`)?.at(-1);
  }

  /** Answers whether it was done: not when one cannot tell which of several processes made the call. */
  async function kill(attempt: Attempt, moment: Moment): Promise<boolean> {
    const { target, businessId, intent } = attempt;
    const suspects = (stack?.aws.running() ?? []).filter(({ functionName, sessionToken, payload }) =>
      intent === undefined
        ? functionName.endsWith("-revoke") && JSON.stringify(payload).includes(businessId)
        : sessionToken === intent.sessionToken,
    );
    const [victim] = suspects;
    if (victim === undefined || suspects.length > 1) {
      missed.push(`${target} ${moment}: ${suspects.length} processes`);
      return false;
    }
    const { pid, requestId } = victim;
    process.kill(pid, "SIGKILL");
    await vi.waitUntil(() => stack?.aws.running().every((one) => one.requestId !== requestId), { interval: 2 });
    kills.push({ target, moment, pid, hit: isUnsettled(await readBusiness(businessId), attempt) });
    return true;
  }

  /** Only the dead process could have settled its intent, so what is still there was there when it died. */
  function isUnsettled(business: Business, { target, intent }: Attempt): boolean {
    const { revocation, records, recordIntent, wabas } = business;
    if (intent === undefined) {
      return (
        revocation?.state === "open" &&
        Object.values(records).every(({ deleteAnswered }) => deleteAnswered?.epoch !== revocation.epoch)
      );
    }
    const stored = target.startsWith("E4") ? recordIntent : wabas[intent.wabaId]?.intent;
    return stored?.id === intent.id && stored.failure === undefined;
  }

  async function readBusiness(businessId: string): Promise<Business> {
    const { Item = {} } =
      (await client?.send(
        new GetItemCommand({
          TableName: stack?.about.tables.state,
          Key: marshall({ pk: keys.business(businessId) }),
          ConsistentRead: true,
        }),
      )) ?? {};
    return businessSchema.parse(unmarshall(Item));
  }

  return {
    onCall,
    kills,
    missed,
    start(started: LocalStack): void {
      stack = started;
      client = new DynamoDBClient(localClient(started.aws.endpoint));
      timer = setInterval(look, 5);
    },
    /** @throws what a kill failed with. */
    async stop(): Promise<void> {
      clearInterval(timer);
      await Promise.all(underWay);
      client?.destroy();
      if (failures.length > 0) throw failures[0];
    },
  };
}

/** The businesses that a write puts whole. */
function itemsPut(body: string): Business[] {
  const { Item, TransactItems = [] } = JSON.parse(body);
  const items: Parameters<typeof unmarshall>[0][] = [
    Item,
    ...TransactItems.map((one: { Put?: { Item: unknown } }) => one.Put?.Item),
  ];
  return items.flatMap((item) => {
    const stored = item === undefined ? undefined : unmarshall(item);
    return stored?.["pk"]?.startsWith("BUSINESS#") ? [businessSchema.parse(stored)] : [];
  });
}
