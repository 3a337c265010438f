import { spawn } from "node:child_process";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { eventually, type RealDaemon, startRealDaemon } from "../support/real-daemon.ts";
import { findStockSdk, type StockSdk, skipAloud } from "../support/stock-sdk/stock-sdk.ts";

/**
 * The real RunPod Python SDK, unmodified, as worker and as client of a real daemon. Debian's packages and the shims of
 * test/support/stock-sdk carry its imports, so its retry behaviour is the shims', not its own.
 */
const HANDLERS = join(import.meta.dirname, "../fixtures/stock-sdk/handlers");
const CLIENTS = join(import.meta.dirname, "../fixtures/stock-sdk/clients");

/** Releases at hand: the newest, and older ones of the version matrix. */
const RELEASES = ["RPX_RUNPOD_SDK", "RPX_RUNPOD_SDK_1_7_13", "RPX_RUNPOD_SDK_1_6_2"];

type Body = { id: string; status: string; output?: unknown; error?: string; workerId?: string };

async function createEndpoint(
  daemon: RealDaemon,
  sdk: StockSdk,
  handler: string,
  config: object = {},
): Promise<string> {
  const name = handler.replaceAll("_", "-").replace(".py", "");
  const created = await daemon.call("POST", "/api/endpoints", {
    name,
    config: { workers: { max: 1, idle_timeout: "1h" }, env: sdk.env, ...config },
    source: { kind: "folder", path: HANDLERS },
    handler,
    python: sdk.python,
  });
  expect(created.status, created.text).toBe(200);
  return name;
}

async function runSync(daemon: RealDaemon, endpoint: string, input: unknown): Promise<Body> {
  return (await daemon.call("POST", `/v2/${endpoint}/runsync?wait=60000`, { input })).json<Body>();
}

