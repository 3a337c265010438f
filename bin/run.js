#!/usr/bin/env node
// Plain JavaScript that an old Node can parse: it has to tell that Node what to do. No `?.`, no top-level await.
import { spawn } from "node:child_process";
import { existsSync, readFileSync, realpathSync } from "node:fs";
import module from "node:module";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

/** The first Node with SQLite 3.51.3 and without a warning about it. */
const OLDEST_NODE = [24, 15];
/** Set on the process that an older Node starts, so that a wrong binary cannot start itself for ever. */
const MARK = "RPX_NODE_REPLACED";
/** Exit code of a refusal that another installation would cure. */
const EXIT_USAGE = 2;
const FORWARDED = ["SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT", "SIGUSR2"];
/** What a terminal itself sends to every process in the foreground. */
const SENT_BY_TERMINAL = ["SIGHUP", "SIGINT", "SIGQUIT"];

const root = dirname(dirname(realpathSync(fileURLToPath(import.meta.url))));

function isNewEnough(version) {
  const parts = version.replace(/^v/, "").split(".").map(Number);
  return parts[0] > OLDEST_NODE[0] || (parts[0] === OLDEST_NODE[0] && parts[1] >= OLDEST_NODE[1]);
}

function printVersion() {
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const platform = `${process.platform}-${process.arch}`;
  process.stdout.write(`${manifest.name}/${manifest.version} ${platform} node-${process.version}\n`);
}

/** The `node` package beside this one or in a parent's node_modules: the path of its binary, or that it was never fetched. */
function findOwnNode() {
  let folder = root;
  let isBlocked = false;
  for (;;) {
    const home = join(folder, "node_modules", "node");
    if (existsSync(join(home, "package.json"))) {
      const binary = join(home, "bin", "node");
      const { version } = JSON.parse(readFileSync(join(home, "package.json"), "utf8"));
      if (existsSync(binary) && isNewEnough(version)) return { binary, isBlocked };
      isBlocked = isBlocked || !existsSync(binary);
    }
    if (dirname(folder) === folder) return { binary: null, isBlocked };
    folder = dirname(folder);
  }
}

function refuse(isBlocked) {
  const install = `install Node ${OLDEST_NODE.join(".")} or newer`;
  const why = isBlocked
    ? `this is Node ${process.version}, and npm was told not to run the install script of the package "node", which fetches a newer one`
    : `this is Node ${process.version}, and no newer one is installed beside rpx`;
  const next = isBlocked
    ? `npm rebuild node --ignore-scripts=false --foreground-scripts (in ${root}), or ${install}`
    : install;
  process.stderr.write(
    `Error: rpx needs Node ${OLDEST_NODE.join(".")} or newer\nwhy: ${why}\ntry: ${next}\n`,
  );
  process.exitCode = EXIT_USAGE;
}

/** Runs the same command line under another Node, handing on signals and the way it ended. */
function replaceBy(binary) {
  const env = Object.assign({}, process.env);
  env[MARK] = "1";
  // On a terminal the child gets these keys itself; handed on they would count twice, and the second Ctrl-C kills.
  const isOnTerminal = Boolean(process.stdin.isTTY);
  let child;
  // Before the child starts: a signal in between would end this process and leave the child alone.
  for (const signal of FORWARDED) {
    process.on(signal, () => {
      if (!isOnTerminal || !SENT_BY_TERMINAL.includes(signal)) child.kill(signal);
    });
  }
  child = spawn(binary, process.execArgv.concat(process.argv.slice(1)), { stdio: "inherit", env });
  child.on("error", (error) => {
    process.stderr.write(`Error: cannot run ${binary}\nwhy: ${error.message}\ntry: npm rebuild node\n`);
    process.exitCode = EXIT_USAGE;
  });
  child.on("exit", (code, signal) => {
    if (signal === null) process.exit(code);
    for (const name of FORWARDED) process.removeAllListeners(name);
    process.kill(process.pid, signal);
  });
}

function start() {
  // A folder of the user's own: code that is run must not come from a temporary folder that others can write.
  const caches = process.env.XDG_CACHE_HOME || join(homedir(), ".cache");
  if (module.enableCompileCache) module.enableCompileCache(join(caches, "rpx", "compile"));
  const main = new URL("../dist/cli/main.js", import.meta.url);
  if (!existsSync(fileURLToPath(main))) {
    process.stderr.write(
      `Error: rpx is not built\nwhy: ${fileURLToPath(main)} is missing\ntry: npm run build (in ${root})\n`,
    );
    process.exitCode = EXIT_USAGE;
    return;
  }
  void import(main.href).then((loaded) => loaded.main({ root, isDevelopment: false }));
}

if (process.argv[2] === "--version" || process.argv[2] === "-v") printVersion();
else if (isNewEnough(process.version)) {
  // A command that this one runs finds its own Node.
  delete process.env[MARK];
  start();
} else {
  const { binary, isBlocked } = findOwnNode();
  if (binary === null || process.env[MARK] === "1") refuse(isBlocked);
  else replaceBy(binary);
}
