import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { RpxError } from "../../../src/contract/error.ts";
import { type Given, loadProject } from "../../../src/project/load.ts";
import { endpointNameFrom } from "../../../src/project/name.ts";
import { parseProjectFile } from "../../../src/project/project-file.ts";
import { projectToml } from "../../../src/project/toml.ts";

let folder = "";

beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "rpx-load-")));
});

afterEach(() => {
  rmSync(folder, { recursive: true, force: true });
});

function put(files: Record<string, string>): void {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
}

async function refusal(path: string, given: Given = {}): Promise<RpxError> {
  const error: unknown = await loadProject(path, given).catch((caught: unknown) => caught);
  if (!(error instanceof RpxError)) throw new Error(`not refused: ${JSON.stringify(error)}`);
  return error;
}

describe("the handler", () => {
  test.each(["handler.py", "handler.ts", "handler.mjs", "handler.js"])("%s is found", async (name) => {
    put({ [name]: "" });
    expect(await loadProject(folder)).toMatchObject({
      handler: name,
      name: null,
      folder,
      config: {},
      python: null,
      dockerfile: null,
      image: null,
    });
  });

  test("none: says what was looked for and what next", async () => {
    const error = await refusal(folder);
    expect(error.code).toBe("usage");
    expect(error.message).toBe(`no handler in ${folder}`);
    expect(error.why).toContain("handler.py, handler.ts, handler.mjs, handler.js");
    expect(error.hint).toContain("rpx init");
  });

  test("several: names them; rpx.toml or a path decides", async () => {
    put({ "handler.py": "", "handler.mjs": "" });
    expect((await refusal(folder)).why).toContain("handler.py and handler.mjs");
    expect((await loadProject(join(folder, "handler.mjs"))).handler).toBe("handler.mjs");
    put({ "rpx.toml": 'handler = "handler.py"' });
    expect((await loadProject(folder)).handler).toBe("handler.py");
    expect((await loadProject(join(folder, "rpx.toml"))).handler).toBe("handler.py");
    expect((await loadProject(join(folder, "handler.mjs"))).handler).toBe("handler.mjs");
  });

  test("T-21: one outside the folder is refused, also through a link", async () => {
    put({ "inner/rpx.toml": 'handler = "../handler.py"', "handler.py": "", "linked/other.txt": "" });
    expect((await refusal(join(folder, "inner"))).message).toContain("is not in");
    symlinkSync("../handler.py", join(folder, "linked/handler.py"));
    put({ "linked/rpx.toml": 'handler = "handler.py"' });
    expect((await refusal(join(folder, "linked"))).message).toContain("is not in");
  });

  test("one that is missing, and a file that is none", async () => {
    put({ "rpx.toml": 'handler = "src/handler.py"', "notes.txt": "" });
    expect((await refusal(folder)).message).toBe(`no handler src/handler.py in ${folder}`);
    expect((await refusal(join(folder, "notes.txt"))).why).toContain(".py, .ts, .mjs, .js");
    expect((await refusal(join(folder, "absent"))).code).toBe("not_found");
  });
});

