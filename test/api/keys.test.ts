import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { type Access, API_ROUTES, JOB_ROUTES, type Route, routePath } from "../../src/contract/routes.ts";
import { errorBodySchema, keySchema } from "../../src/contract/schemas/daemon.ts";
import { endpointSchema } from "../../src/contract/schemas/endpoint.ts";
import { healthSchema, jobRecordSchema } from "../../src/contract/schemas/job.ts";
import { workerSchema } from "../../src/contract/schemas/worker.ts";
import { openRaw } from "../support/raw-http.ts";
import { parsed, startTestDaemon, type TestDaemon } from "../support/test-daemon.ts";
import type { TestWorker } from "../support/test-worker.ts";

let daemon: TestDaemon;
afterEach(() => daemon.stop());

const CLIENT_ROUTES: Record<string, Route> = { ...JOB_ROUTES, ...API_ROUTES };
const SCOPES = ["read", "run", "deploy", "admin"] as const;
const allows = (scope: string, access: Access) =>
  SCOPES.indexOf(scope as never) >= SCOPES.indexOf(access as never);

describe("every client route (T-03, ACC-16)", () => {
  let endpoint: string;
  let worker: TestWorker;
  let jobId: string;

  beforeEach(async () => {
    daemon = await startTestDaemon();
    ({ endpoint, worker } = await daemon.ready());
    jobId = await daemon.submit(endpoint);
    await worker.takeJob();
  });

  const ask = (name: string, key: string | null, parameters: Record<string, string> = {}) => {
    const route = CLIENT_ROUTES[name] as Route;
    const [method = ""] = route.methods;
    const path = routePath(route, {
      endpoint,
      job: jobId,
      worker: worker.id,
      key: "nobody",
      secret: "nothing",
      version: "1",
      registry: "nowhere",
      digest: "0".repeat(64),
      ...parameters,
    });
    const leaving = AbortSignal.timeout(2_000);
    return daemon.call(method, path, {
      key,
      signal: leaving,
      ...(method !== "GET" && method !== "DELETE" && { body: "{" }),
    });
  };

  it("is 401 without a key, with a revoked one, a malformed one and a worker's token", async () => {
    const revoked = await daemon.key("revoked", { scope: "admin" });
    await daemon.call("DELETE", "/api/keys/revoked");
    for (const [name, route] of Object.entries(CLIENT_ROUTES)) {
      if (route.access === "open") continue;
      for (const key of [null, revoked, worker.token]) {
        // Wrong keys are counted by the minute (T-02).
        await daemon.clock.advance(7_000);
        const reply = await ask(name, key);
        expect([name, reply.status]).toEqual([name, 401]);
        expect(reply.headers.get("www-authenticate")).toBe("Bearer");
        errorBodySchema.parse(reply.json());
      }
    }
    expect((await daemon.call("GET", "/healthz", { key: null })).status).toBe(200);
  });

  it.each(["read", "run", "deploy"] as const)(
    "is 403 for a key of scope %s where more is needed",
    async (scope) => {
      const key = await daemon.key("limited", { scope, owner: "admin" });
      for (const [name, route] of Object.entries(CLIENT_ROUTES)) {
        if (route.access === "open" || allows(scope, route.access)) continue;
        expect([name, (await ask(name, key)).status]).toEqual([name, 403]);
      }
    },
  );

  it("is 404 with another owner's endpoint, job or worker, as if it did not exist", async () => {
    const stranger = await daemon.key("stranger", { scope: "deploy" });
    for (const [name, route] of Object.entries(CLIENT_ROUTES)) {
      if (!/:(endpoint|job|worker)/.test(route.path)) continue;
      const own = await ask(name, stranger);
      const missing = await ask(name, stranger, { endpoint: "missing", job: "missing", worker: "missing" });
      // A change's body is judged before what it is for.
      const expected = ["updateEndpoint", "rollbackEndpoint", "warmEndpoint"].includes(name) ? 400 : 404;
      expect([name, own.status, missing.status]).toEqual([name, expected, expected]);
      const ids = new RegExp(`${endpoint}|${jobId}|${worker.id}|missing`, "g");
      expect(own.text.replaceAll(ids, "*")).toBe(missing.text.replaceAll(ids, "*"));
    }
    const counts = daemon.store.jobs.counts(endpoint as never, null);
    expect([counts.accepted, counts.inProgress]).toEqual([1, 1]);
  });
});

