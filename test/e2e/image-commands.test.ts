/** `rpx image` and `rpx registry` against a real daemon, a real engine and a real registry. */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { z } from "zod";
import { statusSchema } from "../../src/contract/schemas/daemon.ts";
import { endpointSchema } from "../../src/contract/schemas/endpoint.ts";
import {
  builtImageSchema,
  imageSchema,
  prunedSchema,
  pulledImageSchema,
} from "../../src/contract/schemas/image.ts";
import { registrySchema } from "../../src/contract/schemas/registry.ts";
import { packFolder } from "../../src/project/pack.ts";
import { createSandbox, type Sandbox } from "../commands/support/rpx.ts";
import {
  dockerCommand,
  ensureImages,
  findEngine,
  NODE_IMAGE,
  PYTHON_IMAGE,
  skipAloud,
} from "../support/engine/engine.ts";
import { type RealDaemon, startRealDaemon } from "../support/real-daemon.ts";
import { registryMissing, startRegistry, type TestRegistry } from "../support/registry.ts";

const PASSWORD = "canary-of-a-password-7c1f";
const SLOW_MS = 180_000;
/** As service/artifact-sweep.ts has it. */
const KEPT_RELEASES = 5;

function skipped(): boolean {
  const missing = registryMissing();
  if (missing !== null && process.env.CI === "true") throw new Error(missing);
  if (missing !== null) process.stderr.write(`skipped, registry: ${missing}\n`);
  return skipAloud(findEngine()) || missing !== null;
}

