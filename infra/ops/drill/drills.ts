import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import {
  DeleteItemCommand,
  DynamoDBClient,
  PutItemCommand,
  ScanCommand,
  UpdateItemCommand,
} from "@aws-sdk/client-dynamodb";
import { systemTokenSecretName } from "../../config.ts";
import { compareWithLedger, localClient } from "../../local/observe.ts";
import { businessId, sampleSystemToken, wabaId } from "../../local/sample/world.ts";
import type { Room } from "./room.ts";

/** An incident, and how Meta's ledger and the events tell that it is over. Its name is its runbook's. */
export type Drill = {
  name: string;
  /** Meta's webhooks reach the stage. */
  webhook?: true;
  /** Plays the incident until somebody is needed. Answers what the runbook's capitals stand for. */
  strike(room: Room): Promise<Record<string, string>>;
  /** What is still wrong; empty when the incident is over. */
  wrongs(room: Room): Promise<string[]>;
};

function share(customer: number, more: Record<string, unknown> = {}) {
  return { commandId: `share-${customer}`, wabaId: wabaId(customer), currency: "USD", ...more };
}

/** Of those WABAs, the ones that the ledger does not show as attached by exactly one POST that was accepted; and where table and ledger differ. */
async function unshared(room: Room, ...customers: number[]): Promise<string[]> {
  const observation = await room.observe();
  const calls = observation.ledger?.calls ?? [];
  const wrongs = compareWithLedger(observation, room.stack.config.creditLineId);
  for (const customer of customers) {
    const accepted = calls.filter(
      ({ name, query, status }) => name === "E2" && query["waba_id"] === wabaId(customer) && status === 200,
    );
    if (accepted.length !== 1) wrongs.push(`WABA ${wabaId(customer)} was shared ${accepted.length} times`);
  }
  return wrongs;
}

function unannounced(room: Room, detailType: string, ...customers: number[]): string[] {
  const told = room.events().filter((event) => event.detailType === detailType);
  return customers
    .filter(
      (customer) =>
        !told.some((event) => event.wabaId === wabaId(customer) || event.businessId === businessId(customer)),
    )
    .map((customer) => `no ${detailType} of customer ${customer}`);
}

function saw(room: Room, detailType: string, commandId: string): boolean {
  return room.events().some((event) => event.detailType === detailType && event.commandId === commandId);
}

const systemTokenSecret = systemTokenSecretName("local");

const tokenExpired: Drill = {
  name: "token-expired",
  async strike(room) {
    await room.world({ tokens: [{ value: sampleSystemToken, kind: "system", dead: true }] });
    for (const customer of [21, 22, 23]) await room.send("share", share(customer));
    await room.until("the event sources are paused", async () => {
      const answer = await fetch(`${room.stack.aws.endpoint}/2015-03-31/event-source-mappings/`);
      const listed = await answer.text();
      return listed.includes('"Disabled"');
    });
    // A person made a new one in Meta's console.
    const token = "EAADrillTokenThatWorksAgain";
    await room.world({ tokens: [{ value: token, kind: "system" }] });
    writeFileSync(path.join(room.directory, "token.txt"), token);
    return { SYSTEM_TOKEN_SECRET: systemTokenSecret };
  },
  wrongs: async (room) => [...(await unshared(room, 21, 22, 23)), ...unannounced(room, "Share Verified", 21, 22, 23)],
};

/** Commands that died of our set-up, which a person has mended at Meta since. */
function mendedAtMeta(
  name: string,
  breakIt: (room: Room) => Promise<void>,
  mendIt: (room: Room) => Promise<void>,
): Drill {
  return {
    name,
    async strike(room) {
      await breakIt(room);
      for (const customer of [21, 22, 23]) await room.send("share", share(customer));
      await room.until("three dead letters", async () => (await room.deadLetters("share")) === 3);
      await mendIt(room);
      return {};
    },
    wrongs: async (room) => [...(await unshared(room, 21, 22, 23)), ...unannounced(room, "Share Verified", 21, 22, 23)],
  };
}

function systemToken(lacksPermission: boolean) {
  return { tokens: [{ value: sampleSystemToken, kind: "system" as const, lacksPermission }] };
}
const tokenLostItsRole = mendedAtMeta(
  "token-lost-its-role",
  (room) => room.world(systemToken(true)),
  (room) => room.world(systemToken(false)),
);

