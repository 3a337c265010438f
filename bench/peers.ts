/** What the peers need: Debian's packages through apt-get, npm's into a folder of the bench's own. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { freePort, type Running, start, temporaryFolder } from "./processes.ts";

/** Kept between runs, not committed. */
const CACHE = join(import.meta.dirname, "../.cache/bench");
const NPM_PACKAGES = { bullmq: "6.7.0", ioredis: "6.0.0", undici: "8.13.1" } as const;
/** Debian's interpreter: the one that sees Debian's packages. */
export const PYTHON = "/usr/bin/python3";

/** Finds programs (by name, with their Debian packages), installing what is missing. Null, or why there is no measuring. */
export async function needPrograms(packages: Readonly<Record<string, string>>): Promise<string | null> {
  const missing = Object.entries(packages).flatMap(([program, name]) => (isOnPath(program) ? [] : [name]));
  return installDebian(missing);
}

/** As {@link needPrograms}, for modules of Debian's Python. */
export async function needPythonModules(packages: Readonly<Record<string, string>>): Promise<string | null> {
  const missing = Object.entries(packages).flatMap(([module, name]) =>
    spawnSync(PYTHON, ["-c", `import ${module}`]).status === 0 ? [] : [name],
  );
  return installDebian(missing);
}

function isOnPath(program: string): boolean {
  return (process.env.PATH ?? "").split(delimiter).some((folder) => existsSync(join(folder, program)));
}

function installDebian(packages: readonly string[]): string | null {
  if (packages.length === 0) return null;
  const list = packages.join(" ");
  if (process.getuid?.() !== 0 || !isOnPath("apt-get")) return `install ${list} (Debian) first`;
  process.stderr.write(`bench: installing ${list}\n`);
  const env = { ...process.env, DEBIAN_FRONTEND: "noninteractive" };
  spawnSync("apt-get", ["update", "-qq"], { env });
  const { status, stderr } = spawnSync("apt-get", ["install", "-y", "-qq", ...packages], {
    env,
    encoding: "utf8",
  });
  return status === 0 ? null : `apt-get could not install ${list}: ${stderr.trim().split("\n").at(-1)}`;
}

/** Installs the npm packages of the peers beside nothing of ours. Null, or why it did not work. */
export async function needNpmPeers(): Promise<string | null> {
  if (Object.keys(NPM_PACKAGES).every((name) => existsSync(join(CACHE, "node_modules", name)))) return null;
  mkdirSync(CACHE, { recursive: true });
  writeFileSync(join(CACHE, "package.json"), '{"private":true,"type":"module"}\n');
  process.stderr.write(`bench: installing ${Object.keys(NPM_PACKAGES).join(", ")}\n`);
  const names = Object.entries(NPM_PACKAGES).map(([name, version]) => `${name}@${version}`);
  const { status, stderr } = spawnSync("npm", ["install", "--no-audit", "--no-fund", ...names], {
    cwd: CACHE,
    encoding: "utf8",
  });
  return status === 0
    ? null
    : `npm could not install ${names.join(", ")}: ${stderr.trim().split("\n").at(-1)}`;
}

/** Where a program of a peer has to be started so that it finds its packages. */
export const PEER_MODULES = join(CACHE, "node_modules");

export type Redis = { readonly port: number; stop(): Promise<void> };

/** Redis on a free loopback port, in a folder of its own. `isDurable`: every write is synced before it is answered. */
export async function startRedis(isDurable: boolean): Promise<Redis> {
  const folder = temporaryFolder();
  const port = await freePort();
  const persistence = isDurable ? ["--appendonly", "yes", "--appendfsync", "always"] : ["--appendonly", "no"];
  const options = ["--bind", "127.0.0.1", "--port", String(port), "--dir", folder.path, "--save", ""];
  const server: Running = await start("redis-server", [...options, ...persistence, "--daemonize", "no"], {
    ready: /Ready to accept connections/,
  });
  return {
    port,
    stop: async () => {
      await server.stop();
      folder.remove();
    },
  };
}
