import { execFileSync, spawnSync } from "node:child_process";
import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer as createSecureServer } from "node:https";
import { createServer, type AddressInfo, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setDefaultCACertificates } from "node:tls";
import { describe, expect, onTestFinished, test } from "vitest";
import { createTransport, type GraphRequest, parseLossless } from "../../../shared/graph/transport.ts";
import { startJsonServer, startServer } from "../../support/http-server.ts";

const token = "EAAsecretTokenOfTheTransport";
const post: GraphRequest = { method: "POST", path: "/20/share", query: { waba_id: "12" }, token };
const get: GraphRequest = { method: "GET", path: "/12", query: {}, token };

function transportTo(baseUrl: string, { timeoutMs = 2000 } = {}) {
  return createTransport({ baseUrl, version: "v25.0", timeoutMs, now: Date.now });
}

/** Until further notice. */
function never(): AbortSignal {
  return new AbortController().signal;
}

function soon(): { signal: AbortSignal; sendDeadline: number } {
  return { signal: never(), sendDeadline: Date.now() + 10_000 };
}

/** Holds the whole process up, as a freeze does: no timer fires, no event is seen. */
function blockUntil(time: number): void {
  while (Date.now() < time);
}

/** Runs `action` on the next client socket that is made in this process. */
function onNextSocket(action: (socket: Socket) => void): void {
  function listener(message: unknown): void {
    unsubscribe("net.client.socket", listener);
    action((message as { socket: Socket }).socket);
  }
  subscribe("net.client.socket", listener);
  onTestFinished(() => void unsubscribe("net.client.socket", listener));
}

describe("what the transport sends", () => {
  test("carries the token in the Authorization header and nowhere else", async () => {
    const server = await startJsonServer({ id: "1" });
    await transportTo(server.url)({ ...get, query: { fields: "id,currency" } }, { signal: never() });
    await transportTo(server.url)(post, soon());
    const [read, write] = server.requests;
    expect([read?.method, read?.url]).toEqual(["GET", "/v25.0/12?fields=id%2Ccurrency"]);
    expect([write?.method, write?.url]).toEqual(["POST", "/v25.0/20/share?waba_id=12"]);
    for (const { url, headers } of server.requests) {
      expect(headers.authorization).toBe(`Bearer ${token}`);
      expect(JSON.stringify({ url, headers: { ...headers, authorization: "" } })).not.toContain(token);
    }
  });

  test("keeps a path that belongs to the base address", async () => {
    const server = await startJsonServer({});
    await transportTo(`${server.url}/graph/`)(get, { signal: never() });
    expect(server.requests[0]?.url).toBe("/graph/v25.0/12");
  });

  test("shares connections among reads, and gives each change a fresh one", async () => {
    const server = await startJsonServer({});
    const send = transportTo(server.url);
    await send(get, { signal: never() });
    await send(get, { signal: never() });
    expect(server.sockets).toHaveLength(1);
    await send(post, soon());
    await send({ ...post, method: "DELETE" }, soon());
    expect(server.sockets).toHaveLength(3);
  });

  test("does not follow a redirect, which would carry the token away", async () => {
    const elsewhere = await startJsonServer({});
    const server = await startJsonServer({}, { status: 307, headers: { location: elsewhere.url } });
    expect(await transportTo(server.url)(get, { signal: never() })).toMatchObject({ kind: "answer", status: 307 });
    expect(elsewhere.requests).toEqual([]);
  });
});

describe("who looks on", () => {
  test("learns once that Meta answers by another version than was asked for", async () => {
    const answered = ["v21.0", "v25.0", "v26.0", "v27.0"];
    const server = await startServer((_request, response) => {
      response.writeHead(200, { "facebook-api-version": answered[server.requests.length - 1] }).end("{}");
    });
    const told: string[][] = [];
    const options = { baseUrl: server.url, version: "v21.0", timeoutMs: 2000, now: Date.now };
    const send = createTransport({ ...options, onVersionMismatch: (...versions) => told.push(versions) });
    await send(get, { signal: never() });
    expect(told).toEqual([]);
    await send(get, { signal: never() });
    await send(get, { signal: never() });
    await send(post, soon());
    expect(told).toEqual([["v21.0", "v25.0"]]);
  });

  test("is told nothing of versions that Meta does not name", async () => {
    const server = await startJsonServer({});
    const told: string[][] = [];
    const options = { baseUrl: server.url, version: "v25.0", timeoutMs: 2000, now: Date.now };
    const send = createTransport({ ...options, onVersionMismatch: (...versions) => told.push(versions) });
    await send(get, { signal: never() });
    expect(told).toEqual([]);
  });

  test("cannot cost us the answer", async () => {
    const server = await startJsonServer(
      { allocation_config_id: "91" },
      { headers: { "facebook-api-version": "v1.0" } },
    );
    function fail(): never {
      throw new Error("of whoever looks on");
    }
    const options = { baseUrl: server.url, version: "v25.0", timeoutMs: 2000, now: Date.now };
    const onVersionMismatch = createTransport({ ...options, onVersionMismatch: fail });
    const answer = { kind: "answer", status: 200, body: { allocation_config_id: "91" } };
    expect(await onVersionMismatch(post, soon())).toMatchObject(answer);
  });
});

