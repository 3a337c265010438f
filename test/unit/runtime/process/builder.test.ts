import { execFileSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { readdir, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeEach, describe, expect, test } from "vitest";
import { createProcessBuilder } from "../../../../src/runtime/adapters/process/builder.ts";
import type { EndpointId, ReleaseSpec } from "../../../../src/runtime/core/model.ts";
import type { BuildRequest } from "../../../../src/runtime/ports/worker-pool.ts";

const roots: string[] = [];
const live = new AbortController().signal;
let root: string;
let folder: string;

beforeEach(() => {
  root = mkdtempSync(path.join(tmpdir(), "rpx-builder-"));
  roots.push(root);
  folder = path.join(root, "project");
  mkdirSync(folder);
  writeFileSync(path.join(folder, "handler.py"), "import runpod\n");
});
afterAll(() => {
  for (const each of roots) rmSync(each, { recursive: true, force: true });
});

/** The real interpreter, without the daemon's active environments. */
function builder(environment: Record<string, string | undefined> = {}) {
  const { VIRTUAL_ENV, CONDA_PREFIX, ...outer } = process.env;
  return createProcessBuilder({
    dataDir: path.join(root, "data"),
    sdkDir: "/opt/rpx/sdk",
    environment: { ...outer, ...environment },
    pathOfBundle: (digest) => path.join(root, "bundles", digest),
  });
}

function spec(changes: Partial<ReleaseSpec> = {}): ReleaseSpec {
  return {
    pool: "process",
    source: { kind: "folder", path: folder },
    handler: "handler.py",
    python: null,
    dockerfile: null,
    image: {},
    hardware: {},
    env: {},
    ...changes,
  };
}

const asked = (changes: Partial<ReleaseSpec> = {}): BuildRequest => ({
  endpointId: "ep1" as EndpointId,
  version: 1,
  spec: spec(changes),
});

function build(changes: Partial<ReleaseSpec> = {}, environment: Record<string, string | undefined> = {}) {
  const lines: string[] = [];
  const made = builder(environment).build(asked(changes), (line) => lines.push(line), live);
  return made.then((built) => ({ built, lines }));
}

/** A program called `name` in a folder of its own, put before everything on the PATH. */
function program(name: string, script: string): string {
  const bin = path.join(root, "bin");
  mkdirSync(bin, { recursive: true });
  writeFileSync(path.join(bin, name), `#!/bin/sh\n${script}\n`);
  chmodSync(path.join(bin, name), 0o755);
  return bin;
}

/** The path of the Python behind any shim, as the probe sees it. */
function realPython(): string {
  return execFileSync("python3", ["-c", "import sys; print(sys.executable)"], { encoding: "utf8" }).trim();
}

describe("Node handlers", () => {
  test.each(["handler.ts", "handler.mjs", "sub/handler.js"])("%s runs on our own Node", async (handler) => {
    mkdirSync(path.join(folder, "sub"), { recursive: true });
    writeFileSync(path.join(folder, handler), "");
    const { built, lines } = await build({ handler }, { RPX_API_KEY: "secret" });
    expect(built).toMatchObject({
      file: process.execPath,
      args: ["--import", pathToFileURL("/opt/rpx/sdk/node/hook.js").href, handler],
      cwd: folder,
      runtime: `node ${process.versions.node} (${process.execPath})`,
      warnings: [],
    });
    expect(Object.values(built.env)).not.toContain("secret");
    expect(lines).toEqual([built.runtime]);
  });

  test("dependencies that were never installed are told", async () => {
    writeFileSync(path.join(folder, "handler.js"), "");
    writeFileSync(path.join(folder, "package.json"), '{"dependencies": {"left-pad": "1"}}');
    const { built } = await build({ handler: "handler.js" });
    expect(built.warnings).toEqual(["package.json lists dependencies, but there is no node_modules folder"]);
  });
});

test("limits that nothing enforces are named", async () => {
  writeFileSync(path.join(folder, "handler.js"), "");
  const hardware = { limits: { memory: "8GiB", cpus: 2 } };
  const { built } = await build({ handler: "handler.js", hardware });
  expect(built.warnings).toEqual(["the process pool does not enforce limits: memory, cpus"]);
});

describe("what cannot be built", () => {
  test.each([
    ["../handler.py", "the handler lies outside its folder"],
    ["/etc/passwd", "the handler lies outside its folder"],
    [".", "the handler lies outside its folder"],
    ["handler.rb", "cannot run handler.rb"],
    ["other.py", "there is no handler other.py"],
  ])("handler %s: %s", async (handler, message) => {
    await expect(build({ handler })).rejects.toMatchObject({ code: "bad_request", message });
  });

  test("a folder that is not there", async () => {
    const source = { kind: "folder", path: path.join(root, "none") } as const;
    await expect(build({ source })).rejects.toMatchObject({ code: "bad_request" });
  });

  test("a handler whose name begins with a hyphen is no option", async () => {
    writeFileSync(path.join(folder, "-c.py"), "");
    expect((await build({ handler: "-c.py" })).built.args).toEqual(["-u", "./-c.py"]);
  });
});

describe("Python", () => {
  test("python3 of the PATH, with the stand-in appended by site", async () => {
    const { built, lines } = await build();
    expect(built).toMatchObject({
      file: realPython(),
      args: ["-u", "handler.py"],
      cwd: folder,
      warnings: [],
    });
    expect(built.env.PYTHONPATH).toBe("/opt/rpx/sdk/python/site");
    expect(built.runtime).toMatch(/^python 3\.\d+\.\d+ \(.*\), rpx's stand-in for runpod$/);
    expect(lines).toEqual([built.runtime]);
  });

  test("the interpreter is told once per folder", async () => {
    const lines: string[] = [];
    const made = builder();
    await made.build(asked(), (line) => lines.push(line), live);
    await made.build(asked(), (line) => lines.push(line), live);
    expect(lines).toHaveLength(1);
  });

  test("a bundle is run where it was unpacked", async () => {
    const unpacked = path.join(root, "bundles", "abc");
    mkdirSync(unpacked, { recursive: true });
    writeFileSync(path.join(unpacked, "handler.py"), "");
    const { built } = await build({ source: { kind: "bundle", digest: "abc" } });
    expect(built.cwd).toBe(unpacked);
  });

  test("the one asked for wins over .venv, that over VIRTUAL_ENV, that over CONDA_PREFIX", async () => {
    const fake = (name: string) => {
      const prefix = path.join(root, name);
      mkdirSync(path.join(prefix, "bin"), { recursive: true });
      const file = path.join(prefix, "bin/python");
      writeFileSync(file, `#!/bin/sh\necho '["${file}", [3, 12, 1], "${prefix}", true]'\n`);
      chmodSync(file, 0o755);
      return { prefix, file };
    };
    const asked = fake("asked");
    const active = fake("active");
    const conda = fake("conda");
    const environment = { VIRTUAL_ENV: active.prefix, CONDA_PREFIX: conda.prefix, PATH: "/usr/bin:/bin" };
    expect((await build({}, { ...environment, VIRTUAL_ENV: undefined })).built.file).toBe(conda.file);
    const second = (await build({}, environment)).built;
    expect(second.file).toBe(active.file);
    expect(second.env).toMatchObject({
      VIRTUAL_ENV: active.prefix,
      PATH: `${active.prefix}/bin:/usr/bin:/bin`,
    });
    const own = fake("project/.venv");
    expect((await build({}, environment)).built.file).toBe(own.file);
    const first = (await build({ python: asked.file }, environment)).built;
    expect(first).toMatchObject({ file: asked.file, runtime: `python 3.12.1 (${asked.file})` });
  });

  test("no python3: what to install", async () => {
    await expect(build({}, { PATH: path.join(root, "empty") })).rejects.toMatchObject({
      code: "unavailable",
      message: "no Python to run the handler with",
      why: "there is no python3 on the PATH",
      hint: expect.stringContaining("apt install python3"),
    });
  });

  test.each(["[2, 7, 18]", "[3, 8, 20]"])(
    "version %s is too old, and the rule that found it is told",
    async (version) => {
      const bin = program("python3", `echo '["/usr/bin/python3", ${version}, null, false]'`);
      await expect(build({}, { PATH: `${bin}:/usr/bin:/bin` })).rejects.toMatchObject({
        code: "unavailable",
        message: expect.stringMatching(/^Python \d\.\d\.\d+ is too old$/),
        why: "python3 is used because it is the python3 of the PATH; handlers need 3.9 or newer",
        hint: expect.stringContaining("--python"),
      });
    },
  );

  test("a .venv whose Python is gone is an error, not a step to the next rule", async () => {
    mkdirSync(path.join(folder, ".venv/bin"), { recursive: true });
    symlinkSync("/nonexistent/python3", path.join(folder, ".venv/bin/python"));
    await expect(build()).rejects.toMatchObject({
      code: "unavailable",
      hint: "make it again: rm -r .venv && python3 -m venv .venv",
    });
  });

  test("a Python that fails is told with its last line", async () => {
    const bin = program("python3", "echo 'first' >&2; echo 'library not loaded' >&2; exit 3");
    await expect(build({}, { PATH: `${bin}:/usr/bin:/bin` })).rejects.toMatchObject({
      code: "unavailable",
      why: "it is the python3 of the PATH, but: library not loaded",
    });
  });

  test("giving up a build is told as that", async () => {
    const given = new AbortController();
    given.abort();
    const made = builder().build(asked(), () => {}, given.signal);
    await expect(made).rejects.toMatchObject({ code: "interrupted" });
  });
});

describe("requirements.txt", () => {
  const requirements = (text: string) => writeFile(path.join(folder, "requirements.txt"), text);

  /** A wheel that pip installs with no index and no build: a zip file with its three members. */
  function wheel(name: string, version: string): void {
    const wheels = path.join(root, "wheels");
    mkdirSync(wheels, { recursive: true });
    const info = `${name}-${version}.dist-info`;
    const script = `
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as wheel:
    wheel.writestr("${name}.py", "VERSION = '${version}'\\n")
    wheel.writestr("${info}/METADATA", "Metadata-Version: 2.1\\nName: ${name}\\nVersion: ${version}\\n")
    wheel.writestr("${info}/WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr("${info}/RECORD", "${name}.py,,\\n${info}/METADATA,,\\n${info}/WHEEL,,\\n${info}/RECORD,,\\n")
`;
    execFileSync("python3", ["-c", script, path.join(wheels, `${name}-${version}-py3-none-any.whl`)]);
  }
  /** pip asks no index, only the test's own wheels. */
  const offline = () => {
    mkdirSync(path.join(root, "wheels"), { recursive: true });
    return {
      PIP_NO_INDEX: "1",
      PIP_FIND_LINKS: path.join(root, "wheels"),
      PIP_EXTRA_INDEX_URL: undefined,
    };
  };
  const venvs = () => readdir(path.join(root, "data/venvs")).catch(() => []);

  test.each(["", "# none\n", "runpod\n", "runpod==1.7.6 # pinned\n"])(
    "%j needs no virtual environment, and no pip",
    async (text) => {
      await requirements(text);
      const { built } = await build();
      expect(built.file).toBe(realPython());
      expect(built.warnings).toEqual(
        text.startsWith("runpod") ? [expect.stringContaining("rpx's stand-in takes its place")] : [],
      );
      expect(await venvs()).toEqual([]);
    },
  );

  test("an interpreter of the user's own gets nothing installed, but what it lacks is told", async () => {
    await requirements("runpod\nrpx_test_absent>=1\n");
    const { built } = await build({ python: realPython() });
    expect(built.file).toBe(realPython());
    expect(built.warnings).toEqual([
      expect.stringContaining("rpx's stand-in"),
      `${realPython()} lacks rpx_test_absent>=1: run ${realPython()} -m pip install -r requirements.txt`,
    ]);
  });

  test("packages are installed once for two builds, kept, and built again where they were never finished", async () => {
    wheel("rpx_test_tiny", "1.0");
    await requirements("rpx_test_tiny==1.0\n");
    const made = builder(offline());
    const lines: string[] = [];
    const once = () => made.build(asked(), (line) => lines.push(line), live);
    const [first, second] = await Promise.all([once(), once()]);
    const [name] = await venvs();
    const venv = path.join(root, "data/venvs", name ?? "");
    expect(second).toEqual(first);
    expect(first).toMatchObject({ file: path.join(venv, "bin/python"), env: { VIRTUAL_ENV: venv } });
    expect(lines[0]).toBe("making a virtual environment for requirements.txt (kept for the next time)");
    expect(lines.join("\n")).toContain("Successfully installed rpx_test_tiny-1.0");
    expect(lines.filter((line) => line.startsWith("making"))).toHaveLength(1);
    const version = ["-c", "import rpx_test_tiny; print(rpx_test_tiny.VERSION)"];
    expect(execFileSync(first.file, version, { encoding: "utf8" })).toBe("1.0\n");

    const cached = await build({}, offline());
    expect(cached.built).toEqual(first);
    expect(cached.lines).toEqual([first.runtime]);

    rmSync(path.join(venv, ".rpx-complete.json"));
    rmSync(path.join(venv, "bin"), { recursive: true });
    await once();
    expect((await stat(first.file)).isFile()).toBe(true);

    await requirements("rpx_test_absent\n");
    await expect(
      build({}, offline()),
      "other requirements: pip's last lines, what to do",
    ).rejects.toMatchObject({
      code: "unavailable",
      message: "pip could not install requirements.txt",
      why: expect.stringContaining("No matching distribution found for rpx_test_absent"),
      hint: expect.stringContaining(".venv"),
    });
    expect(await venvs(), "nothing kept of the failed one").toEqual([name]);
  }, 60_000);

  test("where pip lacks runpod alone, the rest is installed and the stand-in takes its place", async () => {
    wheel("rpx_test_tiny", "1.0");
    await requirements("runpod==1.7.6\nrpx_test_tiny\n");
    for (const round of ["built", "cached"]) {
      const { built } = await build({}, offline());
      expect(built.warnings, round).toEqual([expect.stringContaining("rpx's stand-in takes its place")]);
      expect(built.runtime, round).toContain("rpx's stand-in for runpod");
    }
  }, 60_000);

  test("no venv module: which package has it", async () => {
    const real = realPython();
    const bin = program(
      "python3",
      `case "$*" in
  *"-m venv"*) echo 'ensurepip is not available.' ; exit 1 ;;
  *) ${real} "$@" | sed 's#"${real}"#"${root}/bin/python3"#' ;;
esac`,
    );
    await requirements("rpx_test_absent\n");
    await expect(build({}, { PATH: `${bin}:/usr/bin:/bin` })).rejects.toMatchObject({
      code: "unavailable",
      why: "ensurepip is not available.",
      hint: expect.stringMatching(/apt install python3\.\d+-venv/),
    });
    expect(await venvs()).toEqual([]);
  });
});
