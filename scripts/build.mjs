// Builds dist/ and the oclif manifest. Plain JavaScript: npm may start it under a Node older than ours, and then it starts itself
// again under the one of this checkout.
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { dirname, join, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const source = join(root, "src");
const dist = join(root, "dist");
/** Built here and then renamed: commands that run meanwhile keep a whole dist/. */
const next = join(root, "node_modules", `.rpx-build-${process.pid}`);
const last = join(root, "node_modules", `.rpx-last-${process.pid}`);
const ownNode = join(root, "node_modules", "node", "bin", "node");

function isNewEnough() {
  const [major, minor] = process.versions.node.split(".").map(Number);
  return major > 24 || (major === 24 && minor >= 15);
}

/** Ends the process with a message in three lines. */
function fail(what, why, next) {
  process.stderr.write(`Error: ${what}\nwhy: ${why}\ntry: ${next}\n`);
  process.exit(1);
}

function compile() {
  const compiler = join(root, "node_modules", "typescript", "bin", "tsc");
  const options = ["-p", join(root, "tsconfig.build.json"), "--outDir", next];
  const { status } = spawnSync(process.execPath, [compiler, ...options], { stdio: "inherit" });
  if (status === 0) return;
  rmSync(next, { recursive: true, force: true });
  fail("rpx was not built", "the compiler found errors", "npm run typecheck");
}

/** What the compiler leaves out: SQL is read at run time, pages are served as they are. */
function copyOthers() {
  for (const path of readdirSync(source, { recursive: true })) {
    if (!path.endsWith(".sql")) continue;
    mkdirSync(dirname(join(next, path)), { recursive: true });
    copyFileSync(join(source, path), join(next, path));
  }
  const web = join(source, "web");
  if (!existsSync(web)) return;
  cpSync(web, join(next, "web"), { recursive: true, filter: (path) => !relative(web, path).endsWith(".ts") });
}

/** The manifest lets a command start without loading the others; oclif's own loader writes it, no further package. */
async function writeManifest() {
  const { Plugin, settings } = await import("@oclif/core");
  settings.enableAutoTranspile = false;
  const { packageWithTopics } = await import(pathToFileURL(join(dist, "cli", "topics.js")).href);
  const plugin = new Plugin({
    root,
    type: "core",
    isRoot: true,
    pjson: packageWithTopics(root),
    ignoreManifest: true,
    errorOnManifestCreate: true,
    respectNoCacheDefault: true,
  });
  await plugin.load();
  writeFileSync(join(root, "oclif.manifest.json"), `${JSON.stringify(plugin.manifest, null, 2)}\n`);
}

async function build() {
  compile();
  copyOthers();
  if (existsSync(dist)) renameSync(dist, last);
  renameSync(next, dist);
  rmSync(last, { recursive: true, force: true });
  await writeManifest();
  chmodSync(join(root, "bin", "run.js"), 0o755);
}

if (isNewEnough()) await build();
else if (process.env.RPX_NODE_REPLACED !== "1" && existsSync(ownNode)) {
  const env = { ...process.env, RPX_NODE_REPLACED: "1" };
  const { status } = spawnSync(ownNode, [fileURLToPath(import.meta.url)], { stdio: "inherit", env });
  process.exit(status ?? 1);
} else {
  fail(
    "rpx was not built",
    `this is Node ${process.version}, and the package "node" did not bring its own`,
    "npm rebuild node --ignore-scripts=false --foreground-scripts, or install Node 24.15 or newer",
  );
}
