import { writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { createSandbox, type Sandbox } from "./support/rpx.ts";
import { type StandInDaemon, startStandIn } from "./support/stand-in-daemon.ts";

let sandbox: Sandbox;
let daemon: StandInDaemon;

beforeAll(() => {
  sandbox = createSandbox();
});
afterAll(() => sandbox?.remove());
beforeEach(async () => {
  daemon = await startStandIn();
});
afterEach(() => daemon.close());

const STATUS = {
  version: "0.1.0",
  pid: 7,
  url: "http://127.0.0.1:7790",
  workerUrl: "http://127.0.0.1:7791",
  startedAt: "2026-11-23T15:00:00.000Z",
  uptimeMs: 11_520_000,
  dataDir: "/home/ada/.local/share/rpx",
  pool: "process",
  isolation: "none",
  health: "ok",
  disk: {
    databaseBytes: 1_048_576,
    freeBytes: 2e9,
    minFreeBytes: 1e9,
    usage: [{ kind: "database", bytes: 1_048_576 }],
  },
  journalSeq: 42,
};

describe("which daemon", () => {
  test("none answers: exit 5, nothing on stdout, three lines on stderr", async () => {
    const ended = await sandbox.rpx(["status", "--url", "http://127.0.0.1:9"]);
    expect(ended).toEqual({
      code: 5,
      stdout: "",
      stderr:
        "Error: no daemon answers at http://127.0.0.1:9\nwhy: nothing listens there\ntry: start it with: rpx serve\n",
    });
  });

  test("none answers, with --json: one document on stdout and nothing else", async () => {
    const { code, stdout, stderr } = await sandbox.rpx(["status", "--url", "http://127.0.0.1:9", "--json"]);
    expect({ code, stderr }).toEqual({ code: 5, stderr: "" });
    expect(JSON.parse(stdout)).toMatchInlineSnapshot(`
      {
        "error": {
          "code": "unreachable",
          "hint": "start it with: rpx serve",
          "message": "no daemon answers at http://127.0.0.1:9",
          "why": "nothing listens there",
        },
      }
    `);
  });

  test("another minor version is warned of, another major one refused (version_mismatch, exit 6)", async () => {
    const newer = await startStandIn({ version: "0.2.0" });
    newer.on("GET /api/status", { json: STATUS });
    const warned = await sandbox.rpx(["status", "--url", newer.url, "--json"]);
    expect(warned.code).toBe(0);
    expect(warned.stderr).toMatch(/^warning: the daemon is version 0\.2\.0, this rpx is 0\.1\.0/);
    expect(JSON.parse(warned.stdout)).toEqual(STATUS);
    await newer.close();
    const other = await startStandIn({ version: "1.0.0" });
    other.on("GET /api/status", { json: STATUS });
    const refused = await sandbox.rpx(["status", "--url", other.url]);
    expect({ code: refused.code, stdout: refused.stdout }).toEqual({ code: 6, stdout: "" });
    await other.close();
  });

  test("something that is no rpx daemon is said to be none", async () => {
    daemon.on("GET /api/status", { text: "<html>" });
    const { code, stderr } = await sandbox.rpx(["status", "--url", daemon.url]);
    expect(code).toBe(5);
    expect(stderr).toContain("does not come from an rpx daemon");
  });

  test("a refusal's code, why and hint pass through", async () => {
    const error = { error: "no", code: "no_capacity", why: "full", hint: "wait" };
    daemon.on("GET /api/endpoints", { status: 503, json: error });
    const { code, stderr } = await sandbox.rpx(["endpoint", "list", "--url", daemon.url]);
    expect({ code, stderr }).toEqual({ code: 9, stderr: "Error: no\nwhy: full\ntry: wait\n" });
  });

  test("T-18: what a daemon says cannot steer the terminal", async () => {
    const evil = "\u001b]52;c;ZXZpbA==\u0007\u001b[2Jname\u202e\u0085";
    daemon.on("GET /api/status", { json: { ...STATUS, health: evil } });
    const asText = await sandbox.rpx(["status", "--url", daemon.url]);
    expect(asText.stdout).toMatch(/health +name\n/);
    const asJson = await sandbox.rpx(["status", "--url", daemon.url, "--json"]);
    expect(JSON.parse(asJson.stdout).health).toBe(evil);
    expect(asJson.stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202e]/);
  });
});

