import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { SetQueueAttributesCommand, SQSClient } from "@aws-sdk/client-sqs";
import { afterAll, beforeAll, expect, test } from "vitest";
import { localStage } from "../../../infra/config.ts";
import { startLocalStack, type LocalStack } from "../../../infra/local/local-stack.ts";
import type { WorldInput } from "../../../infra/local/meta/meta-world.ts";
import { localClient } from "../../../infra/local/observe.ts";
import { runSteps, type RunResult } from "../../../infra/local/run-steps.ts";
import type { SampleCommand } from "../../../infra/local/sample/morning.ts";
import type { Business } from "../../../shared/domain/business.ts";

/** One-call and two-call shares of customers that are alike, on one stack, with what goes wrong on the way. */
const cases = {
  "one call": {},
  "two calls": {},
  "two calls, E5 refused once": { match: "E5", kind: "error-before", code: 10 },
  "two calls, E5 answered and cut": { match: "E5", kind: "cut-after" },
  "two calls, E5 lost": { match: "E5", kind: "cut-before" },
  "two calls, E4 answered and cut": { match: "E4", kind: "cut-after" },
  "two calls, E4 lost": { match: "E4", kind: "cut-before" },
} as const;
const names = Object.keys(cases) as (keyof typeof cases)[];

const prefix = "credit-lines/local/business-token/";
function wabaOf(index: number): string {
  return `42000000000000${index}`;
}
function businessOf(index: number): string {
  return `41000000000000${index}`;
}
function tokenOf(index: number): string {
  return `EAATwoCallsCustomerToken${index}`;
}
const siblings = [7, 8];

const world: WorldInput = {
  partnerBusinessId: localStage.partnerBusinessId,
  lines: [{ id: localStage.creditLineId, ownerBusinessId: localStage.partnerBusinessId }],
  tokens: [
    { value: "EAATwoCallsSystemToken", kind: "system" },
    ...names.map((_, index) => ({ value: tokenOf(index), kind: "business" as const, wabaIds: [wabaOf(index)] })),
    { value: tokenOf(7), kind: "business", wabaIds: siblings.map(wabaOf) },
  ],
  wabas: [
    ...names.map((_, index) => ({ id: wabaOf(index), ownerBusinessId: businessOf(index), currency: "USD" })),
    ...siblings.map((index) => ({ id: wabaOf(index), ownerBusinessId: businessOf(7), currency: "USD" })),
  ],
};

let stack: LocalStack;
let result: RunResult;

beforeAll(async () => {
  const directory = mkdtempSync(path.join(tmpdir(), "two-calls-"));
  const worldFile = path.join(directory, "world.json");
  const secretsFile = path.join(directory, "secrets.json");
  writeFileSync(worldFile, JSON.stringify(world));
  const tokens = [...names.keys(), 7].map((index) => [`${prefix}${index}`, tokenOf(index)]);
  writeFileSync(secretsFile, JSON.stringify(Object.fromEntries(tokens)));
  stack = await startLocalStack({ port: 0, worldFile, secretsFile });
  const sqs = new SQSClient(localClient(stack.aws.endpoint));
  await sqs.send(
    new SetQueueAttributesCommand({ QueueUrl: stack.about.queues.share, Attributes: { VisibilityTimeout: "3" } }),
  );
  sqs.destroy();

  const commands = names.map((name, index) => share(index, name === "one call" ? {} : twoCalls(index)));
  const both = siblings.map((index) => share(index, twoCalls(7)));
  const faults = names.flatMap((name, index) =>
    "match" in cases[name] ? [{ ...cases[name], ...subjectOf(name, index), times: 1 }] : [],
  );
  const steps = [{ title: "all at once", faults, commands: [...commands, ...both] }];
  result = await runSteps(steps, stack, { say: () => {}, patienceMs: 60_000 });
}, 120_000);
afterAll(() => stack.close());

function subjectOf(name: string, index: number) {
  return name.includes("E4") ? { businessId: businessOf(index) } : { wabaId: wabaOf(index) };
}

function twoCalls(token: number) {
  return { method: "share-then-attach", businessTokenSecret: `${prefix}${token}` };
}

function share(index: number, more: Record<string, unknown>): SampleCommand {
  const body = { type: "share", commandId: `share-${index}`, wabaId: wabaOf(index), currency: "USD", ...more };
  return { queue: "share", body, expected: { outcome: "done", status: "verified" } };
}

function businessNamed(name: keyof typeof cases): Business {
  const business = result.observation.businesses.find(
    ({ businessId }) => businessId === businessOf(names.indexOf(name)),
  );
  if (business === undefined) throw new Error(`There is no item of "${name}"`);
  return business;
}

/** The item without what may differ: ids, times, the command, the method, whether a record was answered or found, and how many writes it took. */
function comparable({ wabas, records, ...rest }: Business): unknown {
  const timeless = JSON.parse(
    JSON.stringify({ ...rest, records: Object.values(records), wabas: Object.values(wabas) }, (key, value) =>
      /(At|Id|^request|^method|^version|^answered)$/.test(key) ? undefined : value,
    ),
  );
  return timeless;
}

test("every one ends verified, and the table equals the ledger", () => {
  expect(result.faults).toEqual([]);
});

test.each(names.slice(1))("%s: the item equals the one of one call", (name) => {
  expect(comparable(businessNamed(name))).toEqual(comparable(businessNamed("one call")));
});

test("two shares of one business at once make one allocation, and attach both WABAs to it", () => {
  const created = stack.meta?.model.changes.filter(
    ({ kind, businessId }) => kind === "allocation_created" && businessId === businessOf(7),
  );
  expect(created).toHaveLength(1);
  const attached = stack.meta?.model.changes.filter(
    ({ kind, businessId }) => kind === "waba_attached" && businessId === businessOf(7),
  );
  expect(attached?.map(({ wabaId }) => wabaId).toSorted()).toEqual(siblings.map(wabaOf));
});

test("E4 is made with the system token, E5 with the customer's", () => {
  const kinds = (stack.meta?.model.calls ?? [])
    .filter(({ name }) => name === "E4" || name === "E5")
    .map(({ name, tokenKind }) => `${name} ${tokenKind}`);
  expect([...new Set(kinds)].toSorted()).toEqual(["E4 system", "E5 business"]);
});

test("a refused E5 is tried again at E5: the business is not shared with twice", () => {
  const index = names.indexOf("two calls, E5 refused once");
  const calls = (stack.meta?.model.calls ?? []).filter(
    ({ query }) => query["receiving_business_id"] === businessOf(index) || query["waba_id"] === wabaOf(index),
  );
  expect(calls.filter(({ method }) => method === "POST").map(({ name }) => name)).toEqual(["E4", "E5", "E5"]);
});