describe("owner, shared and other", () => {
  let endpoint: string;
  let worker: TestWorker;
  let alice: string;
  let bob: string;

  beforeEach(async () => {
    daemon = await startTestDaemon();
    ({ endpoint, worker } = await daemon.ready("shared"));
    await daemon.deploy("private");
    alice = await daemon.key("alice", { endpoints: ["shared"], scope: "deploy" });
    bob = await daemon.key("bob", { endpoints: [endpoint] });
  });

  const call = (method: string, path: string, key: string, body?: unknown) =>
    daemon.call(method, path, { key, body });

  it("a shared endpoint shows a key its own owner's jobs alone, on every job route (INV-10)", async () => {
    const id = await daemon.submit(endpoint, { input: "a" }, { key: alice });
    await worker.takeJob();
    await worker.chunk(id, { output: "alice's" });
    for (const [name, route] of Object.entries<Route>(JOB_ROUTES)) {
      if (!route.path.includes(":job")) continue;
      const [method = ""] = route.methods;
      const path = routePath(route, { endpoint, job: id });
      expect([name, (await call(method, path, bob)).status]).toEqual([name, 404]);
    }
    expect((await call("GET", `/api/jobs/${id}`, bob)).status).toBe(404);
    const stream = await call("GET", `/v2/shared/stream/${id}`, alice);
    expect(stream.json()).toEqual({ status: "IN_PROGRESS", stream: [{ output: "alice's" }] });
  });

  it("lists, counts and purges only what the key may see", async () => {
    await daemon.submit(endpoint, { input: "a" }, { key: alice });
    await daemon.submit(endpoint, { input: "b" }, { key: bob });
    await daemon.submit(endpoint);
    const owners = async (path: string, key: string) =>
      parsed(z.array(jobRecordSchema), await call("GET", path, key)).map(({ owner }) => owner);
    expect(await owners("/api/jobs", alice)).toEqual(["alice"]);
    expect(await owners(`/api/jobs?endpoint=${endpoint}`, bob)).toEqual(["bob"]);
    expect(await owners("/api/jobs", daemon.adminKey)).toEqual(["admin", "bob", "alice"]);
    const inQueue = async (key: string) =>
      parsed(healthSchema, await call("GET", `/v2/${endpoint}/health`, key)).jobs.inQueue;
    expect([await inQueue(alice), await inQueue(daemon.adminKey)]).toEqual([1, 3]);
    const { requests } = (await call("GET", `/v2/${endpoint}/requests`, bob)).json<{ requests: unknown[] }>();
    expect(requests).toHaveLength(1);
    expect((await call("POST", `/v2/${endpoint}/purge-queue`, bob)).json()).toEqual({
      removed: 1,
      status: "completed",
    });
    expect(await inQueue(daemon.adminKey)).toBe(2);
    const names = async (key: string) =>
      parsed(z.array(endpointSchema), await call("GET", "/api/endpoints", key)).map(({ name }) => name);
    expect(await names(alice)).toEqual(["shared"]);
    expect((await names(daemon.adminKey)).sort()).toEqual(["private", "shared"]);
    expect(parsed(z.array(workerSchema), await call("GET", "/api/workers", alice))).toEqual([]);
    expect(parsed(z.array(workerSchema), await call("GET", "/api/workers", daemon.adminKey))).toHaveLength(1);
    expect((await call("GET", `/api/workers/${worker.id}`, alice)).status).toBe(404);
  });

  it("does not let a shared endpoint be changed or deleted, nor its workers be stopped", async () => {
    expect((await call("PATCH", `/api/endpoints/${endpoint}`, alice, { name: "mine" })).status).toBe(403);
    expect((await call("DELETE", `/api/endpoints/${endpoint}`, alice)).status).toBe(403);
    expect((await call("POST", `/api/workers/${worker.id}/stop`, alice)).status).toBe(404);
    expect((await call("DELETE", "/api/endpoints/private", alice)).status).toBe(404);
    expect(daemon.pool.running()).toHaveLength(1);
  });

  it("keeps idempotency keys of owners apart (T-28)", async () => {
    const headers = { "idempotency-key": "same" };
    const run = (key: string, body: unknown) =>
      daemon.call("POST", `/v2/${endpoint}/run`, { key, body, headers });
    const [a, b] = [await run(alice, { input: 1 }), await run(bob, { input: 2 })];
    expect([a.status, b.status]).toEqual([200, 200]);
    expect(a.json().id).not.toBe(b.json().id);
  });

  it("an owner's endpoint is all theirs: they see others' jobs on it, whoever submitted", async () => {
    const mine = await daemon.deploy("mine", { workers: { max: 0 } }, { key: alice });
    const guest = await daemon.key("guest", { endpoints: ["mine"] });
    const id = await daemon.submit(mine, { input: 1 }, { key: guest });
    expect((await call("GET", `/v2/mine/status/${id}`, alice)).status).toBe(200);
    expect((await call("GET", `/v2/mine/status/${id}`, bob)).status).toBe(404);
    expect((await call("POST", "/v2/mine/purge-queue", alice)).json()).toMatchObject({ removed: 1 });
  });

  it("shows keys without their text to admins, and a key's text once", async () => {
    const listed = await call("GET", "/api/keys", daemon.adminKey);
    const names = parsed(z.array(keySchema), listed).map(({ name }) => name);
    expect(names.sort()).toEqual(["admin", "alice", "bob"]);
    for (const secret of [alice, bob, daemon.adminKey]) expect(listed.text).not.toContain(secret);
    expect((await call("POST", "/api/keys", daemon.adminKey, { name: "bob" })).status).toBe(409);
    expect((await call("POST", "/api/keys", daemon.adminKey, { name: "x", forged: 1 })).status).toBe(400);
    expect((await call("DELETE", "/api/keys/nobody", daemon.adminKey)).status).toBe(404);
  });

  it("tells an event stream only what its key may see, and closes it with the key (F-47)", async () => {
    const connection = await openRaw(Number(new URL(daemon.url).port));
    connection.socket.write(
      `GET /api/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${bob}\r\n\r\n`,
    );
    await connection.until((text) => text.includes("text/event-stream"));
    const theirs = await daemon.submit(endpoint, { input: 1 }, { key: alice });
    const own = await daemon.submit(endpoint, { input: 1 }, { key: bob });
    const text = await connection.until((all) => all.includes(own));
    expect(text).not.toContain(theirs);
    await daemon.call("DELETE", "/api/keys/bob");
    await connection.until((all) => all.includes("\r\n0\r\n\r\n"));
    expect((await call("GET", `/v2/${endpoint}/health`, bob)).status).toBe(401);
    connection.socket.destroy();
  });

  it("a revoked key's running jobs go on (F-47), and a held runsync is let go", async () => {
    const held = daemon.call("POST", `/v2/${endpoint}/runsync?wait=71717`, { key: bob, body: { input: 1 } });
    const job = await worker.takeJob();
    await daemon.until("it is held", () => daemon.clock.sleeps(71_717) === 1);
    await daemon.call("DELETE", "/api/keys/bob");
    expect((await held).json()).toMatchObject({ id: job.id, status: "IN_PROGRESS" });
    await worker.done(job.id, { output: 1 });
    expect((await daemon.call("GET", `/v2/${endpoint}/status/${job.id}`)).json()).toMatchObject({
      output: 1,
    });
  });

  it("tells an address with many wrong keys to wait, never a right key (T-02)", async () => {
    const codes = [];
    for (let n = 0; n < 12; n += 1) codes.push((await call("GET", "/api/status", `wrong-${n}`)).status);
    expect(codes).toEqual([...Array(10).fill(401), 429, 429]);
    expect((await call("GET", "/api/status", daemon.adminKey)).status).toBe(200);
  });
});

