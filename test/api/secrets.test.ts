import { createHmac } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { errorBodySchema } from "../../src/contract/schemas/daemon.ts";
import { endpointSchema } from "../../src/contract/schemas/endpoint.ts";
import { secretSchema, storedSecretSchema, unsetSecretSchema } from "../../src/contract/schemas/secret.ts";
import type { WorkerId } from "../../src/runtime/core/model.ts";
import type { LogStore } from "../../src/runtime/ports/log-store.ts";
import { parsed, startTestDaemon, type TestDaemon } from "../support/test-daemon.ts";

/** What no answer, event or row may hold. */
const CANARY = 'canary "c4f3"\\ of\nsecond line of it';

/** Everything that workers have printed. */
let printed: { readonly workerId: WorkerId; readonly line: string }[];
let daemon: TestDaemon;
let ada: string;

beforeEach(async () => {
  printed = [];
  daemon = await startTestDaemon({}, { logStore: printedLines() });
  ada = await daemon.key("ada", { scope: "deploy" });
});
afterEach(() => daemon.stop());

function printedLines(): LogStore {
  const read = async () => printed.map((line) => ({ tsMs: 0, source: "stderr" as const, ...line }));
  return {
    pathOf: () => "/nowhere",
    read,
    follow: async (_query, onLines) => onLines(await read()),
    lastLines: () => [],
    prune: async () => 0,
  };
}

const call = (method: string, path: string, body?: unknown, key: string = daemon.adminKey) =>
  daemon.call(method, path, { key, ...(body !== undefined && { body }) });
const set = async (name: string, value: string, key?: string, owner?: string) =>
  parsed(
    storedSecretSchema,
    await call("PUT", `/api/secrets/${name}`, { value, ...(owner && { owner }) }, key),
  );
const list = async (key?: string) =>
  parsed(z.array(secretSchema), await call("GET", "/api/secrets", undefined, key));
const endpointBody = (name: string, config: unknown) => ({
  name,
  config,
  source: { kind: "bundle", digest: "0".repeat(64) },
  handler: "handler.py",
});

describe("secrets", () => {
  it("are set, listed, changed and unset by name; no answer has a value", async () => {
    expect(await set("hf_token", CANARY)).toMatchObject({
      name: "hf_token",
      owner: "admin",
      outcome: "created",
    });
    await daemon.clock.advance(1_000);
    const changed = await call("PUT", "/api/secrets/hf_token", { value: CANARY });
    expect(changed.json()).toMatchObject({ outcome: "changed", endpoints: [], workers: [] });
    const [listed] = await list();
    expect(listed).toMatchObject({ name: "hf_token", owner: "admin", endpoints: [] });
    expect(Date.parse(listed?.updatedAt ?? "") - Date.parse(listed?.createdAt ?? "")).toBe(1_000);
    const gone = await call("DELETE", "/api/secrets/hf_token");
    expect(parsed(unsetSecretSchema, gone).unset).toBe(true);
    expect(await list()).toEqual([]);
    expect((await call("DELETE", "/api/secrets/hf_token")).status).toBe(404);
    expect(changed.text + gone.text).not.toContain("c4f3");
  });

  it.each([
    ["a space in its name", "a%20b", { value: "x" }],
    ["a name like a flag", "-a", { value: "x" }],
    ["a dot in its name", "a.b", { value: "x" }],
    ["an empty value", "a", { value: "" }],
    ["a NUL in its value", "a", { value: "x\0y" }],
    ["a value that is no text", "a", { value: 7 }],
    ["a value that is too long", "a", { value: "x".repeat(65_537) }],
    ["a member that is not known", "a", { value: "x", more: 1 }],
    ["no value", "a", {}],
    ["a body that is no JSON", "a", "hunter2"],
  ])("refuse %s, without repeating it", async (_, name, body) => {
    const reply = await call("PUT", `/api/secrets/${name}`, body);
    expect(reply.status).toBe(400);
    errorBodySchema.parse(reply.json());
    expect(reply.text).not.toMatch(/xxxx|hunter2/);
    expect(await list()).toEqual([]);
  });

  it("take 64 KiB however JSON spells it, and no more", async () => {
    expect((await set("escaped", "\u0001".repeat(65_536))).outcome).toBe("created");
    expect((await set("plain", "x".repeat(65_536))).outcome).toBe("created");
    const over = await call("PUT", "/api/secrets/wide", { value: "ü".repeat(32_769) });
    expect(over.status).toBe(413);
  });

  it("belong to their owner; an admin sees and sets them for others", async () => {
    await set("token", "ada's", ada);
    await set("token", "admin's");
    await set("other", "for ada", daemon.adminKey, "ada");
    const names = async (key?: string) => (await list(key)).map(({ owner, name }) => `${owner}/${name}`);
    expect(await names(ada)).toEqual(["ada/other", "ada/token"]);
    expect(await names()).toEqual(["ada/other", "ada/token", "admin/token"]);
    const eve = await daemon.key("eve", { scope: "deploy" });
    expect((await call("PUT", "/api/secrets/token", { value: "x", owner: "ada" }, eve)).status).toBe(403);
    expect((await call("DELETE", "/api/secrets/token?owner=ada", undefined, eve)).status).toBe(403);
    expect((await call("DELETE", "/api/secrets/token", undefined, eve)).status).toBe(404);
    expect((await call("DELETE", "/api/secrets/token?owner=ada")).status).toBe(200);
    expect(await names()).toEqual(["ada/other", "admin/token"]);
  });
});

