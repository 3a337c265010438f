/** Images as the Docker pool's builder makes them, on a real engine and with a real registry. */
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import type { Engine } from "../../src/runtime/adapters/docker/engine.ts";
import { createImageBuilder } from "../../src/runtime/adapters/docker/image-builder.ts";
import type { BuiltImage, EndpointId, ReleaseSource, ReleaseSpec } from "../../src/runtime/core/model.ts";
import type { RegistryLogin } from "../../src/runtime/ports/images.ts";
import {
  dockerCommand,
  ensureImages,
  findEngine,
  NODE_IMAGE,
  PYTHON_IMAGE,
  skipAloud,
} from "../support/engine/engine.ts";
import { openEngine } from "../support/engine/open.ts";
import { registryMissing, startRegistry, type TestRegistry } from "../support/registry.ts";

const DAEMON = `test-images-${process.pid}`;
const SDK = join(import.meta.dirname, "../../sdk");
const SLOW_MS = 120_000;

let engine: Engine;
let folder = "";
let version = 0;

type Built = BuiltImage & { readonly steps: readonly string[]; readonly percents: readonly number[] };
type Options = {
  readonly spec?: Partial<ReleaseSpec>;
  readonly logins?: readonly RegistryLogin[];
  readonly mountsFolders?: boolean;
  readonly freeBytes?: number | null;
  readonly signal?: AbortSignal;
  readonly endpoint?: string;
};

async function build(source: ReleaseSource, options: Options = {}): Promise<Built> {
  const { logins = [], mountsFolders = true, freeBytes = null, endpoint = "images-test" } = options;
  const builder = createImageBuilder({
    engine,
    daemonId: DAEMON,
    sdkDir: SDK,
    pathOfBundle: () => folder,
    login: (name) => logins.find((each) => each.name === name) ?? fail(name),
    mountsFolders,
    freeBytes: async () => freeBytes,
  });
  version += 1;
  const steps: string[] = [];
  const percents: number[] = [];
  const spec: ReleaseSpec = {
    pool: "docker",
    source,
    handler: "handler.py",
    python: null,
    dockerfile: null,
    image: {},
    hardware: {},
    env: {},
    ...options.spec,
  };
  const built = await builder.build(
    { endpointId: endpoint as EndpointId, version, spec },
    (text, percent) => {
      steps.push(text);
      if (percent !== undefined) percents.push(percent);
    },
    options.signal ?? new AbortController().signal,
  );
  if (built.kind !== "image") throw new Error(`built a ${built.kind}`);
  return { ...built, steps, percents };
}

function fail(name: string): never {
  throw new Error(`no login ${name}`);
}

const bundle = (options?: Options) => build({ kind: "bundle", digest: "0".repeat(64) }, options);
const image = (reference: string, options: Options = {}) =>
  build({ kind: "image", reference }, { ...options, spec: { handler: null, ...options.spec } });

function put(files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text, { mode: 0o600 });
  }
}

/** Runs a container of what was built, as the pool would start it; returns what it printed. */
function run({ image: name, env, mounts }: BuiltImage, ...command: string[]): string {
  return dockerCommand(
    "run",
    "--rm",
    "--network=none",
    `--label=rpx.daemon=${DAEMON}`,
    ...Object.entries(env).flatMap(([key, value]) => ["-e", `${key}=${value}`]),
    ...mounts.flatMap(({ source, target }) => ["-v", `${source}:${target}:ro`]),
    name,
    ...command,
  );
}

/** The text that a published image holds. */
function textOf({ image: name }: BuiltImage): string {
  const container = dockerCommand("create", `--label=rpx.daemon=${DAEMON}`, name, "x");
  try {
    return execFileSync("sh", ["-c", `docker cp ${container}:/text - | tar -xO`], {
      encoding: "utf8",
    }).trim();
  } finally {
    dockerCommand("rm", container);
  }
}

