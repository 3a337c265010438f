import { afterEach, describe, expect, it } from "vitest";
import { z } from "zod";
import { errorBodySchema, statusSchema } from "../../src/contract/schemas/daemon.ts";
import { builtImageSchema, imageSchema, prunedSchema } from "../../src/contract/schemas/image.ts";
import type { EndpointId } from "../../src/runtime/core/model.ts";
import type { Artifacts } from "../../src/runtime/ports/artifacts.ts";
import type { Image, Images } from "../../src/runtime/ports/images.ts";
import { parsed, startTestDaemon, type TestDaemon } from "../support/test-daemon.ts";

let daemon: TestDaemon;
afterEach(() => daemon.stop());

const DIGEST = "d".repeat(64);
const IMAGE: Image = {
  id: `sha256:${"a".repeat(64)}`,
  tags: ["app:1"],
  digests: [],
  bytes: 1_000,
  createdAtMs: 1_900_000_000_000,
  endpointId: null as EndpointId | null,
  isOurs: true,
};

/** An engine that has one image and does what it is told. */
function engine(asked: unknown[] = []): Images {
  return {
    list: async () => [IMAGE, { ...IMAGE, id: `sha256:${"b".repeat(64)}`, isOurs: false }],
    build: async (request, onStep) => {
      asked.push(request);
      onStep("step 1/2: FROM scratch", 0);
      onStep("step 2/2: COPY . .", 50);
      return { image: IMAGE, warnings: ["a warning"] };
    },
    pull: async (request) => {
      asked.push(request);
      return { image: IMAGE, pinned: "app@sha256:1", warnings: [] };
    },
    push: async (request) => {
      asked.push(request);
      return "app@sha256:2";
    },
  };
}

const bundles = { has: (digest: string) => digest === DIGEST, receive: async () => {} };
const build = (body: object, headers = {}) =>
  daemon.call("POST", "/api/images/build", { body: { digest: DIGEST, tag: "app:1", ...body }, headers });

describe("images", () => {
  it("are built of a folder that was sent, and pushed; steps come line by line where that is asked for", async () => {
    const asked: unknown[] = [];
    daemon = await startTestDaemon({}, { images: engine(asked), bundles });
    const built = parsed(builtImageSchema, await build({ push: true }));
    expect(built).toMatchObject({ reference: "app:1", pushed: "app@sha256:2", warnings: ["a warning"] });
    expect(asked).toMatchObject([
      { tag: "app:1", login: null },
      { reference: "app:1", login: null },
    ]);
    const lines = (await build({}, { accept: "application/x-ndjson" })).text.trim().split("\n");
    expect(lines.map((line) => JSON.parse(line))).toEqual([
      { progress: "step 1/2: FROM scratch", percent: 0 },
      { progress: "step 2/2: COPY . .", percent: 50 },
      { image: { ...built, pushed: null } },
    ]);
    const missing = await build({ digest: "e".repeat(64) });
    expect(missing.status).toBe(404);
  });

  it("are built by admins alone: the name may be one that others use", async () => {
    daemon = await startTestDaemon({}, { images: engine(), bundles });
    const key = await daemon.key("ada", { scope: "deploy" });
    const reply = await daemon.call("POST", "/api/images/build", { key, body: { digest: DIGEST, tag: "x" } });
    expect(reply.status).toBe(403);
    expect((await daemon.call("POST", "/api/images/pull", { key, body: { reference: "app" } })).status).toBe(
      200,
    );
  });

  it("are listed where they are ours or a release uses them", async () => {
    daemon = await startTestDaemon({}, { images: engine() });
    const key = await daemon.key("ada", { scope: "deploy" });
    const all = parsed(z.array(imageSchema), await daemon.call("GET", "/api/images"));
    expect(all.map(({ id }) => id)).toEqual([IMAGE.id]);
    expect(parsed(z.array(imageSchema), await daemon.call("GET", "/api/images", { key }))).toEqual([]);
  });

  it("without an engine are refused with what to do", async () => {
    daemon = await startTestDaemon();
    const reply = await daemon.call("GET", "/api/images");
    expect(reply.status).toBe(503);
    expect(errorBodySchema.parse(reply.json()).hint).toContain("Docker");
  });
});

describe("what releases leave behind", () => {
  /** Bundles in memory. */
  function inMemory(ids: string[]): Artifacts {
    return {
      kind: "bundle",
      list: async () => ids.map((id) => ({ id, name: id.slice(0, 3), bytes: 100 })),
      remove: async (id) => {
        if (id.startsWith("1")) return "somebody uses it";
        ids.splice(ids.indexOf(id), 1);
        return null;
      },
    };
  }
  const prune = async (dryRun: boolean) =>
    parsed(prunedSchema, await daemon.call("POST", "/api/images/prune", { body: { dryRun } }));

  it("is shown and removed by hand, and what is in use or was touched stays", async () => {
    const ids = ["0", "1", "2", "d"].map((each) => each.repeat(64));
    const key = () => daemon.key("ada", { scope: "deploy" });
    daemon = await startTestDaemon({}, { artifacts: [inMemory(ids)], bundles });
    // A release uses the first; the last is asked for by somebody who is about to use it.
    await daemon.deploy("hello", {}, { key: await key() });
    await daemon.call("GET", `/api/bundles/${DIGEST}`);
    const dry = await prune(true);
    expect(dry).toMatchObject({ dryRun: true, bytes: 200, kept: [] });
    expect(dry.removed.map(({ id }) => id)).toEqual([ids[1], ids[2]]);
    expect(ids).toHaveLength(4);
    const done = await prune(false);
    expect(done).toMatchObject({ bytes: 100, kept: [{ reason: "somebody uses it" }] });
    expect(ids.map((id) => id[0])).toEqual(["0", "1", "d"]);
    // An hour later nobody is about to use it any more, and the daemon looks by itself.
    await daemon.clock.advance(3_600_001);
    await daemon.until("the daemon has removed it", () => ids.length === 2);
    expect(ids.map((id) => id[0])).toEqual(["0", "1"]);
  });

  it("is added up by kind in the status of admins alone", async () => {
    const shares = [
      { kind: "logs" as const, bytes: async () => 7 },
      { kind: "build cache" as const, bytes: () => Promise.reject(new Error("the engine is away")) },
    ];
    daemon = await startTestDaemon({}, { artifacts: [inMemory(["a"])], diskShares: shares });
    const usage = async (key?: string) =>
      parsed(statusSchema, await daemon.call("GET", "/api/status", key ? { key } : {})).disk.usage;
    expect(await usage()).toEqual([
      { kind: "database", bytes: 0 },
      { kind: "bundle", bytes: 100 },
      { kind: "logs", bytes: 7 },
      { kind: "build cache", bytes: null },
    ]);
    expect(await usage(await daemon.key("ada", { scope: "read" }))).toEqual([]);
  });
});
