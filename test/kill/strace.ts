/** strace on the main thread of the daemon child: counts its write-class system calls, or kills it in front of one. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * Calls that change what lies on disk or what others are told: pages of the log and the database, syncs, the log's end;
 * replies, webhooks, and messages to the supervisor.
 */
export const WRITE_CALLS = [
  "pwrite64",
  "pwritev",
  "fdatasync",
  "fsync",
  "ftruncate",
  "fallocate",
  "rename",
  "unlink",
  "write",
  "writev",
  "sendmsg",
  "sendto",
] as const;
export type WriteCall = (typeof WRITE_CALLS)[number];

export type Tracer = {
  /** Lets the process go, if it lives; resolves once it is no longer traced. */
  detach(): Promise<void>;
};

const ATTACH_MS = 10_000;

/** Whether strace is there and may trace. */
export function hasStrace(): boolean {
  return spawnSync("strace", ["-o", "/dev/null", "true"]).status === 0;
}

/**
 * Kills the process in front of the n-th call from now. Each traced thread has a counter of its own, so only the main
 * one is attached: SQLite and all sockets are there.
 */
export function killAtCall(pid: number, call: WriteCall, n: number): Promise<Tracer> {
  return attach(pid, [
    "-e",
    `trace=${call}`,
    "-e",
    `inject=${call}:signal=SIGKILL:when=${n}`,
    "-o",
    "/dev/null",
  ]);
}

/** Calls during `work`: of the main thread by name, and of all other threads together. */
export async function countCalls(
  pid: number,
  work: () => Promise<unknown>,
): Promise<{ main: Map<WriteCall, number>; others: Map<WriteCall, number> }> {
  const folder = mkdtempSync(join(tmpdir(), "rpx-strace-"));
  const file = join(folder, "calls");
  try {
    const tracer = await attach(pid, ["-f", "-e", `trace=${WRITE_CALLS.join(",")}`, "-o", file]);
    await work().finally(tracer.detach);
    return tally(readFileSync(file, "utf8"), pid);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Lines are "TID call(...) = result"; one that was interrupted goes on in a line that begins with "<...". */
function tally(text: string, pid: number) {
  const main = new Map<WriteCall, number>();
  const others = new Map<WriteCall, number>();
  for (const [, thread, name] of text.matchAll(/^(\d+) +([a-z0-9]+)\(/gm)) {
    const counts = Number(thread) === pid ? main : others;
    counts.set(name as WriteCall, (counts.get(name as WriteCall) ?? 0) + 1);
  }
  return { main, others };
}

async function attach(pid: number, options: readonly string[]): Promise<Tracer> {
  const strace = spawn("strace", ["-p", String(pid), ...options], { stdio: ["ignore", "ignore", "pipe"] });
  const ended = new Promise<void>((resolve) => strace.once("close", () => resolve()));
  await attached(strace);
  return {
    detach: async () => {
      strace.kill("SIGINT");
      await ended;
    },
  };
}

function attached(strace: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = "";
    const give = (why: string) => {
      clearTimeout(limit);
      strace.kill("SIGINT");
      reject(new Error(`strace ${why}: ${text}`));
    };
    const limit = setTimeout(() => give("did not attach"), ATTACH_MS);
    strace.once("error", reject);
    strace.once("close", () => give("ended"));
    strace.stderr?.on("data", (chunk) => {
      text += chunk;
      if (!/ attached/.test(text)) return;
      clearTimeout(limit);
      resolve();
    });
  });
}
