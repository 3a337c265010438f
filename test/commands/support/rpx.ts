import { type ChildProcessWithoutNullStreams, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";

/** The built command line. */
export const BIN = fileURLToPath(new URL("../../../bin/run.js", import.meta.url));

/** How a command ended: what it printed apart, and its exit code (null: a signal ended it). */
export type Ended = { readonly code: number | null; readonly stdout: string; readonly stderr: string };

/** A command that runs. `said` resolves once its stderr holds a text, and rejects when it ends without. */
export type Running = {
  readonly child: ChildProcessWithoutNullStreams;
  readonly ended: Promise<Ended>;
  readonly said: (part: string) => Promise<void>;
};

/** A user of their own: home, data and settings in a folder that is gone after `remove`. */
export type Sandbox = {
  readonly folder: string;
  readonly env: NodeJS.ProcessEnv;
  /** The bare process, for what {@link Running} would get in the way of. */
  readonly spawn: (args: readonly string[], env?: NodeJS.ProcessEnv) => ChildProcessWithoutNullStreams;
  readonly start: (args: readonly string[], env?: NodeJS.ProcessEnv) => Running;
  readonly rpx: (
    args: readonly string[],
    options?: { stdin?: string; env?: NodeJS.ProcessEnv },
  ) => Promise<Ended>;
  readonly remove: () => void;
};

/** Makes a {@link Sandbox}. Nothing of the environment that could name a daemon or a key gets into it. */
export function createSandbox(): Sandbox {
  if (!existsSync(join(BIN, "../../dist/cli/main.js")))
    throw new Error("run npm run build first: these tests run dist/");
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "rpx-commands-")));
  const own = Object.entries(process.env).filter(
    ([name]) => !/^(RPX_|RUNPOD_|XDG_|DEBUG$|CI$|NODE_ENV$|VITEST)/.test(name),
  );
  // Whether this machine has a Docker engine is nothing to what a test sees, unless it asks.
  const env: NodeJS.ProcessEnv = { ...Object.fromEntries(own), HOME: folder, RPX_POOL: "process" };
  for (const kind of ["DATA", "CONFIG", "STATE", "CACHE"]) {
    env[`XDG_${kind}_HOME`] = join(folder, kind.toLowerCase());
    mkdirSync(join(folder, kind.toLowerCase()));
  }
  const spawnRpx = (args: readonly string[], more: NodeJS.ProcessEnv = {}) =>
    spawn(process.execPath, [BIN, ...args], { env: { ...env, ...more }, cwd: folder });
  const start = (args: readonly string[], more?: NodeJS.ProcessEnv): Running => follow(spawnRpx(args, more));
  return {
    folder,
    env,
    spawn: spawnRpx,
    start,
    rpx: (args, { stdin = "", env: more } = {}) => {
      const { child, ended } = start(args, more);
      child.stdin.on("error", () => {}); // a command that reads nothing closes it
      child.stdin.end(stdin);
      return ended;
    },
    remove: () => rmSync(folder, { recursive: true, force: true }),
  };
}

function follow(child: ChildProcessWithoutNullStreams): Running {
  let stderr = "";
  child.stderr.on("data", (part: Buffer) => {
    stderr += part.toString();
  });
  const stdout = text(child.stdout);
  const closed = new Promise<number | null>((resolve) => child.once("close", (code) => resolve(code)));
  return {
    child,
    ended: closed.then(async (code) => ({ code, stdout: await stdout, stderr })),
    said: (part) =>
      new Promise((resolve, reject) => {
        const look = (): void => void (stderr.includes(part) && resolve());
        child.stderr.on("data", look);
        child.once("close", () => reject(new Error(`"${part}" was never said, only: ${stderr}`)));
        look();
      }),
  };
}