describe("Dockerfile and image", () => {
  test("a Dockerfile alone says what runs; .runpod/ wins over the root", async () => {
    put({ Dockerfile: "FROM a" });
    expect(await loadProject(folder)).toMatchObject({ handler: null, dockerfile: "Dockerfile", image: null });
    put({ ".runpod/Dockerfile": "FROM b" });
    expect((await loadProject(folder)).dockerfile).toBe(".runpod/Dockerfile");
  });

  test("with a handler beside it the folder has both; with several the Dockerfile alone", async () => {
    put({ Dockerfile: "", "handler.py": "" });
    expect(await loadProject(folder)).toMatchObject({ handler: "handler.py", dockerfile: "Dockerfile" });
    put({ "handler.mjs": "" });
    expect(await loadProject(folder)).toMatchObject({ handler: null, dockerfile: "Dockerfile" });
    put({ "rpx.toml": 'handler = "handler.mjs"' });
    expect(await loadProject(folder)).toMatchObject({ handler: "handler.mjs", dockerfile: "Dockerfile" });
  });

  test("rpx.toml names another one, a flag one more", async () => {
    put({ Dockerfile: "", "docker/cpu": "", "docker/gpu": "", "rpx.toml": 'dockerfile = "docker/cpu"' });
    expect((await loadProject(folder)).dockerfile).toBe("docker/cpu");
    expect((await loadProject(folder, { dockerfile: "docker/gpu" })).dockerfile).toBe("docker/gpu");
  });

  test("one that is missing, or outside the folder also by a link, is refused", async () => {
    put({ "inner/handler.py": "", "Dockerfile.out": "" });
    const inner = join(folder, "inner");
    expect((await refusal(inner, { dockerfile: "absent" })).message).toBe(`no Dockerfile absent in ${inner}`);
    expect((await refusal(inner, { dockerfile: "../Dockerfile.out" })).message).toContain("is not in");
    symlinkSync("../Dockerfile.out", join(inner, "Dockerfile"));
    expect((await refusal(inner)).message).toBe(`the Dockerfile Dockerfile is not in ${inner}`);
  });

  test("an image is the release: no code, and settings all the same", async () => {
    put({ "handler.py": "", "rpx.toml": 'image = "org/worker:1.2"\n[workers]\nmax = 5\n' });
    expect(await loadProject(folder)).toMatchObject({
      image: "org/worker:1.2",
      handler: null,
      dockerfile: null,
      config: { workers: { max: 5 } },
    });
    expect((await loadProject(folder)).config).not.toHaveProperty("image");
  });

  test("a handler or an image on the command line beats the image of rpx.toml", async () => {
    put({ "handler.py": "", "rpx.toml": 'image = "org/worker:1.2"' });
    expect(await loadProject(join(folder, "handler.py"))).toMatchObject({
      handler: "handler.py",
      image: null,
    });
    expect((await loadProject(folder, { image: "org/worker:2" })).image).toBe("org/worker:2");
  });

  test.each(["handler", "dockerfile", "python"])("an image and a %s exclude each other", async (key) => {
    put({ "handler.py": "", "rpx.toml": `image = "org/worker:1.2"\n${key} = "handler.py"\n` });
    expect(await refusal(folder)).toMatchObject({
      code: "usage",
      message: `rpx.toml names an image and a ${key}`,
    });
  });

  test("an image given needs no handler in the folder", async () => {
    expect(await loadProject(folder, { image: "org/worker:1" })).toMatchObject({ image: "org/worker:1" });
  });

  test("[image] is settings", async () => {
    put({
      "handler.py": "",
      "rpx.toml":
        '[image]\nbase = "python:3.12-slim"\ncommand = ["a", "b"]\nentrypoint = []\nregistry = "hub"\n',
    });
    const { image, config } = await loadProject(folder);
    expect(image).toBeNull();
    expect(config.image).toEqual({
      base: "python:3.12-slim",
      command: ["a", "b"],
      entrypoint: [],
      registry: "hub",
    });
  });
});

