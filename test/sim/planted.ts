/**
 * The test of the test: bugs that are planted into a copy of the sources, one at a time. The simulator has to find each.
 * `npm run sim:planted` prints the table; `npm run sim:planted -- NAME` one of them.
 */
import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";

const ROOT = join(import.meta.dirname, "../..");
const PATCHES = join(import.meta.dirname, "planted");
/** What a simulation needs of the repository. */
const PARTS = ["src", "test/sim", "package.json"] as const;
/** Seeds within which each bug has to be found. */
export const MOST_SEEDS = 500;
const RUN_LIMIT_MS = 300_000;

export type Finding = {
  readonly bug: string;
  /** Null: not found. */
  readonly seed: number | null;
  readonly check: string | null;
  readonly message: string;
};

type Document = {
  readonly failed: readonly {
    readonly seed: number;
    readonly violations: readonly { readonly check: string; readonly message: string }[];
  }[];
};

/** The names of all planted bugs. */
export function plantedBugs(): string[] {
  return readdirSync(PATCHES)
    .filter((name) => name.endsWith(".patch"))
    .map((name) => basename(name, ".patch"))
    .sort();
}

/** Plants a bug into a copy and runs seeds until one fails. Rejects when the patch no longer fits. */
export async function findPlanted(bug: string, threads = availableParallelism()): Promise<Finding> {
  const copy = mkdtempSync(join(tmpdir(), "rpx-planted-"));
  try {
    for (const part of PARTS) cpSync(join(ROOT, part), join(copy, part), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
    await promisify(execFile)("git", ["apply", join(PATCHES, `${bug}.patch`)], { cwd: copy });
    const { failed } = JSON.parse(await simulateIn(copy, threads)) as Document;
    const [first] = failed;
    const [violation] = first?.violations ?? [];
    return {
      bug,
      seed: first?.seed ?? null,
      check: violation?.check ?? null,
      message: violation?.message ?? "",
    };
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/** The JSON document of a run there; exit code 1 says that a seed failed. */
function simulateIn(folder: string, threads: number): Promise<string> {
  const args = [
    "test/sim/main.ts",
    "--json",
    "--until-failure",
    "--seeds",
    `${MOST_SEEDS}`,
    "--threads",
    `${threads}`,
  ];
  return new Promise((resolve, reject) => {
    execFile(
      process.execPath,
      args,
      { cwd: folder, timeout: RUN_LIMIT_MS, maxBuffer: 64_000_000 },
      (error, stdout, stderr) => {
        if (error === null || error.code === 1) resolve(stdout);
        else reject(new Error(`the simulator broke: ${error.message}\n${stderr}`));
      },
    );
  });
}

async function main(names: readonly string[]): Promise<void> {
  console.log("| Bug | found by seed | through | what it saw |\n| --- | --- | --- | --- |");
  for (const bug of names.length > 0 ? names : plantedBugs()) {
    const { seed, check, message } = await findPlanted(bug);
    console.log(
      `| ${bug} | ${seed ?? "not found"} | ${check ?? "-"} | ${message.split("\n")[0]?.slice(0, 120)} |`,
    );
    if (seed === null) process.exitCode = 1;
  }
}

if (import.meta.main) await main(process.argv.slice(2));
