import { describe, expect, test } from "vitest";
import { createSimulatedClock } from "../../../../src/runtime/adapters/simulated/clock.ts";
import { createSimulatedRandom } from "../../../../src/runtime/adapters/simulated/random.ts";
import { digestKey, makeKey } from "../../../../src/runtime/core/key-format.ts";
import type { EndpointId, Key } from "../../../../src/runtime/core/model.ts";
import type { KeyStore } from "../../../../src/runtime/ports/store.ts";
import { allows, createKeys, parseAuthorization } from "../../../../src/runtime/service/keys.ts";

/** A key store in memory, with the log of its writes. */
function memoryStore() {
  const rows: (Key & { digest: string })[] = [];
  const touches: [string, number][] = [];
  const change = (id: string, values: Partial<Key>) => {
    const index = rows.findIndex((row) => row.id === id);
    const row = rows[index];
    if (row !== undefined) rows[index] = { ...row, ...values };
    return row !== undefined;
  };
  const store: KeyStore = {
    addKey: async (key, digest) => {
      if (rows.some((row) => row.name === key.name)) return "name_taken";
      rows.push({ ...key, digest });
      return "created";
    },
    revokeKey: async (id, nowMs) => change(id, { revokedAtMs: nowMs }),
    touchKey: async (id, nowMs) => {
      touches.push([id, nowMs]);
      change(id, { lastUsedAtMs: nowMs });
    },
    keys: () => rows,
    setOwnerMaxQueued: async () => undefined,
    ownerMaxQueued: () => 0,
  };
  return { store, rows, touches };
}

function setUp(startMs = 1_000_000) {
  const memory = memoryStore();
  const clock = createSimulatedClock(startMs);
  const deps = { store: memory.store, clock, random: createSimulatedRandom(1) };
  return { ...memory, clock, keys: createKeys(deps), reopen: () => createKeys(deps) };
}

const WRONG = makeKey("client", "w".repeat(40));

describe("ensureAdmin", () => {
  test("makes one admin key, once, and gives its text", async () => {
    const { keys, rows } = setUp();
    const text = await keys.ensureAdmin();
    expect(text).toMatch(/^rpxa_/);
    expect(await keys.ensureAdmin()).toBeNull();
    expect(rows).toHaveLength(1);
    expect(keys.authenticate(`Bearer ${text}`)).toMatchObject({ name: "admin", scope: "admin" });
  });

  test("hands the text out before the key is stored: a key that nobody knows would shut everybody out", async () => {
    const { keys, rows } = setUp();
    const unkept = () => {
      throw new Error("killed here");
    };
    await expect(keys.ensureAdmin(unkept)).rejects.toThrow("killed here");
    expect(rows).toEqual([]);
    let kept = "";
    const text = await keys.ensureAdmin((each) => {
      kept = each;
    });
    expect(kept).toBe(text);
  });

  test("makes another one when the first was revoked", async () => {
    const { keys } = setUp();
    await keys.ensureAdmin();
    await keys.revoke("admin");
    expect(await keys.ensureAdmin()).toMatch(/^rpxa_/);
    expect(keys.list().map(({ name }) => name)).toEqual(["admin", "admin-2"]);
  });
});

