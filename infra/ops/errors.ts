/** How the command line ends, for scripts and pipelines. Documented in infra/ops/README.md. */
export const exitCodes = {
  ok: 0,
  /** It did what was asked, and what it found needs somebody. */
  problem: 1,
  /** It was called wrongly. */
  usage: 2,
  /** AWS, Meta or the stack could not be reached or asked. */
  unreachable: 3,
  /** It was not safe, or not confirmed: nothing was done. */
  refused: 4,
} as const;

export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** What ends a command: a word for scripts, a sentence for people, and what to do about it. */
export class OpsError extends Error {
  override readonly name = "OpsError";
  readonly reason: string;
  readonly remedy: string;
  readonly exitCode: ExitCode;
  constructor(reason: string, message: string, remedy: string, exitCode: ExitCode) {
    super(message);
    this.reason = reason;
    this.remedy = remedy;
    this.exitCode = exitCode;
  }
}

const credentialErrors = new Set([
  "AccessDenied",
  "AccessDeniedException",
  "CredentialsProviderError",
  "ExpiredToken",
  "ExpiredTokenException",
  "InvalidClientTokenId",
  "InvalidSignatureException",
  "SignatureDoesNotMatch",
  "TokenProviderError",
  "UnrecognizedClientException",
]);
const networkErrors = new Set(["ECONNREFUSED", "ECONNRESET", "ENOTFOUND", "EHOSTUNREACH", "ETIMEDOUT", "TimeoutError"]);

/** Whatever was thrown, as what the person on call can act upon; undefined for a defect of ours. */
export function toOpsError(error: unknown): OpsError | undefined {
  if (error instanceof OpsError) return error;
  if (!(error instanceof Error)) return undefined;
  if (credentialErrors.has(error.name)) {
    const remedy = "Log in to the stage's account and region (AWS_PROFILE, AWS_REGION), with a role that may do this.";
    return new OpsError("denied", `AWS does not let us: ${error.message}`, remedy, exitCodes.unreachable);
  }
  const code = "code" in error && typeof error.code === "string" ? error.code : error.name;
  if (networkErrors.has(code) || error.message === "Region is missing") {
    const remedy =
      "Is the region right (AWS_REGION)? Of a local stack: does `npm run local` run, and is --endpoint its address?";
    return new OpsError(
      "unreachable",
      `AWS cannot be reached: ${error.message || code}`,
      remedy,
      exitCodes.unreachable,
    );
  }
  return undefined;
}
