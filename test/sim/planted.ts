/**
 * The test of the test: bugs that are planted into a copy of the sources, one at a time. The simulator has to find each.
 * In `planted/` are bugs of the kind that everybody makes, in `found/` those that the simulator has found in rpx: their fixes undone.
 * `seeds.json` is the list of the seeds that find them. A bug of `found/` that today's worlds do not reach has none: its patch is kept
 * fitting, and docs/adr/0014-simulator.md names the test that guards it.
 *
 * `npm run sim:planted` prints the table; with NAMEs only those; with --record it writes their seeds into the list.
 */
import { execFile } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { promisify } from "node:util";

const ROOT = join(import.meta.dirname, "../..");
const FOLDERS = ["planted", "found"] as const;
const SEEDS = join(import.meta.dirname, "seeds.json");
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

/** All bugs, as `folder/name`. */
export function plantedBugs(): string[] {
  return FOLDERS.flatMap((folder) =>
    readdirSync(join(import.meta.dirname, folder))
      .filter((name) => name.endsWith(".patch"))
      .map((name) => `${folder}/${basename(name, ".patch")}`)
      .sort(),
  );
}

/** Of the kind that everybody makes: it has to be found. */
export function isUsual(bug: string): boolean {
  return bug.startsWith("planted/");
}

/** The seed that is known to find each bug. */
export function knownSeeds(): Readonly<Record<string, number>> {
  return JSON.parse(readFileSync(SEEDS, "utf8"));
}

export type PlantedOptions = { readonly threads?: number; readonly from?: number; readonly seeds?: number };

/** Plants a bug into a copy and runs seeds until one fails. Rejects when the patch no longer fits. */
export function findPlanted(bug: string, options: PlantedOptions = {}): Promise<Finding> {
  return withPlanted(bug, async (copy) => {
    const { failed } = JSON.parse(await simulateIn(copy, options)) as Document;
    const [first] = failed;
    const [violation] = first?.violations ?? [];
    return {
      bug,
      seed: first?.seed ?? null,
      check: violation?.check ?? null,
      message: violation?.message ?? "",
    };
  });
}

/** Its own seed finds it at once; where the world has changed since, the others may. */
export async function findAgain(bug: string): Promise<Finding> {
  const from = knownSeeds()[bug];
  const known = from === undefined ? null : await findPlanted(bug, { from, seeds: 1 });
  return known === null || known.seed === null ? findPlanted(bug) : known;
}

/** Plants a bug into a copy of the sources; rejects when its patch no longer fits. */
export async function withPlanted<T>(bug: string, use: (copy: string) => Promise<T>): Promise<T> {
  const copy = mkdtempSync(join(tmpdir(), "rpx-planted-"));
  try {
    for (const part of PARTS) cpSync(join(ROOT, part), join(copy, part), { recursive: true });
    symlinkSync(join(ROOT, "node_modules"), join(copy, "node_modules"));
    const patch = join(import.meta.dirname, `${bug}.patch`);
    await promisify(execFile)("git", ["apply", patch], { cwd: copy });
    return await use(copy);
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

/** The JSON document of a run there; exit code 1 says that a seed failed. */
function simulateIn(
  folder: string,
  { threads = availableParallelism(), from = 1, seeds = MOST_SEEDS }: PlantedOptions,
): Promise<string> {
  const numbers = ["--from", `${from}`, "--seeds", `${seeds}`, "--threads", `${threads}`];
  const args = ["test/sim/main.ts", "--json", "--until-failure", ...numbers];
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

async function main(args: readonly string[]): Promise<void> {
  const names = args.filter((arg) => !arg.startsWith("--"));
  const seeds = new Map(Object.entries(knownSeeds()));
  console.log("| Bug | found by seed | through | what it saw |\n| --- | --- | --- | --- |");
  for (const bug of plantedBugs().filter((each) => names.length === 0 || names.includes(basename(each)))) {
    const { seed, check, message } = await findAgain(bug);
    console.log(
      `| ${bug} | ${seed ?? "not found"} | ${check ?? "-"} | ${message.split("\n")[0]?.slice(0, 120)} |`,
    );
    if (seed !== null) seeds.set(bug, seed);
    else if (isUsual(bug)) process.exitCode = 1;
    else seeds.delete(bug);
  }
  if (args.includes("--record")) record(seeds);
}

function record(seeds: ReadonlyMap<string, number>): void {
  const list = plantedBugs().flatMap((bug) => (seeds.has(bug) ? [[bug, seeds.get(bug)]] : []));
  writeFileSync(SEEDS, `${JSON.stringify(Object.fromEntries(list), null, 2)}\n`);
}

if (import.meta.main) await main(process.argv.slice(2));
