import { expect, test } from "vitest";
import { loginFor } from "../../../../src/runtime/adapters/docker/image-pull.ts";
import { standIn } from "../../../../src/runtime/adapters/docker/stand-in.ts";
import { createTransfer } from "../../../../src/runtime/adapters/docker/transfer.ts";

const layer = (id: string, status: string, current?: number, total?: number) => ({
  id,
  status,
  progressDetail: { current, total },
});

test("a pull: a percentage over its layers that never falls, and the bytes that are known", () => {
  const told: [string, number | undefined][] = [];
  const transfer = createTransfer("pulling", (text, percent) => told.push([text, percent]));
  transfer.take({ status: "Pulling from org/image", id: "latest" });
  transfer.take(layer("a", "Pulling fs layer"));
  transfer.take(layer("b", "Already exists"));
  transfer.take(layer("a", "Downloading", 50, 100));
  expect(transfer.packedBytes()).toBe(100);
  transfer.take(layer("a", "Extracting", 1, 1_000));
  expect(transfer.packedBytes()).toBe(100);
  transfer.take(layer("c", "Waiting"));
  transfer.take(layer("a", "Pull complete"));
  transfer.take(layer("c", "Pull complete"));
  const percents = told.map(([, percent]) => percent ?? 0);
  expect(percents).toEqual(percents.toSorted((one, other) => one - other));
  expect(told.at(-1)).toEqual(["pulling: layer 3/3", 100]);
  expect(transfer.error()).toBeNull();
});

test("an error is the registry's text, made safe", () => {
  const transfer = createTransfer("pulling", () => {});
  transfer.take({ error: `denied\u001b[2J ${"x".repeat(1_000)}` });
  expect(transfer.error()).toMatch(/^denied x+$/);
  expect(transfer.error()?.length).toBe(500);
});

test("a login goes to its own registry alone", () => {
  const login = { name: "mine", server: "ghcr.io", username: "ada", password: "pw" };
  expect(loginFor({ registry: "ghcr.io", name: "ghcr.io/a/b" }, login)).toEqual({
    username: "ada",
    password: "pw",
    serveraddress: "ghcr.io",
  });
  expect(() => loginFor({ registry: "evil.example", name: "evil.example/a" }, login)).toThrow("is not for");
  expect(loginFor({ registry: "docker.io", name: "a/b" }, { ...login, server: "docker.io" })).toMatchObject({
    serveraddress: "https://index.docker.io/v1/",
  });
});

test("the stand-in: behind what the image has set, and no option that an old Node refuses", () => {
  const env = (entries: Record<string, string>, language: "python" | "node" | null = null) =>
    standIn(language, new Map(Object.entries(entries)), "/sdk");
  expect(env({}).env).toEqual({ PYTHONPATH: "/opt/rpx/sdk/python/site" });
  expect(env({ PYTHONPATH: "/own" }).env.PYTHONPATH).toBe("/opt/rpx/sdk/python/site:/own");
  expect(env({ NODE_VERSION: "18.20.0" }).env.NODE_OPTIONS).toBeUndefined();
  expect(env({ NODE_VERSION: "24.1.0", NODE_OPTIONS: "--no-warnings" }).env.NODE_OPTIONS).toBe(
    "--no-warnings --import file:///opt/rpx/sdk/node/hook.js",
  );
  expect(env({}, "node")).toEqual({
    env: { NODE_OPTIONS: "--import file:///opt/rpx/sdk/node/hook.js" },
    mounts: [{ source: "/sdk/node", target: "/opt/rpx/sdk/node", readOnly: true }],
  });
  const copied = new Map([["PYTHONPATH", "/opt/rpx/sdk/python/site:/base"]]);
  expect(standIn("python", copied, null)).toEqual({
    env: { PYTHONPATH: "/opt/rpx/sdk/python/site:/base" },
    mounts: [],
  });
});
