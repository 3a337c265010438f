/**
 * The real RunPod SDK against the recording server: that the shims carry it, and that the recordings are still what it says.
 * Where its source is not at hand (RPX_RUNPOD_SDK), this is skipped aloud and replay-worker.test.ts stands in for it. aiohttp_retry is a
 * shim of ours, so the retries seen here are the shim's, measured after the real package, and not the SDK's own.
 */
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { recordClient, runStockClient } from "../../support/stock-sdk/record-client.ts";
import { recordWorker, WORKER_SCENARIOS } from "../../support/stock-sdk/record-worker.ts";
import { readClientRecording, readWorkerRecording } from "../../support/stock-sdk/recording.ts";
import { type RecordingServer, startRecordingServer } from "../../support/stock-sdk/recording-server.ts";
import { findStockSdk, skipAloud } from "../../support/stock-sdk/stock-sdk.ts";
import { type StockWorker, startStockWorker } from "../../support/stock-sdk/stock-worker.ts";
import { saidByChannel } from "./said-by-channel.ts";

/** An SDK process needs seconds to start, more while others work on the machine. */
const LIMIT_MS = 90_000;
/** The waits of the SDK between the three attempts of a post that meets 5xx. */
const FIBONACCI_WAITS_MS = [2_000, 3_000];
/** How much later than its wait an attempt may come on a busy machine. */
const SLACK_MS = 1_500;

const found = findStockSdk();

describe.skipIf(skipAloud(found))("the real SDK", { timeout: LIMIT_MS }, () => {
  if ("missing" in found) {
    return;
  }
  const sdk = found;

  const representative = ["plain", "generator", "exception", "eight_at_once", "refresh_config", "slow"];
  const scenarios = WORKER_SCENARIOS.filter(({ handler }) => representative.includes(handler));

  test.each(scenarios.map((scenario) => [scenario.handler, scenario] as const))(
    "ACC-07 still says what is recorded for the handler %s",
    async (handler, scenario) => {
      const recording = readWorkerRecording(`${sdk.version}-${handler}`);

      const said = await recordWorker(sdk, scenario);

      expect(saidByChannel(said)).toEqual(saidByChannel(recording));
      expect(said.exitCode).toBe(0);
    },
  );

  test.each(["sync", "asyncio"] as const)(
    "ACC-07 the %s client still says what is recorded",
    async (client) => {
      const said = await recordClient(client, sdk);

      expect(said.steps).toEqual(readClientRecording(`client-${client}-${sdk.version}`).steps);
    },
  );

  test("a client whose key is refused fails, and says so", async () => {
    const server = await startRecordingServer({
      client: () => ({ status: 401, body: { error: "no such key" } }),
    });

    const run = runStockClient({
      sdk,
      client: "sync",
      baseUrl: `${server.origin}/v2`,
      key: "wrong",
      endpointId: "endpoint-1",
    });

    await expect(run).rejects.toThrow("401");
    await server.close();
  });

  describe("posts a result", () => {
    let server: RecordingServer;
    let worker: StockWorker;

    beforeEach(async () => {
      server = await startRecordingServer();
      worker = startStockWorker({
        sdk,
        handler: "plain",
        origin: server.origin,
        endpointId: "endpoint-1",
        workerId: "worker-1",
        key: "key-1",
      });
    });

    afterEach(async () => {
      await worker.kill();
      await server.close();
    });

    /** Hands out one job and gives the times of its posts, once the worker asks for the next. */
    const postsOfOneJob = async (): Promise<number[]> => {
      const take = await server.nextHeld("take");
      take.answer({ status: 200, body: { id: "job-1", input: {} } });
      await server.nextHeld("take");
      return server.seen.filter(({ channel }) => channel === "done").map(({ atMs }) => atMs);
    };

    test("T-16 three times when the server answers 5xx, after 2 s and 3 s", async () => {
      server.answerNext("done", { status: 500 }, { status: 503 }, { status: 502 });

      const times = await postsOfOneJob();

      expect(times).toHaveLength(3);
      const waits = times.slice(1).map((atMs, index) => atMs - (times[index] ?? 0));
      for (const [index, wait] of waits.entries()) {
        const expected = FIBONACCI_WAITS_MS[index] ?? 0;
        expect(wait).toBeGreaterThanOrEqual(expected - 5);
        expect(wait).toBeLessThan(expected + SLACK_MS);
      }
      expect(worker.output()).toContain("Failed to return job results");
    });

    test.each([
      ["answers 400", { status: 400 }],
      ["answers 429", { status: 429 }],
      ["resets the connection", "reset"],
    ] as const)("T-16 once when the server %s, and goes on without it", async (_what, answer) => {
      server.answerNext("done", answer);

      expect(await postsOfOneJob()).toHaveLength(1);
      expect(worker.output()).toContain("Failed to return job results");
    });

    test("T-16 of a job that was running at SIGTERM, and leaves only once its polls are answered", async () => {
      const take = await server.nextHeld("take");
      const stop = await server.nextHeld("stop");
      worker.process.kill("SIGTERM");
      // The job comes after the signal: the open poll may still bring one, and the worker runs it.
      take.answer({ status: 200, body: { id: "job-late", input: {} } });
      await server.until("the result", (seen) => seen.some(({ channel }) => channel === "done"));
      expect(worker.process.exitCode).toBeNull();

      stop.answer({ status: 204 });

      expect(await worker.exited).toBe(0);
      expect(server.seen.filter(({ channel }) => channel === "take")).toHaveLength(1);
    });
  });
});
