import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { errorBodySchema } from "../../src/contract/schemas/daemon.ts";
import {
  registrySchema,
  removedRegistrySchema,
  storedRegistrySchema,
} from "../../src/contract/schemas/registry.ts";
import { createSimulatedSecretBox } from "../../src/runtime/adapters/simulated/secret-box.ts";
import { createRegistries, type Registries } from "../../src/runtime/service/registries.ts";
import { parsed, startTestDaemon, type TestDaemon } from "../support/test-daemon.ts";

/** What no answer, event or row may hold. */
const CANARY = "canary-of-a-password-c4f3";
const LOGIN = { server: "ghcr.io", username: "ada", password: CANARY };

let daemon: TestDaemon;
/** What builds open logins with: the daemon's own, over the same store and key. */
let registries: Registries;

beforeEach(async () => {
  const secretBox = createSimulatedSecretBox();
  daemon = await startTestDaemon({}, { secretBox });
  registries = createRegistries({ store: daemon.store, clock: daemon.clock, box: secretBox });
});
afterEach(() => daemon.stop());

const put = (name: string, body: unknown = LOGIN, key?: string) =>
  daemon.call("PUT", `/api/registries/${name}`, { body, ...(key && { key }) });
const list = async (key?: string) =>
  parsed(z.array(registrySchema), await daemon.call("GET", "/api/registries", key ? { key } : {}));
const refusal = (reply: { json(): unknown }) => errorBodySchema.parse(reply.json());

describe("registry logins", () => {
  it("are stored, changed, listed and removed; no answer, event or row has a password", async () => {
    const seen: string[] = [];
    const keep = async (reply: ReturnType<typeof put>) => {
      seen.push((await reply).text);
      return reply;
    };
    const stored = parsed(storedRegistrySchema, await keep(put("work")));
    expect(stored).toMatchObject({ name: "work", server: "ghcr.io", username: "ada", outcome: "created" });
    const changed = parsed(
      storedRegistrySchema,
      await keep(put("work", { ...LOGIN, server: "https://index.docker.io/v1/" })),
    );
    expect(changed).toMatchObject({ server: "docker.io", outcome: "changed" });
    expect(registries.open("work")).toMatchObject({ server: "docker.io", password: CANARY });
    expect(await list()).toMatchObject([{ name: "work", endpoints: [] }]);
    const removed = await keep(daemon.call("DELETE", "/api/registries/work"));
    expect(parsed(removedRegistrySchema, removed)).toMatchObject({ name: "work", removed: true });
    expect(await list()).toEqual([]);
    const events = JSON.stringify(daemon.store.journal.read({ limit: 100 }));
    expect(events).toContain("registry.set");
    for (const text of [...seen, events]) expect(text).not.toContain(CANARY);
  });

  it("need an admin to be stored and removed; a deployer sees that they are there, and only own endpoints", async () => {
    const deployer = await daemon.key("ada", { scope: "deploy" });
    const runner = await daemon.key("bob", { scope: "run" });
    expect((await put("work", LOGIN, deployer)).status).toBe(403);
    await put("work");
    await daemon.deploy("hello", { image: { registry: "work" } });
    expect((await daemon.call("DELETE", "/api/registries/work", { key: deployer })).status).toBe(403);
    expect((await daemon.call("GET", "/api/registries", { key: runner })).status).toBe(403);
    expect(await list()).toMatchObject([{ endpoints: ["hello"] }]);
    expect(await list(deployer)).toMatchObject([{ name: "work", endpoints: [] }]);
  });

  it("that are in use are kept unless forced", async () => {
    await put("work");
    await daemon.deploy("hello", { image: { registry: "work" } });
    const kept = await daemon.call("DELETE", "/api/registries/work");
    expect([kept.status, refusal(kept).why]).toEqual([409, expect.stringContaining("by hello")]);
    expect((await daemon.call("DELETE", "/api/registries/work?force=1")).status).toBe(200);
    expect((await daemon.call("DELETE", "/api/registries/work?force=1")).status).toBe(404);
  });

  it.each([
    ["Work", LOGIN],
    ["work", { ...LOGIN, server: "not a host" }],
    ["work", { ...LOGIN, password: "" }],
    ["work", { ...LOGIN, username: undefined }],
    ["work", { ...LOGIN, more: 1 }],
  ])("refuses %s %j", async (name, body) => {
    const reply = await put(name, body);
    expect(reply.status).toBe(400);
    expect(reply.text).not.toContain(CANARY);
  });

  it("open for their own name, server and user alone", async () => {
    await put("work");
    const sealed = daemon.store.registries.sealed("work") ?? "";
    const moved = { name: "work", server: "evil.example", username: "ada", sealed };
    await daemon.store.registries.setRegistry(moved, 10, daemon.clock.nowMs());
    expect(() => registries.open("work")).toThrow();
  });

  it("for an image: the one that is named, else the only one of its registry", async () => {
    await put("work");
    expect(registries.forImage("ghcr.io/org/image:1", null)?.name).toBe("work");
    expect(registries.forImage("org/image:1", null)).toBeNull();
    await put("other");
    expect(() => registries.forImage("ghcr.io/org/image:1", null)).toThrow("several registry logins");
    expect(registries.forImage("ghcr.io/org/image:1", "other")?.name).toBe("other");
    expect(() => registries.forImage("ghcr.io/org/image:1", "nobody")).toThrow('no registry login "nobody"');
  });
});
