import { expect, test } from "vitest";
import type { Store } from "../../src/runtime/ports/store.ts";
import { T0 } from "./store-records.ts";

const MOST = 2;

/** What each store does with registry logins. `open` gives the store of the running test. */
export function registryStoreSuite(open: () => Store): void {
  const set = (name: string, sealed: string, atMs = T0, server = "ghcr.io") =>
    open().registries.setRegistry({ name, server, username: "ada", sealed }, MOST, atMs);

  test("are kept by name; another takes the place of the first", async () => {
    const { registries } = open();
    expect(await set("work", "sealed-1")).toBe("created");
    expect(await set("home", "sealed-2", T0 + 1, "docker.io")).toBe("created");
    expect(await set("work", "sealed-3", T0 + 2, "other:5000")).toBe("changed");
    expect(registries.registries()).toEqual([
      { name: "home", server: "docker.io", username: "ada", createdAtMs: T0 + 1, updatedAtMs: T0 + 1 },
      { name: "work", server: "other:5000", username: "ada", createdAtMs: T0, updatedAtMs: T0 + 2 },
    ]);
    expect([registries.sealed("work"), registries.sealed("nobody")]).toEqual(["sealed-3", null]);
  });

  test("so many at most, of which each may still be changed; one that is removed is gone", async () => {
    const { registries } = open();
    for (const name of ["a", "b"]) await set(name, name);
    expect(await set("c", "c")).toBe("too_many");
    expect(await set("b", "again")).toBe("changed");
    expect(await registries.removeRegistry("a", T0)).toBe(true);
    expect(await registries.removeRegistry("a", T0)).toBe(false);
    expect([registries.sealed("a"), registries.registries().length]).toEqual([null, 1]);
    expect(await set("c", "c")).toBe("created");
  });

  test("the journal has names and servers, and no sealed text", async () => {
    await set("work", "sealed-text");
    await open().registries.removeRegistry("work", T0 + 1);
    const events = open().journal.read({ limit: 10 });
    expect(events.map(({ kind, data }) => [kind, data])).toEqual([
      ["registry.set", { name: "work", server: "ghcr.io" }],
      ["registry.remove", { name: "work" }],
    ]);
  });
}
