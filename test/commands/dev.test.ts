import { type ChildProcess, execFile, spawn } from "node:child_process";
import { once } from "node:events";
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

const root = fileURLToPath(new URL("../..", import.meta.url));
const bin = join(root, "bin/run.js");
const example = (name: string): string => join(root, "examples", name);
/** For what starts a daemon and a worker on a busy machine. */
const LIMIT_MS = 60_000;

let home = "";
const started = new Set<ChildProcess>();

beforeEach(() => {
  home = realpathSync(mkdtempSync(join(tmpdir(), "rpx-dev-")));
});

afterEach(async () => {
  for (const child of started) {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill("SIGKILL");
      await once(child, "exit");
    }
  }
  started.clear();
  rmSync(home, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 });
});

function environment(): NodeJS.ProcessEnv {
  const { RPX_URL, RPX_API_KEY, RPX_DATA_DIR, ...rest } = process.env;
  return {
    ...rest,
    HOME: home,
    XDG_DATA_HOME: join(home, "data"),
    XDG_CONFIG_HOME: join(home, "config"),
    XDG_STATE_HOME: join(home, "state"),
    XDG_CACHE_HOME: join(home, "cache"),
    PYTHONDONTWRITEBYTECODE: "1",
  };
}

type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

function rpx(...args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    const child = execFile(process.execPath, [bin, ...args], { env: environment() }, (_, stdout, stderr) => {
      resolve({ code: child.exitCode, stdout, stderr });
    });
    child.stdin?.end();
  });
}

/** A dev that goes on: its stderr so far, and a wait for a text in it. */
function startDev(...args: readonly string[]): {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  until(text: RegExp): Promise<RegExpExecArray>;
} {
  const child = spawn(process.execPath, [bin, "dev", ...args], {
    env: environment(),
    stdio: ["ignore", "pipe", "pipe"],
  });
  started.add(child);
  let said = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    said += text;
  });
  child.stdout.resume();
  const until = async (text: RegExp): Promise<RegExpExecArray> => {
    const endMs = performance.now() + LIMIT_MS / 2;
    while (performance.now() < endMs) {
      const match = text.exec(said);
      if (match !== null) return match;
      if (child.exitCode !== null) break;
      await sleep(20);
    }
    throw new Error(`${text} was not said:\n${said}`);
  };
  return { child, ended: once(child, "exit").then(([code]: unknown[]) => code as number | null), until };
}

/** Processes of this machine whose command line or environment names our scratch folder. */
function leftRunning(): string[] {
  const own = String(process.pid);
  return readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name) && name !== own)
    .flatMap((pid) => {
      try {
        const text = `${readFileSync(`/proc/${pid}/cmdline`, "utf8")} ${readFileSync(`/proc/${pid}/environ`, "utf8")}`;
        return text.includes(home) ? [`${pid} ${text.slice(0, 120).replaceAll("\0", " ")}`] : [];
      } catch {
        return [];
      }
    });
}

async function expectNothingLeft(): Promise<void> {
  await expect.poll(leftRunning, { timeout: 5_000 }).toEqual([]);
}

describe("refused before anything runs", () => {
  test.each<[string, readonly string[], number, RegExp]>([
    ["a folder that is not there", ["/absent"], 3, /no file or folder \/absent/],
    ["a pool that there is none of", [example("hello"), "--pool", "swarm"], 2, /--pool=swarm/],
    ["an input that is no JSON", [example("hello"), "--input", "{name}"], 2, /no JSON/],
    [
      "a time-out out of range",
      [example("hello"), "--input", "{}", "--execution-timeout", "1s"],
      2,
      /--execution-timeout/,
    ],
    ["--stream without --input", [example("hello"), "--stream"], 2, /--input/],
    ["an interpreter that is not there", [example("hello"), "--python", "/absent/python"], 2, /--python/],
  ])("%s", async (_, args, code, text) => {
    const ended = await rpx("dev", ...args);
    expect(ended).toMatchObject({ code, stdout: "", stderr: expect.stringMatching(text) });
    expect(existsSync(join(home, "data"))).toBe(false);
  });

  test("an rpx.toml that cannot be used: the line", async () => {
    mkdirSync(join(home, "broken"));
    writeFileSync(join(home, "broken/rpx.toml"), "[workers]\nmaxx = 1\n");
    const ended = await rpx("dev", join(home, "broken"), "--input", "{}");
    expect(ended).toMatchObject({
      code: 2,
      stdout: "",
      stderr: expect.stringContaining('did you mean "max"?'),
    });
    expect(ended.stderr).toContain("line 2");
  });
});