describe("rpx.toml", () => {
  const refusedLines: readonly (readonly [string, string, number, string])[] = [
    ["a mistyped key", "[workers]\nmin = 0\nmaxx = 3\n", 3, 'did you mean "max"?'],
    ["a mistyped table", 'name = "a"\n\n[worker]\nmin = 0\n', 3, 'did you mean "workers"?'],
    [
      "a key of another table",
      'execution_timeout = "10m"\n',
      1,
      '"execution_timeout" belongs under [limits]',
    ],
    ["a dotted key", 'name = "a"\nlimits.tll = "1h"\n', 2, 'did you mean "ttl"?'],
    ["no TOML", 'name = "a"\nhandler = handler.py\n', 2, "correct that line"],
    ["a bad duration", '[limits]\n# the most\nttl = "24 hours"\n', 3, '"10m"'],
    ["a bad size", '[limits]\nmemory = "8G"\n', 2, '"8GiB"'],
    ["a number in env", "[env]\nPORT = 80\n", 2, 'PORT = "..."'],
    ["a bad name", 'handler = "handler.py"\nname = "My Worker"\n', 2, "my-worker"],
    ["a reserved name", 'name = "serverless"\n', 1, "my-worker"],
    ["a value out of range", "[workers]\nmin = -1\n", 2, "correct the value"],
    ["what comes later", 'template = "vllm"\n', 1, "handler"],
    ["an image that is none", 'name = "a"\nimage = 3\n', 2, "org/image:tag"],
    ["an empty image", 'image = ""\n', 1, "org/image:tag"],
    ["a mistyped key of [image]", '[image]\nbase = "a"\ncomand = []\n', 3, 'did you mean "command"?'],
    ["a value of [image]", '[image]\nbase = "a"\ncommand = "python"\n', 3, "correct the value"],
    ["a key of [image] elsewhere", "entrypoint = []\n", 1, '"entrypoint" belongs under [image]'],
    ["a key after a long text", 'handler = """\nmaxx = 1\n"""\nmaxx = 1\n', 4, "keys here"],
  ];
  test.each(refusedLines)("%s is refused with its line", (_, text, line, hint) => {
    const parse = (): unknown => parseProjectFile(text, "rpx.toml");
    expect(parse).toThrow(RpxError);
    expect(parse).toThrow(`rpx.toml, line ${line}`);
    expect(parse).toThrow(expect.objectContaining({ code: "usage", hint: expect.stringContaining(hint) }));
  });

  test("one that cannot be read says so", async () => {
    mkdirSync(join(folder, "rpx.toml"));
    expect(await refusal(folder)).toMatchObject({
      code: "usage",
      message: `cannot read ${join(folder, "rpx.toml")}`,
    });
  });

  test("what init writes reads back", () => {
    const file = parseProjectFile(projectToml({ name: "hello", handler: "handler.py" }), "rpx.toml");
    expect(file).toEqual({
      name: "hello",
      handler: "handler.py",
      workers: { min: 0, max: 3, idle_timeout: "5s" },
    });
  });

  test("the commented keys of init are keys", () => {
    const text = projectToml({ name: "hello", handler: "handler.py" }).replace(/^# (?=\[|\w+ = )/gm, "");
    expect(Object.keys(parseProjectFile(text, "rpx.toml"))).toEqual(
      expect.arrayContaining(["workers", "scale", "limits", "retention", "env"]),
    );
  });

  test("an interpreter given as a path belongs to the folder, a name to the PATH", async () => {
    put({ "handler.py": "", "rpx.toml": 'python = "env/bin/python"' });
    expect((await loadProject(folder)).python).toBe(join(folder, "env/bin/python"));
    put({ "rpx.toml": 'python = "python3.12"' });
    expect((await loadProject(folder)).python).toBe("python3.12");
  });
});

describe("RunPod's own files", () => {
  const hub = {
    type: "serverless",
    config: {
      runsOn: "GPU",
      containerDiskInGb: 20,
      gpuCount: 2,
      gpuIds: "ADA_24,HOPPER_141,-NVIDIA L4",
      allowedCudaVersions: ["12.4"],
      presets: [{ name: "small", defaults: {} }],
      env: [
        { key: "FIXED", value: "1" },
        { key: "CHOSEN", input: { type: "number", default: 5 } },
        { key: "TOKEN", input: { type: "string", required: true } },
        { key: "not a name", value: "x" },
      ],
    },
  };

  test("hub.json is below rpx.toml, and says what is not used", async () => {
    put({
      "handler.py": "",
      ".runpod/hub.json": JSON.stringify(hub),
      "rpx.toml": '[gpu]\ncount = 0\n[env]\nCHOSEN = "9"\n',
    });
    const { config, warnings } = await loadProject(folder);
    expect(config).toEqual({
      gpu: { count: 0, types: ["ADA_24", "HOPPER_141"], exclude: ["NVIDIA L4"], cuda: ["12.4"] },
      limits: { disk: "20GB" },
      env: { FIXED: "1", CHOSEN: "9" },
    });
    expect(warnings.join("\n")).toMatch(/requires the variable TOKEN/);
    expect(warnings.join("\n")).toMatch(/"not a name" cannot name a variable/);
    expect(warnings.join("\n")).toMatch(/not used: presets/);
  });

  test.each([
    ["{", "it is not JSON"],
    ['{"config": {"gpuCount": "two"}}', "config.gpuCount"],
  ])("a hub.json that cannot be understood is a warning: %s", async (text, why) => {
    put({ "handler.py": "", ".runpod/hub.json": text });
    const { config, warnings } = await loadProject(folder);
    expect(config).toEqual({});
    expect(warnings).toEqual([expect.stringContaining(why)]);
  });

  test("test_input.json is kept as text, or said to be useless", async () => {
    const text = '{"input": {"id": 12345678901234567890}}';
    put({ "handler.py": "", "test_input.json": text });
    expect(await loadProject(folder)).toMatchObject({ testInput: text, warnings: [] });
    put({ "test_input.json": '{"name": 1}' });
    expect(await loadProject(folder)).toMatchObject({
      testInput: null,
      warnings: [expect.stringContaining("input")],
    });
  });
});

test.each([
  ["hello", "hello"],
  ["My Worker_2", "my-worker-2"],
  ["--..--", "endpoint"],
  ["serverless", "serverless-endpoint"],
  ["a".repeat(80), "a".repeat(63)],
  ["日本", "endpoint"],
])("T-20: a folder named %s makes an endpoint named %s", (from, name) => {
  expect(endpointNameFrom(from)).toBe(name);
});
