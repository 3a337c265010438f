import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, type RealDaemon, startRealDaemon } from "../support/real-daemon.ts";
import { replayClient } from "../support/replay-worker.ts";

/**
 * The recorded requests of the real RunPod SDKs, said again to a real daemon: what stands in for stock-sdk.test.ts and keeps its wire
 * in every run where the SDK's source is not at hand.
 */
const FIXTURES = join(import.meta.dirname, "../fixtures/e2e");

type Body = { id: string; status: string; output?: unknown; error?: string };

let daemon: RealDaemon;
beforeAll(async () => {
  daemon = await startRealDaemon();
});
afterAll(async () => {
  await daemon?.stop();
});

async function createReplay(name: string, version: string, handler: string): Promise<string> {
  const created = await daemon.call("POST", "/api/endpoints", {
    name,
    config: {
      workers: { max: 1, idle_timeout: "1h" },
      env: { REPLAY_VERSION: version, REPLAY_HANDLER: handler },
    },
    source: { kind: "folder", path: FIXTURES },
    handler: "replay.ts",
  });
  expect(created.status, created.text).toBe(200);
  return created.json<{ id: string }>().id;
}

async function run(endpoint: string): Promise<Body> {
  return (
    await daemon.call("POST", `/v2/${endpoint}/runsync?wait=30000`, { input: { name: "Ada" } })
  ).json<Body>();
}

const VERSIONS = ["1.12.0", "1.7.13", "1.6.2"];

describe.each(VERSIONS)("a worker on the recorded SDK %s", (version) => {
  const named = (handler: string) => `${handler}-${version.replaceAll(".", "-")}`.replaceAll("_", "-");

  test.each([
    ["plain", "COMPLETED"],
    ["exception", "FAILED"],
    ["progress", "COMPLETED"],
  ])("%s ends %s, and its worker takes the next job", { timeout: 60_000 }, async (handler, status) => {
    const endpoint = await createReplay(named(handler), version, handler);
    expect(await run(endpoint)).toMatchObject({ status });
    expect(await run(endpoint)).toMatchObject({ status });
  });

  test("generator: chunks reach /stream in order", { timeout: 60_000 }, async () => {
    const endpoint = await createReplay(named("generator"), version, "generator");
    const { id } = (
      await daemon.call("POST", `/v2/${endpoint}/run`, { input: { name: "Ada" } })
    ).json<Body>();
    const indexes: number[] = [];
    await eventually(
      async () => {
        const page = (await daemon.call("GET", `/v2/${endpoint}/stream/${id}`)).json<{
          status: string;
          stream: { output: { index: number } }[];
        }>();
        indexes.push(...page.stream.map(({ output }) => output.index));
        return page.status === "COMPLETED";
      },
      30_000,
      "the stream ends",
    );
    expect(indexes).toEqual([0, 1, 2]);
  });
});

describe("workers on the recorded SDK 1.12.0", () => {
  test.each([
    ["aggregate", "COMPLETED"],
    ["asynchronous", "COMPLETED"],
    ["async_generator", "COMPLETED"],
    ["error_dict", "FAILED"],
    ["generator_raises", "FAILED"],
    ["documented_plain", "COMPLETED"],
    ["documented_generator", "COMPLETED"],
    ["json_edges", "COMPLETED"],
    ["eight_at_once", "COMPLETED"],
    ["refresh_handler", "COMPLETED"],
    ["refresh_config", "COMPLETED"],
  ])("%s ends %s", { timeout: 60_000 }, async (handler, status) => {
    const endpoint = await createReplay(handler.replaceAll("_", "-"), "1.12.0", handler);
    expect(await run(endpoint)).toMatchObject({ status });
  });
});

describe("recorded clients", () => {
  test.each(["sync", "asyncio", "js"] as const)(
    "%s: every request is answered 200",
    { timeout: 90_000 },
    async (client) => {
      const endpointId = await createReplay(`client-${client}`, "1.12.0", "plain");
      const version = client === "js" ? "1.1.2" : "1.12.0";
      const replies = await replayClient({
        baseUrl: daemon.url,
        key: daemon.key,
        endpointId,
        client,
        version,
      });
      expect(replies.length).toBeGreaterThan(5);
      for (const { step, method, url, status, body } of replies) {
        expect(status, `${step}: ${method} ${url} answered ${body}`).toBe(200);
      }
    },
  );
});
