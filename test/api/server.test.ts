import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import {
  Agent,
  createServer,
  request as httpRequest,
  type IncomingMessage,
  type OutgoingHttpHeaders,
} from "node:http";
import { request as httpsRequest } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, describe, expect, test } from "vitest";
import { RpxError } from "../../src/contract/error.ts";
import { API_ROUTES, JOB_ROUTES, type Route, routePath, WORKER_ROUTES } from "../../src/contract/routes.ts";
import { errorBodySchema } from "../../src/contract/schemas/daemon.ts";
import type { HttpHost } from "../../src/runtime/api/http-host.ts";
import { streamBody } from "../../src/runtime/api/raw-body.ts";
import type { Answer } from "../../src/runtime/api/reply.ts";
import type { Call } from "../../src/runtime/api/request.ts";
import {
  type ClientHandlers,
  type ClientServerOptions,
  createClientServer,
  createWorkerServer,
  type Handler,
  type WorkerHandlers,
  type WorkerServerOptions,
} from "../../src/runtime/api/server.ts";
import { parseAuthorization } from "../../src/runtime/service/keys.ts";
import { exchangeRaw, type Listener, listenFor, openRaw, statuses } from "../support/raw-http.ts";

const CLIENT_ROUTES: Readonly<Record<string, Route>> = { ...JOB_ROUTES, ...API_ROUTES };
const SCOPES = ["read", "run", "deploy", "admin"];
const PARAMETERS = {
  ...{ endpoint: "e1", job: "j1", worker: "w1", key: "k1", digest: "d1", secret: "s1" },
  ...{ version: "1", registry: "r1" },
};
const VERSION = "9.9.9";

const json = (text: string, rest: Partial<Answer> = {}): Answer =>
  ({ kind: "json", text, ...rest }) as Answer;

/** Every handler answers with its own name. */
function namedHandlers<Handlers>(names: readonly string[], own: Partial<Handlers>): Handlers {
  const entries = names.map((name) => [name, async () => json(JSON.stringify({ handler: name }))]);
  return { ...Object.fromEntries(entries), ...own } as Handlers;
}

type Scope = string;
type Served = {
  readonly port: number;
  readonly host: HttpHost;
  readonly listener: Listener;
  readonly log: string[];
};

const served: Served[] = [];
afterEach(async () => {
  for (const { host, listener } of served.splice(0)) {
    await host.close();
    await listener.close();
  }
});

function testLog(lines: string[]) {
  return pino({ level: "debug", base: null, timestamp: false }, { write: (line) => void lines.push(line) });
}

let nowMs = 0;
const clock = {
  nowMs: () => nowMs++,
  sleep: (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms)),
};

async function keep(host: HttpHost, log: string[], pauseOnConnect = false): Promise<Served> {
  const listener = await listenFor(host.accept, { pauseOnConnect });
  const entry = { port: listener.port, host, listener, log };
  served.push(entry);
  return entry;
}

/** The key is the scope's name. */
async function serveClients(
  handlers: Partial<ClientHandlers<Scope>> = {},
  rest: Partial<ClientServerOptions<Scope>> = {},
  pauseOnConnect = false,
): Promise<Served> {
  const log: string[] = [];
  const host = await createClientServer<Scope>({
    handlers: namedHandlers(Object.keys(CLIENT_ROUTES), handlers),
    authenticate: (authorization) => {
      const key = parseAuthorization(authorization);
      if (key === null || !SCOPES.includes(key)) throw new RpxError("unauthorized", "no valid key");
      return key;
    },
    allows: (scope, access) => SCOPES.indexOf(scope) >= SCOPES.indexOf(access),
    version: VERSION,
    allowedHosts: () => new Set(["127.0.0.1", "localhost", "::1"]),
    log: testLog(log),
    clock,
    ...rest,
  });
  return keep(host, log, pauseOnConnect);
}

/** The one right key is `key-<endpoint>-<worker>`. */
async function serveWorkers(
  handlers: Partial<WorkerHandlers<string>> = {},
  rest: Partial<WorkerServerOptions<string>> = {},
): Promise<Served> {
  const log: string[] = [];
  const host = await createWorkerServer<string>({
    handlers: namedHandlers(Object.keys(WORKER_ROUTES), handlers),
    authenticateWorker: (authorization, endpoint, worker) => {
      if (parseAuthorization(authorization) === `key-${endpoint}-${worker}`) return worker;
      throw new RpxError("unauthorized", "not the key of this worker");
    },
    version: VERSION,
    log: testLog(log),
    clock,
    ...rest,
  });
  return keep(host, log);
}

type Reply = { readonly status: number; readonly headers: IncomingMessage["headers"]; readonly text: string };

type Ask = {
  readonly method?: string | undefined;
  readonly path?: string;
  readonly headers?: OutgoingHttpHeaders;
  readonly body?: string | Buffer;
  readonly agent?: Agent;
};

async function ask(
  port: number,
  { method = "GET", path = "/healthz", headers, body, agent }: Ask,
): Promise<Reply> {
  const request = httpRequest({ port, host: "127.0.0.1", method, path, headers, agent: agent ?? false });
  const replied = once(request, "response") as Promise<[IncomingMessage]>;
  request.end(body);
  const [response] = await replied;
  // A refusal comes while the body is still being sent; the test's end then cuts that.
  request.on("error", () => {});
  let text = "";
  for await (const chunk of response.setEncoding("utf8")) text += chunk;
  return { status: response.statusCode ?? 0, headers: response.headers, text };
}

function bearer(scope: string): OutgoingHttpHeaders {
  return { authorization: `Bearer ${scope}` };
}

function errorOf(reply: Reply) {
  expect(reply.headers["content-type"]).toBe("application/json");
  return errorBodySchema.parse(JSON.parse(reply.text));
}

