import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { LedgerCall, MetaModel } from "../../../infra/local/meta/meta-model.ts";
import type { WorldInput } from "../../../infra/local/meta/meta-world.ts";
import { localStage } from "../../../infra/config.ts";
import type { GraphAnswer, GraphRequest } from "../../../shared/graph/transport.ts";

export const faultKinds = [
  "cut-before",
  "cut-after",
  "5xx-before",
  "5xx-after",
  "hang-before",
  "hang-after",
  "throttle",
] as const;
export type FaultKind = (typeof faultKinds)[number];

/** A way to Meta, and what the contract needs to see behind it. */
export type TransportUnderTest = {
  /** What Meta knows, and its ledger. */
  model: MetaModel;
  /**
   * Sends, and lets time pass until it is answered. With `deadlineInMs` it is a change, whose send deadline is so far away
   * (0: passed). The turn ends after `abortInMs` (0: before).
   */
  send(request: GraphRequest, options?: { deadlineInMs?: number; abortInMs?: number }): Promise<GraphAnswer>;
  /** What goes wrong with the next call. */
  fail(kind: FaultKind): Promise<void> | void;
  close(): Promise<void>;
};

const { partnerBusinessId, creditLineId } = localStage;
const token = "EAAcontractTokenOfTheTransport";
const soonMs = 10_000;
let customers = 0;

/** What every transport's Meta must know. */
export const contractWorld: WorldInput = {
  partnerBusinessId,
  lines: [{ id: creditLineId, ownerBusinessId: partnerBusinessId }],
  tokens: [{ value: token, kind: "system" }],
  wabas: Array.from({ length: 40 }, (_, index) => ({
    id: String(620_000_000_000_000 + index),
    ownerBusinessId: String(610_000_000_000_000 + index),
    currency: "EUR",
  })),
};

