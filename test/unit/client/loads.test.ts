import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createSandbox, type Sandbox } from "../../commands/support/rpx.ts";
import { type StandInDaemon, startStandIn } from "../../commands/support/stand-in-daemon.ts";

/** What a hot command has no time for. */
const HEAVY = ["got", "zod", "conf", "ink", "react", "fastify", "ora", "eventsource-parser", "tar"];
const TRACE = new URL("../../fixtures/client/trace-loads.mjs", import.meta.url).href;

let sandbox: Sandbox;
let daemon: StandInDaemon;
let runs = 0;

beforeAll(() => {
  sandbox = createSandbox();
});
afterAll(() => sandbox?.remove());
beforeEach(async () => {
  daemon = await startStandIn();
});
afterEach(() => daemon.close());

/** Runs a command that has to succeed; the packages that it loaded. */
async function packagesOf(args: readonly string[]): Promise<Set<string>> {
  runs += 1;
  const file = join(sandbox.folder, `loads-${runs}`);
  const env = { NODE_OPTIONS: `--import=${TRACE}`, TRACE_LOADS: file, RPX_URL: daemon.url };
  const { code, stderr } = await sandbox.rpx(args, { env });
  expect(code, stderr).toBe(0);
  const urls = readFileSync(file, "utf8").split("\n");
  return new Set(urls.flatMap((url) => url.match(/.*\/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ?? []));
}

const JOB = { id: "job-1", status: "COMPLETED", output: { done: true }, reason: "done", events: [] };
const STATUS = { health: "ok", disk: { usage: [] }, uptimeMs: 1 };

describe("D23: a hot command loads no heavy package", () => {
  test.each([["--help"], ["status"], ["job run hello -i {}"], ["job get job-1"], ["job run --help"]])(
    "%s",
    async (line) => {
      daemon.on("GET /api/status", { json: STATUS });
      daemon.on("POST /v2/hello/run", { json: JOB });
      daemon.on("GET /api/jobs/job-1", { json: JOB });
      const loaded = await packagesOf(line.split(" "));
      expect(loaded).toContain("@oclif/core");
      expect(HEAVY.filter((name) => loaded.has(name))).toEqual([]);
    },
  );

  test("and a cold one loads got: the trace sees it", async () => {
    daemon.on("GET /api/endpoints", { json: [] });
    expect(await packagesOf(["endpoint", "list"])).toContain("got");
  });
});
