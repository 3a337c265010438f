import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

/** A real worker process. */
export interface SdkWorker {
  readonly pid: number;
  /** stdout and stderr so far, in the order in which they came. */
  output(): string;
  /** Waits for the end; the exit code, or the signal's name. */
  exit(): Promise<number | NodeJS.Signals | null>;
  signal(name: NodeJS.Signals): void;
  /** Waits until `text` was printed. */
  printed(text: string): Promise<void>;
}

/** Starts processes in folders of their own, and ends what it started. */
export interface SdkWorkers {
  /** A new folder with these files (path to text); returns its path. */
  folder(files: Record<string, string>): Promise<string>;
  start(command: readonly string[], cwd: string, env: Record<string, string>): SdkWorker;
  end(): Promise<void>;
}

/** Variables that would change what a worker does, when the test itself runs under rpx. */
const OWN_ENV = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(RUNPOD_|RPX_|PYTHON|NODE_OPTIONS)/.test(name)),
);

export function createSdkWorkers(): SdkWorkers {
  const running: ChildProcess[] = [];
  const folders: string[] = [];

  async function folder(files: Record<string, string>): Promise<string> {
    const path = await mkdtemp(join(tmpdir(), "rpx-sdk-"));
    folders.push(path);
    for (const [name, text] of Object.entries(files)) {
      await mkdir(dirname(join(path, name)), { recursive: true });
      await writeFile(join(path, name), text);
    }
    return path;
  }

  function start(command: readonly string[], cwd: string, env: Record<string, string>): SdkWorker {
    const [file = "", ...args] = command;
    const child = spawn(file, args, { cwd, env: { ...OWN_ENV, ...env }, stdio: ["ignore", "pipe", "pipe"] });
    running.push(child);
    return watch(child);
  }

  async function end(): Promise<void> {
    await Promise.all(running.splice(0).map(endOne));
    await Promise.all(folders.splice(0).map((path) => rm(path, { recursive: true, force: true })));
  }

  return { folder, start, end };
}

function watch(child: ChildProcess): SdkWorker {
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (part: string) => {
      text += part;
    });
  }
  const closed = once(child, "close").then(
    ([code, signal]) => (code ?? signal) as number | NodeJS.Signals | null,
  );
  return {
    pid: child.pid ?? -1,
    output: () => text,
    exit: () => closed,
    signal: (name) => void child.kill(name),
    async printed(wanted) {
      while (!text.includes(wanted)) {
        const more = once(child.stdout as NodeJS.ReadableStream, "data").then(() => true);
        if (!(await Promise.race([more, closed.then(() => text.includes(wanted))]))) {
          throw new Error(`the worker ended without printing ${wanted}: ${text}`);
        }
      }
    },
  };
}

async function endOne(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, "close");
  child.kill("SIGKILL");
  await closed;
}
