import * as http from "node:http";
import * as https from "node:https";
import * as net from "node:net";
import * as tls from "node:tls";
import { countGraphCall } from "./call-count.ts";

export type GraphRequest = {
  method: "GET" | "POST" | "DELETE";
  /** Without the version: `/123/whatsapp_credit_sharing_and_attach`. */
  path: string;
  query: Record<string, string>;
  token: string;
};

export type GraphAnswer =
  | { kind: "answer"; status: number; headers: http.IncomingHttpHeaders; body: unknown }
  /** Not one byte left: the deadline had passed, or no connection could be made. */
  | { kind: "not-sent"; message: string }
  /** Bytes left and no readable answer came: for a POST or DELETE the effect is unknown. */
  | { kind: "no-answer"; message: string };

/** How a request may be sent; `sendDeadline` (ms) is required for what changes something at Meta (S4). */
export type SendOptions = { signal: AbortSignal; sendDeadline?: number };

export type Transport = (request: GraphRequest, options: SendOptions) => Promise<GraphAnswer>;

export type TransportOptions = {
  baseUrl: string;
  version: string;
  timeoutMs: number;
  /** Wall clock, ms. */
  now: () => number;
  /** Told once: Meta serves a dead version, silently, by the oldest living one. */
  onVersionMismatch?: (asked: string, answered: string) => void;
};

/**
 * HTTP to Meta. Reads share kept-alive connections. A POST or DELETE gets a fresh one, and the wall clock is compared in
 * the tick that writes it: a process thawed after the deadline must not send, and neither an abort signal nor a timer stops
 * it (H10). No redirect is followed, nothing is retried. Aborting destroys the socket.
 */
export function createTransport(options: TransportOptions): Transport {
  const base = new URL(options.baseUrl);
  const secure = base.protocol === "https:";
  const agent = secure ? new https.Agent({ keepAlive: true }) : new http.Agent({ keepAlive: true });
  const port = Number(base.port || (secure ? 443 : 80));
  const hostname = base.hostname.replace(/^\[|\]$/g, "");
  let mismatchTold = false;

  function observe(headers: http.IncomingHttpHeaders): void {
    try {
      const answered = headers["facebook-api-version"];
      if (mismatchTold || typeof answered !== "string" || answered === options.version) return;
      mismatchTold = true;
      options.onVersionMismatch?.(options.version, answered);
    } catch {
      // Whoever looks on must not cost us an answer: lost, that of a POST would leave its effect unknown.
    }
  }

  return async (request, { signal, sendDeadline }) => {
    const limited = AbortSignal.any([signal, AbortSignal.timeout(options.timeoutMs)]);
    const pathname = `${base.pathname.replace(/\/$/, "")}/${options.version}${request.path}`;
    const search = new URLSearchParams(request.query).toString();
    const settings: https.RequestOptions = {
      method: request.method,
      hostname,
      port,
      defaultPort: secure ? 443 : 80,
      path: search === "" ? pathname : `${pathname}?${search}`,
      headers: {
        Authorization: `Bearer ${request.token}`,
        Accept: "application/json",
        ...(request.method === "POST" ? { "Content-Length": "0" } : {}),
      },
      signal: limited,
    };
    if (sendDeadline === undefined) {
      return exchange((secure ? https : http).request({ ...settings, agent }), observe);
    }

    let socket: net.Socket;
    try {
      socket = await connect({ secure, hostname, port, signal: limited });
    } catch (error) {
      return { kind: "not-sent", message: `no connection: ${messageOf(error)}` };
    }
    if (options.now() >= sendDeadline || limited.aborted) {
      socket.destroy();
      return { kind: "not-sent", message: "the send deadline had passed" };
    }
    // Without an agent: any agent, also `false`, would ignore this socket and connect anew, behind the check above.
    return exchange(http.request({ ...settings, createConnection: () => socket }), observe);
  };
}

async function connect(target: {
  secure: boolean;
  hostname: string;
  port: number;
  signal: AbortSignal;
}): Promise<net.Socket> {
  const { secure, hostname, port, signal } = target;
  const socket = secure
    ? tls.connect({ host: hostname, port, ...(net.isIP(hostname) === 0 ? { servername: hostname } : {}) })
    : net.connect({ host: hostname, port });
  const { promise, resolve, reject } = Promise.withResolvers<net.Socket>();
  function abort(): void {
    socket.destroy();
    reject(new Error("timed out"));
  }
  signal.addEventListener("abort", abort, { once: true });
  socket.once(secure ? "secureConnect" : "connect", () => resolve(socket));
  socket.once("error", reject);
  try {
    signal.throwIfAborted();
    return await promise;
  } catch (error) {
    socket.destroy();
    throw error;
  } finally {
    signal.removeEventListener("abort", abort);
    socket.removeListener("error", reject);
  }
}

/** A whole answer of Meta is a few KB; more is refused, so that a poisoned one cannot fill the memory. */
const answerBytesMax = 5 * 1024 * 1024;

async function exchange(
  request: http.ClientRequest,
  observe: (headers: http.IncomingHttpHeaders) => void,
): Promise<GraphAnswer> {
  countGraphCall();
  const { promise, resolve } = Promise.withResolvers<GraphAnswer>();
  let complete = false;
  function fail(error: unknown): void {
    if (complete) return;
    complete = true;
    request.destroy();
    resolve({ kind: "no-answer", message: messageOf(error) });
  }
  request.once("error", fail);
  request.once("response", (response) => {
    observe(response.headers);
    const chunks: Buffer[] = [];
    let bytes = 0;
    response.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > answerBytesMax) fail(new Error("the answer is too large"));
      chunks.push(chunk);
    });
    response.once("error", fail);
    response.once("end", () => {
      try {
        const body = parseLossless(Buffer.concat(chunks).toString("utf8"));
        complete = true;
        resolve({ kind: "answer", status: response.statusCode ?? 0, headers: response.headers, body });
      } catch {
        fail(new Error(`HTTP ${response.statusCode} with an unreadable body`));
      }
    });
    response.once("close", () => fail(new Error("the connection closed within the answer")));
  });
  request.end();
  return promise;
}

/** Ids can exceed 2^53 and some of Meta's samples print them as numbers: those keep their digits as strings. */
export function parseLossless(text: string): unknown {
  return JSON.parse(text, (_key, value: unknown, context?: { source?: string }) =>
    typeof value === "number" && !Number.isSafeInteger(value) && /^\d+$/.test(context?.source ?? "")
      ? context?.source
      : value,
  );
}

/** Node's own words for a network failure; they name hosts and ports, never headers. */
function messageOf(error: unknown): string {
  if (error instanceof AggregateError && error.errors.length > 0) return messageOf(error.errors[0]);
  return error instanceof Error ? error.message : "unknown error";
}
