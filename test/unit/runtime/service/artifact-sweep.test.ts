import { describe, expect, test } from "vitest";
import { createSimulatedClock } from "../../../../src/runtime/adapters/simulated/clock.ts";
import { openDatabase } from "../../../../src/runtime/adapters/sqlite/database.ts";
import { createSqliteStore } from "../../../../src/runtime/adapters/sqlite/store.ts";
import type { BuiltImage, Release } from "../../../../src/runtime/core/model.ts";
import type { ArtifactKind, Artifacts } from "../../../../src/runtime/ports/artifacts.ts";
import type { ReleaseBuilder } from "../../../../src/runtime/ports/worker-pool.ts";
import { createArtifactSweep } from "../../../../src/runtime/service/artifact-sweep.ts";
import { createBuildGate } from "../../../../src/runtime/service/build-gate.ts";
import { E, endpoint, release, T0, W, worker } from "../../../conformance/store-records.ts";

const SILENT = { info: () => {}, warn: () => {}, error: () => {} };

/** A built image whose id is a letter. */
const imageOf = (id: string): BuiltImage => ({
  kind: "image",
  image: id,
  reference: id,
  registry: null,
  entrypoint: null,
  command: null,
  mounts: [],
  env: {},
  runtime: "image",
  warnings: [],
});

/** Release `version` of endpoint E, made of image, bundle or environment. */
function made(version: number, kind: ArtifactKind, id: string): Release {
  const base = release(E, { version });
  const source = { kind: "bundle", digest: id } as const;
  if (kind === "bundle") return { ...base, spec: { ...base.spec, source } };
  if (kind === "image") return { ...base, built: imageOf(id) };
  const env = { VIRTUAL_ENV: `/data/venvs/${id}` };
  const built = {
    kind: "process",
    file: "python",
    args: [],
    cwd: "/",
    env,
    runtime: "",
    warnings: [],
  } as const;
  return { ...base, built };
}

function setUp() {
  const clock = createSimulatedClock(T0);
  const store = createSqliteStore({
    db: openDatabase(":memory:"),
    clock,
    fatal: () => {},
    makeRoom: () => false,
  });
  const gate = createBuildGate({ store, clock });
  const ids = new Set<string>();
  const adapters = (kind: ArtifactKind): Artifacts => ({
    kind,
    list: async () => [...ids].map((id) => ({ id, name: id, bytes: 10 })),
    remove: async (id) => {
      ids.delete(id);
      return null;
    },
  });
  const sweepOf = (kind: ArtifactKind) =>
    createArtifactSweep({
      ...gate,
      store,
      clock,
      artifacts: [adapters(kind)],
      log: SILENT,
    });
  /** Deploys releases 1 to n, each of its own artifact: "1", "2", ... */
  async function deploy(kind: ArtifactKind, count: number): Promise<void> {
    for (let version = 1; version <= count; version += 1) {
      const { spec, built, ...rest } = made(version, kind, String(version));
      ids.add(String(version));
      if (version === 1) await store.fleet.createEndpoint(endpoint(E), { ...rest, spec, built }, T0);
      else {
        const begun = await store.fleet.beginRelease(
          E,
          (base) => ({ ...base, spec, origin: "deploy", diff: [] }),
          T0,
        );
        if (begun.kind !== "begun" || built === null) throw new Error("not begun");
        await store.fleet.releaseBuilt(begun.release, built, "live", "serves", T0);
      }
    }
  }
  const removedBy = async (kind: ArtifactKind, dryRun = false) =>
    (await sweepOf(kind).sweep({ dryRun })).removed.map(({ id }) => id);
  return { clock, store, gate, ids, deploy, sweepOf, removedBy };
}