describe("job run", () => {
  const JOB = { id: "job-1", status: "IN_QUEUE" };

  test("the request is what was asked for; numbers stay as they were typed", async () => {
    daemon.on("POST /v2/hello/run", { json: JOB });
    const flags = [
      "--webhook",
      "https://x.test/",
      "--execution-timeout",
      "10s",
      "--ttl",
      "1h",
      "--low-priority",
    ];
    const args = ["job", "run", "hello", "-i", "id=12345678901234567890", "-i", "name=Ada", ...flags];
    const ended = await sandbox.rpx([...args, "--idempotency-key", "once", "--async", "--url", daemon.url]);
    expect(ended).toEqual({ code: 0, stdout: "job-1\n", stderr: "" });
    expect(daemon.seen[0]?.headers["idempotency-key"]).toBe("once");
    expect(daemon.seen[0]?.body).toBe(
      '{"input":{"id":12345678901234567890,"name":"Ada"},"webhook":"https://x.test/","policy":{"executionTimeout":10000,"ttl":3600000,"lowPriority":true}}',
    );
  });

  test("what it waits for is said once, and again when that changes", async () => {
    let looks = 0;
    daemon.on("POST /v2/hello/run", { json: JOB });
    daemon.on("GET /v2/hello/status-sync/job-1", (response) => {
      response.end(JSON.stringify(looks < 3 ? JOB : { ...JOB, status: "COMPLETED", output: { done: true } }));
    });
    daemon.on("GET /api/jobs/job-1", (response) => {
      looks += 1;
      const reason = looks < 3 ? `no worker for ${looks} s` : "worker starts";
      response.end(JSON.stringify({ ...JOB, reason, events: [] }));
    });
    const { code, stdout, stderr } = await sandbox.rpx(["job", "run", "hello", "--url", daemon.url]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: '{"done":true}\n' });
    expect(stderr).toBe(
      "waiting for job job-1 (IN_QUEUE: no worker for 1 s)\nwaiting for job job-1 (IN_QUEUE: worker starts)\n",
    );
  });

  test("an output of null is printed as null", async () => {
    daemon.on("POST /v2/hello/run", { json: { id: "job-1", status: "COMPLETED", output: null } });
    expect((await sandbox.rpx(["job", "run", "hello", "--url", daemon.url])).stdout).toBe("null\n");
  });

  test.each([
    ["no JSON", ["-i", "{"]],
    ["two whole inputs", ["-i", "{}", "-i", "[]"]],
    ["a missing file", ["-i", "@missing.json"]],
    ["a wrong duration", ["--timeout", "soon"]],
  ])("%s: exit 2 before anything is sent", async (_, args) => {
    const ended = await sandbox.rpx(["job", "run", "hello", ...args, "--url", daemon.url]);
    expect({ code: ended.code, stdout: ended.stdout, seen: daemon.seen }).toEqual({
      code: 2,
      stdout: "",
      seen: [],
    });
    expect(ended.stderr).toMatch(/^Error: /);
  });

  test("an id that begins several jobs is refused", async () => {
    const jobs = ["ab1", "ab2"].map((id) => ({ id, status: "FAILED", endpoint: "hello", endpointId: "e" }));
    daemon.on("GET /api/jobs", { json: jobs });
    const { code, stderr } = await sandbox.rpx(["job", "get", "ab", "--url", daemon.url]);
    expect(code).toBe(2);
    expect(stderr).toContain("several ids begin like this");
    expect(daemon.seen[1]?.query.get("idPrefix")).toBe("ab");
  });

  test("@last without a job exits 3", async () => {
    const { code, stderr } = await sandbox.rpx(["job", "get", "@last", "--url", "http://127.0.0.1:9"]);
    expect(code).toBe(3);
    expect(stderr).toContain("there is no last job");
  });
});

