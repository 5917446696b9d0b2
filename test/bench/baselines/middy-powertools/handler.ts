import { type Meta, shareHandler } from "../share-handler.ts";

/** Baseline (a): Meta by `fetch`. */
function byFetch(baseUrl: string): Meta {
  async function call(method: string, path: string, query: Record<string, string>, token: string) {
    const response = await fetch(`${baseUrl}/${path}?${new URLSearchParams(query).toString()}`, {
      method,
      headers: { Authorization: `Bearer ${token}` },
      signal: AbortSignal.timeout(8000),
    });
    const body = (await response.json()) as Record<string, unknown>;
    if (!response.ok) throw new Error(`Meta answered ${response.status}`);
    return body;
  }
  return {
    get: (id, fields, token) => call("GET", id, { fields: fields.join(",") }, token),
    list: async (id, edge, query, token) => (await call("GET", `${id}/${edge}`, query, token))["data"] as unknown[],
    post: (id, edge, query, token) => call("POST", `${id}/${edge}`, query, token),
  };
}

export const handler = shareHandler(byFetch);
