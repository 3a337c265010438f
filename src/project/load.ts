import { readFile, realpath, stat } from "node:fs/promises";
import { basename, dirname, join, resolve } from "node:path";
import { RpxError } from "../contract/error.ts";
import type { EndpointConfig } from "../contract/schemas/endpoint.ts";
import { type Code, findCode, type GivenCode } from "./find-code.ts";
import { readHub } from "./hub.ts";
import { PROJECT_FILE, readProjectFile } from "./project-file.ts";

/** What a folder says of its endpoint. */
export type Project = Code & {
  /** As rpx.toml names it; null when it does not. */
  readonly name: string | null;
  /** Absolute, links resolved: what the daemon reads and what a second `rpx dev` is told apart by. */
  readonly folder: string;
  /** Interpreter that rpx.toml asks for: absolute when it names a path, else a command name. */
  readonly python: string | null;
  readonly config: EndpointConfig;
  /** The text of test_input.json where it is a JSON object with an `input`. */
  readonly testInput: string | null;
  /** What was found and is not used, a sentence each. */
  readonly warnings: readonly string[];
};

const TEST_INPUT_FILE = "test_input.json";

/** What a command line may say of a folder's code, beside the handler in the path. */
export type Given = Pick<GivenCode, "dockerfile" | "image">;

/**
 * Reads the folder at `path`, or of the handler or rpx.toml at `path`. A handler given by path, and what else is given, beat what
 * rpx.toml says, whose settings beat those of .runpod/hub.json. Throws RpxError `usage` (nothing to run, or a file that cannot be
 * used) and `not_found`.
 */
export async function loadProject(path: string, given: Given = {}): Promise<Project> {
  const { folder, givenHandler } = await locate(resolve(path));
  const file = (await readProjectFile(join(folder, PROJECT_FILE))) ?? {};
  const code = await findCode(folder, { ...given, handler: givenHandler }, file);
  const { name, handler: _, dockerfile: __, python, image, ...rest } = file;
  const settings = typeof image === "object" ? { ...rest, image } : rest;
  const hub = await readHub(folder);
  const test = await readTestInput(folder);
  return {
    ...code,
    name: name ?? null,
    folder,
    python: python === undefined ? null : interpreterPath(folder, python),
    config: hub === null ? settings : mergeConfig(hub.config, settings),
    testInput: test.text,
    warnings: [...(hub?.warnings ?? []), ...test.warnings],
  };
}

async function locate(path: string): Promise<{ folder: string; givenHandler?: string }> {
  const real = await realpath(path).catch(() => null);
  if (real === null) {
    throw new RpxError("not_found", `no file or folder ${path}`, {
      hint: "name a folder with a handler in it, or write one: rpx init <folder>",
    });
  }
  if ((await stat(real)).isDirectory()) return { folder: real };
  if (basename(path) === PROJECT_FILE) return { folder: dirname(real) };
  const folder = await realpath(dirname(path));
  return { folder, givenHandler: basename(path) };
}

function interpreterPath(folder: string, python: string): string {
  return python.includes("/") ? resolve(folder, python) : python;
}

/** Table by table: a table of rpx.toml replaces single keys of the hub's, lists and values whole. */
function mergeConfig(below: EndpointConfig, above: EndpointConfig): EndpointConfig {
  return {
    ...below,
    ...above,
    ...mergeTable("gpu", below.gpu, above.gpu),
    ...mergeTable("limits", below.limits, above.limits),
    ...mergeTable("env", below.env, above.env),
  };
}

function mergeTable<Name extends string, Table extends object>(
  name: Name,
  below: Table | undefined,
  above: Table | undefined,
): Partial<Record<Name, Table>> {
  if (below === undefined && above === undefined) return {};
  return { [name]: { ...below, ...above } } as Partial<Record<Name, Table>>;
}

async function readTestInput(folder: string): Promise<{ text: string | null; warnings: string[] }> {
  const text = await readFile(join(folder, TEST_INPUT_FILE), "utf8").catch(() => null);
  if (text === null) return { text: null, warnings: [] };
  const problem = testInputProblem(text);
  if (problem === null) return { text, warnings: [] };
  return { text: null, warnings: [`${TEST_INPUT_FILE} is not used: ${problem}`] };
}

function testInputProblem(text: string): string | null {
  try {
    const value: unknown = JSON.parse(text);
    const hasInput = typeof value === "object" && value !== null && Object.hasOwn(value, "input");
    return hasInput ? null : 'it has no "input"';
  } catch {
    return "it is not JSON";
  }
}
