/**
 * A real registry on loopback: Debian's `docker-registry`, with or without a login (`htpasswd` of apache2-utils). Engines take plain HTTP
 * from 127.0.0.1.
 */
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

export type TestRegistry = {
  /** Host and port, as references begin with it. */
  readonly host: string;
  /** Digest that it has under a tag; null when it has none. */
  digestOf(repository: string, tag: string): Promise<string | null>;
  stop(): Promise<void>;
};

export type RegistryUser = { readonly username: string; readonly password: string };

const READY_MS = 10_000;

/** Why no registry can be started here; null when one can. */
export function registryMissing(): string | null {
  const missing = ["docker-registry", "htpasswd"].filter(
    (name) => spawnSync("sh", ["-c", `command -v ${name}`]).status !== 0,
  );
  return missing.length === 0
    ? null
    : `there is no ${missing.join(" and no ")} (Debian: docker-registry, apache2-utils)`;
}

export async function startRegistry(user?: RegistryUser): Promise<TestRegistry> {
  const folder = mkdtempSync(join(tmpdir(), "rpx-registry-"));
  const host = `127.0.0.1:${await freePort()}`;
  writeFileSync(join(folder, "config.yml"), configOf(folder, host, user));
  const child = spawn("docker-registry", ["serve", join(folder, "config.yml")], { stdio: "ignore" });
  const authorization =
    user && `Basic ${Buffer.from(`${user.username}:${user.password}`).toString("base64")}`;
  const headers = authorization === undefined ? {} : { authorization };
  try {
    await untilReady(child, `http://${host}/v2/`, headers);
  } catch (error) {
    child.kill("SIGKILL");
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
  return {
    host,
    digestOf: async (repository, tag) => {
      const accept = "application/vnd.docker.distribution.manifest.v2+json";
      const url = `http://${host}/v2/${repository}/manifests/${tag}`;
      const reply = await fetch(url, { method: "HEAD", headers: { ...headers, accept } });
      return reply.ok ? reply.headers.get("docker-content-digest") : null;
    },
    stop: async () => {
      const ended = new Promise((resolve) => child.once("exit", resolve));
      child.kill("SIGTERM");
      await ended;
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

function configOf(folder: string, host: string, user?: RegistryUser): string {
  const auth = { htpasswd: { realm: "rpx test", path: join(folder, "htpasswd") } };
  if (user) {
    const line = execFileSync("htpasswd", ["-niB", user.username], {
      input: user.password,
      encoding: "utf8",
    });
    writeFileSync(join(folder, "htpasswd"), line);
  }
  // YAML reads JSON.
  return JSON.stringify({
    version: 0.1,
    storage: { filesystem: { rootdirectory: join(folder, "data") }, delete: { enabled: true } },
    http: { addr: host },
    ...(user && { auth }),
  });
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const address = server.address();
      server.close(() => resolve(typeof address === "object" && address !== null ? address.port : 0));
    });
  });
}

async function untilReady(child: ChildProcess, url: string, headers: Record<string, string>): Promise<void> {
  const deadline = performance.now() + READY_MS;
  while (performance.now() < deadline) {
    const status = await fetch(url, { headers }).then(
      (reply) => reply.status,
      () => null,
    );
    if (status === 200) return;
    if (child.exitCode !== null) throw new Error(`docker-registry ended with ${child.exitCode}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`docker-registry was not ready within ${READY_MS} ms`);
}