/** A small image whose configuration says that it is for another processor: saved, edited, loaded. */
function loadForArm(name: string): void {
  const work = mkdtempSync(join(tmpdir(), "rpx-arm-"));
  const inside = (...args: string[]) => execFileSync("tar", args, { cwd: work, encoding: "utf8" });
  writeFileSync(
    join(work, "Dockerfile"),
    `FROM scratch\nLABEL rpx.daemon=${DAEMON}\nCOPY Dockerfile /\nCMD ["x"]\n`,
  );
  dockerCommand("build", "-q", "-t", name, work);
  dockerCommand("save", "-o", join(work, "image.tar"), name);
  dockerCommand("rmi", name);
  const entries = inside("-tf", "image.tar").trim().split("\n");
  inside("-xf", "image.tar");
  const [{ Config: config }] = JSON.parse(readFileSync(join(work, "manifest.json"), "utf8"));
  const text = readFileSync(join(work, config), "utf8");
  writeFileSync(join(work, config), JSON.stringify({ ...JSON.parse(text), architecture: "arm64" }));
  inside("-cf", "edited.tar", ...entries.filter((entry) => !entry.endsWith("/")));
  dockerCommand("load", "-q", "-i", join(work, "edited.tar"));
  rmSync(work, { recursive: true });
}

const PRINTS = "import runpod, os; print(runpod.__version__, os.getcwd(), sorted(os.listdir('.')))";

