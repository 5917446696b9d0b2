/** A token and where it came from. The value goes into the Authorization header and nowhere else. */
export type TokenSource = {
  /** Concurrent callers share one read; kept for five minutes. */
  read(): Promise<string>;
  /** After error 190: the next read asks the secret again, unless somebody has since `token` was handed out. */
  forget(token: string): void;
};

const cacheMs = 5 * 60_000;

/** One secret's value, read at most once in five minutes; a read that failed is forgotten at once. */
export function createTokenSource(readSecret: () => Promise<string>, now: () => number): TokenSource {
  let cached: { value: Promise<string>; at: number; token?: string } | undefined;
  return {
    read() {
      if (cached !== undefined && now() - cached.at < cacheMs) return cached.value;
      const entry: { value: Promise<string>; at: number; token?: string } = { value: keep(), at: now() };
      async function keep(): Promise<string> {
        try {
          const token = await readSecret();
          entry.token = token;
          return token;
        } catch (error) {
          if (cached === entry) cached = undefined;
          throw error;
        }
      }
      cached = entry;
      return entry.value;
    },
    forget(token) {
      if (cached?.token === token) cached = undefined;
    },
  };
}

export type Tokens = {
  system: TokenSource;
  /** The customer's business token, by the name of its secret under the stage's prefix. */
  business(secretName: string): TokenSource;
};

/** @param readSecret reads a secret by name or ARN; throws what Secrets Manager throws. */
export function createTokens(
  systemSecret: string,
  readSecret: (secret: string) => Promise<string>,
  now: () => number,
): Tokens {
  const sources = new Map<string, TokenSource>();
  return {
    system: createTokenSource(() => readSecret(systemSecret), now),
    business(secretName) {
      const known = sources.get(secretName);
      if (known !== undefined) return known;
      // A warm function meets many customers: the oldest token is dropped, so that the cache cannot grow for ever.
      const oldest = sources.keys().next();
      if (sources.size >= 200 && !oldest.done) sources.delete(oldest.value);
      const source = createTokenSource(() => readSecret(secretName), now);
      sources.set(secretName, source);
      return source;
    },
  };
}