describe("access", () => {
  const guarded = Object.entries(CLIENT_ROUTES).filter(([, route]) => route.access !== "open");
  const every = guarded.flatMap(([name, route]) => route.methods.map((method) => ({ name, method, route })));

  test("ACC-16: every client route refuses no key, a wrong key and each lower scope, and takes the right one", async () => {
    const { port } = await serveClients();
    for (const { name, method, route } of every) {
      const path = routePath(route, PARAMETERS);
      const place = SCOPES.indexOf(route.access);
      expect(place, name).toBeGreaterThanOrEqual(0);
      for (const headers of [{}, bearer("wrong"), { authorization: "Basic admin" }]) {
        const reply = await ask(port, { method, path, headers });
        expect([name, reply.status]).toEqual([name, 401]);
        expect(reply.headers["www-authenticate"]).toBe("Bearer");
        expect(errorOf(reply).code).toBe("unauthorized");
      }
      for (const [index, scope] of SCOPES.entries()) {
        const reply = await ask(port, { method, path, headers: bearer(scope) });
        expect([name, scope, reply.status]).toEqual([name, scope, index < place ? 403 : 200]);
        if (index < place) expect(errorOf(reply).error).toContain(`"${route.access}"`);
        else expect(JSON.parse(reply.text)).toEqual({ handler: name });
      }
    }
  });

  test("ACC-16, T-10: a worker's key opens no client route, and the worker listener knows no client route", async () => {
    const clients = await serveClients();
    const workers = await serveWorkers();
    for (const { name, method, route } of every) {
      const path = routePath(route, PARAMETERS);
      const headers = { authorization: "key-e1-w1" };
      const refused = await ask(clients.port, { method, path, headers });
      expect([name, refused.status]).toEqual([name, 401]);
      const unknown = await ask(workers.port, { method, path, headers });
      expect([name, unknown.status]).toEqual([name, 404]);
    }
  });

  test("T-10: a worker route takes the key of the worker in its path alone, bare or as Bearer", async () => {
    const { port } = await serveWorkers();
    for (const [name, route] of Object.entries<Route>(WORKER_ROUTES)) {
      const [method] = route.methods;
      const path = routePath(route, PARAMETERS);
      const status = async (headers: OutgoingHttpHeaders) =>
        (await ask(port, { method, path, headers })).status;
      expect([name, await status({ authorization: "key-e1-w1" })]).toEqual([name, 200]);
      expect([name, await status({ authorization: "BEARER key-e1-w1" })]).toEqual([name, 200]);
      for (const other of ["key-e1-w2", "key-e2-w1", "admin", ""]) {
        expect([name, other, await status({ authorization: other })]).toEqual([name, other, 401]);
      }
      expect([name, await status({})]).toEqual([name, 401]);
    }
  });

  test("an open route gets no principal and needs no key", async () => {
    let principal: unknown = "unset";
    const healthz = async (call: Call<null>) => {
      principal = call.principal;
      return json("{}");
    };
    const { port } = await serveClients({ healthz });
    expect((await ask(port, {})).status).toBe(200);
    expect(principal).toBeNull();
  });
});