function lineOf({ stack }: Room, accessRevoked: boolean) {
  const { creditLineId: id, partnerBusinessId: ownerBusinessId } = stack.config;
  return { lines: [{ id, ownerBusinessId, accessRevoked }] };
}
const lineAccessRevoked = mendedAtMeta(
  "line-access-revoked",
  (room) => room.world(lineOf(room, true)),
  (room) => room.world(lineOf(room, false)),
);

const fundedElsewhere: Drill = {
  name: "funded-elsewhere",
  async strike(room) {
    // Customer 13 of the sample world is paid for by somebody else.
    const refused = await room.send("share", share(13));
    await room.until("the share is refused", () => saw(room, "Share Refused", refused));
    const waba = { id: wabaId(13), ownerBusinessId: businessId(13), currency: "USD" };
    await room.world({ wabas: [{ ...waba, primaryFundingId: null }] });
    return { WABA_ID: wabaId(13), WABA_CURRENCY: "USD" };
  },
  wrongs: async (room) => [...(await unshared(room, 13)), ...unannounced(room, "Share Verified", 13)],
};

const lostAnswer: Drill = {
  name: "share-in-doubt",
  async strike(room) {
    await room.faults({ match: "E2", kind: "cut-before", wabaId: wabaId(21), times: 2 });
    const doubtful = await room.send("share", share(21));
    await room.until("the share is in doubt", () => saw(room, "Share In Doubt", doubtful));
    return { WABA_ID: wabaId(21), WABA_CURRENCY: "USD" };
  },
  wrongs: async (room) => [...(await unshared(room, 21)), ...unannounced(room, "Share Verified", 21)],
};

const partnerSwitch: Drill = {
  name: "partner-switch",
  async strike(room) {
    const waba = { id: wabaId(21), ownerBusinessId: businessId(21), currency: "USD" };
    await room.world({ wabas: [{ ...waba, primaryFundingId: "990000000000021", partnerSwitch: true }] });
    const refused = await room.send("share", share(21));
    await room.until("the share is refused", () => saw(room, "Share Refused", refused));
    return { WABA_ID: wabaId(21), WABA_CURRENCY: "USD" };
  },
  wrongs: async (room) => [...(await unshared(room, 21)), ...unannounced(room, "Share Pending", 21)],
};

const poisonedBody: Drill = {
  name: "poisoned-body",
  async strike(room) {
    const bad = ["{ not JSON", { ...share(21), wabaId: 21 }, share(22, { token: "EAAPoison0815" })];
    for (const body of bad) await room.send("share", body);
    await room.send("share", share(23));
    await room.until("three bodies are rejected", async () => (await room.deadLetters("share")) === 3);
    await room.until("their good neighbour is shared", () => saw(room, "Share Verified", "share-23"));
    return {};
  },
  async wrongs(room) {
    const left = await room.deadLetters("share");
    const file = path.join(room.directory, "rejected.jsonl");
    const kept = existsSync(file) ? readFileSync(file, "utf8") : "";
    const lines = kept.trim().split("\n").length;
    const rejected = room.events().filter(({ detailType }) => detailType === "Command Rejected").length;
    return [
      ...(left === 0 ? [] : [`${left} bad bodies are among the dead letters`]),
      ...(kept !== "" && lines === 3 ? [] : ["the bad bodies are not in the file"]),
      ...(kept.includes("EAAPoison") ? ["the file holds a token"] : []),
      ...(rejected === 3 ? [] : [`${rejected} bodies were announced as rejected`]),
      ...(await unshared(room, 23)),
    ];
  },
};

const redriveAfterRevoke: Drill = {
  name: "redrive-after-a-revoke",
  async strike(room) {
    await room.world(lineOf(room, true));
    for (const customer of [21, 22]) await room.send("share", share(customer));
    await room.until("two dead letters", async () => (await room.deadLetters("share")) === 2);
    await room.world(lineOf(room, false));
    // Meanwhile one of them was shared under another id, and revoked.
    const again = await room.send("share", share(21, { commandId: "share-21-again" }));
    await room.until("it is shared", () => saw(room, "Share Accepted", again));
    await room.send("revoke", { commandId: "revoke-21", wabaId: wabaId(21), reason: "offboarded" });
    await room.until("it is revoked", () => saw(room, "Credit Line Revoked", "revoke-21"));
    return {};
  },
  async wrongs(room) {
    const live = saw(room, "Share Accepted", "share-21") ? ["the revoked customer was shared with again"] : [];
    const left = await room.deadLetters("share");
    const waiting = left === 1 ? [] : [`${left} dead letters instead of the superseded one`];
    return [...live, ...waiting, ...(await unshared(room, 21, 22)), ...unannounced(room, "Share Verified", 22)];
  },
};