describe.skipIf(skipAloud(findEngine()))("images", { timeout: SLOW_MS }, () => {
  beforeAll(async () => {
    ensureImages([PYTHON_IMAGE, NODE_IMAGE]);
    engine = await openEngine(`rpx.daemon=${DAEMON}`);
  }, 600_000);
  afterAll(async () => {
    await engine?.close();
    const ours = dockerCommand("images", "-q", "--no-trunc", `--filter=label=rpx.daemon=${DAEMON}`);
    const ids = [...new Set(ours.split("\n").filter((id) => id !== ""))];
    if (ids.length > 0) dockerCommand("rmi", "-f", ...ids);
  });
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "rpx-images-"));
  });
  afterEach(() => rmSync(folder, { recursive: true, force: true }));

  describe("of a folder", () => {
    test("python: labelled, tagged, with steps; the stand-in is found, and any user can read the code", async () => {
      put({
        "handler.py": PRINTS,
        "requirements.txt": "# nothing\n",
        ".dockerignore": "*.log\n",
        "x.log": "",
      });
      const built = await bundle();
      expect(built.image).toMatch(/^sha256:[0-9a-f]{64}$/);
      expect(built.reference).toBe(`rpx/images-test:v${version}`);
      expect(built.warnings).toEqual([]);
      expect(built.steps).toContain("step 1/3: FROM docker.io/library/python:3.11-slim");
      expect(built.percents.at(-1)).toBe(100);
      const labels = JSON.parse(dockerCommand("inspect", "-f", "{{json .Config.Labels}}", built.image));
      expect(labels).toMatchObject({
        "rpx.daemon": DAEMON,
        "rpx.endpoint": "images-test",
        "rpx.release": String(version),
      });
      expect(run(built)).toMatch(/^\S+ \/app \['\.dockerignore', 'handler\.py', 'requirements\.txt'\]$/);
      expect(run(built, "sh", "-c", "stat -c %a handler.py")).toBe("644");
    });

    test("unchanged: nothing is built, the new release has the same image", async () => {
      put({ "handler.py": `${PRINTS} # ${DAEMON}` });
      const first = await bundle();
      const second = await bundle();
      expect(second.image).toBe(first.image);
      expect(second.steps).toEqual(["unchanged since it was built: nothing to build"]);
      expect(dockerCommand("inspect", "-f", "{{.Id}}", second.reference)).toBe(first.image);
      put({ "handler.py": `${PRINTS} # changed ${DAEMON}` });
      expect((await bundle()).image).not.toBe(first.image);
    });

    test("node: the hook makes rpx/worker importable", async () => {
      put({
        "handler.mjs": 'import { start } from "rpx/worker"; console.log(typeof start, process.cwd());',
        "package.json": '{"name":"x"}',
      });
      const built = await bundle({ spec: { handler: "handler.mjs" } });
      expect(run(built)).toBe("function /app");
    });

    test("a runpod of the folder's own wins", async () => {
      put({ "handler.py": PRINTS, "runpod/__init__.py": "__version__ = 'own'" });
      expect(run(await bundle())).toMatch(/^own /);
    });

    test("an engine elsewhere: the stand-in is part of the image, nothing is mounted", async () => {
      put({ "handler.py": PRINTS });
      const built = await bundle({ mountsFolders: false });
      expect(built.mounts).toEqual([]);
      expect(run(built)).toMatch(/^\d\S* \/app \['handler\.py'\]$/);
    });

    test("a link that leads out of the folder is refused (T-21)", async () => {
      put({ "handler.py": "" });
      symlinkSync("/etc/passwd", join(folder, "users"));
      await expect(bundle()).rejects.toMatchObject({
        code: "usage",
        why: "it is a link that leads out of the folder",
      });
    });

    test("a handler that is not there is refused before anything is built", async () => {
      await expect(bundle()).rejects.toMatchObject({
        code: "bad_request",
        message: "there is no handler handler.py",
      });
    });
  });

  describe("of a Dockerfile", () => {
    test("built from the folder, .dockerignore honoured, the Dockerfile sent whatever that says", async () => {
      put({
        Dockerfile: `FROM ${PYTHON_IMAGE}\nENV PYTHONPATH=/own\nWORKDIR /srv\nCOPY . .\nCMD ["python", "main.py"]\n`,
        "main.py": "import os, sys; print(sorted(os.listdir('.')), '/own' in sys.path); import runpod",
        ".dockerignore": "Dockerfile\nsecret\n",
        secret: "x",
      });
      const built = await bundle({ spec: { handler: null } });
      expect(run(built)).toContain("'main.py']");
      expect(run(built)).not.toContain("secret");
      // What the image has set stays beside ours.
      expect(built.env.PYTHONPATH).toBe("/opt/rpx/sdk/python/site:/own");
      expect(run(built)).toMatch(/True$/);
    });

    test("a broken one: the build's last lines, and no image", async () => {
      put({ Dockerfile: `FROM ${PYTHON_IMAGE}\nRUN echo before the end; exit 3\n` });
      await expect(bundle({ spec: { handler: null } })).rejects.toMatchObject({
        code: "bad_request",
        message: "the image could not be built",
        why: expect.stringMatching(/^before the end\n.*exit code: 3/),
      });
      put({ Dockerfile: "FROM python:3.11-slim\nFOO bar\n" });
      await expect(bundle({ spec: { handler: null } })).rejects.toMatchObject({
        why: expect.stringContaining("unknown instruction: FOO"),
      });
      expect(dockerCommand("images", "-q", `rpx/images-test:v${version}`)).toBe("");
    });

    test("missing, or outside the folder: refused", async () => {
      await expect(bundle({ spec: { handler: null } })).rejects.toMatchObject({
        message: "there is no Dockerfile in the folder",
      });
      await expect(bundle({ spec: { handler: null, dockerfile: "../Dockerfile" } })).rejects.toMatchObject({
        message: "the Dockerfile lies outside its folder",
      });
    });

    test("a program that is nowhere named is a warning", async () => {
      put({ Dockerfile: "FROM scratch\nCOPY Dockerfile /\n" });
      const built = await bundle({ spec: { handler: null } });
      expect(built.warnings).toEqual([expect.stringContaining("the image says nothing to run")]);
      const named = await bundle({ spec: { handler: null, image: { command: ["/x"] } } });
      expect([named.warnings, named.command]).toEqual([[], ["/x"]]);
    });

    test("given up: the build ends with it", async () => {
      const sleep = `600.${process.pid}`;
      const sleeps = () => spawnSync("pgrep", ["-f", `sleep ${sleep}`]).status === 0;
      put({ Dockerfile: `FROM ${PYTHON_IMAGE}\nRUN sleep ${sleep}\n` });
      const stop = new AbortController();
      const failed = build(
        { kind: "bundle", digest: "0".repeat(64) },
        { spec: { handler: null }, signal: stop.signal },
      ).catch((error: unknown) => error);
      await vi.waitUntil(sleeps, 30_000);
      stop.abort();
      expect(await failed).toMatchObject({ code: "interrupted" });
      await vi.waitUntil(() => !sleeps(), 10_000);
    });
  });

  describe("of a folder in place (rpx dev)", () => {
    test("generated: no code in the image, the folder is mounted, a change builds nothing", async () => {
      put({ "handler.py": PRINTS });
      const built = await build({ kind: "folder", path: folder });
      expect(run(built)).toMatch(/ \/app\/source \['handler\.py'\]$/);
      expect(run({ ...built, mounts: [] }, "ls", "/app/source")).toBe("");
      put({ "handler.py": "print('changed')" });
      const second = await build({ kind: "folder", path: folder });
      expect([second.image, second.steps]).toEqual([
        built.image,
        ["unchanged since it was built: nothing to build"],
      ]);
      expect(run(second)).toBe("changed");
    });

    test("a Dockerfile: the folder lies over its working directory", async () => {
      put({
        Dockerfile: `FROM ${PYTHON_IMAGE}\nWORKDIR /srv\nCOPY main.py .\nCMD ["python", "main.py"]\n`,
        "main.py": "print(1)",
      });
      const built = await build({ kind: "folder", path: folder }, { spec: { handler: null } });
      expect(built.mounts).toContainEqual({ source: folder, target: "/srv", readOnly: true });
      put({ "main.py": "print(2)" });
      expect(run(built)).toBe("2");
      put({ Dockerfile: `FROM ${PYTHON_IMAGE}\nCMD ["true"]\n` });
      const without = await build({ kind: "folder", path: folder }, { spec: { handler: null } });
      expect(without.warnings).toEqual([expect.stringContaining("sets no WORKDIR")]);
    });
  });

  describe("of the user's own", () => {
    test("one that never came from a registry is pinned by its id, and no registry is asked", async () => {
      const built = await image(PYTHON_IMAGE);
      expect(built.image).toBe(dockerCommand("inspect", "-f", "{{.Id}}", PYTHON_IMAGE));
      expect(built.steps).toEqual([]);
      expect(built.reference).toBe(PYTHON_IMAGE);
    });

    test("for another processor: refused with both named", async () => {
      const name = `rpx-test/arm:${process.pid}`;
      loadForArm(name);
      await expect(image(name)).rejects.toMatchObject({
        code: "bad_request",
        message: `the image ${name} cannot run here`,
        why: "it is for linux/arm64, this engine runs linux/amd64",
      });
      put({ Dockerfile: `FROM ${name}\nCMD ["x"]\n` });
      await expect(bundle({ spec: { handler: null } })).rejects.toMatchObject({
        why: "it is for linux/arm64, this engine runs linux/amd64",
      });
    });

    test("what is no reference, and an id that is not there", async () => {
      await expect(image("Not A Reference")).rejects.toMatchObject({ code: "bad_request" });
      await expect(image(`sha256:${"0".repeat(64)}`)).rejects.toMatchObject({ code: "not_found" });
    });
  });

  const missing = registryMissing();
  if (missing !== null && process.env.CI === "true") throw new Error(missing);
  if (missing !== null) process.stderr.write(`skipped, registry: ${missing}\n`);

  describe.skipIf(missing !== null)("of a registry", () => {
    const user = { username: "ada", password: "correct horse" };
    let open: TestRegistry;
    let closed: TestRegistry;
    let login: RegistryLogin;
    beforeAll(async () => {
      open = await startRegistry();
      closed = await startRegistry(user);
      login = { name: "mine", server: closed.host, ...user };
    });
    afterAll(async () => {
      await open?.stop();
      await closed?.stop();
    });

    /** Makes a small image with a text in it, and puts it into a registry under a tag; the engine keeps nothing of it. */
    async function publish(registry: TestRegistry, name: string, text: string): Promise<string> {
      const reference = `${registry.host}/${name}`;
      const context = mkdtempSync(join(tmpdir(), "rpx-publish-"));
      writeFileSync(
        join(context, "Dockerfile"),
        `FROM scratch\nLABEL rpx.daemon=${DAEMON}\nCOPY text /\nCMD ["x"]\n`,
      );
      writeFileSync(join(context, "text"), text);
      dockerCommand("build", "-q", "-t", reference, context);
      rmSync(context, { recursive: true });
      const [repository = "", tag = ""] = name.split(":");
      if (registry === closed) loggedIn(["push", "-q", reference]);
      else dockerCommand("push", "-q", reference);
      dockerCommand("rmi", reference);
      return (await registry.digestOf(repository, tag)) ?? fail("digest");
    }

    /** The docker command with a login of its own, which goes away with its folder. */
    function loggedIn(command: readonly string[]): void {
      const config = mkdtempSync(join(tmpdir(), "rpx-docker-config-"));
      const auth = Buffer.from(`${user.username}:${user.password}`).toString("base64");
      writeFileSync(join(config, "config.json"), JSON.stringify({ auths: { [closed.host]: { auth } } }));
      execFileSync("docker", ["--config", config, ...command], { stdio: "ignore" });
      rmSync(config, { recursive: true });
    }

    test("a tag is pinned to its digest, and stays so when the tag moves", async () => {
      const first = await publish(open, "app:latest", "one");
      const built = await image(`${open.host}/app`);
      expect(built.image).toBe(`${open.host}/app@${first}`);
      expect(built.percents.at(-1)).toBe(100);
      expect(built.steps).toContainEqual(expect.stringMatching(/^pulling .*\/app:latest: layer \d+\/\d+$/));
      const second = await publish(open, "app:latest", "two");
      expect(second).not.toBe(first);
      expect(textOf(built)).toBe("one");
      const again = await image(`${open.host}/app`);
      expect(again.image).toBe(`${open.host}/app@${second}`);
      expect(textOf(again)).toBe("two");
      expect(textOf(built)).toBe("one");
      // What is here already is asked for and not pulled.
      expect((await image(`${open.host}/app`)).steps).toEqual([`asking ${open.host} for ${open.host}/app`]);
      const byDigest = await image(`${open.host}/app@${first}`);
      expect([byDigest.image, byDigest.steps]).toEqual([`${open.host}/app@${first}`, []]);
    });

    test("a private one needs its login, which goes to no other registry", async () => {
      const digest = await publish(closed, "private:1", "private");
      const reference = `${closed.host}/private:1`;
      await expect(image(reference)).rejects.toMatchObject({
        hint: expect.stringContaining("rpx registry add"),
      });
      const built = await image(reference, { logins: [login], spec: { image: { registry: "mine" } } });
      expect([built.image, built.registry]).toEqual([`${closed.host}/private@${digest}`, "mine"]);
      await publish(open, "other:1", "other");
      await expect(
        image(`${open.host}/other:1`, { logins: [login], spec: { image: { registry: "mine" } } }),
      ).rejects.toMatchObject({ message: expect.stringContaining('login "mine" is not for') });
    });

    test("bases of the login's registry are pulled with it, and the build uses them", async () => {
      await publish(closed, "base:1", "from-the-base");
      put({ Dockerfile: `FROM ${closed.host}/base:1\nCOPY Dockerfile /\n` });
      const options = { logins: [login], spec: { handler: null, image: { registry: "mine" } } };
      const built = await bundle(options);
      expect(textOf(built)).toBe("from-the-base");
      dockerCommand("rmi", `${closed.host}/base:1`);
    });

    test("an image that is not there; a disk with no room for one that is", async () => {
      await expect(image(`${open.host}/nothing:1`)).rejects.toMatchObject({
        message: `cannot pull ${open.host}/nothing (1)`,
      });
      await publish(open, "large:1", "large");
      const options = { freeBytes: 1024 };
      await expect(image(`${open.host}/large:1`, options)).rejects.toMatchObject({
        code: "unavailable",
        message: `there is no room for the image ${open.host}/large`,
      });
    });

    test("a registry that is away: what is here is used, with a warning", async () => {
      const gone = await startRegistry();
      await publish(gone, "app:1", "kept");
      const reference = `${gone.host}/app:1`;
      const built = await image(reference);
      await gone.stop();
      const again = await image(reference);
      expect([again.image, again.warnings]).toEqual([
        built.image,
        [expect.stringContaining("the registry could not be asked")],
      ]);
    });
  });
});
