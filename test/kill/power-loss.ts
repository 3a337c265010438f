/**
 * Power loss (F-10): images of the data directory's disk, taken while jobs are accepted and finished, and whether what
 * clients had been told by then is in them.
 */
import { copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { eventually, startRealDaemon } from "../support/real-daemon.ts";
import { copyImage, makeDisk, mountDisk, unmountDisk } from "./disk.ts";
import { type Findings, runScript } from "./script.ts";
import { startWorld, type World } from "./world.ts";

/** What clients and the webhook receiver had been told before an image was taken. */
type Told = {
  readonly ids: readonly string[];
  /** Of jobs that were seen COMPLETED; without an output where only the webhook told. */
  readonly outputs: ReadonlyMap<string, string | null>;
};

export type ImageCheck = {
  readonly accepted: number;
  readonly finished: number;
  /** SQLite's word on the database as it lies in the image. */
  readonly integrity: string;
  readonly lostJobs: readonly string[];
  readonly lostResults: readonly string[];
};

export type PowerLossOptions = {
  readonly images: number;
  /** Runs each transaction without a sync: the images must show it. */
  readonly normal: boolean;
};

/** Acceptances before the n-th image: uneven, so that each is taken at another place of the script. */
const acceptedBefore = (n: number) => 20 + ((13 * n) % 41);
/** Images of one disk: the kernel writes old pages by itself, so that a long run proves less. */
const IMAGES_PER_DISK = 5;
const MOMENT_MS = 60_000;
const STOP_MS = 10_000;

/** Takes images in runs of a few, each on a fresh disk, and checks them when their daemon is gone. */
export async function losePower({ images, normal }: PowerLossOptions): Promise<ImageCheck[]> {
  const checks: ImageCheck[] = [];
  while (checks.length < images) {
    const last = Math.min(checks.length + IMAGES_PER_DISK, images);
    const waits = Array.from({ length: last - checks.length }, (_, at) => acceptedBefore(checks.length + at));
    checks.push(...(await oneDisk(waits, normal)));
  }
  return checks;
}

/** An image after each of these numbers of further acceptances. */
async function oneDisk(waits: readonly number[], normal: boolean): Promise<ImageCheck[]> {
  const folder = mkdtempSync(join(tmpdir(), "rpx-power-"));
  const mounted = join(folder, "disk");
  try {
    makeDisk(join(folder, "image"), mounted);
    const told = await takeImages(folder, waits, normal);
    unmountDisk(mounted);
    const checks: ImageCheck[] = [];
    for (const [at, each] of told.entries())
      checks.push(await checkImage(copyPath(folder, at), mounted, each));
    return checks;
  } finally {
    unmountDisk(mounted);
    rmSync(folder, { recursive: true, force: true });
  }
}

async function takeImages(folder: string, waits: readonly number[], normal: boolean): Promise<Told[]> {
  const world = await startWorld({ dataDir: join(folder, "disk", "data"), normal });
  const over = new AbortController();
  const scripts = runScripts(world, over.signal);
  try {
    const told: Told[] = [];
    for (const [at, wait] of waits.entries()) {
      await eventually(acceptedMore(world, wait), MOMENT_MS, `${wait} more jobs accepted`, 1);
      told.push(await takeImage(world, join(folder, "image"), copyPath(folder, at)));
    }
    over.abort();
    const [bad] = (await scripts).flatMap(({ lost, doubled }) => [...lost, ...doubled]);
    if (bad !== undefined) throw new Error(`before any power was lost: ${bad}`);
    return told;
  } finally {
    over.abort();
    await scripts.catch(() => {});
    await world.close();
  }
}

function copyPath(folder: string, at: number): string {
  return join(folder, `copy-${at}`);
}

async function runScripts(world: World, signal: AbortSignal): Promise<Findings[]> {
  const findings: Findings[] = [];
  while (!signal.aborted) findings.push(await runScript(world));
  return findings;
}

function acceptedMore({ ledger }: World, count: number): () => Promise<boolean> {
  const wanted = ledger.ids.size + count;
  return async () => ledger.ids.size >= wanted;
}

/** The daemon stands still for the copy; whatever it had answered by then must be in it. */
async function takeImage(world: World, image: string, copy: string): Promise<Told> {
  const pid = await world.daemon.childPid();
  process.kill(pid, "SIGSTOP");
  try {
    await eventually(async () => isStopped(pid), STOP_MS, "the daemon stands still", 1);
    const told = whatWasTold(world);
    copyImage(image, copy);
    return told;
  } finally {
    process.kill(pid, "SIGCONT");
  }
}

/** All threads: one may have been in the middle of a write. */
function isStopped(pid: number): boolean {
  return readdirSync(`/proc/${pid}/task`).every((thread) => {
    const stat = readFileSync(`/proc/${pid}/task/${thread}/stat`, "utf8");
    return stat.charAt(stat.lastIndexOf(")") + 2) === "T";
  });
}

function whatWasTold({ ledger, receiver }: World): Told {
  const ids = [...ledger.ids.values()].flatMap((each) => [...each]);
  const outputs = new Map<string, string | null>();
  for (const id of ids) if (receiver.about(id).size > 0) outputs.set(id, null);
  for (const [id, [output]] of ledger.outputs) outputs.set(id, output ?? null);
  return { ids, outputs };
}

async function checkImage(image: string, folder: string, told: Told): Promise<ImageCheck> {
  mountDisk(image, folder);
  try {
    const dataDir = join(folder, "data");
    const integrity = integrityOf(dataDir);
    const losses = await missingFrom(dataDir, told);
    return { accepted: told.ids.length, finished: told.outputs.size, integrity, ...losses };
  } finally {
    unmountDisk(folder);
    rmSync(image);
  }
}

/** On a copy of the files: to open a database is to move its log into it. */
function integrityOf(dataDir: string): string {
  const folder = mkdtempSync(join(tmpdir(), "rpx-integrity-"));
  try {
    for (const name of ["rpx.db", "rpx.db-wal"])
      if (existsSync(join(dataDir, name))) copyFileSync(join(dataDir, name), join(folder, name));
    const db = new DatabaseSync(join(folder, "rpx.db"));
    const answer = db.prepare("PRAGMA integrity_check").get();
    db.close();
    return String(Object.values(answer ?? {})[0]);
  } catch (error) {
    return String(error);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Asks a daemon that starts on the image. */
async function missingFrom(dataDir: string, { ids, outputs }: Told) {
  const daemon = await startRealDaemon({ dataDir, config: { graceMs: 0 } });
  const lostJobs: string[] = [];
  const lostResults: string[] = [];
  try {
    for (const id of ids) {
      const reply = await daemon.call("GET", `/api/jobs/${id}`);
      if (reply.status !== 200) lostJobs.push(id);
      const job = reply.status === 200 ? reply.json<{ status: string; output?: unknown }>() : null;
      const output = outputs.get(id);
      if (output === undefined) continue;
      const isKept =
        job?.status === "COMPLETED" && (output === null || JSON.stringify(job.output) === output);
      if (!isKept) lostResults.push(id);
    }
    return { lostJobs, lostResults };
  } finally {
    await daemon.stop();
  }
}
