import { once } from "node:events";
import type { IncomingMessage, ServerResponse } from "node:http";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import * as z from "zod";
import type { Fault } from "./meta-faults.ts";
import { faultsSchema, takeFault } from "./meta-faults.ts";
import type { GraphAnswer, ReceivedCall } from "./meta-graph.ts";
import { answerCall, failCall, isWabaCall, receiveCall, usageHeaders } from "./meta-graph.ts";
import type { MetaModel } from "./meta-model.ts";
import { createMetaModel, exportWorld, upsertWorld } from "./meta-model.ts";
import type { Variants } from "./meta-variants.ts";
import type { Subscription } from "./meta-webhooks.ts";
import { createWebhooks } from "./meta-webhooks.ts";
import { parseVariants, variantsSchema } from "./meta-variants.ts";
import type { Token, World, WorldInput } from "./meta-world.ts";
import { parseWorld } from "./meta-world.ts";

export type MetaStandInOptions = {
  /** 0 = any free one. */
  port?: number;
  world: WorldInput;
  variants?: Partial<Variants>;
  /** Epoch milliseconds; the real clock unless given. */
  now?: () => number;
};
export type MetaStandIn = {
  url: string;
  model: MetaModel;
  /** From here on a WABA that `POST /_world` shares or unshares sends a signed webhook there, again and again until 200. */
  subscribe(to: Subscription): void;
  close(): Promise<void>;
};

type StandIn = {
  model: MetaModel;
  faults: Fault[];
  now: () => number;
  /** Runs later, unless the server closes first. */
  later: (ms: number, action: () => void) => void;
  webhooks: ReturnType<typeof createWebhooks>;
};

/**
 * Meta on this machine: Graph calls under `/<version>/…`, and without a version the controls `/_world`, `/_ledger`,
 * `/_faults` and `/_variants`. Listens on 127.0.0.1 only.
 * @throws Error that names every fault of the world or the variants, or that the port is taken.
 */
