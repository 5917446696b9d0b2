import { once } from "node:events";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";

/**
 * Meta's own SDK puts the token into the URL, where logs find it; the stand-in refuses that. This stands between them and
 * moves it into the header. It runs in the benchmark's process, so that its time is not the baseline's.
 */
export async function startTokenProxy(target: string): Promise<{ url: string; close: () => Promise<void> }> {
  const server = createServer((request, response) => {
    void (async () => {
      const url = new URL(request.url ?? "/", target);
      const token = url.searchParams.get("access_token") ?? "";
      url.searchParams.delete("access_token");
      const body = await text(request);
      const answer = await fetch(url, {
        method: request.method ?? "GET",
        headers: {
          authorization: `Bearer ${token}`,
          "content-type": request.headers["content-type"] ?? "application/json",
        },
        ...(request.method === "GET" ? {} : { body }),
      });
      response.writeHead(answer.status, { "content-type": "application/json" }).end(await answer.text());
    })();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The proxy has no port");
  return {
    url: `http://127.0.0.1:${address.port}`,
    async close() {
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
