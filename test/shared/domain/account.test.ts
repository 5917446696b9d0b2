import { expect, test } from "vitest";
import { accountChanged, type AccountNotice } from "../../../shared/domain/account.ts";
import { businessId, now, wabaId } from "../factories.ts";

test("a change of the account is announced as Meta names it, with its owner where the webhook named one", () => {
  const commandId = "webhook-1";
  const notice: AccountNotice = { type: "account", commandId, hash: "h", event: "PARTNER_ADDED", wabaId, at: now };
  const event = { detailType: "Account Changed", commandId, wabaId, reason: "partner_added" };
  expect(accountChanged(notice)).toStrictEqual({ request: notice, outcome: "done", event });
  expect(accountChanged({ ...notice, businessId }).event).toStrictEqual({ ...event, businessId });
});