describe.skipIf(skipped())("images by commands", { timeout: SLOW_MS }, () => {
  let daemon: RealDaemon;
  let registry: TestRegistry;
  let sandbox: Sandbox;
  let folder: string;
  let daemonId: string;

  beforeAll(async () => {
    ensureImages([PYTHON_IMAGE, NODE_IMAGE]);
    registry = await startRegistry({ username: "ada", password: PASSWORD });
    daemon = await startRealDaemon({ config: { pool: "auto" } });
    sandbox = createSandbox();
    daemonId = readFileSync(join(daemon.dataDir, "id"), "utf8").trim();
    folder = mkdtempSync(join(tmpdir(), "rpx-image-commands-"));
    put({ Dockerfile: 'FROM scratch\nCOPY text /\nCMD ["x"]\n', text: "one" });
  }, 600_000);
  afterAll(async () => {
    await daemon?.stop();
    await registry?.stop();
    sandbox?.remove();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
    if (daemonId === undefined) return;
    const ids = dockerCommand("images", "-q", "--no-trunc", `--filter=label=rpx.daemon=${daemonId}`);
    const ours = [...new Set(ids.split("\n").filter((id) => id !== ""))];
    if (ours.length > 0) dockerCommand("rmi", "-f", ...ours);
    const networks = dockerCommand("network", "ls", "-q", `--filter=name=rpx-${daemonId}`);
    if (networks !== "") dockerCommand("network", "rm", networks);
  });

  function put(files: Record<string, string>): void {
    for (const [name, text] of Object.entries(files)) {
      mkdirSync(dirname(join(folder, name)), { recursive: true });
      writeFileSync(join(folder, name), text);
    }
  }

  const rpx = async (args: readonly string[], stdin = "") => {
    const env = { RPX_URL: daemon.url, RPX_API_KEY: daemon.key };
    return sandbox.rpx(args, { env, stdin });
  };
  /** The answer of a command that succeeds, as its schema has it. */
  async function json<S extends z.ZodType>(
    schema: S,
    args: readonly string[],
    stdin?: string,
  ): Promise<z.infer<S> & { readonly stderr: string }> {
    const { code, stdout, stderr } = await rpx([...args, "--json"], stdin);
    if (code !== 0) throw new Error(`exit ${code}: ${stdout}${stderr}`);
    return Object.assign(schema.parse(JSON.parse(stdout)) as object, { stderr }) as never;
  }

  test("a login is stored from standard input, and its password is nowhere", async () => {
    const added = await rpx(
      ["registry", "add", "mine", "--server", registry.host, "--username", "ada"],
      `${PASSWORD}\n`,
    );
    expect(added).toMatchObject({ code: 0, stdout: `registry login mine (${registry.host}) is stored\n` });
    const [listed] = await json(z.array(registrySchema), ["registry", "list"]);
    expect(listed).toMatchObject({ name: "mine", server: registry.host, username: "ada", endpoints: [] });
    const files = readdirSync(daemon.dataDir, { withFileTypes: true }).filter((entry) => entry.isFile());
    for (const { name } of files) {
      expect(readFileSync(join(daemon.dataDir, name)).includes(PASSWORD)).toBe(false);
    }
    expect(daemon.stderr()).not.toContain(PASSWORD);
  });

  test("build and push: steps on stderr, the digest that the registry has; unchanged is not built again", async () => {
    const tag = `${registry.host}/app:1`;
    const built = await json(builtImageSchema, ["image", "build", folder, "--tag", tag, "--push"]);
    expect(built).toMatchObject({ reference: tag, warnings: [] });
    expect(built.pushed).toBe(`${registry.host}/app@${await registry.digestOf("app", "1")}`);
    expect(built.stderr).toMatch(/^step 1\/1: COPY text \//m);
    const again = await json(builtImageSchema, ["image", "build", folder, "--tag", tag]);
    expect([again.id, again.pushed]).toEqual([built.id, null]);
    expect(again.stderr).toContain("unchanged since it was built: nothing to build\n");
  });

  test("a build that fails: what the builder said last, exit 2", async () => {
    put({ Dockerfile: "FROM scratch\nCOPY nothing /\n" });
    const { code, stderr } = await rpx(["image", "build", folder]);
    put({ Dockerfile: 'FROM scratch\nCOPY text /\nCMD ["x"]\n' });
    expect(code).toBe(2);
    expect(stderr).toMatch(/Error: the image could not be built\nwhy: .*nothing.*\ntry: /s);
  });

  test("pull: pinned, with the login of its registry", async () => {
    const reference = `${registry.host}/app:1`;
    dockerCommand("rmi", reference);
    const pulled = await json(pulledImageSchema, ["image", "pull", reference]);
    expect(pulled.image).toBe(`${registry.host}/app@${await registry.digestOf("app", "1")}`);
    const { code, stderr } = await rpx(["image", "pull", `${registry.host}/nothing:1`]);
    expect([code, stderr]).toEqual([expect.any(Number), expect.stringContaining("Error: cannot pull")]);
    expect(code).not.toBe(0);
    dockerCommand("rmi", reference);
  });

  test("prune keeps the last releases and the user's own, and removes the others", async () => {
    const deployed: string[] = [];
    for (let release = 1; release <= KEPT_RELEASES + 2; release += 1) {
      put({ text: `release ${release}` });
      deployed.push(await deploy());
    }
    dockerCommand("tag", PYTHON_IMAGE, `rpx-test/own:${process.pid}`);
    const dry = await json(prunedSchema, ["image", "prune", "--dry-run"]);
    const refused = await rpx(["image", "prune"]);
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining("--yes")]);
    expect(present()).toHaveLength(KEPT_RELEASES + 2);
    // Bundles that were sent within the hour stay: somebody may be about to use them.
    expect(dry.removed.map(({ kind }) => kind)).toEqual(["image", "image"]);
    const images = dry.removed.filter(({ kind }) => kind === "image").map(({ id }) => id);
    expect(images.toSorted()).toEqual(deployed.slice(0, 2).toSorted());
    expect(dry).toMatchObject({ dryRun: true, kept: [], problems: [] });
    const pruned = await json(prunedSchema, ["image", "prune", "--yes"]);
    expect(pruned.removed.map(({ id }) => id).toSorted()).toEqual(dry.removed.map(({ id }) => id).toSorted());
    expect(present().toSorted()).toEqual(deployed.slice(2).toSorted());
    expect(dockerCommand("images", "-q", `rpx-test/own:${process.pid}`)).not.toBe("");
    dockerCommand("rmi", `rpx-test/own:${process.pid}`);
    const again = await rpx(["image", "prune"]);
    expect(again).toMatchObject({ code: 0, stdout: "nothing to remove\n" });
  });

  /** Images of releases that the engine has. */
  const present = () =>
    dockerCommand(
      "images",
      "-q",
      "--no-trunc",
      `--filter=label=rpx.daemon=${daemonId}`,
      "--filter=label=rpx.endpoint",
    )
      .split("\n")
      .filter((id) => id !== "");

  test.each([
    ["hello", "handler.py"],
    ["node", "handler.mjs"],
  ])("examples/%s runs in a container from its generated image", async (example, handler) => {
    const source = {
      kind: "bundle",
      digest: await send(join(import.meta.dirname, "../../examples", example)),
    };
    const body = { name: `in-a-container-${example}`, config: {}, pool: "docker", source, handler };
    const made = await daemon.call("POST", "/api/endpoints", body);
    expect([made.status, made.text]).toEqual([200, expect.stringContaining("rpx/")]);
    const { id } = endpointSchema.parse(made.json());
    const ran = await daemon.call("POST", `/v2/${id}/runsync?wait=60000`, { input: { name: "Ada" } });
    expect(ran.json()).toMatchObject({ status: "COMPLETED", output: expect.stringContaining("Ada") });
    expect((await daemon.call("DELETE", `/api/endpoints/${id}`)).status).toBe(200);
    const running = () => dockerCommand("ps", "-q", `--filter=label=rpx.endpoint=${id}`) !== "";
    await vi.waitUntil(() => !running(), { timeout: 30_000, interval: 200 });
  });

  /** Sends a folder as a bundle; returns its digest. */
  async function send(path: string): Promise<string> {
    const packed = await packFolder(path);
    const reply = await fetch(`${daemon.url}/api/bundles/${packed.digest}`, {
      method: "PUT",
      headers: { authorization: `Bearer ${daemon.key}`, "content-length": String(packed.bytes) },
      body: new Uint8Array(await new Response(packed.open() as never).arrayBuffer()),
    });
    expect(reply.status).toBe(200);
    await packed.dispose();
    return packed.digest;
  }

  /** Sends the folder and makes it the next release of an endpoint; returns the image's id. */
  async function deploy(): Promise<string> {
    const source = { kind: "bundle", digest: await send(folder) };
    const known = (await daemon.call("GET", "/api/endpoints/shrinking")).status === 200;
    const made = known
      ? await daemon.call("PATCH", "/api/endpoints/shrinking", { code: { source }, rollout: "at_once" })
      : await daemon.call("POST", "/api/endpoints", {
          name: "shrinking",
          config: {},
          pool: "docker",
          source,
        });
    const { release } = endpointSchema.parse(made.json());
    const [image] = (await json(z.array(imageSchema), ["image", "list"])).filter(({ releases }) =>
      releases.some(({ version, live }) => live && version === release),
    );
    return image?.id ?? "";
  }

  test("status and doctor say where the disk goes", async () => {
    const { disk } = await json(statusSchema, ["status"]);
    const sizes = new Map(disk.usage.map(({ kind, bytes }) => [kind, bytes]));
    expect([...sizes.keys()]).toEqual(["database", "bundle", "environment", "image", "logs", "build cache"]);
    expect(sizes.get("database")).toBeGreaterThan(0);
    expect(sizes.get("bundle")).toBeGreaterThan(0);
    const { stdout } = await rpx(["doctor"]);
    expect(stdout).toMatch(/^disk +ok +database .*, bundles .*, environments .*, images .*, build cache /m);
  });

  test("a login that is in use is kept unless forced", async () => {
    const source = { kind: "image", reference: `${registry.host}/app:1` };
    const body = { name: "private", config: { image: { registry: "mine" } }, pool: "docker", source };
    expect((await daemon.call("POST", "/api/endpoints", body)).status).toBe(200);
    const kept = await rpx(["registry", "remove", "mine", "--yes"]);
    expect([kept.code, kept.stderr]).toEqual([6, expect.stringContaining("by private")]);
    const removed = await rpx(["registry", "remove", "mine", "--yes", "--force"]);
    expect(removed).toMatchObject({ code: 0 });
    expect((await rpx(["registry", "list"])).stdout).toBe("no registry logins\n");
    dockerCommand("rmi", `${registry.host}/app:1`);
  });
});