const longThrottle: Drill = {
  name: "long-throttle",
  async strike(room) {
    await blockUntil(room, Date.now() + 3_600_000);
    // A copy of a command that has waited since before the third day ends among the dead letters.
    const firstSentAt = String(Date.now() - 3 * 86_400_000 - 60_000);
    for (const customer of [21, 22]) {
      await room.send("share", share(customer, { requestedAt: new Date(Number(firstSentAt)).toISOString() }), {
        firstSentAt,
      });
    }
    await room.until("two dead letters", async () => (await room.deadLetters("share")) === 2);
    await blockUntil(room, Date.now() - 1000);
    return {};
  },
  wrongs: async (room) => [...(await unshared(room, 21, 22)), ...unannounced(room, "Share Verified", 21, 22)],
};

/** Hours of Meta's block in a moment: set where the functions read it. */
async function blockUntil({ stack }: Room, blockedUntil: number): Promise<void> {
  const client = new DynamoDBClient(localClient(stack.aws.endpoint));
  await client.send(
    new UpdateItemCommand({
      TableName: stack.about.tables.state,
      Key: { pk: { S: "QUOTA#graph" } },
      UpdateExpression: "SET blockedUntil = :until",
      ExpressionAttributeValues: { ":until": { N: String(blockedUntil) } },
    }),
  );
  client.destroy();
}

const ownerUnknown: Drill = {
  name: "owner-unknown",
  async strike(room) {
    // Shared by hand before this system came; then the customer took its WABA away.
    const waba = { id: wabaId(21), ownerBusinessId: businessId(21), currency: "USD" };
    await room.world({
      wabas: [{ ...waba, sharedWithPartner: false }],
      allocations: [
        {
          id: "130000000000021",
          lineId: room.stack.config.creditLineId,
          receivingBusinessId: businessId(21),
          wabaIds: [wabaId(21)],
        },
      ],
    });
    await room.send("revoke", { commandId: "revoke-21", wabaId: wabaId(21), reason: "customer_unshared" });
    await room.until("it waits for its owner", async () => {
      const answer = await room.deadLetters("revoke");
      return answer === 0 && room.stack.meta?.model.calls.some(({ name }) => name.includes("E3")) === true;
    });
    return { WABA_ID: wabaId(21), BUSINESS_ID: businessId(21) };
  },
  async wrongs(room) {
    const { ledger } = await room.observe();
    const deleted = ledger?.changes.some(
      ({ kind, allocationId }) => kind === "allocation_deleted" && allocationId === "130000000000021",
    );
    const isAnswered = room
      .events()
      .some(({ detailType, commandId }) => detailType === "Credit Line Revoked" && commandId === "revoke-21");
    return [
      ...(deleted === true ? [] : ["the line is still shared"]),
      ...(isAnswered ? [] : ["the revoke that waited has no answer"]),
      ...unannounced(room, "Credit Line Revoked", 21),
    ];
  },
};

const oneOfTwoLeft: Drill = {
  name: "one-of-two-wabas-left",
  webhook: true,
  async strike(room) {
    const own = { ownerBusinessId: businessId(21), currency: "USD" };
    await room.world({ wabas: [{ id: wabaId(21, 1), ...own }] });
    await room.send("share", share(21));
    await room.send("share", share(21, { commandId: "share-21-second", wabaId: wabaId(21, 1) }));
    await room.until(
      "both are shared",
      () => unannounced(room, "Share Verified", 21).length === 0 && saw(room, "Share Verified", "share-21-second"),
    );
    await room.world({ wabas: [{ id: wabaId(21), ...own, sharedWithPartner: false }] });
    await room.until("its removal is held", () =>
      room.events().some(({ detailType }) => detailType === "Revocation Held"),
    );
    return { BUSINESS_ID: businessId(21), STAYING_WABA_ID: wabaId(21, 1), WABA_CURRENCY: "USD" };
  },
  async wrongs(room) {
    const observation = await room.observe();
    const attached = observation.ledger?.changes.findLast(
      (change) =>
        change.wabaId === wabaId(21, 1) && (change.kind === "waba_attached" || change.kind === "waba_detached"),
    );
    const left = observation.ledger?.changes.findLast(
      (change) => change.wabaId === wabaId(21) && (change.kind === "waba_attached" || change.kind === "waba_detached"),
    );
    return [
      ...(left?.kind === "waba_detached" ? [] : ["the line still pays for the WABA that left"]),
      ...(attached?.kind === "waba_attached" ? [] : ["the line does not pay for the WABA that stays"]),
      ...unannounced(room, "Credit Line Revoked", 21),
      ...compareWithLedger(observation, room.stack.config.creditLineId),
    ];
  },
};

