import type { Failure } from "./domain/reasons.ts";

/**
 * The error's class is the decision about the message; it is made in one place, `shared/queue-handler.ts`.
 */

/** Our set-up or Meta is at fault: recorded, retried by SQS, then dead-lettered, so that a replay after the repair works. */
export class BlockedError extends Error {
  override readonly name = "BlockedError";
  readonly failure: Failure;
  readonly businessId: string | undefined;
  constructor(failure: Failure, businessId?: string) {
    super(`Blocked: ${failure.reason}`);
    this.failure = failure;
    this.businessId = businessId;
  }
}

/** Meta says stop: every function stops until then, and the message waits without moving towards the dead letters (Q1). */
export class ThrottledError extends Error {
  override readonly name = "ThrottledError";
  readonly until: number;
  constructor(until: number) {
    super("Throttled by Meta");
    this.until = until;
  }
}

/** The command must wait and is on no item: copied with a delay, then acknowledged (Q1). */
export class LaterError extends Error {
  override readonly name = "LaterError";
  readonly delayMs: number;
  constructor(message: string, delayMs: number) {
    super(message);
    this.delayMs = delayMs;
  }
}

/** The item holds a command of the same id and other content: rejected (T2). */
export class ReusedError extends Error {
  override readonly name = "ReusedError";
}
