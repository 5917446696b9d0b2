import { createHmac, hash } from "node:crypto";
import type { AccountNotice } from "../domain/account.ts";

export function sha256(text: string): string {
  return hash("sha256", text, "base64url");
}

/** The same content gives the same hash, whatever the order of the keys. */
export function contentHash(value: Record<string, unknown>): string {
  return sha256(JSON.stringify(Object.entries(value).toSorted(([a], [b]) => (a < b ? -1 : 1))));
}

type Notice = Omit<AccountNotice, "hash" | "at"> & { version: "1"; requestedAt: string };

/** The body of a notice, by whoever knows the app secret. */
export function provenNotice(notice: Notice, appSecret: string): string {
  return JSON.stringify({ ...notice, proof: proofOf(contentHash(notice), appSecret) });
}

/** @param noticeHash of its content without the proof: the same delivery, repeated during a rotation, is the same notice. */
export function proofOf(noticeHash: string, appSecret: string): string {
  return createHmac("sha256", appSecret).update(noticeHash).digest("base64url");
}