describe("a change whose send deadline has passed", () => {
  test("is not sent", async () => {
    const server = await startJsonServer({});
    const late = { signal: never(), sendDeadline: Date.now() };
    expect(await transportTo(server.url)(post, late)).toMatchObject({ kind: "not-sent" });
    expect(server.requests).toEqual([]);
  });

  test("is not sent by a process that was frozen while it connected", async () => {
    const server = await startJsonServer({});
    const sendDeadline = Date.now() + 50;
    const sent = transportTo(server.url)(post, { signal: never(), sendDeadline });
    blockUntil(sendDeadline);
    expect(await sent).toMatchObject({ kind: "not-sent" });
    expect(server.requests).toEqual([]);
  });

  test("is not sent by a process that was frozen after it had connected", async () => {
    const server = await startJsonServer({});
    const sendDeadline = Date.now() + 300;
    onNextSocket((socket) => {
      socket.once("connect", () => {
        expect(Date.now()).toBeLessThan(sendDeadline);
        blockUntil(sendDeadline);
      });
    });
    expect(await transportTo(server.url)(post, { signal: never(), sendDeadline })).toMatchObject({ kind: "not-sent" });
    expect(server.requests).toEqual([]);
  });
});

describe("a change that cannot be sent", () => {
  test("counts as not sent when nobody listens", async () => {
    const server = createServer().listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    server.close();
    await once(server, "close");
    expect(await transportTo(`http://127.0.0.1:${port}`)(post, soon())).toMatchObject({ kind: "not-sent" });
  });

  test("counts as not sent when its turn ended before", async () => {
    const server = await startJsonServer({});
    const ended = { signal: AbortSignal.abort(), sendDeadline: Date.now() + 10_000 };
    expect(await transportTo(server.url)(post, ended)).toMatchObject({ kind: "not-sent" });
    expect(server.requests).toEqual([]);
  });
});

describe("an answer that does not come", () => {
  test.each([
    { end: "the time-out", timeoutMs: 100, endsTurn: false },
    { end: "the end of the turn", timeoutMs: 10_000, endsTurn: true },
  ])("leaves the effect unknown, and $end destroys the socket", async ({ timeoutMs, endsTurn }) => {
    const turn = new AbortController();
    const gone = Promise.withResolvers<void>();
    const server = await startServer((request) => {
      request.socket.once("close", () => gone.resolve());
      if (endsTurn) turn.abort();
    });
    const options = { signal: turn.signal, sendDeadline: Date.now() + 10_000 };
    expect(await transportTo(server.url, { timeoutMs })(post, options)).toMatchObject({ kind: "no-answer" });
    await gone.promise;
    expect(server.requests).toHaveLength(1);
  });

  test.each([
    { what: "the connection is cut", answer: (socket: Socket) => socket.destroy() },
    {
      what: "the answer is cut",
      answer: (socket: Socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"id":'),
    },
    {
      what: "the body is not JSON",
      answer: (socket: Socket) => socket.end("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"),
    },
    {
      what: "the body grows larger than any of Meta's",
      answer: (socket: Socket) =>
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n"${"x".repeat(6 * 1024 * 1024)}`),
    },
  ])("leaves the effect unknown, and the connection closed, when $what", async ({ answer }) => {
    const gone = Promise.withResolvers<void>();
    const server = await startServer(({ socket }) => {
      socket.once("close", () => gone.resolve());
      socket.on("error", () => {
        // The client hung up while the test still wrote.
      });
      answer(socket);
    });
    const transport = transportTo(server.url, { timeoutMs: 60_000 });
    expect(await transport(post, soon())).toMatchObject({ kind: "no-answer" });
    await gone.promise;
    expect(server.requests).toHaveLength(1);
  });
});

const certificateTool = "openssl";

describe.skipIf(spawnSync(certificateTool, ["version"]).status !== 0)("over TLS, as Meta is reached", () => {
  async function startSecureServer(): Promise<{ url: string; paths: string[] }> {
    const folder = mkdtempSync(join(tmpdir(), "transport-test-"));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const [keyFile, certFile] = [join(folder, "key.pem"), join(folder, "cert.pem")];
    const names = ["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"];
    const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"];
    execFileSync(certificateTool, ["req", ...kind, ...names, "-keyout", keyFile, "-out", certFile], {
      stdio: "ignore",
    });
    const cert = readFileSync(certFile, "utf8");
    setDefaultCACertificates([cert]);

    const paths: string[] = [];
    const server = createSecureServer({ key: readFileSync(keyFile), cert }, ({ method, url }, response) => {
      paths.push(`${method} ${url}`);
      response.end("{}");
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    onTestFinished(() => {
      server.close();
      server.closeAllConnections();
    });
    return { url: `https://localhost:${(server.address() as AddressInfo).port}`, paths };
  }

  test("a read and a change both arrive, each encrypted", async () => {
    const server = await startSecureServer();
    const send = transportTo(server.url);
    expect(await send(get, { signal: never() })).toMatchObject({ kind: "answer", status: 200 });
    expect(await send(post, soon())).toMatchObject({ kind: "answer", status: 200 });
    expect(server.paths).toEqual(["GET /v25.0/12", "POST /v25.0/20/share?waba_id=12"]);
  });

  test("a change is not sent to whoever cannot prove to be Meta", async () => {
    const server = await startSecureServer();
    setDefaultCACertificates([]);
    expect(await transportTo(server.url)(post, soon())).toMatchObject({ kind: "not-sent" });
    expect(server.paths).toEqual([]);
  });
});

describe("parseLossless", () => {
  test("keeps the digits of numbers that a double cannot hold", () => {
    expect(parseLossless('{"id":9100000000000000001,"list":[18446744073709551616]}')).toEqual({
      id: "9100000000000000001",
      list: ["18446744073709551616"],
    });
  });

  test("leaves every other value as JSON has it", () => {
    const value = { small: 12, most: Number.MAX_SAFE_INTEGER, fraction: 1.5, huge: 1e300, text: "91", none: null };
    expect(parseLossless(JSON.stringify(value))).toEqual(value);
  });
});