describe("where a request comes from", () => {
  const hosts: readonly (readonly [string, number])[] = [
    ["127.0.0.1", 200],
    ["127.0.0.1:7790", 200],
    ["LOCALHOST:1", 200],
    ["[::1]:7790", 200],
    ["[::1]", 200],
    ["localhost.", 421],
    ["127.0.0.1.", 421],
    ["127.1", 421],
    ["2130706433", 421],
    ["0x7f.0.0.1", 421],
    ["evil.example", 421],
    ["localhost.evil.example", 421],
    ["localhost@evil.example", 421],
    ["evil.example#localhost", 421],
    ["localhost:80:80", 421],
    ["localhost:", 421],
    ["localhost, evil.example", 421],
    ["::1", 421],
    ["[::1", 421],
  ];
  test.each(hosts)("T-08: Host %j is answered %d", async (host, status) => {
    const { port } = await serveClients();
    const reply = await ask(port, { path: "/api/status", headers: { ...bearer("read"), host } });
    expect(reply.status).toBe(status);
    if (status === 421) expect(errorOf(reply).code).toBe("misdirected");
  });

  test("T-08: two Host headers, none, and an absolute target are refused, also at unknown paths", async () => {
    const { port } = await serveClients();
    const send = async (head: string) =>
      statuses(await exchangeRaw(port, `${head}Connection: close\r\n\r\n`));
    expect(await send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n")).toEqual([421]);
    expect(await send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n")).toEqual([421]);
    expect(await send("GET /healthz HTTP/1.1\r\n")).toEqual([400]);
    expect(await send("GET /healthz HTTP/1.1\r\nHost:\r\n")).toEqual([421]);
    expect(await send("GET /healthz HTTP/1.0\r\n")).toEqual([421]);
    expect(await send("GET http://localhost/healthz HTTP/1.1\r\nHost: localhost\r\n")).toEqual([400]);
    expect(await send("GET http://evil.example/x HTTP/1.1\r\nHost: localhost\r\n")).toEqual([400]);
    expect(await send("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n")).toEqual([400]);
    expect(await send("GET /unknown HTTP/1.1\r\nHost: evil.example\r\n")).toEqual([421]);
    expect(await send("PUT /healthz HTTP/1.1\r\nHost: evil.example\r\n")).toEqual([421]);
    expect(await send("GET /api/jobs/%zz HTTP/1.1\r\nHost: evil.example\r\n")).toEqual([421]);
  });

  test("T-07: what a browser marks as another site's is refused, own pages and other clients are not", async () => {
    const { port } = await serveClients();
    const own = `http://127.0.0.1:${port}`;
    const cases: [OutgoingHttpHeaders, number][] = [
      [{ "sec-fetch-site": "cross-site" }, 403],
      [{ "sec-fetch-site": "same-site" }, 403],
      [{ "sec-fetch-site": "same-origin", origin: own }, 200],
      [{ "sec-fetch-site": "none" }, 200],
      [{ origin: own }, 200],
      [{ origin: "http://evil.example" }, 403],
      [{ origin: "http://127.0.0.1:1" }, 403],
      [{ origin: "null" }, 403],
      [{ origin: `${own}.evil.example` }, 403],
    ];
    for (const [headers, status] of cases) {
      const ask1: Ask = {
        method: "POST",
        path: "/v2/e1/run",
        headers: { ...bearer("run"), ...headers },
        body: "{}",
      };
      const reply = await ask(port, ask1);
      expect([headers, reply.status]).toEqual([headers, status]);
    }
  });

  test("T-07: a preflight is not answered and no reply carries a CORS header", async () => {
    const { port } = await serveClients();
    const own = { origin: `http://127.0.0.1:${port}`, "access-control-request-method": "POST" };
    const replies = [
      await ask(port, { method: "OPTIONS", path: "/v2/e1/run", headers: own }),
      await ask(port, { method: "OPTIONS", path: "/v2/e1/run", headers: { origin: "http://evil.example" } }),
      await ask(port, { path: "/api/status", headers: { ...bearer("read"), ...own } }),
    ];
    expect(replies.map((reply) => reply.status)).toEqual([405, 403, 200]);
    for (const { headers } of replies) {
      expect(Object.keys(headers).filter((name) => name.startsWith("access-control"))).toEqual([]);
    }
  });
});

describe("routes", () => {
  test("an unknown path is 404, a wrong method 405 with Allow, for every method Node parses", async () => {
    const { port } = await serveClients();
    expect(errorOf(await ask(port, { path: "/nope" })).code).toBe("not_found");
    expect(
      (await ask(port, { method: "POST", path: "/nope", body: "x", headers: { "content-type": "/" } }))
        .status,
    ).toBe(404);
    for (const method of ["GET", "DELETE", "PROPFIND", "QUERY", "TRACE"]) {
      const reply = await ask(port, { method, path: "/v2/e1/run?x=1" });
      expect([method, reply.status, reply.headers.allow]).toEqual([method, 405, "POST"]);
      expect(errorOf(reply).code).toBe("method_not_allowed");
    }
    const head = await ask(port, { method: "HEAD", path: "/api/endpoints" });
    expect([head.status, head.headers.allow, head.text]).toEqual([405, "GET, POST", ""]);
    expect((await ask(port, { path: "/api/jobs/%ff", headers: bearer("read") })).status).toBe(400);
    expect((await ask(port, { path: `/api/jobs/${"x".repeat(300)}`, headers: bearer("read") })).status).toBe(
      404,
    );
  });

  test("a call carries decoded parameters, the query, the headers and the peer's address", async () => {
    let seen: Call<Scope> | null = null;
    const jobStatus: Handler<Scope> = async (call) => {
      seen = call;
      return json("{}");
    };
    const { port } = await serveClients({ jobStatus });
    await ask(port, { path: "/v2/a%2Fb/status/j%20%C3%A9?ttl=5&x=%2B", headers: bearer("run") });
    const call = seen as unknown as Call<Scope>;
    expect({ ...call.params }).toEqual({ endpoint: "a/b", job: "j é" });
    expect([call.query.get("ttl"), call.query.get("x"), call.principal]).toEqual(["5", "+", "run"]);
    expect([call.remoteAddress, call.bytes.length, call.text()]).toEqual(["127.0.0.1", 0, ""]);
  });

  test("every reply carries the version, JSON is sent as it is with exactly its type, 204 has no body", async () => {
    const requests = async () => json('{"n": 12345678901234567890}', { headers: { "x-own": "1" } });
    const { port } = await serveClients({
      requests,
      purgeQueue: async () => ({ kind: "empty", status: 204 }),
    });
    const reply = await ask(port, { path: "/v2/e1/requests", headers: bearer("read") });
    expect(reply.text).toBe('{"n": 12345678901234567890}');
    expect(reply.headers).toMatchObject({
      "content-type": "application/json",
      "x-own": "1",
      "content-length": "27",
    });
    const empty = await ask(port, { method: "POST", path: "/v2/e1/purge-queue", headers: bearer("run") });
    expect([empty.status, empty.text, empty.headers["transfer-encoding"]]).toEqual([204, "", undefined]);
    const malformed = await exchangeRaw(port, "NOT HTTP\r\n\r\n");
    for (const headers of [reply.headers, empty.headers, (await ask(port, { path: "/nope" })).headers]) {
      expect(headers["x-rpx-version"]).toBe(VERSION);
    }
    expect(malformed).toContain(`x-rpx-version: ${VERSION}\r\n`);
  });
});

describe("bodies", () => {
  const echo: Handler<Scope> = async (call) => json(JSON.stringify({ text: call.text() }));
  const run = { method: "POST", path: "/v2/e1/run" };

  test("F-31: the body is taken whatever its type, also empty", async () => {
    const { port } = await serveClients({ run: echo });
    const types = [
      "application/json",
      "application/x-www-form-urlencoded",
      "text/plain",
      "nonsense",
      "/",
      undefined,
    ];
    for (const type of types) {
      const headers = { ...bearer("run"), ...(type === undefined ? {} : { "content-type": type }) };
      expect((await ask(port, { ...run, headers, body: '{"é":NaN}' })).text).toBe('{"text":"{\\"é\\":NaN}"}');
      expect((await ask(port, { ...run, headers })).text).toBe('{"text":""}');
    }
  });

  test("a body that is no UTF-8 is a bad request, whichever way it is split", async () => {
    const { port } = await serveClients({ run: echo });
    const reply = await ask(port, { ...run, headers: bearer("run"), body: Buffer.from([0x22, 0xff, 0x22]) });
    expect([reply.status, errorOf(reply).code]).toEqual([400, "bad_request"]);
    const raw = await openRaw(port);
    const head = "POST /v2/e1/run HTTP/1.1\r\nHost: localhost\r\nAuthorization: run\r\nConnection: close\r\n";
    raw.socket.write(`${head}Content-Length: 2\r\n\r\n\xc3`, "latin1");
    await new Promise((resolve) => raw.socket.write("\xa9", "latin1", resolve));
    expect(Buffer.from(await raw.ended(), "latin1").toString()).toContain('{"text":"é"}');
  });

  test("F-30: compressed bodies and other transfer codings are refused", async () => {
    const { port } = await serveClients({ run: echo });
    const send = async (headers: OutgoingHttpHeaders) =>
      (await ask(port, { ...run, headers: { ...bearer("run"), ...headers }, body: "{}" })).status;
    expect(await send({ "content-encoding": "gzip" })).toBe(415);
    expect(await send({ "content-encoding": "gzip, identity" })).toBe(415);
    expect(await send({ "content-encoding": "Identity" })).toBe(200);
    expect(await send({ "transfer-encoding": "gzip, chunked" })).toBe(400);
  });

  test("F-30: the limit holds to the byte, announced and in chunks, and 413 reaches a sender that reads last", async () => {
    const { port } = await serveClients({ jobCancel: async (call) => json(String(call.bytes.length)) });
    const send = async (bytes: number, chunked: boolean) => {
      const raw = await openRaw(port);
      const framing = chunked ? "Transfer-Encoding: chunked" : `Content-Length: ${bytes}`;
      raw.socket.write(
        `POST /v2/e1/cancel/j HTTP/1.1\r\nHost: localhost\r\nAuthorization: run\r\n${framing}\r\n\r\n`,
      );
      raw.socket.pause(); // as a sender does that reads only after it has sent all
      const body = Buffer.alloc(bytes, "x");
      if (chunked) raw.socket.write(`${bytes.toString(16)}\r\n`);
      await new Promise((resolve) => raw.socket.write(body, resolve));
      if (chunked) raw.socket.write("\r\n0\r\n\r\n");
      raw.socket.resume();
      const text = await raw.until((received) => /\r\n\r\n[\s\S]*[}\d]$/.test(received));
      raw.socket.destroy();
      return text;
    };
    for (const chunked of [false, true]) {
      expect(statuses(await send(1_000_000, chunked))).toEqual([200]);
      for (const bytes of [1_000_001, 30_000_000]) {
        const text = await send(bytes, chunked);
        expect([bytes, chunked, statuses(text)]).toEqual([bytes, chunked, [413]]);
        expect(text).toMatch(/connection: close/i);
        expect(text).toContain('"code":"too_large"');
      }
    }
  });

  test("F-30: an endless body is cut off after a while", async () => {
    const { port } = await serveClients();
    const raw = await openRaw(port);
    raw.socket.write("POST /v2/e1/run HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    const chunk = Buffer.concat([Buffer.from("100000\r\n"), Buffer.alloc(0x100000), Buffer.from("\r\n")]);
    let sent = 0;
    while (!raw.socket.destroyed && sent < 500) {
      sent += 1;
      await new Promise((resolve) => raw.socket.write(chunk, resolve));
    }
    expect(sent).toBeLessThan(200);
    expect(statuses(await raw.ended())).toEqual([401]);
  });

  test("a sender that waits for 100 Continue is refused before it sends, or asked for the body", async () => {
    const { port } = await serveClients({ run: echo });
    const head = (key: string, bytes: number) =>
      `POST /v2/e1/run HTTP/1.1\r\nHost: localhost\r\nAuthorization: ${key}\r\nExpect: 100-continue\r\n` +
      `Content-Length: ${bytes}\r\n\r\n`;
    expect(statuses(await exchangeRaw(port, head("wrong", 2)))).toEqual([401]);
    expect(statuses(await exchangeRaw(port, head("run", 10_000_001)))).toEqual([413]);
    const raw = await openRaw(port);
    raw.socket.write(head("run", 2));
    await raw.until((text) => text.includes("100 Continue"));
    raw.socket.write("{}");
    expect(statuses(await raw.until((text) => text.endsWith('"}')))).toEqual([100, 200]);
    raw.socket.destroy();
  });

  test("a streamed body reaches the handler as it comes and fails beyond its limit", async () => {
    const firstBytes = Promise.withResolvers<string>();
    const putBundle: Handler<Scope> = async (call) => {
      let bytes = 0;
      for await (const chunk of call.body ?? []) {
        firstBytes.resolve(String(chunk));
        bytes += chunk.length;
      }
      return json(String(bytes));
    };
    const { port } = await serveClients({ putBundle });
    const path = "/api/bundles/d1";
    const raw = await openRaw(port);
    const head = `PUT ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: deploy\r\nConnection: close\r\n`;
    raw.socket.write(`${head}Content-Length: 6\r\n\r\nabc`);
    expect(await firstBytes.promise).toBe("abc");
    raw.socket.write("def");
    expect(await raw.ended()).toMatch(/\r\n\r\n6$/);
    const headers = { ...bearer("deploy"), "content-length": 2_000_000_001 };
    const early = await openRaw(port);
    early.socket.write(`${head}Content-Length: ${headers["content-length"]}\r\n\r\n`);
    expect(statuses(await early.until((text) => text.includes("too_large")))).toEqual([413]);
    early.socket.destroy();
    const body = Buffer.alloc(3_000_000, "x");
    expect((await ask(port, { method: "PUT", path, headers: bearer("deploy"), body })).text).toBe("3000000");
    expect((await ask(port, { method: "PUT", path, headers: bearer("deploy") })).text).toBe("0");
  });

  test("a stream fails with too_large once its limit is passed, also when nothing was announced", async () => {
    const failure = Promise.withResolvers<unknown>();
    const server = createServer((request) => {
      const body = streamBody(request, 1000);
      body.on("error", failure.resolve).resume();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const raw = await openRaw((server.address() as AddressInfo).port);
    raw.socket.write("PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n");
    raw.socket.write(`${"x".repeat(1000)}\r\n1\r\nx\r\n`);
    expect(await failure.promise).toMatchObject({ code: "too_large" });
    raw.socket.destroy();
    server.close();
  });

  test("a streaming handler learns that its sender is gone", async () => {
    const failure = Promise.withResolvers<unknown>();
    const putBundle: Handler<Scope> = async (call) => {
      try {
        for await (const _ of call.body ?? []);
      } catch (error) {
        failure.resolve(error);
      }
      return json("{}");
    };
    const { port } = await serveClients({ putBundle });
    const raw = await openRaw(port);
    raw.socket.write(
      "PUT /api/bundles/d HTTP/1.1\r\nHost: localhost\r\nAuthorization: deploy\r\nContent-Length: 9\r\n\r\nabc",
    );
    setImmediate(() => raw.socket.destroy());
    expect(await failure.promise).toMatchObject({ code: "bad_request" });
  });
});

describe("T-06: the parser is strict and replies are paired with requests", () => {
  const host = "Host: localhost\r\n";
  const post = `POST /v2/e1/run HTTP/1.1\r\n${host}Authorization: run\r\n`;
  const smuggled = `GET /api/status HTTP/1.1\r\n${host}Authorization: read\r\n\r\n`;
  const cases: Readonly<Record<string, string>> = {
    "CL and TE": `${post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    "TE and CL": `${post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n${smuggled}`,
    "two lengths": `${post}Content-Length: 5\r\nContent-Length: 6\r\n\r\n01234${smuggled}`,
    "twice the same length": `${post}Content-Length: 5\r\nContent-Length: 5\r\n\r\n01234${smuggled}`,
    "a list of lengths": `${post}Content-Length: 5, 5\r\n\r\n01234${smuggled}`,
    "a signed length": `${post}Content-Length: +5\r\n\r\n01234${smuggled}`,
    "a hexadecimal length": `${post}Content-Length: 0x5\r\n\r\n01234${smuggled}`,
    "folded header": `GET /healthz HTTP/1.1\r\n${host}X-A: b\r\n c\r\n\r\n${smuggled}`,
    "folded transfer coding": `${post}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    "space before the colon": `${post}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${smuggled}`,
    "bare CR in a header": `GET /healthz HTTP/1.1\r\n${host}X-A: b\rX-B: c\r\n\r\n${smuggled}`,
    "bare LF line ends": `GET /healthz HTTP/1.1\nHost: localhost\n\n${smuggled}`,
    "bare CR at the end": `GET /healthz HTTP/1.1\r\n${host}\r${smuggled}`,
    "NUL in a header": `GET /healthz HTTP/1.1\r\n${host}X-A: \0b\r\n\r\n${smuggled}`,
    "chunked twice": `${post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    "not chunked last": `${post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${smuggled}`,
    "obfuscated coding": `${post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n${smuggled}`,
    "chunk size overflow": `${post}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff1\r\n`,
    "bad chunk size": `${post}Transfer-Encoding: chunked\r\n\r\n5;a\nxx`,
    "chunk longer than said": `${post}Transfer-Encoding: chunked\r\n\r\n2\r\nabcd\r\n0\r\n\r\n${smuggled}`,
    "absolute target": `GET http://localhost/healthz HTTP/1.1\r\n${host}Connection: close\r\n\r\n`,
    "authority target": `CONNECT localhost:80 HTTP/1.1\r\n${host}\r\n`,
    "other version": `GET /healthz HTTP/3.0\r\n${host}\r\n`,
    "no version": `GET /healthz\r\n\r\n`,
    "HTTP/2 preface": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
  };
  test.each(Object.keys(cases))(
    "%s: refused, the connection ended, nothing behind it served",
    async (name) => {
      const seen: string[] = [];
      const record: Handler<Scope> = async (call) => {
        seen.push(call.text());
        return json("{}");
      };
      const { port, log } = await serveClients({ run: record, status: record });
      const received = await exchangeRaw(port, cases[name] ?? "");
      expect(statuses(received).filter((status) => status !== 400 && status !== 421)).toEqual([]);
      expect(statuses(received).length).toBeLessThanOrEqual(1);
      expect(seen).toEqual([]);
      expect(log.filter((line) => line.includes('"level":50'))).toEqual([]);
    },
  );

  test("headers over 16 KiB are answered 431", async () => {
    const { port } = await serveClients();
    const text = await exchangeRaw(
      port,
      `GET /healthz HTTP/1.1\r\n${host}X-A: ${"a".repeat(17_000)}\r\n\r\n`,
    );
    expect(statuses(text)).toEqual([431]);
  });

  test("pipelined requests are answered in their order", async () => {
    const first = Promise.withResolvers<void>();
    const jobStatusSync: Handler<Scope> = async () => {
      await first.promise;
      return json('{"place":1}');
    };
    const requests: Handler<Scope> = async () => {
      setImmediate(first.resolve);
      return json('{"place":2}');
    };
    const { port } = await serveClients({ jobStatusSync, requests });
    const get = (path: string, last = "") =>
      `GET ${path} HTTP/1.1\r\n${host}Authorization: read\r\n${last}\r\n`;
    const text = await exchangeRaw(
      port,
      get("/v2/e/status-sync/j") + get("/v2/e/requests", "Connection: close\r\n"),
    );
    expect([...text.matchAll(/"place":(\d)/g)].map((match) => match[1])).toEqual(["1", "2"]);
  });

  test("a malformed request behind one that is being answered gets no reply that could be taken for its own", async () => {
    const { port } = await serveClients({ jobStatusSync: () => new Promise(() => {}) as Promise<Answer> });
    const held = `GET /v2/e/status-sync/j HTTP/1.1\r\n${host}Authorization: read\r\n\r\n`;
    served.pop(); // its handler never returns
    expect(await exchangeRaw(port, `${held}NOT HTTP\r\n\r\n`)).toBe("");
  });

  test("a connection that piles up requests is cut, and all its handlers' signals abort", async () => {
    let started = 0;
    const jobStatusSync: Handler<Scope> = async (call) => {
      started += 1;
      await once(call.signal, "abort");
      return json("{}");
    };
    const { port } = await serveClients({ jobStatusSync });
    const held = `GET /v2/e/status-sync/j HTTP/1.1\r\n${host}Authorization: read\r\n\r\n`;
    expect(await exchangeRaw(port, held.repeat(500))).toBe("");
    expect(started).toBeGreaterThan(10);
    expect(started).toBeLessThan(100);
  });
});

describe("F-26: slow clients", () => {
  const timeouts = { headersMs: 150, requestMs: 300, keepAliveMs: 150, checkEveryMs: 20 };
  const half = "POST /v2/e1/run HTTP/1.1\r\nHost: localhost\r\nAuthorization: run\r\n";

  test("a half-sent header ends with 408", async () => {
    const { port } = await serveClients({}, { timeouts });
    expect(statuses(await exchangeRaw(port, half))).toEqual([408]);
  });

  test("a connection that says nothing is ended", async () => {
    const { port } = await serveClients({}, { timeouts });
    expect(statuses(await exchangeRaw(port, ""))).toEqual([408]);
  });

  test("a half-sent body ends with 408, the handler is not called", async () => {
    const { port, log } = await serveClients({}, { timeouts });
    expect(statuses(await exchangeRaw(port, `${half}Content-Length: 10\r\n\r\n{`))).toEqual([408]);
    expect(log.filter((line) => line.includes('"level":50'))).toEqual([]);
  });

  test("an idle connection is ended after the keep-alive time, a held reply is not", async () => {
    const release = Promise.withResolvers<void>();
    const jobStatusSync: Handler<Scope> = async () => {
      await release.promise;
      return json("{}");
    };
    const { port } = await serveClients({ jobStatusSync }, { timeouts });
    const raw = await openRaw(port);
    raw.socket.write("GET /v2/e/status-sync/j HTTP/1.1\r\nHost: localhost\r\nAuthorization: read\r\n\r\n");
    const idle = await exchangeRaw(port, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    expect(statuses(idle)).toEqual([200]);
    expect(statuses(await exchangeRaw(port, half))).toEqual([408]);
    release.resolve();
    expect(statuses(await raw.ended())).toEqual([200]);
  });

  test("connections that arrive paused are read", async () => {
    const { port } = await serveClients({}, {}, true);
    expect((await ask(port, {})).status).toBe(200);
  });
});

describe("what becomes of a reply", () => {
  function traced(answer: Answer) {
    const fates: string[] = [];
    const fate = Promise.withResolvers<string>();
    const note = (text: string) => () => {
      fates.push(text);
      fate.resolve(text);
    };
    return {
      fates,
      fate: fate.promise,
      answer: { ...answer, onSent: note("sent"), onUnsent: note("unsent") },
    };
  }
  const take = "GET /v2/e1/job-take/w1 HTTP/1.1\r\nHost: x\r\nAuthorization: key-e1-w1\r\n\r\n";

  test("a reply that was written is sent, once", async () => {
    const reply = traced(json('{"id":"j"}'));
    const { port } = await serveWorkers({ jobTake: async () => reply.answer });
    expect(await exchangeRaw(port, take)).toMatch(/\{"id":"j"\}$/);
    expect(await reply.fate).toBe("sent");
    expect(reply.fates).toEqual(["sent"]);
  });

  test.each(["end", "resetAndDestroy"] as const)(
    "a reply to a peer that left with %s before it is unsent",
    async (how) => {
      const reply = traced(json("{}"));
      const called = Promise.withResolvers<void>();
      const aborted = Promise.withResolvers<void>();
      const jobTake: Handler<string> = async (call) => {
        called.resolve();
        await once(call.signal, "abort");
        aborted.resolve();
        return reply.answer;
      };
      const { port } = await serveWorkers({ jobTake });
      const raw = await openRaw(port);
      raw.socket.write(take);
      await called.promise;
      raw.socket[how]();
      await aborted.promise;
      expect(await reply.fate).toBe("unsent");
      expect(reply.fates).toEqual(["unsent"]);
    },
  );

  test("a reply on a socket that was destroyed in the same turn is unsent", async () => {
    const reply = traced(json("{}"));
    const jobTake: Handler<string> = async () => {
      server.listener.accepted[0]?.destroy();
      return reply.answer;
    };
    const server = await serveWorkers({ jobTake });
    expect(await exchangeRaw(server.port, take)).toBe("");
    expect(await reply.fate).toBe("unsent");
  });

  test("a reply whose connection is destroyed between its write and the word that it was written is unsent", async () => {
    const reply = traced(json("{}"));
    const jobTake: Handler<string> = async () => {
      const socket = server.listener.accepted[0];
      if (socket === undefined) throw new Error("no connection");
      const uncork = socket.uncork.bind(socket);
      socket.uncork = () => {
        uncork();
        socket.destroy();
      };
      return reply.answer;
    };
    const server = await serveWorkers({ jobTake });
    await exchangeRaw(server.port, take);
    expect([await reply.fate, reply.fates]).toEqual(["unsent", ["unsent"]]);
  });

  test.each(["destroy", "resetAndDestroy"] as const)(
    "a reply whose reader goes away (%s) in the middle is unsent",
    async (how) => {
      const reply = traced(json(JSON.stringify("x".repeat(30_000_000))));
      const { port } = await serveWorkers({ jobTake: async () => reply.answer });
      const raw = await openRaw(port);
      raw.socket.write(take);
      await raw.until((text) => text.length > 1000);
      raw.socket.pause();
      expect(reply.fates).toEqual([]);
      raw.socket[how]();
      expect(await reply.fate).toBe("unsent");
      expect(reply.fates).toEqual(["unsent"]);
    },
  );

  test("a reply cut by closing the server is unsent, one that Node cannot write too", async () => {
    const cut = traced(json(JSON.stringify("x".repeat(30_000_000))));
    const bad = traced(json("{}", { headers: { "x-bad": "a\r\nb" } }));
    const { port, host } = await serveWorkers({
      jobTake: async () => cut.answer,
      ping: async () => bad.answer,
    });
    const refused = await exchangeRaw(port, take.replace("job-take", "ping"));
    expect([statuses(refused), await bad.fate, bad.fates]).toEqual([[500], "unsent", ["unsent"]]);
    const raw = await openRaw(port);
    raw.socket.write(take);
    await raw.until((text) => text.length > 1000);
    raw.socket.pause();
    await host.close();
    expect([await cut.fate, cut.fates]).toEqual(["unsent", ["unsent"]]);
    raw.socket.destroy();
  });

  test("queued behind another reply, both are unsent when the connection ends", async () => {
    const first = traced(json("{}"));
    const second = traced(json("{}"));
    const both = Promise.withResolvers<void>();
    const jobTake: Handler<string> = async (call) => {
      await once(call.signal, "abort");
      return first.answer;
    };
    const ping: Handler<string> = async () => {
      both.resolve();
      return second.answer;
    };
    const { port } = await serveWorkers({ jobTake, ping });
    const raw = await openRaw(port);
    raw.socket.write(take + take.replace("job-take", "ping"));
    await both.promise;
    raw.socket.destroy();
    expect(await Promise.all([first.fate, second.fate])).toEqual(["unsent", "unsent"]);
  });

  test("a callback that throws is logged and harms nobody", async () => {
    const onSent = () => {
      throw new Error("callback broke");
    };
    const { port, log } = await serveClients({ healthz: async () => json("{}", { onSent }) });
    expect((await ask(port, {})).status).toBe(200);
    expect((await ask(port, {})).status).toBe(200);
    expect(log.join("")).toContain("callback broke");
  });
});

describe("failures", () => {
  const boom: Handler<Scope> = async () => {
    throw new Error("secret detail");
  };

  test("a bug is logged with its stack and answered without a detail", async () => {
    const { port, log } = await serveClients({ requests: boom });
    const reply = await ask(port, { path: "/v2/e1/requests", headers: bearer("read") });
    expect([reply.status, reply.text]).toEqual([500, '{"error":"internal error"}']);
    const line = log.find((text) => text.includes('"level":50')) ?? "";
    expect(line).toContain("secret detail");
    expect(line).toContain("server.test.ts");
    expect(line).toContain('"route":"/v2/:endpoint/requests"');
  });

  test("an expected failure has its status, its sentences and Retry-After, and is no error in the log", async () => {
    const run: Handler<Scope> = async () => {
      const details = { why: "The disk is full.", hint: "Free some.", retryAfterSeconds: 1.2 };
      throw new RpxError("unavailable", "no new jobs now", details);
    };
    const { port, log } = await serveClients({ run });
    const reply = await ask(port, { method: "POST", path: "/v2/e1/run", headers: bearer("run"), body: "{}" });
    expect([reply.status, reply.headers["retry-after"]]).toEqual([503, "2"]);
    const body = {
      error: "no new jobs now",
      code: "unavailable",
      why: "The disk is full.",
      hint: "Free some.",
    };
    expect(JSON.parse(reply.text)).toEqual(body);
    expect(log.join("")).not.toContain('"level":50');
  });

  test("the log has one line per request: method, pattern, status, time, and nothing of its content", async () => {
    const { port, log } = await serveClients();
    const path = "/v2/e1/status/canary-id?token=canary-query";
    await ask(port, { method: "POST", path, headers: bearer("read"), body: "canary-body" });
    await ask(port, { path: "/canary-path", headers: bearer("canary-key") });
    expect(log.map((line) => JSON.parse(line))).toEqual([
      {
        level: 20,
        method: "POST",
        route: "/v2/:endpoint/status/:job",
        status: 200,
        ms: expect.any(Number),
        msg: "request",
      },
      { level: 20, method: "GET", route: "(none)", status: 404, ms: expect.any(Number), msg: "request" },
    ]);
    expect(log.join("")).not.toContain("canary");
  });
});

describe("rate limits", () => {
  test("a refusal carries Retry-After and its headers, and comes before the body; what was entered is left once", async () => {
    const calls: unknown[] = [];
    let full = false;
    const enterLimit: NonNullable<ClientServerOptions<Scope>["enterLimit"]> = (...call) => {
      calls.push(call);
      if (full) return { ok: false, retryAfterSeconds: 7, headers: { RateLimit: '"run";r=0;t=7' } };
      return { ok: true, leave: () => void calls.push("left") };
    };
    const { port } = await serveClients({}, { enterLimit });
    const run = { method: "POST", path: "/v2/e1/run", headers: bearer("run") };
    expect((await ask(port, { ...run, body: "{}" })).status).toBe(200);
    full = true;
    const reply = await ask(port, { ...run, body: Buffer.alloc(10_000_001) });
    expect([reply.status, reply.headers["retry-after"], reply.headers.ratelimit]).toEqual([
      429,
      "7",
      '"run";r=0;t=7',
    ]);
    expect(errorOf(reply).code).toBe("rate_limited");
    await ask(port, { path: "/v2/e1/health", headers: bearer("read") });
    expect(calls).toEqual([["run", "e1", "run"], "left", ["run", "e1", "run"]]);
  });

  test("a place is left also when the client goes away", async () => {
    const left = Promise.withResolvers<void>();
    const called = Promise.withResolvers<void>();
    const runSync: Handler<Scope> = async (call) => {
      called.resolve();
      await once(call.signal, "abort");
      return json("{}");
    };
    const { port } = await serveClients(
      { runSync },
      { enterLimit: () => ({ ok: true, leave: left.resolve }) },
    );
    const raw = await openRaw(port);
    raw.socket.write("POST /v2/e/runsync HTTP/1.1\r\nHost: localhost\r\nAuthorization: run\r\n\r\n");
    await called.promise;
    raw.socket.destroy();
    await left.promise;
  });
});

describe("streamed answers", () => {
  const events = "GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: read\r\n\r\n";

  test("headers come at once, then each piece; a write after the reader left says so", async () => {
    const go = Promise.withResolvers<void>();
    const results: boolean[] = [];
    const over = Promise.withResolvers<void>();
    const handler: Handler<Scope> = async () => ({
      kind: "stream",
      contentType: "text/event-stream",
      write: async (sink) => {
        await go.promise;
        results.push(await sink.write("data: 1\n\n"));
        await once(sink.closed, "abort");
        results.push(await sink.write("data: 2\n\n"));
        over.resolve();
      },
    });
    const { port } = await serveClients({ events: handler });
    const raw = await openRaw(port);
    raw.socket.write(events);
    const head = await raw.until((text) => text.includes("\r\n\r\n"));
    expect(head).toMatch(/content-type: text\/event-stream\r\n/i);
    expect(head).toMatch(/x-accel-buffering: no\r\n/i);
    expect(head).toMatch(/cache-control: no-cache/i);
    go.resolve();
    await raw.until((text) => text.includes("data: 1\n\n"));
    raw.socket.destroy();
    await over.promise;
    expect(results).toEqual([true, false]);
  });

  test("a reader that stops reading stops the writer, which goes on with it", async () => {
    const piece = "x".repeat(1_000_000);
    let written = 0;
    const handler: Handler<Scope> = async () => ({
      kind: "stream",
      contentType: "application/x-ndjson",
      write: async (sink) => {
        for (; written < 64; written += 1) await sink.write(piece);
      },
    });
    const { port, listener } = await serveClients({ events: handler });
    const raw = await openRaw(port);
    raw.socket.pause();
    raw.socket.write(events.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    while ((listener.accepted[0]?.writableLength ?? 0) === 0) await new Promise(setImmediate);
    expect(written).toBeLessThan(32);
    expect(listener.accepted[0]?.writableLength).toBeLessThan(3 * piece.length);
    raw.socket.resume();
    expect((await raw.ended()).length).toBeGreaterThan(64_000_000);
    expect(written).toBe(64);
  });

  test("a writer that fails cuts the reply off, visibly", async () => {
    const handler: Handler<Scope> = async () => ({
      kind: "stream",
      contentType: "text/event-stream",
      write: async (sink) => {
        await sink.write("data: 1\n\n");
        throw new Error("broke");
      },
    });
    const { port, log } = await serveClients({ events: handler });
    const text = await exchangeRaw(port, events);
    expect(text).not.toContain("\r\n0\r\n\r\n");
    expect(log.join("")).toContain("broke");
  });
});

describe("connections", () => {
  test("with a certificate the same frame speaks TLS, and ends what does not", async (context) => {
    const folder = await mkdtemp(join(tmpdir(), "rpx-tls-"));
    const [cert, key] = [join(folder, "cert.pem"), join(folder, "key.pem")];
    const make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"];
    const made = spawnSync("openssl", [...make, "-out", cert, "-keyout", key]);
    if (made.status !== 0) return context.skip("openssl is not here to make a certificate");
    const tls = { cert: await readFile(cert), key: await readFile(key) };
    await rm(folder, { recursive: true });
    const { port, host, log } = await serveClients({}, { tls });
    const plain = await exchangeRaw(port, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    expect(statuses(plain)).toEqual([]);
    const request = httpsRequest({
      port,
      host: "127.0.0.1",
      path: "/healthz",
      ca: tls.cert,
      servername: "localhost",
    });
    request.end();
    const [response] = (await once(request, "response")) as [IncomingMessage];
    expect([response.statusCode, response.headers["x-rpx-version"]]).toEqual([200, VERSION]);
    response.resume();
    await host.drain();
    expect(log.join("")).not.toContain('"level":50');
  });

  test("stock workers connect anew for each request, our own and clients keep the connection", async () => {
    const workers = await serveWorkers({ jobTake: async () => ({ kind: "empty", status: 204 }) });
    const clients = await serveClients();
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const connections = async (server: Served, call: Ask) => {
      const before = server.listener.accepted.length;
      const replies = [];
      for (let turn = 0; turn < 3; turn += 1) replies.push(await ask(server.port, { ...call, agent }));
      return [server.listener.accepted.length - before, replies[2]?.status, replies[2]?.headers.connection];
    };
    const path = "/v2/e1/job-take/w1";
    const headers = { authorization: "key-e1-w1" };
    expect(await connections(workers, { path, headers })).toEqual([3, 204, "close"]);
    const own = { ...headers, "x-rpx-worker": "node/1" };
    expect(await connections(workers, { path, headers: own })).toEqual([1, 204, "keep-alive"]);
    expect(await connections(clients, {})).toEqual([1, 200, "keep-alive"]);
    agent.destroy();
  });

  test("F-40: a drain ends idle connections, lets replies finish and closes behind them", async () => {
    const release = Promise.withResolvers<void>();
    const called = Promise.withResolvers<void>();
    const jobStatusSync: Handler<Scope> = async () => {
      called.resolve();
      await release.promise;
      return json('{"done":true}');
    };
    const { port, host } = await serveClients({ jobStatusSync });
    const idle = await openRaw(port);
    idle.socket.write("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    await idle.until((text) => text.endsWith("}"));
    const halfSent = await openRaw(port);
    halfSent.socket.write("GET /healthz HTTP/1.1\r\nHost: loc");
    const held = await openRaw(port);
    held.socket.write("GET /v2/e/status-sync/j HTTP/1.1\r\nHost: localhost\r\nAuthorization: read\r\n\r\n");
    await called.promise;
    let drained = false;
    const drain = host.drain().then(() => {
      drained = true;
    });
    await idle.ended();
    halfSent.socket.write("alhost\r\n\r\n");
    expect(await halfSent.ended()).toMatch(/connection: close[\s\S]*healthz/i);
    expect((await ask(port, {})).headers.connection).toBe("close");
    expect(drained).toBe(false);
    release.resolve();
    expect(await held.ended()).toMatch(/connection: close[\s\S]*"done":true/i);
    await drain;
  });

  test("a reply that began before the drain ends its connection too", async () => {
    const began = Promise.withResolvers<void>();
    const release = Promise.withResolvers<void>();
    const handler: Handler<Scope> = async () => ({
      kind: "stream",
      contentType: "text/event-stream",
      write: async (sink) => {
        began.resolve();
        await release.promise;
        await sink.write("data: last\n\n");
      },
    });
    const { port, host } = await serveClients({ events: handler });
    const raw = await openRaw(port);
    raw.socket.write("GET /api/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: read\r\n\r\n");
    await began.promise;
    const drain = host.drain();
    release.resolve();
    expect(await raw.ended()).toContain("data: last");
    await drain;
  });

  test("closing ends every connection, aborts the calls and waits for their handlers; later ones are refused", async () => {
    let returned = false;
    const called = Promise.withResolvers<void>();
    const jobStatusSync: Handler<Scope> = async (call) => {
      called.resolve();
      await once(call.signal, "abort");
      await new Promise(setImmediate);
      returned = true;
      return json("{}");
    };
    const { port, host } = await serveClients({ jobStatusSync });
    const held = await openRaw(port);
    held.socket.write("GET /v2/e/status-sync/j HTTP/1.1\r\nHost: localhost\r\nAuthorization: read\r\n\r\n");
    const silent = await openRaw(port);
    await called.promise;
    await host.close();
    expect(returned).toBe(true);
    expect([await held.ended(), await silent.ended(), await exchangeRaw(port, "GET ")]).toEqual(["", "", ""]);
  });
});