for (const variable of RELEASES) {
  const sdk = findStockSdk(variable);
  describe.skipIf(skipAloud(sdk, variable))(`the RunPod SDK of ${variable} as worker`, () => {
    let daemon: RealDaemon;
    beforeAll(async () => {
      daemon = await startRealDaemon();
    });
    afterAll(async () => {
      await daemon?.stop();
    });
    const stock = sdk as StockSdk;
    const newest = variable === "RPX_RUNPOD_SDK";

    test("a plain handler, with its logs tagged by job", { timeout: 60_000 }, async () => {
      const endpoint = await createEndpoint(daemon, stock, "plain.py");
      const job = await runSync(daemon, endpoint, { name: "Ada" });
      expect(job).toMatchObject({ status: "COMPLETED", output: { echo: { name: "Ada" } } });
      const logs = await daemon.call("GET", `/api/endpoints/${endpoint}/logs?job=${job.id}`);
      expect(logs.text).toContain(job.id);
    });

    test("an exception fails the job with its type and traceback", { timeout: 60_000 }, async () => {
      const endpoint = await createEndpoint(daemon, stock, "exception.py");
      const job = await runSync(daemon, endpoint, {});
      expect(job.status).toBe("FAILED");
      expect(JSON.parse(job.error ?? "null")).toMatchObject({
        error_traceback: expect.stringContaining("Traceback"),
      });
    });

    test("a generator streams its chunks in order, then ends", { timeout: 60_000 }, async () => {
      const endpoint = await createEndpoint(daemon, stock, "generator.py");
      const { id } = (
        await daemon.call("POST", `/v2/${endpoint}/run`, { input: { name: "Ada" } })
      ).json<Body>();
      const chunks: unknown[] = [];
      await eventually(
        async () => {
          const page = (await daemon.call("GET", `/v2/${endpoint}/stream/${id}`)).json<{
            status: string;
            stream: unknown[];
          }>();
          chunks.push(...page.stream);
          return page.status === "COMPLETED";
        },
        30_000,
        "the stream ends",
      );
      expect(chunks).toEqual([0, 1, 2].map((index) => ({ output: { index, of: "Ada" } })));
    });

    test("eight at once", { timeout: 60_000 }, async () => {
      const endpoint = await createEndpoint(daemon, stock, "eight_at_once.py");
      const jobs = await Promise.all(Array.from({ length: 16 }, (_, n) => runSync(daemon, endpoint, { n })));
      expect(jobs.map(({ status }) => status)).toEqual(Array(16).fill("COMPLETED"));
    });

    test("progress does not end the job and a late one changes nothing", { timeout: 60_000 }, async () => {
      const endpoint = await createEndpoint(daemon, stock, "progress.py");
      expect(await runSync(daemon, endpoint, {})).toMatchObject({ status: "COMPLETED" });
    });

    // 1.6.2 ends before it has posted such a job's result.
    test.skipIf(variable === "RPX_RUNPOD_SDK_1_6_2")(
      "refresh_worker replaces the worker after its job",
      { timeout: 90_000 },
      async () => {
        const endpoint = await createEndpoint(daemon, stock, "refresh_config.py");
        const first = await runSync(daemon, endpoint, {});
        const second = await runSync(daemon, endpoint, {});
        expect([first.status, second.status]).toEqual(["COMPLETED", "COMPLETED"]);
        expect(second.workerId).not.toBe(first.workerId);
      },
    );

    test.skipIf(!newest)(
      "a cancelled job is stopped alone, its worker goes on",
      { timeout: 90_000 },
      async () => {
        const endpoint = await createEndpoint(daemon, stock, "slow.py");
        const { id } = (
          await daemon.call("POST", `/v2/${endpoint}/run`, { input: { seconds: 120 } })
        ).json<Body>();
        const status = async (job: string) =>
          (await daemon.call("GET", `/v2/${endpoint}/status/${job}`)).json<Body>();
        const running = await eventually(
          async () => (await status(id)).status === "IN_PROGRESS" && status(id),
          30_000,
          "running",
        );
        expect((await daemon.call("POST", `/v2/${endpoint}/cancel/${id}`)).json()).toMatchObject({
          status: "CANCELLED",
        });
        const next = await runSync(daemon, endpoint, { seconds: 0 });
        expect(next).toMatchObject({ status: "COMPLETED", workerId: running.workerId });
      },
    );

    test.skipIf(!newest)(
      "a synchronous job that cannot be stopped costs its worker",
      { timeout: 90_000 },
      async () => {
        const endpoint = await createEndpoint(daemon, stock, "slow_sync.py");
        const { id } = (
          await daemon.call("POST", `/v2/${endpoint}/run`, { input: { seconds: 120 } })
        ).json<Body>();
        const status = async () => (await daemon.call("GET", `/v2/${endpoint}/status/${id}`)).json<Body>();
        const running = await eventually(
          async () => (await status()).status === "IN_PROGRESS" && status(),
          30_000,
          "running",
        );
        await daemon.call("POST", `/v2/${endpoint}/cancel/${id}`);
        const next = await runSync(daemon, endpoint, { seconds: 0 });
        expect(next.status).toBe("COMPLETED");
        expect(next.workerId).not.toBe(running.workerId);
      },
    );

    test.skipIf(!newest)(
      "both handlers of the programming-model page, as they stand",
      { timeout: 60_000 },
      async () => {
        const plain = await createEndpoint(daemon, stock, "documented_plain.py");
        expect(await runSync(daemon, plain, { prompt: "x", instruction: "y", seconds: 0 })).toMatchObject({
          status: "COMPLETED",
        });
        const generator = await createEndpoint(daemon, stock, "documented_generator.py");
        expect(await runSync(daemon, generator, {})).toMatchObject({ status: "COMPLETED" });
      },
    );

    test.skipIf(!newest)("NaN, big integers and unicode pass", { timeout: 60_000 }, async () => {
      const endpoint = await createEndpoint(daemon, stock, "json_edges.py");
      const job = await daemon.call("POST", `/v2/${endpoint}/runsync?wait=60000`, { input: {} });
      expect(job.json<Body>().status, job.text).toBe("COMPLETED");
      expect(job.text).toMatch(/"big": ?18446744073709551617/);
      expect(job.json<Body>().output).toMatchObject({
        nan: null,
        up: null,
        down: null,
        text: "naïve café ☕ 日本語 😀",
      });
    });
  });
}

const newest = findStockSdk();
describe.skipIf(skipAloud(newest))("the RunPod SDK as client", () => {
  let daemon: RealDaemon;
  beforeAll(async () => {
    daemon = await startRealDaemon();
  });
  afterAll(async () => {
    await daemon?.stop();
  });
  const stock = newest as StockSdk;

  async function client(
    script: string,
    endpoint: string,
  ): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const env = {
      ...process.env,
      ...stock.env,
      RUNPOD_ENDPOINT_BASE_URL: `${daemon.url}/v2`,
      RUNPOD_KEY: daemon.key,
    };
    const child = spawn(stock.python, [join(CLIENTS, script), endpoint], { env });
    let [stdout, stderr] = ["", ""];
    child.stdout.on("data", (chunk) => (stdout += chunk));
    child.stderr.on("data", (chunk) => (stderr += chunk));
    const code = await new Promise<number | null>((resolve) => child.once("exit", resolve));
    return { code, stdout, stderr };
  }

  test.each(["sync_client.py", "asyncio_client.py"])("%s", { timeout: 120_000 }, async (script) => {
    const endpoint = await createEndpoint(
      daemon,
      stock,
      script === "sync_client.py" ? "plain.py" : "asynchronous.py",
    );
    const { code, stdout, stderr } = await client(script, endpoint);
    expect(code, `${stdout}\n${stderr}`).toBe(0);
  });
});