export async function startMetaStandIn(options: MetaStandInOptions): Promise<MetaStandIn> {
  const { port = 0, now = Date.now } = options;
  const world = parseWorld(options.world);
  if (!world.success) throw new Error(`The world is not valid:\n${z.prettifyError(world.error)}`);
  const variants = parseVariants(options.variants ?? {});
  if (!variants.success) throw new Error(`The variants are not valid:\n${z.prettifyError(variants.error)}`);

  const model = createMetaModel(world.data, variants.data, now());
  const timers = new Set<NodeJS.Timeout>();
  function later(ms: number, action: () => void): void {
    const timer = setTimeout(() => {
      timers.delete(timer);
      action();
    }, ms);
    timers.add(timer);
  }
  const webhooks = createWebhooks(model);
  const standIn = { model, faults: [], now, later, webhooks };
  const server = createServer((request, response) => {
    serve(standIn, request, response).catch((error: unknown) => {
      // A caller may give up while it still sends. Anything else is a defect of ours, and a judge must not hide it.
      if (request.complete) sendJson(response, 500, { error: "stand_in_defect", message: String(error) });
    });
  });
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("The stand-in for Meta has no port");
  model.baseUrl = `http://127.0.0.1:${address.port}`;

  return {
    url: model.baseUrl,
    model,
    subscribe: webhooks.subscribe,
    async close() {
      webhooks.close();
      for (const timer of timers) clearTimeout(timer);
      const closed = once(server, "close");
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function serve(standIn: StandIn, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await text(request);
  const [path = "/", queryText = ""] = (request.url ?? "/").split("?", 2);
  const method = request.method ?? "GET";
  if (path.startsWith("/_")) {
    control(standIn, response, `${method} ${path}`, body);
    return;
  }
  const query = { ...Object.fromEntries(new URLSearchParams(queryText)), ...bodyParameters(request, body) };
  const token = /^(?:Bearer|OAuth) (.+)$/.exec(request.headers.authorization ?? "")?.[1];
  const call = receiveCall(standIn.model, { method, path, query, token, now: standIn.now() });
  answerGraph(standIn, response, call);
}

function answerGraph(standIn: StandIn, response: ServerResponse, call: ReceivedCall): void {
  const { model, faults, now, later } = standIn;
  const fault = takeFault(faults, model, call);
  if (fault === undefined) return sendGraph(response, answerCall(model, call, call.entry.time), model.variants);
  if (fault.kind === "latency") {
    return later(fault.ms ?? 1000, () => sendGraph(response, answerCall(model, call, now()), model.variants));
  }
  // The error comes first: what the caller is told is the status that stands in the ledger.
  const error = errorOf(model, call, fault);
  if (fault.kind.endsWith("-after")) landUnanswered(standIn, call);
  if (error !== undefined) return sendGraph(response, error, model.variants);
  if (fault.kind.startsWith("hang")) return later(fault.ms ?? 60_000, () => response.destroy());
  response.destroy();
}

function landUnanswered({ model, now, later }: StandIn, call: ReceivedCall): void {
  const { lostCallLandsAfterMs } = model.variants;
  if (lostCallLandsAfterMs > 0) return later(lostCallLandsAfterMs, () => answerCall(model, call, now()));
  answerCall(model, call, call.entry.time);
}

/** The answer of a fault that has one. */
function errorOf(model: MetaModel, call: ReceivedCall, fault: Fault): GraphAnswer | undefined {
  const now = call.entry.time;
  const { kind, code = 1, subcode, ms = 60_000 } = fault;
  if (kind.startsWith("5xx"))
    return failCall(model, call, { code: 2, message: "Service temporarily unavailable" }, now);
  if (kind.startsWith("error")) return failCall(model, call, { code, subcode, message: `Injected error ${code}` }, now);
  if (kind !== "throttle") return undefined;
  const isOfWaba = isWabaCall(call.entry.name);
  const message = "There have been too many calls";
  const answer = failCall(model, call, { code: isOfWaba ? 80_008 : 4, message }, now);
  const id = isOfWaba ? (call.entry.path.split("/")[1] ?? "") : model.partnerBusinessId;
  const usage = usageHeaders(isOfWaba ? 0 : 100, { id, percent: 100, regainMinutes: Math.ceil(ms / 60_000) });
  return { ...answer, headers: { ...answer.headers, ...usage } };
}

function control(
  { model, faults, now, webhooks }: StandIn,
  response: ServerResponse,
  endpoint: string,
  bodyText: string,
): void {
  const body = parseJson(bodyText);
  switch (endpoint) {
    case "GET /_world":
      return sendJson(response, 200, masked(exportWorld(model)));
    case "POST /_world":
      return accept(response, parseWorld(body ?? null, exportWorld(model)), (world) => {
        const before = model.changes.length;
        upsertWorld(model, world, now());
        const changes = model.changes.slice(before);
        webhooks.tell(changes);
        return { changes };
      });
    case "GET /_ledger":
      return sendJson(response, 200, { changes: model.changes, calls: model.calls, webhooks: webhooks.deliveries });
    case "GET /_faults":
      return sendJson(response, 200, faults);
    case "POST /_faults":
      return accept(response, faultsSchema.safeParse(body), (wanted) => {
        faults.splice(0, faults.length, ...wanted);
        return faults;
      });
    case "GET /_variants":
      return sendJson(response, 200, { variants: model.variants, schema: z.toJSONSchema(variantsSchema) });
    case "POST /_variants":
      return accept(response, parseVariants(body, model.variants), (variants) => {
        model.variants = variants;
        return { variants };
      });
    default:
      return sendJson(response, 404, {
        error: "unknown_endpoint",
        endpoints: ["GET|POST /_world", "GET /_ledger", "GET|POST /_faults", "GET|POST /_variants"],
      });
  }
}

/** Applies a valid body, or refuses it with every fault by its path (never by its value: tokens pass here). */
function accept<T>(response: ServerResponse, parsed: z.ZodSafeParseResult<T>, apply: (value: T) => unknown): void {
  if (parsed.success) return sendJson(response, 200, apply(parsed.data));
  const faults = parsed.error.issues.map(({ path, message }) => ({ path: path.map(String).join("."), message }));
  return sendJson(response, 400, { error: "invalid_body", faults });
}

function masked(world: World): unknown {
  const { appSecret, tokens, ...rest } = world;
  return { ...rest, hasAppSecret: appSecret !== undefined, tokens: tokens.map(maskToken) };
}

function maskToken({ value, ...token }: Token) {
  return { ...token, endsWith: value.length < 12 ? "" : value.slice(-4) };
}

function sendGraph(response: ServerResponse, { status, body, headers }: GraphAnswer, variants: Variants): void {
  const json = JSON.stringify(body);
  const idKeys = /"(id|waba_id|allocation_config_id|primary_funding_id)":"(\d+)"/g;
  const printed = variants.idsPrintedAs === "numbers" ? json.replaceAll(idKeys, '"$1":$2') : json;
  response.writeHead(status, { "content-type": "application/json; charset=UTF-8", ...headers }).end(printed);
}

function sendJson(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(body));
}

/** Graph takes parameters in the body too: a form, or a JSON object. */
function bodyParameters(request: IncomingMessage, body: string): Record<string, string> {
  if (body === "") return {};
  if (!(request.headers["content-type"] ?? "").includes("json")) return Object.fromEntries(new URLSearchParams(body));
  const parsed = z.record(z.string(), z.unknown()).safeParse(parseJson(body));
  const entries = Object.entries(parsed.data ?? {});
  return Object.fromEntries(
    entries.map(([key, value]) => [key, typeof value === "string" ? value : JSON.stringify(value)]),
  );
}

/** Undefined where it is no JSON, which every schema then refuses. */
function parseJson(body: string): unknown {
  try {
    return JSON.parse(body);
  } catch {
    return undefined;
  }
}
