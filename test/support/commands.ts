import { randomUUID } from "node:crypto";
import type { RevokeRequest, ShareRequest } from "../../shared/domain/business.ts";

/** Commands as a producer sends them, each with a fresh id. */
export function shareCommand(wabaId: string, overrides: Record<string, unknown> = {}) {
  return { ...common(), type: "share", wabaId, currency: "EUR", ...overrides };
}

export function verifyCommand(wabaId: string, overrides: Record<string, unknown> = {}) {
  return { ...common(), type: "verify", wabaId, ...overrides };
}

export function revokeCommand(overrides: Record<string, unknown>) {
  return { ...common(), type: "revoke", reason: "operator", ...overrides };
}

function common() {
  return { version: "1", commandId: randomUUID(), requestedAt: new Date().toISOString(), requestedBy: "test" };
}

/** Commands as the domain sees them. */
export function shareRequest(wabaId: string, overrides: Partial<ShareRequest> = {}): ShareRequest {
  return {
    type: "share",
    ...ref(),
    wabaId,
    currency: "EUR",
    reshareAfterRevocation: false,
    partnerSwitch: false,
    ...overrides,
  };
}

export function revokeRequest(overrides: Partial<RevokeRequest> = {}): RevokeRequest {
  return { type: "revoke", ...ref(), reason: "operator", ...overrides };
}

function ref() {
  const commandId = randomUUID();
  return { commandId, hash: `hash-of-${commandId}`, requestedAt: 1_700_000_000_000, requestedBy: "test" };
}