describe("rate limits (D17)", () => {
  it("are off on loopback unless set", async () => {
    daemon = await startTestDaemon();
    const endpoint = await daemon.deploy("free");
    for (let n = 0; n < 5; n += 1)
      expect((await daemon.call("POST", `/v2/${endpoint}/purge-queue`)).status).toBe(200);
  });

  it("when set answer 429 with Retry-After and RateLimit headers, by endpoint, key and operation", async () => {
    daemon = await startTestDaemon({ rateLimits: true });
    const endpoint = await daemon.deploy("limited");
    const other = await daemon.deploy("other");
    const purge = (ref: string, key = daemon.adminKey) =>
      daemon.call("POST", `/v2/${ref}/purge-queue`, { key });
    expect([(await purge(endpoint)).status, (await purge("limited")).status]).toEqual([200, 200]);
    const refused = await purge(endpoint);
    expect(refused.status).toBe(429);
    expect(errorBodySchema.parse(refused.json()).error).toMatch(/too many/);
    const seconds = Number(refused.headers.get("retry-after"));
    expect(seconds).toBeGreaterThan(0);
    expect(seconds).toBeLessThanOrEqual(11);
    expect(refused.headers.get("ratelimit-policy")).toBe('"purge";q=2;w=10');
    expect(refused.headers.get("ratelimit")).toMatch(/^"purge";r=0;t=\d+$/);
    expect((await purge(other)).status).toBe(200);
    expect((await daemon.call("GET", `/v2/${endpoint}/health`)).status).toBe(200);
    const second = await daemon.key("second", { owner: "admin" });
    expect((await purge(endpoint, second)).status).toBe(200);
    await daemon.clock.advance(seconds * 1_000);
    expect((await purge(endpoint)).status).toBe(200);
  });

  it("count requests at once and give the place back when the client leaves", async () => {
    daemon = await startTestDaemon({ rateLimits: true });
    const endpoint = await daemon.deploy("limited", { workers: { max: 0 } });
    const id = await daemon.submit(endpoint);
    const leaving = new AbortController();
    const reads = Array.from({ length: 400 }, () =>
      daemon
        .call("GET", `/v2/${endpoint}/stream/${id}?wait=77777`, { signal: leaving.signal })
        .catch(() => null),
    );
    await daemon.until("400 are held", () => daemon.clock.sleeps(77_777) === 400);
    expect((await daemon.call("GET", `/v2/${endpoint}/stream/${id}`)).status).toBe(429);
    leaving.abort();
    await Promise.all(reads);
    await daemon.until("all are freed", () => daemon.clock.sleeps(77_777) === 0);
    const before = daemon.clock.sleeps(1_500);
    const next = daemon.call("GET", `/v2/${endpoint}/stream/${id}?wait=1500`);
    await daemon.until("it is held", () => daemon.clock.sleeps(1_500) > before);
    await daemon.clock.advance(1_500);
    expect((await next).status).toBe(200);
  });
});