test("a reserved endpoint name is refused before anything is read or sent", async () => {
  const { code, stderr } = await sandbox.rpx([
    "endpoint",
    "create",
    "pods",
    "--handler",
    "x",
    "--url",
    daemon.url,
  ]);
  expect({ code, seen: daemon.seen }).toEqual({ code: 2, seen: [] });
  expect(stderr).toContain('cannot be called "pods"');
});

describe("endpoint deploy --image", () => {
  const NONE = { error: "no endpoint", code: "not_found" };
  const args = ["endpoint", "deploy", "--image", "org/worker:1", "--name", "hello"];

  test("no folder is sent; the pull is told in one line; settings and words are as typed", async () => {
    const endpoint = { id: "e1", name: "hello", url: "http://d/v2/e1", pool: "docker", madeRelease: 1 };
    daemon.on("GET /api/endpoints/hello", { status: 404, json: NONE });
    daemon.on("POST /api/endpoints", (response) => {
      response.writeHead(200, { "content-type": "application/x-ndjson" });
      for (const percent of [0, 41.7, 100])
        response.write(`${JSON.stringify({ progress: "pulling org/worker:1", percent })}\n`);
      response.end(`${JSON.stringify({ endpoint })}\n`);
    });
    daemon.on("GET /api/endpoints/e1/releases/1", {
      json: {
        version: 1,
        state: "live",
        reason: "serves",
        liveAt: "2026-11-23T15:00:00.000Z",
        warnings: ["w"],
      },
    });
    const flags = ["--pool", "docker", "--command", 'python "my worker.py"', "--registry", "hub", "--json"];
    const { code, stdout, stderr } = await sandbox.rpx([...args, ...flags, "--url", daemon.url]);
    expect(code, stderr).toBe(0);
    const answer = { id: "e1", name: "hello", url: "http://d/v2/e1", release: 1, changed: true };
    expect(JSON.parse(stdout)).toEqual(answer);
    expect(stderr).toBe("pulling org/worker:1\nwarning: w\n");
    const created = daemon.seen.find(({ method }) => method === "POST");
    expect(JSON.parse(created?.body ?? "")).toEqual({
      name: "hello",
      config: { image: { command: ["python", "my worker.py"], registry: "hub" } },
      source: { kind: "image", reference: "org/worker:1" },
      pool: "docker",
      rollout: "prove",
      tests: [],
    });
    expect(daemon.seen.some(({ path }) => path.startsWith("/api/bundles"))).toBe(false);
  });

  test("Ctrl-C during the build gives it up, and says so", async () => {
    daemon.on("GET /api/endpoints/hello", { status: 404, json: NONE });
    daemon.on("POST /api/endpoints", (response) => void response.write('{"progress":"pulling"}\n'));
    const running = sandbox.start([...args, "--url", daemon.url]);
    await running.said("pulling");
    running.child.kill("SIGINT");
    expect(await running.ended).toEqual({
      code: 130,
      stdout: "",
      stderr: "pulling\nError: stopped before the release was built; what serves goes on serving\n",
    });
  });
});

test("a reader that goes away is no failure", async () => {
  const line = {
    ts: "2026-11-23T15:00:00.000Z",
    source: "stdout",
    level: null,
    workerId: "w",
    jobId: null,
    line: "x",
  };
  daemon.on("GET /api/workers/w", { json: { id: "w" } });
  daemon.on("GET /api/workers/w/logs", (response) => {
    for (let count = 0; count < 20_000; count += 1) response.write(`${JSON.stringify(line)}\n`);
    response.end();
  });
  const child = sandbox.spawn(["worker", "logs", "w", "--url", daemon.url]);
  const stderr = text(child.stderr);
  child.stdout.once("data", () => child.stdout.destroy());
  const code = await new Promise((resolve) => child.once("exit", resolve));
  expect({ code, stderr: await stderr }).toEqual({ code: 0, stderr: "" });
});

