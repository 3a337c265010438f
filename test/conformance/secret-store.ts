import { expect, test } from "vitest";
import type { WorkerId } from "../../src/runtime/core/model.ts";
import type { Store } from "../../src/runtime/ports/store.ts";
import { T0, W, worker } from "./store-records.ts";

const LIMITS = { maxSecrets: 3, maxReplaced: 2 };

/** What each store does with secrets. `open` gives the store of the running test. */
export function secretStoreSuite(open: () => Store): void {
  const set = (owner: string, name: string, sealed: string, atMs = T0) =>
    open().secrets.setSecret({ owner, name, sealed }, LIMITS, atMs);

  test("are kept by owner and name; another value takes the place of the first", async () => {
    const { secrets } = open();
    expect(await set("bob", "token", "sealed-1")).toBe("created");
    expect(await set("ann", "token", "sealed-2", T0 + 1)).toBe("created");
    expect(await set("ann", "Token", "sealed-3", T0 + 2)).toBe("created");
    expect(await set("ann", "token", "sealed-4", T0 + 3)).toBe("changed");
    expect(secrets.secrets()).toEqual([
      { owner: "ann", name: "Token", createdAtMs: T0 + 2, updatedAtMs: T0 + 2 },
      { owner: "ann", name: "token", createdAtMs: T0 + 1, updatedAtMs: T0 + 3 },
      { owner: "bob", name: "token", createdAtMs: T0, updatedAtMs: T0 },
    ]);
    expect([secrets.sealed("ann", "token"), secrets.sealed("bob", "token")]).toEqual([
      "sealed-4",
      "sealed-1",
    ]);
    expect([secrets.sealed("ann", "other"), secrets.sealed("eve", "token")]).toEqual([null, null]);
  });

  test("an owner has so many at most, of which each may still be changed", async () => {
    for (const name of ["a", "b", "c"]) await set("ann", name, name);
    expect(await set("ann", "d", "d")).toBe("too_many");
    expect(await set("ann", "c", "again")).toBe("changed");
    expect(await set("bob", "d", "d")).toBe("created");
    expect(open().secrets.secrets()).toHaveLength(4);
  });

  test("values that were replaced or taken away are set aside, the newest of them", async () => {
    const { secrets } = open();
    for (const sealed of ["1", "2", "3", "4"]) await set("ann", "token", sealed);
    await set("ann", "other", "x");
    expect(secrets.replaced("ann", "token")).toEqual(["3", "2"]);
    expect(await secrets.unsetSecret("ann", "token", LIMITS, T0)).toBe(true);
    expect(await secrets.unsetSecret("ann", "token", LIMITS, T0)).toBe(false);
    expect(secrets.sealed("ann", "token")).toBeNull();
    expect(secrets.replaced("ann", "token")).toEqual(["4", "3"]);
    expect(secrets.replaced("ann", "other")).toEqual([]);
    expect(secrets.remembered()).toEqual([
      { owner: "ann", name: "other" },
      { owner: "ann", name: "token" },
    ]);
    expect(await set("ann", "token", "5", T0 + 9)).toBe("created");
    expect(secrets.secrets().find(({ name }) => name === "token")?.createdAtMs).toBe(T0 + 9);
  });

  test("what was set aside goes once no worker is remembered that may have had it", async () => {
    const { fleet, secrets } = open();
    await fleet.addWorker(worker(W, { createdAtMs: T0 + 10 }), "digest", T0 + 10);
    const ages = { "1": 1, "2": 9, "3": 10, "4": 20 };
    for (const [name, atMs] of Object.entries(ages)) {
      await set("ann", `token${name}`, name);
      await secrets.unsetSecret("ann", `token${name}`, LIMITS, T0 + atMs);
    }
    const left = () => Object.keys(ages).filter((name) => secrets.replaced("ann", `token${name}`).length > 0);
    expect(await secrets.pruneReplaced(T0 + 30, 1)).toBe(1);
    expect(await secrets.pruneReplaced(T0 + 30, 9)).toBe(1);
    expect(left()).toEqual(["3", "4"]);
    // A gone worker is remembered as long as its row is: its log may be there.
    await fleet.moveWorker(W, { to: "gone", reason: "ended" }, T0 + 25);
    expect(await secrets.pruneReplaced(T0 + 30, 9)).toBe(0);
    await fleet.pruneWorkers(T0 + 26, 9);
    await fleet.addWorker(worker("later" as WorkerId, { createdAtMs: T0 + 20 }), "digest", T0 + 20);
    expect(await secrets.pruneReplaced(T0 + 30, 9)).toBe(1);
    expect(left()).toEqual(["4"]);
  });

  test("the journal has who and what, never a value", async () => {
    await set("ann", "token", "sealed-1");
    await set("ann", "token", "sealed-2", T0 + 1);
    await open().secrets.unsetSecret("ann", "token", LIMITS, T0 + 2);
    const rows = open().journal.read({ limit: 10 });
    expect(rows.map(({ kind, owner, data, atMs }) => [kind, owner, data, atMs - T0])).toEqual([
      ["secret.set", "ann", { name: "token" }, 0],
      ["secret.set", "ann", { name: "token" }, 1],
      ["secret.unset", "ann", { name: "token" }, 2],
    ]);
    expect(JSON.stringify(rows)).not.toContain("sealed");
  });
}