/** What every way to Meta must do, whatever it is made of. */
export function describeTransport(name: string, create: () => Promise<TransportUnderTest>): void {
  let subject: TransportUnderTest;
  beforeAll(async () => {
    subject = await create();
  });
  afterAll(() => subject?.close());

  /** A WABA that no other test shares with. */
  function newWaba(): string {
    customers += 1;
    return String(620_000_000_000_000 + (customers % 40));
  }

  function read(wabaId: string): GraphRequest {
    const query = { fields: "owner_business_info,primary_funding_id" };
    return { method: "GET", path: `/${wabaId}`, query, token };
  }

  function share(wabaId: string): GraphRequest {
    const query = { waba_id: wabaId, waba_currency: "EUR" };
    return { method: "POST", path: `/${creditLineId}/whatsapp_credit_sharing_and_attach`, query, token };
  }

  function shareSoon(wabaId: string): Promise<GraphAnswer> {
    return subject.send(share(wabaId), { deadlineInMs: soonMs });
  }

  function callsOf(wabaId: string): LedgerCall[] {
    return subject.model.calls.filter(({ path, query }) => path.endsWith(`/${wabaId}`) || query["waba_id"] === wabaId);
  }

  function isFunded(wabaId: string): boolean {
    return subject.model.changes.some((change) => change.kind === "waba_attached" && change.wabaId === wabaId);
  }

  function codeOf(answer: GraphAnswer): unknown {
    if (answer.kind !== "answer") return answer.kind;
    return (answer.body as { error?: { code?: unknown } }).error?.code;
  }

  describe(`a way to Meta ${name}`, () => {
    test("answers a read, and Meta's ledger has the call as it was made, without the token", async () => {
      const wabaId = newWaba();
      const answer = await subject.send(read(wabaId));
      const owner = { id: String(Number(wabaId) - 10_000_000_000_000) };
      expect(answer).toMatchObject({ kind: "answer", status: 200, body: { owner_business_info: owner } });
      expect(callsOf(wabaId)).toMatchObject([
        { name: "E3+E7", method: "GET", path: `/${wabaId}`, tokenKind: "system", status: 200 },
      ]);
      expect(JSON.stringify(subject.model.calls)).not.toContain(token);
    });

    test("answers a change with what came of it", async () => {
      const wabaId = newWaba();
      const answer = await shareSoon(wabaId);
      const [made] = subject.model.changes.filter((change) => change.wabaId === wabaId);
      const body = { allocation_config_id: made?.allocationId, waba_id: wabaId };
      expect(answer).toMatchObject({ kind: "answer", status: 200, body });
      expect(callsOf(wabaId)).toMatchObject([{ n: made?.callNumber, name: "E2", method: "POST", status: 200 }]);
    });

    test("passes Meta's refusal on, with its code", async () => {
      const wabaId = newWaba();
      const answer = await subject.send({ ...read(wabaId), token: "EAAnobodyKnowsThisOne" });
      expect(answer).toMatchObject({ kind: "answer", status: 401 });
      expect(codeOf(answer)).toBe(190);
      expect(callsOf(wabaId)).toMatchObject([{ tokenKind: "unknown", errorCode: 190 }]);
    });

    test("answers calls that are made at the same time, each with its own", async () => {
      const wabaIds = [newWaba(), newWaba(), newWaba()];
      const answers = await Promise.all(wabaIds.map(shareSoon));
      expect(answers).toMatchObject(wabaIds.map((wabaId) => ({ kind: "answer", body: { waba_id: wabaId } })));
    });

    test.each([
      { why: "the send deadline has passed", options: { deadlineInMs: 0 } },
      { why: "its turn has ended", options: { deadlineInMs: soonMs, abortInMs: 0 } },
    ])("sends no change when $why, and says so", async ({ options }) => {
      const wabaId = newWaba();
      expect(await subject.send(share(wabaId), options)).toMatchObject({ kind: "not-sent" });
      expect(callsOf(wabaId)).toEqual([]);
    });

    test("sends nothing for a read whose turn has ended", async () => {
      const wabaId = newWaba();
      expect((await subject.send(read(wabaId), { abortInMs: 0 })).kind).not.toBe("answer");
      expect(callsOf(wabaId)).toEqual([]);
    });

    test.each(["hang-before", "cut-before"] as const)("has no answer, and no effect, after %s", async (kind) => {
      const wabaId = newWaba();
      await subject.fail(kind);
      expect(await shareSoon(wabaId)).toMatchObject({ kind: "no-answer" });
      expect(callsOf(wabaId)).toHaveLength(1);
      expect(isFunded(wabaId)).toBe(false);
    });

    test.each(["hang-after", "cut-after"] as const)("has no answer after %s, and the effect stays", async (kind) => {
      const wabaId = newWaba();
      await subject.fail(kind);
      expect(await shareSoon(wabaId)).toMatchObject({ kind: "no-answer" });
      expect(callsOf(wabaId)).toHaveLength(1);
      expect(isFunded(wabaId)).toBe(true);
    });

    test.each(["hang-before", "cut-before"] as const)("has no answer to a read after %s", async (kind) => {
      const wabaId = newWaba();
      await subject.fail(kind);
      expect(await subject.send(read(wabaId))).toMatchObject({ kind: "no-answer" });
    });

    test("has no answer when the turn ends while Meta holds the call: its effect is unknown", async () => {
      const wabaId = newWaba();
      await subject.fail("hang-after");
      const answer = await subject.send(share(wabaId), { deadlineInMs: soonMs, abortInMs: 300 });
      expect(answer).toMatchObject({ kind: "no-answer" });
      expect(isFunded(wabaId)).toBe(true);
    });

    test.each([
      { kind: "5xx-before", funded: false },
      { kind: "5xx-after", funded: true },
    ] as const)("passes an error of the server on after $kind, which proves nothing", async ({ kind, funded }) => {
      const wabaId = newWaba();
      await subject.fail(kind);
      const answer = await shareSoon(wabaId);
      expect(codeOf(answer)).toBeOneOf([1, 2]);
      expect(answer).toMatchObject({ kind: "answer", status: expect.toSatisfy((status: number) => status >= 500) });
      expect(isFunded(wabaId)).toBe(funded);
    });

    test("tells of a throttle by error 4 and the time until which to wait, and the call has no effect", async () => {
      const wabaId = newWaba();
      await subject.fail("throttle");
      const answer = await shareSoon(wabaId);
      expect(codeOf(answer)).toBe(4);
      if (answer.kind !== "answer") throw new Error("There is no answer");
      const usage: unknown = JSON.parse(String(answer.headers["x-business-use-case-usage"]));
      const waits = Object.values(usage as Record<string, { estimated_time_to_regain_access: number }[]>).flat();
      expect(waits.map(({ estimated_time_to_regain_access: minutes }) => minutes)).toEqual([expect.toSatisfy(isLong)]);
      expect(isFunded(wabaId)).toBe(false);
    });

    test("tells in every answer how much of the app's limit is used", async () => {
      subject.model.variants = { ...subject.model.variants, appCallsPerHour: 100 };
      await shareSoon(newWaba());
      const answers = [await subject.send(read(newWaba())), await shareSoon(newWaba())];
      for (const answer of answers) {
        if (answer.kind !== "answer") throw new Error("There is no answer");
        const { call_count: percent } = JSON.parse(String(answer.headers["x-app-usage"]));
        expect(percent).toSatisfy((count: number) => count > 0 && count < 100);
      }
    });

    test("names the version that answered", async () => {
      const answer = await subject.send(read(newWaba()));
      expect(answer).toMatchObject({ kind: "answer", headers: { "facebook-api-version": "v25.0" } });
    });
  });
}

function isLong(minutes: number): boolean {
  return minutes >= 1;
}
