import * as z from "zod/mini";
import { ThrottledError } from "../errors.ts";
import type { CallerDeps } from "./caller.ts";
import { createCaller } from "./caller.ts";
import type { TokenSource } from "./tokens.ts";

export type TokenState = "works" | "dead" | "unknown";

/**
 * One cheap read with the system token (E14). `dead` means that Meta refused it, and again after the secret was read anew;
 * or that there is none to be read. Whatever else Meta answers, it took the token; without an answer nothing is known.
 */
export async function checkSystemToken(
  deps: CallerDeps,
  creditLineId: string,
  signal: AbortSignal,
): Promise<TokenState> {
  try {
    const line = { path: `/${creditLineId}`, query: { fields: "id" }, schema: z.object({}) };
    const reply = await createCaller(deps).read(line, [deps.tokens.system], signal);
    if (reply.ok) return "works";
    if (reply.failure.class === "token_dead") return "dead";
    return reply.failure.class === "transient" ? "unknown" : "works";
  } catch (error) {
    if (error instanceof ThrottledError) return "unknown";
    throw error;
  }
}

/** The source, watched: `isSuspect` after Meta refused its token or its secret could not be read, until it is cleared. */
export function watchTokenSource(source: TokenSource) {
  let suspect = false;
  const watched: TokenSource = {
    async read() {
      try {
        return await source.read();
      } catch (error) {
        suspect = true;
        throw error;
      }
    },
    forget(token) {
      suspect = true;
      source.forget(token);
    },
  };
  return {
    source: watched,
    isSuspect: () => suspect,
    clear() {
      suspect = false;
    },
  };
}