describe("the file itself, outside the queue", () => {
  test.each(["hello", "node"])("%s answers --test_input", async (name) => {
    const ended = await rpx("dev", example(name), "--", "--test_input", '{"input": {"name": "Bo"}}');
    expect(ended.code).toBe(0);
    expect(ended.stdout).toContain("Hello, Bo!");
    expect(existsSync(join(home, "data"))).toBe(false);
  });

  test("its exit code is passed on", async () => {
    expect((await rpx("dev", example("error"), "--")).code).toBe(1);
  });
});

describe("one job", () => {
  test.each(["hello", "node"])(
    "ACC-01 %s: the output on stdout and nothing else",
    async (name) => {
      const ended = await rpx("dev", example(name), "--input", '{"name":"Ada"}');
      expect(ended).toMatchObject({ code: 0, stdout: '"Hello, Ada!"\n' });
      await expectNothingLeft();
    },
    LIMIT_MS,
  );

  test(
    "a second run of the same folder, and the whole body with --json",
    async () => {
      await rpx("dev", example("hello"), "--input", '{"name":"Ada"}');
      const ended = await rpx("dev", example("hello"), "--input", '{"name":"Bo"}', "--json");
      expect(ended.code).toBe(0);
      expect(JSON.parse(ended.stdout)).toMatchObject({ status: "COMPLETED", output: "Hello, Bo!" });
      expect(ended.stderr).not.toContain("Ada");
    },
    LIMIT_MS,
  );

  test(
    "a failed job: 7, the traceback on stderr",
    async () => {
      const ended = await rpx("dev", example("error"), "--input", "{}");
      expect(ended).toMatchObject({ code: 7, stdout: "" });
      expect(ended.stderr).toContain("Traceback (most recent call last)");
      expect(ended.stderr).toMatch(/Error: the job ended FAILED\nwhy: ZeroDivisionError: division by zero/);
      await expectNothingLeft();
    },
    LIMIT_MS,
  );

  test(
    "a handler that does not import: 7, with its last lines, at once",
    async () => {
      mkdirSync(join(home, "broken"));
      writeFileSync(join(home, "broken/handler.py"), "import nothing_of_that_name\n");
      const ended = await rpx("dev", join(home, "broken"), "--input", "{}");
      expect(ended).toMatchObject({ code: 7, stdout: "" });
      expect(ended.stderr).toContain("| ModuleNotFoundError: No module named 'nothing_of_that_name'");
      expect(ended.stderr).toMatch(/^Error: the handler of release 1 does not start/m);
      await expectNothingLeft();
    },
    LIMIT_MS,
  );

  test(
    "a worker that dies in its job is no failed start: three attempts, then 7",
    async () => {
      mkdirSync(join(home, "dying"));
      const handler = "import os, runpod\nrunpod.serverless.start({'handler': lambda job: os._exit(3)})\n";
      writeFileSync(join(home, "dying/handler.py"), handler);
      const ended = await rpx("dev", join(home, "dying"), "--input", "{}", "--json");
      expect(ended.code).toBe(7);
      expect(JSON.parse(ended.stdout)).toMatchObject({
        status: "FAILED",
        error: expect.stringMatching(/worker/),
      });
    },
    LIMIT_MS,
  );

  test(
    "--stream: a chunk a line, the output last",
    async () => {
      const ended = await rpx("dev", example("stream"), "--stream", "--input", '{"text":"a b"}');
      expect(ended).toMatchObject({ code: 0, stdout: '"a"\n"b"\n["a", "b"]\n' });
    },
    LIMIT_MS,
  );

  test(
    "Ctrl-C cancels the job, exits 130 and leaves nothing running",
    async () => {
      const dev = startDev(example("concurrent"), "--input", '{"seconds":600}');
      await dev.until(/Started\./);
      dev.child.kill("SIGINT");
      expect(await dev.ended).toBe(130);
      await expectNothingLeft();
    },
    LIMIT_MS,
  );

  test(
    "kill -9 of the command itself leaves nothing running",
    async () => {
      const dev = startDev(example("concurrent"), "--input", '{"seconds":600}');
      await dev.until(/Started\./);
      dev.child.kill("SIGKILL");
      await dev.ended;
      await expectNothingLeft();
    },
    LIMIT_MS,
  );
});