describe("an endpoint", () => {
  it("gets its owner's secrets where its variables ask, and shows the question alone (T-24)", async () => {
    await set("token", CANARY, ada);
    await set("token", "not this one");
    await set("pw", "p@ss", ada);
    const env = { A: "secret:token", B: "pg://u:{{ RUNPOD_SECRET_pw }}@h?{{RUNPOD_SECRET_pw}}", C: "plain" };
    await daemon.deploy("hello", { env, workers: { min: 1 } }, { key: ada });
    await daemon.nextWorker();
    expect(daemon.pool.started[0]?.env).toMatchObject({ A: CANARY, B: "pg://u:p@ss@h?p@ss", C: "plain" });
    const shown = parsed(endpointSchema, await call("GET", "/api/endpoints/hello", undefined, ada));
    expect(shown.config.env).toEqual(env);
    expect((await list(ada)).map(({ endpoints }) => endpoints)).toEqual([["hello"], ["hello"]]);
    expect((await list()).find(({ owner }) => owner === "admin")?.endpoints).toEqual([]);
  });

  it("is refused at create and update while a secret is missing, by variable and name", async () => {
    const missing = await call(
      "POST",
      "/api/endpoints",
      endpointBody("hello", { env: { TOKEN: "secret:hf" } }),
      ada,
    );
    expect([missing.status, missing.json()]).toMatchObject([
      400,
      {
        error: 'variable TOKEN asks for secret "hf", which is not set',
        why: "owner ada has no secret of this name",
        hint: "rpx secret set hf",
      },
    ]);
    await set("hf", "somebody else's");
    await daemon.deploy("hello", {}, { key: ada });
    const change = (config: unknown) => call("PATCH", "/api/endpoints/hello", { config }, ada);
    for (const config of [
      { env: { TOKEN: "{{ RUNPOD_SECRET_hf }}" } },
      { env: { TOKEN: "secret:" } },
      { webhook: { secret: "secret:hf" } },
    ])
      expect((await change(config)).status).toBe(400);
    await set("hf", "hers", ada);
    expect((await change({ env: { TOKEN: "secret:hf" } })).status).toBe(200);
    await call("DELETE", "/api/secrets/hf?force=1", undefined, ada);
    // What does not concern the secret can be changed all the same.
    expect((await change({ workers: { max: 2 } })).status).toBe(200);
  });

  it("is refused where secrets would make a variable too large to start anything", async () => {
    await set("large", "x".repeat(65_536), ada);
    const config = { env: { TEXT: "{{RUNPOD_SECRET_large}}".repeat(3) } };
    const reply = await call("POST", "/api/endpoints", endpointBody("hello", config), ada);
    expect([reply.status, reply.json()]).toMatchObject([
      413,
      { error: expect.stringContaining("variable TEXT") },
    ]);
    const many = Object.fromEntries(Array.from({ length: 33 }, (_, n) => [`V${n}`, "secret:large"]));
    expect((await call("POST", "/api/endpoints", endpointBody("hello", { env: many }), ada)).status).toBe(
      413,
    );
  });

  it("keeps its secret from being unset; forced, its next worker fails to start and says why", async () => {
    await set("token", "value", ada);
    await daemon.deploy("hello", { env: { TOKEN: "secret:token" } }, { key: ada });
    const refused = await call("DELETE", "/api/secrets/token", undefined, ada);
    expect([refused.status, refused.json()]).toMatchObject([
      409,
      { error: 'secret "token" is in use', why: "without it no worker of hello can start" },
    ]);
    expect((await call("DELETE", "/api/secrets/token?force=1", undefined, ada)).json()).toMatchObject({
      endpoints: ["hello"],
    });
    await daemon.submit("hello", { input: 1 }, { key: ada });
    const reason = await daemon.until("a start has failed", async () => {
      const { reason } = parsed(endpointSchema, await call("GET", "/api/endpoints/hello", undefined, ada));
      return reason.includes("workers fail") && reason;
    });
    expect(reason).toContain(
      'could not be started: variable TOKEN asks for secret "token", which is not set',
    );
    expect(daemon.pool.started).toEqual([]);
    await set("token", "again", ada);
    await daemon.until("a worker is started", async () => {
      await daemon.clock.advance(1_000);
      return daemon.pool.started[0]?.env.TOKEN === "again";
    });
  });

  it("has workers with the old value after a change: they are named, and a new one gets the new value", async () => {
    await set("token", "old", ada);
    await daemon.deploy("hello", { env: { TOKEN: "secret:token" }, workers: { min: 1 } }, { key: ada });
    const { id } = await daemon.nextWorker();
    expect(await set("token", "new", ada)).toMatchObject({
      outcome: "changed",
      endpoints: ["hello"],
      workers: [id],
    });
    await call("POST", `/api/workers/${id}/stop`, {}, ada);
    const next = await daemon.nextWorker();
    expect(daemon.pool.started.map(({ env }) => env.TOKEN)).toEqual(["old", "new"]);
    expect(next.id).not.toBe(id);
  });
});