describe("create and authenticate", () => {
  test("a key is its owner's, with its scope and shared endpoints, also after a restart", async () => {
    const { keys, reopen } = setUp();
    const { key, text } = await keys.create({
      name: "ci",
      owner: "ada",
      scope: "read",
      endpointIds: ["ep1" as EndpointId],
    });
    const principal = { keyId: key.id, name: "ci", owner: "ada", scope: "read", endpointIds: ["ep1"] };
    for (const header of [text, `Bearer ${text}`, `bearer  ${text} `, `BEARER ${text}`]) {
      expect(keys.authenticate(header)).toEqual(principal);
    }
    expect(reopen().authenticate(text)).toEqual(principal);
  });

  test("the default scope is run", async () => {
    const { keys } = setUp();
    const { key, text } = await keys.create({ name: "app", owner: "ada" });
    expect(key.scope).toBe("run");
    expect(text.startsWith(key.prefix)).toBe(true);
    expect(key.prefix).toHaveLength(9);
  });

  test("a name is used once", async () => {
    const { keys } = setUp();
    await keys.create({ name: "app", owner: "ada" });
    await expect(keys.create({ name: "app", owner: "bob" })).rejects.toMatchObject({ code: "conflict" });
  });

  test("T-02 only the digest is stored", async () => {
    const { keys, rows } = setUp();
    const { text } = await keys.create({ name: "app", owner: "ada" });
    expect(JSON.stringify(rows)).not.toContain(text.slice(9));
    expect(rows[0]?.digest).toBe(digestKey(text));
    expect(JSON.stringify(keys.list())).not.toContain(digestKey(text));
  });

  test.each([undefined, "", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", WRONG, "x".repeat(100_000)])(
    "%j is nobody",
    async (header) => {
      const { keys } = setUp();
      await keys.ensureAdmin();
      expect(keys.authenticate(header)).toBeNull();
    },
  );

  test("last use is recorded once a minute", async () => {
    const { keys, touches, clock } = setUp();
    const { key, text } = await keys.create({ name: "app", owner: "ada" });
    for (let use = 0; use < 5; use += 1) keys.authenticate(text);
    await clock.advance(59_999);
    keys.authenticate(text);
    await clock.advance(1);
    keys.authenticate(text);
    expect(touches).toEqual([
      [key.id, 1_000_000],
      [key.id, 1_060_000],
    ]);
  });
});

describe("revoke", () => {
  test("F-47 ends a key at once and tells who holds streams open", async () => {
    const { keys, reopen } = setUp();
    const { key, text } = await keys.create({ name: "app", owner: "ada" });
    const closed: string[] = [];
    const stop = keys.onRevoke((keyId) => closed.push(keyId));
    expect((await keys.revoke("app")).revokedAtMs).toBe(1_000_000);
    expect(closed).toEqual([key.id]);
    expect(keys.authenticate(text)).toBeNull();
    expect(reopen().authenticate(text)).toBeNull();
    stop();
    const { key: other } = await keys.create({ name: "app-2", owner: "ada" });
    await keys.revoke(other.id);
    expect(closed).toHaveLength(1);
  });

  test("an unknown or revoked key is not found", async () => {
    const { keys } = setUp();
    await keys.create({ name: "app", owner: "ada" });
    await keys.revoke("app");
    await expect(keys.revoke("app")).rejects.toMatchObject({ code: "not_found" });
  });
});

describe("T-02 throttling", () => {
  test("the eleventh wrong key of a minute is refused, right ones and other addresses never", async () => {
    const { keys, clock } = setUp();
    const { text } = await keys.create({ name: "app", owner: "ada" });
    for (let guess = 0; guess < 10; guess += 1) expect(keys.authenticate(WRONG, "10.0.0.1")).toBeNull();
    await clock.advance(1_500);
    const refused = expect.objectContaining({ code: "rate_limited", retryAfterSeconds: 59 });
    expect(() => keys.authenticate(WRONG, "10.0.0.1")).toThrow(refused);
    expect(() => keys.authenticate("rubbish", "10.0.0.1")).toThrow(refused);
    expect(keys.authenticate(text, "10.0.0.1")).not.toBeNull();
    expect(keys.authenticate(WRONG, "10.0.0.2")).toBeNull();
    expect(keys.authenticate(undefined, "10.0.0.1")).toBeNull();
    await clock.advance(58_500);
    expect(keys.authenticate(WRONG, "10.0.0.1")).toBeNull();
  });

  test("the table of addresses is bounded: the oldest is forgotten", async () => {
    const { keys } = setUp();
    for (let guess = 0; guess < 10; guess += 1) keys.authenticate(WRONG, "first");
    expect(() => keys.authenticate(WRONG, "first")).toThrow("too many wrong keys");
    for (let other = 0; other < 10_000; other += 1) keys.authenticate(WRONG, `other-${other}`);
    expect(keys.authenticate(WRONG, "first")).toBeNull();
  });
});

test("each scope holds the ones before it", () => {
  expect(allows("admin", "read")).toBe(true);
  expect(allows("run", "run")).toBe(true);
  expect(allows("read", "run")).toBe(false);
  expect(allows("deploy", "admin")).toBe(false);
});

test("parseAuthorization reads what follows Bearer, or all of it", () => {
  expect(parseAuthorization("Bearer abc")).toBe("abc");
  expect(parseAuthorization("abc")).toBe("abc");
  expect(parseAuthorization("  ")).toBeNull();
});