/** What changed a moment ago a scan leaves alone. */
async function untilOld(room: Room): Promise<void> {
  const { settleWindowSeconds } = room.stack.config;
  await room.until("the last change is older than the settle window", async () => {
    const { businesses } = await room.observe();
    const latest = Math.max(...businesses.map(({ changedAt }) => changedAt));
    return room.stack.now() > latest + settleWindowSeconds * 1000 + 1000;
  });
}

const webhookNeverSubscribed: Drill = {
  name: "webhook-never-subscribed",
  async strike(room) {
    for (const customer of [21, 22]) await room.send("share", share(customer));
    await room.until("both are verified", () => unannounced(room, "Share Verified", 21, 22).length === 0);
    const waba = { id: wabaId(21), ownerBusinessId: businessId(21), currency: "USD" };
    await room.world({ wabas: [{ ...waba, subscribed: false, sharedWithPartner: false }] });
    await untilOld(room);
    return {};
  },
  async wrongs(room) {
    const { ledger } = await room.observe();
    const last = [21, 22].map((customer) =>
      ledger?.changes.findLast(
        (change) => change.wabaId === wabaId(customer) && /^waba_(attached|detached)$/.test(change.kind),
      ),
    );
    return [
      ...(last[0]?.kind === "waba_detached" ? [] : ["the line still pays for the customer that left"]),
      ...(last[1]?.kind === "waba_attached" ? [] : ["the line does not pay for the customer that stays"]),
      ...unannounced(room, "Credit Line Revoked", 21),
    ];
  },
};

const tableRestored: Drill = {
  name: "table-restored",
  async strike(room) {
    await room.send("share", share(21));
    await room.until("it is verified", () => unannounced(room, "Share Verified", 21).length === 0);
    const client = new DynamoDBClient(localClient(room.stack.aws.endpoint));
    const TableName = room.stack.about.tables.state;
    const yesterday = (await client.send(new ScanCommand({ TableName, ConsistentRead: true }))).Items ?? [];
    // What the backup does not know: a customer who came, and one who was revoked.
    await room.send("share", share(22));
    await room.send("revoke", { commandId: "revoke-21", wabaId: wabaId(21), reason: "offboarded" });
    await room.until(
      "both are done",
      () => unannounced(room, "Share Verified", 22).length === 0 && saw(room, "Credit Line Revoked", "revoke-21"),
    );
    await untilOld(room);
    const today = (await client.send(new ScanCommand({ TableName, ConsistentRead: true }))).Items ?? [];
    for (const { pk } of today)
      if (pk !== undefined) await client.send(new DeleteItemCommand({ TableName, Key: { pk } }));
    for (const Item of yesterday) await client.send(new PutItemCommand({ TableName, Item }));
    client.destroy();
    return {};
  },
  /** A difference that a finding names is known, and a person's; one that nobody names is the incident. */
  async wrongs(room) {
    const named = room
      .events()
      .filter(({ detailType }) => detailType === "Drift Found")
      .flatMap(({ wabaId: waba, businessId: business, allocationConfigId }) => [waba, business, allocationConfigId])
      .filter((id) => id !== undefined);
    const differences = compareWithLedger(await room.observe(), room.stack.config.creditLineId);
    return differences.filter((difference) => !named.some((id) => difference.includes(id)));
  },
};

export const drills: readonly Drill[] = [
  tokenExpired,
  tokenLostItsRole,
  lineAccessRevoked,
  fundedElsewhere,
  lostAnswer,
  partnerSwitch,
  poisonedBody,
  redriveAfterRevoke,
  longThrottle,
  ownerUnknown,
  oneOfTwoLeft,
  webhookNeverSubscribed,
  tableRestored,
];