describe("what a worker prints and says (T-24)", () => {
  const shownLines = async (query = "") =>
    (await call("GET", `/api/endpoints/hello/logs${query}`, undefined, ada)).text;

  async function worker() {
    await set("token", CANARY, ada);
    await set("short", "abc", ada);
    await set("unused", "a harmless word", ada);
    const env = { TOKEN: "secret:token", SHORT: "x{{ RUNPOD_SECRET_short }}" };
    await daemon.deploy("hello", { env, workers: { min: 1 } }, { key: ada });
    return daemon.nextWorker();
  }

  it("is redacted in logs, read and followed: raw, in JSON, line by line, and its own token", async () => {
    const { id, token } = await worker();
    const lines = [
      "second line of it",
      `json ${JSON.stringify({ token: CANARY })}`,
      JSON.stringify({ requestId: "job-1", message: `said ${CANARY}`, level: "INFO" }),
      `{"requestId": "job-2", "message": "\\u0073econd line of it", "level": "INFO"}`,
      `authorization ${token}`,
      "xabc and a harmless word stay",
    ];
    printed.push(...lines.map((line) => ({ workerId: id as WorkerId, line })));
    for (const query of ["", "?follow=1"]) {
      const shown = (await shownLines(query))
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line).line);
      expect(shown).toEqual([
        "[redacted]",
        'json {"token":"[redacted]"}',
        "said [redacted]",
        "[redacted]",
        "authorization [redacted]",
        "xabc and a harmless word stay",
      ]);
    }
  });

  it("cannot be looked for either", async () => {
    const { id } = await worker();
    printed.push({ workerId: id as WorkerId, line: "second line of it" });
    expect(await shownLines("?grep=second")).toBe("");
    expect(JSON.parse(await shownLines("?grep=redacted")).line).toBe("[redacted]");
  });

  it("stays redacted after the secret was changed, unset, and the endpoint deleted", async () => {
    const { id } = await worker();
    printed.push({ workerId: id as WorkerId, line: "second line of it" });
    await set("token", "another value", ada);
    expect(await shownLines()).not.toContain("second");
    await call("DELETE", "/api/secrets/token?force=1", undefined, ada);
    expect(await shownLines()).not.toContain("second");
    await call("DELETE", "/api/endpoints/hello", undefined, ada);
    const { text } = await call("GET", `/api/workers/${id}/logs`);
    expect(JSON.parse(text).line).toBe("[redacted]");
  });

  it("is redacted in a job's error, in why it was unfit and why it did not start; an output is its own", async () => {
    const first = await worker();
    const failed = await daemon.submit("hello", { input: 1 }, { key: ada });
    await first.takeJob();
    await first.done(failed, { error: JSON.stringify({ error_message: `no access with ${CANARY}` }) });
    const kept = await daemon.submit("hello", { input: 1 }, { key: ada });
    await first.takeJob();
    await first.done(kept, { output: CANARY });
    const status = async (id: string) => (await call("GET", `/v2/hello/status/${id}`, undefined, ada)).json();
    expect(await status(failed)).toMatchObject({ error: '{"error_message":"no access with [redacted]"}' });
    expect(await status(kept)).toMatchObject({ output: CANARY });

    await first.ping(`&status=unhealthy&check=second%20line%20of%20it&reason=${encodeURIComponent(CANARY)}`);
    daemon.pool.startFailure = `refused: TOKEN=${CANARY}`;
    daemon.pool.exit(first.id);
    const workers = await daemon.until("the next start has failed", async () => {
      await daemon.clock.advance(1_000);
      const { text } = await call("GET", "/api/workers?all=1", undefined, ada);
      return text.includes("could not be started") && text;
    });
    expect(workers).toContain("unfit: [redacted]: [redacted]");
    expect(workers).toContain("could not be started: refused: TOKEN=[redacted]");
    const journal = JSON.stringify(daemon.store.journal.read({ limit: 1_000 }));
    for (const shown of [workers, journal]) expect(shown).not.toMatch(/c4f3|second line/);
  });
});