describe.each(["image", "bundle", "environment"] as const)("%ss", (kind) => {
  test("of the last five releases stay, those before go; a dry run removes nothing", async () => {
    const { ids, deploy, removedBy } = setUp();
    await deploy(kind, 7);
    ids.add("stray");
    expect(await removedBy(kind, true)).toEqual(["1", "2", "stray"]);
    expect(ids.size).toBe(8);
    expect(await removedBy(kind)).toEqual(["1", "2", "stray"]);
    expect([...ids]).toEqual(["3", "4", "5", "6", "7"]);
  });

  test("of an old release stay while a worker of it is there", async () => {
    const { store, deploy, removedBy } = setUp();
    await deploy(kind, 7);
    await store.fleet.addWorker({ ...worker(W), release: 1 }, "digest", T0);
    expect(await removedBy(kind)).toEqual(["2"]);
  });

  test("of a deleted endpoint go", async () => {
    const { store, deploy, removedBy } = setUp();
    await deploy(kind, 2);
    await store.fleet.deleteEndpoint(E, T0);
    expect(await removedBy(kind)).toEqual(["1", "2"]);
  });
});

describe("builds", () => {
  const request = { endpointId: E, version: 9, spec: made(9, "image", "new").spec };

  test("hold off every deletion while they run, and deletions hold off builds", async () => {
    const { ids, gate, deploy, sweepOf } = setUp();
    await deploy("image", 7);
    let finish = (_: BuiltImage): void => {};
    const builder: ReleaseBuilder = { build: () => new Promise((resolve) => (finish = resolve)) };
    const watched = gate.watch({ docker: builder }).docker;
    const building = watched?.build(request, () => {}, new AbortController().signal);
    const during = await sweepOf("image").sweep({ dryRun: false });
    expect(during.removed).toEqual([]);
    expect(during.kept.map(({ id, reason }) => [id, reason])).toEqual([
      ["1", "something is being built"],
      ["2", "something is being built"],
    ]);
    finish(imageOf("new"));
    await building;
    ids.add("new");
    const after = await sweepOf("image").sweep({ dryRun: false });
    expect(after.removed.map(({ id }) => id)).toEqual(["1", "2"]);
    expect(ids.has("new")).toBe(true);
  });

  test("are forgotten once their release is stored, or after ten minutes", async () => {
    const { ids, clock, gate, deploy, removedBy } = setUp();
    await deploy("image", 7);
    const build = async (version: number, id: string) => {
      const watched = gate.watch({ docker: { build: async () => imageOf(id) } }).docker;
      await watched?.build({ ...request, version }, () => {}, new AbortController().signal);
    };
    // As release 1 is stored, which is old.
    await build(1, "1");
    await build(9, "given up");
    ids.add("given up");
    expect(await removedBy("image")).toEqual(["1", "2"]);
    await clock.advance(10 * 60_000);
    expect(await removedBy("image")).toEqual(["given up"]);
  });

  test("a build waits for a deletion that runs, and does not fail with it", async () => {
    const { gate } = setUp();
    const order: string[] = [];
    let fail = (_: Error): void => {};
    const deletion = gate.exclusively(() => new Promise((_, reject) => (fail = reject)));
    const build = async () => {
      order.push("built");
      return imageOf("x");
    };
    const watched = gate.watch({ docker: { build } }).docker;
    const building = watched?.build(request, () => {}, new AbortController().signal);
    await Promise.resolve();
    order.push("deleted");
    fail(new Error("no rights"));
    await expect(deletion).rejects.toThrow("no rights");
    await building;
    expect(order).toEqual(["deleted", "built"]);
  });
});

test("one kind that is away does not keep the others", async () => {
  const { clock, store, gate } = setUp();
  const away: Artifacts = {
    kind: "image",
    list: () => Promise.reject(new Error("the engine is away")),
    remove: async () => null,
  };
  const gone: string[] = [];
  const there: Artifacts = {
    kind: "bundle",
    list: async () => [{ id: "a", name: "a", bytes: 1 }],
    remove: async (id) => {
      gone.push(id);
      return null;
    },
  };
  const sweep = createArtifactSweep({ ...gate, store, clock, artifacts: [away, there], log: SILENT });
  const report = await sweep.sweep({ dryRun: false });
  expect([report.problems, gone]).toEqual([["images: the engine is away"], ["a"]]);
});
