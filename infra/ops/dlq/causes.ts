import type { Causes } from "../../../shared/domain/dead-letters.ts";
import type { Portfolio } from "../../../shared/graph/portfolio.ts";
import { connectMeta } from "../meta.ts";
import type { Stage } from "../stage.ts";
import type { CauseReader } from "./judge-letters.ts";

const askMsMax = 20_000;

/**
 * Finds out which causes still stand: a cheap read at Meta, and one more for each customer's token that is asked about.
 * Whatever cannot be found out is `unknown`, never "gone".
 */
export async function readCauses(stage: Stage): Promise<CauseReader> {
  const { settings, store } = stage;
  const { tokenIsDead } = await store.loadLimits();
  const { portfolio, caller } = connectMeta(stage);

  const line = await attempt(() => portfolio.readLine(settings.CREDIT_LINE_ID, AbortSignal.timeout(askMsMax)));
  const asked = new Map<string, Promise<Causes["businessToken"]>>();
  async function debug(secretName: string): Promise<Causes["businessToken"]> {
    const source = caller.tokens.business(secretName);
    const token = await attempt(() => portfolio.debugToken(source, AbortSignal.timeout(askMsMax)));
    if (token?.ok !== true) return "unknown";
    return token.value.valid ? "works" : "dead";
  }
  return {
    common: judgeLine(line, tokenIsDead),
    businessToken(secretName) {
      const answer = asked.get(secretName) ?? debug(secretName);
      asked.set(secretName, answer);
      return answer;
    },
  };
}

type LineReading = Awaited<ReturnType<Portfolio["readLine"]>> | undefined;

function judgeLine(line: LineReading, tokenIsDead: boolean): Pick<Causes, "systemToken" | "line"> {
  // The breaker is the functions' own word: while it is open they serve nothing, whatever the token can do by now.
  const systemToken = tokenIsDead ? "dead" : "works";
  if (line === undefined) return { systemToken: tokenIsDead ? "dead" : "unknown", line: "unknown" };
  if (line.ok) {
    const { accessRevoked, unreadable } = line.value;
    if (accessRevoked === true) return { systemToken, line: "access-revoked" };
    return { systemToken, line: accessRevoked === undefined && unreadable.length > 0 ? "unknown" : "usable" };
  }
  const { failure } = line;
  if (failure.class === "token_dead") return { systemToken: "dead", line: "unknown" };
  if (failure.reason === "line_access_revoked") return { systemToken, line: "access-revoked" };
  const denied = failure.class === "permission" || failure.class === "missing";
  return { systemToken: denied ? systemToken : "unknown", line: denied ? "denied" : "unknown" };
}

/** Undefined when Meta throttles us, or a secret may not be read: then nothing is known. */
async function attempt<T>(ask: () => Promise<T>): Promise<T | undefined> {
  try {
    return await ask();
  } catch {
    return undefined;
  }
}