describe("the command line itself", () => {
  test("a mistyped command or flag exits 2; the command that was meant is named", async () => {
    expect(await sandbox.rpx(["endpoint", "lst"])).toEqual({
      code: 2,
      stdout: "",
      stderr: 'Error: there is no command "endpoint lst"\ntry: did you mean: rpx endpoint list\n',
    });
    expect((await sandbox.rpx(["status", "--lmit"])).code).toBe(2);
    expect((await sandbox.rpx(["job", "get"])).code).toBe(2);
    expect((await sandbox.rpx(["job", "list", "--limit", "x"])).code).toBe(2);
    const json = await sandbox.rpx(["statsu", "--json"]);
    expect(JSON.parse(json.stdout).error.code).toBe("usage");
  });

  test.each([["-h"], ["--help"], ["help"], ["job", "run", "-h"], ["help", "job", "run"]])(
    "%s shows help",
    async (...args) => {
      const { code, stdout, stderr } = await sandbox.rpx(args);
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      expect(stdout).toContain("USAGE");
    },
  );
});

describe("context", () => {
  test("add, list, use and remove; the key only from a private file or standard input", async () => {
    daemon.on("GET /api/status", { json: STATUS });
    const added = await sandbox.rpx(
      ["context", "add", "lab", "--url", daemon.url, "--key-file", "-", "--use"],
      { stdin: "rpxk_lab\n" },
    );
    expect(added.code, added.stderr).toBe(0);
    expect((await sandbox.rpx(["status"])).code).toBe(0);
    expect(daemon.seen[0]?.headers.authorization).toBe("Bearer rpxk_lab");
    const { stdout } = await sandbox.rpx(["context", "list", "--json"]);
    expect(JSON.parse(stdout)).toEqual([{ name: "lab", url: daemon.url, current: true, hasKey: true }]);
    const open = join(sandbox.folder, "open.key");
    writeFileSync(open, "rpxk_open", { mode: 0o644 });
    expect((await sandbox.rpx(["context", "add", "x", "--url", daemon.url, "--key-file", open])).code).toBe(
      4,
    );
    expect((await sandbox.rpx(["context", "use", "labb"])).code).toBe(3);
    expect((await sandbox.rpx(["context", "remove", "lab"])).code).toBe(0);
    expect(JSON.parse((await sandbox.rpx(["context", "list", "--json"])).stdout)).toEqual([]);
  });
});

describe("doctor", () => {
  test("without a daemon nothing is broken", async ({ skip }) => {
    if (await isTaken(7790)) skip("a daemon of the user's answers at the default address");
    const env = { DOCKER_HOST: `unix://${sandbox.folder}/absent.sock` };
    const { code, stdout } = await sandbox.rpx(["doctor", "--json"], { env });
    expect(code).toBe(0);
    const { ok, checks, settings } = JSON.parse(stdout);
    expect(ok).toBe(true);
    expect(checks.map(({ name }: { name: string }) => name)).toEqual([
      "node",
      "sqlite",
      "python3",
      "docker",
      "process pool",
      "data directory",
      "daemon",
    ]);
    expect(settings).toContainEqual({ name: "url", value: "http://127.0.0.1:7790", from: "default" });
  });

  test("an engine that does not answer is waited for no longer than the others", async () => {
    const socket = join(sandbox.folder, "engine.sock");
    const engine = createServer(() => {});
    await new Promise<void>((resolve) => engine.listen(socket, resolve));
    try {
      const { stdout } = await sandbox.rpx(["doctor"], { env: { DOCKER_HOST: `unix://${socket}` } });
      expect(stdout).toMatch(/^docker +note +\S+: it does not answer; try: docker info says more$/m);
    } finally {
      engine.closeAllConnections();
      await new Promise((resolve) => engine.close(resolve));
    }
  });

  test("a daemon that was named and does not answer is broken: exit 5", async () => {
    const { code, stdout } = await sandbox.rpx(["doctor"], {
      env: { RPX_URL: "http://127.0.0.1:9", RPX_API_KEY: "rpxk_0123456789" },
    });
    expect(code).toBe(5);
    expect(stdout).toMatch(/daemon +broken/);
    expect(stdout).toMatch(/key +RPX_API_KEY +rpxk_0123…/);
    expect(stdout).not.toContain("rpxk_0123456789");
  });
});

function isTaken(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: "127.0.0.1", port });
    socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    socket.once("connect", () => socket.destroy());
  });
}