describe("watching", () => {
  test(
    "URL, curl line and context; reload on save; a second one exits 6; nothing is left",
    async () => {
      const folder = join(home, "hello");
      cpSync(example("hello"), folder, { recursive: true });
      writeFileSync(join(folder, ".dockerignore"), "*.log\n");
      const dev = startDev(folder);
      const [, url = "", key = ""] = await dev.until(
        /curl -X POST (\S+)\/runsync -H 'Authorization: Bearer (\S+)'/,
      );
      expect(url).toMatch(/^http:\/\/127\.0\.0\.1:\d+\/v2\/hello$/);
      const ask = async (): Promise<unknown> => {
        const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
        const reply = await fetch(`${url}/runsync`, {
          method: "POST",
          headers,
          body: '{"input":{"name":"Ada"}}',
        });
        return ((await reply.json()) as { output?: unknown }).output;
      };
      expect(await ask()).toBe("Hello, Ada!");
      const contexts = await rpx("context", "list", "--json");
      expect(contexts.stdout).toContain("dev:hello");

      const second = await rpx("dev", folder);
      expect(second.code).toBe(6);
      expect(second.stderr).toMatch(/process \d+/);

      const handler = join(folder, "handler.py");
      writeFileSync(join(folder, "notes.log"), "left out");
      writeFileSync(handler, readFileSync(handler, "utf8").replace("Hello", "Goodbye"));
      // What .dockerignore leaves out is no change: it stands not in the message.
      await dev.until(/^handler\.py changed: release 2$/m);
      await expect.poll(ask, { timeout: 20_000 }).toBe("Goodbye, Ada!");

      writeFileSync(handler, "import nothing_of_that_name\n");
      await dev.until(/ModuleNotFoundError/);
      await dev.until(/does not start/);

      dev.child.kill("SIGINT");
      expect(await dev.ended).toBe(130);
      expect((await rpx("context", "list", "--json")).stdout).not.toContain("dev:hello");
      await expectNothingLeft();
    },
    LIMIT_MS,
  );

  test(
    "a daemon that is killed ends it with the reason; the next start ends what was left",
    async () => {
      const dev = startDev(example("hello"));
      await dev.until(/Starting Serverless Worker/);
      const [folder = ""] = readdirSync(join(home, "data/rpx/dev"));
      const supervisor = Number(readFileSync(join(home, "data/rpx/dev", folder, "supervisor.pid"), "utf8"));
      process.kill(supervisor, "SIGKILL");
      expect(await dev.ended).toBe(9);
      await dev.until(/the daemon of rpx dev ended \(SIGKILL\)/);
      expect((await rpx("context", "list", "--json")).stdout).not.toContain("dev:hello");
      expect((await rpx("dev", example("hello"), "--input", '{"name":"Ada"}')).stdout).toBe(
        '"Hello, Ada!"\n',
      );
      await expectNothingLeft();
    },
    LIMIT_MS,
  );

  test(
    "--exec: the environment of clients, and the command's exit code",
    async () => {
      const ask = `curl -sf -X POST "$RUNPOD_ENDPOINT_BASE_URL/$RPX_ENDPOINT/runsync" -H "Authorization: Bearer $RUNPOD_API_KEY" -d '{"input":{"name":"Eve"}}'`;
      const ended = await rpx(
        "dev",
        example("hello"),
        "--exec",
        `${ask}; test "$RPX_URL/v2" = "$RUNPOD_ENDPOINT_BASE_URL" && exit 42`,
      );
      expect(ended.code).toBe(42);
      expect(ended.stdout).toContain("Hello, Eve!");
      await expectNothingLeft();
    },
    LIMIT_MS,
  );
});