describe("webhooks", () => {
  it("are signed with the secret that the settings name, and not sent unsigned without it", async () => {
    const key = "a secret of the receiver's own";
    const hooks: { readonly signature: unknown; readonly signed: string }[] = [];
    const server = createServer(async (request, response) => {
      const { headers } = request;
      const signed = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${await text(request)}`;
      hooks.push({ signature: headers["webhook-signature"], signed });
      response.end();
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const webhook = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    await set("hook", key, ada);
    await daemon.deploy("hello", { webhook: { secret: "secret:hook" }, workers: { max: 0 } }, { key: ada });
    expect(parsed(endpointSchema, await call("GET", "/api/endpoints/hello")).config.webhook).toEqual({
      secret: "secret:hook",
    });
    const cancelled = async () => {
      const id = await daemon.submit("hello", { input: 1, webhook }, { key: ada });
      await call("POST", `/v2/hello/cancel/${id}`, {}, ada);
      return id;
    };
    await cancelled();
    await daemon.until("it arrives", () => hooks.length === 1);
    const [hook] = hooks;
    expect(hook?.signature).toBe(
      `v1,${createHmac("sha256", key)
        .update(hook?.signed ?? "")
        .digest("base64")}`,
    );

    await call("DELETE", "/api/secrets/hook?force=1", undefined, ada);
    const id = await cancelled();
    const tried = await daemon.until("it was tried", () =>
      daemon.store.journal
        .read({ jobId: id as never, limit: 10 })
        .find(({ kind }) => kind.startsWith("webhook.")),
    );
    expect(tried.data.status).toBe('webhook.secret asks for secret "hook", which is not set');
    expect(hooks).toHaveLength(1);
    server.close();
  });
});
