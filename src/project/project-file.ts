import { readFile } from "node:fs/promises";
import { parse, TomlError } from "smol-toml";
import { z } from "zod";
import { RpxError } from "../contract/error.ts";
import { type ProjectFile, projectFileSchema } from "../contract/schemas/endpoint.ts";
import { closest } from "../text/closest.ts";
import { parseDuration } from "../text/duration.ts";
import { sanitizeLine } from "../text/sanitize.ts";
import { parseSize } from "../text/size.ts";
import { isEndpointName } from "./name.ts";
import { lineOfKey } from "./toml-lines.ts";

/** The file that says what a folder's endpoint is. */
export const PROJECT_FILE = "rpx.toml";

const DURATION_KEYS: readonly string[] = [
  "workers.idle_timeout",
  "gpu.max_wait",
  "limits.execution_timeout",
  "limits.ttl",
  "limits.start_timeout",
  "retention.async",
  "retention.sync",
  "retention.failed",
];
const SIZE_KEYS: readonly string[] = ["gpu.memory", "limits.memory", "limits.shm", "limits.disk"];
/** Keys that will come; a plain "unknown key" would send their user looking for a typing error. */
const LATER_KEYS: readonly string[] = ["template", "http"];

/**
 * Reads the rpx.toml at `path`; null when there is none. Throws RpxError `usage` with the line and what to do: a file that
 * cannot be read, is no TOML, has a key that does not exist (with the one that was meant) or a value out of its range.
 */
export async function readProjectFile(path: string): Promise<ProjectFile | null> {
  const text = await readText(path);
  return text === null ? null : parseProjectFile(text, path);
}

async function readText(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT") return null;
    const why = code === "EACCES" ? "you may not read this file" : `the system says ${code ?? "no more"}`;
    throw new RpxError("usage", `cannot read ${path}`, {
      why,
      hint: "make it a file that you can read",
      cause,
    });
  }
}

/** {@link readProjectFile} for text that is there; `path` only names it in errors. */
export function parseProjectFile(text: string, path: string): ProjectFile {
  const data = parseToml(text, path);
  const result = projectFileSchema.safeParse(data);
  const problem = result.success ? unfitValue(result.data) : firstProblem(result.error);
  if (problem !== null) throw refusal(problem, text, path);
  return projectFileSchema.parse(data);
}

function parseToml(text: string, path: string): unknown {
  try {
    return parse(text);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const why = cause.message.split("\n", 1)[0]?.replace(/^Invalid TOML document: /, "") ?? "it is no TOML";
    throw new RpxError("usage", `cannot read ${path}, line ${cause.line}`, {
      why: sanitizeLine(why),
      hint: "correct that line; text stands in quotes, one key a line",
      cause,
    });
  }
}

/** What is wrong at a key: `path` from the root, the sentence, and what to do. */
type Problem = { readonly path: readonly string[]; readonly why: string; readonly hint: string };

function refusal({ path, why, hint }: Problem, text: string, file: string): RpxError {
  const line = lineOfKey(text, path);
  const place = line === null ? file : `${file}, line ${line}`;
  return new RpxError("usage", `cannot use ${place}`, { why: sanitizeLine(why), hint: sanitizeLine(hint) });
}

function firstProblem(error: z.ZodError): Problem {
  const issue = meantIssue(error.issues[0]);
  const path = (issue?.path ?? []).map(String);
  if (issue?.code === "unrecognized_keys") return unknownKey(path, issue.keys[0] ?? "");
  if (path[0] === "name") return nameProblem();
  if (path[0] === "env") return envProblem(path, issue?.code);
  if (path.join(".") === "image") return imageProblem();
  return {
    path,
    why: `${path.join(".")}: ${issue?.message ?? "not usable"}`,
    hint: "correct the value; `rpx init` in an empty folder writes an example with every key",
  };
}

/** Of a key that may be a text or a table: what is wrong with the table, where it is one. */
function meantIssue(issue: z.core.$ZodIssue | undefined): z.core.$ZodIssue | undefined {
  if (issue?.code !== "invalid_union") return issue;
  const inTable = issue.errors
    .flat()
    .find(({ code, path }) => code === "unrecognized_keys" || path.length > 0);
  return inTable === undefined ? issue : { ...inTable, path: [...issue.path, ...inTable.path] };
}

function nameProblem(): Problem {
  return {
    path: ["name"],
    why: "name must be 1 to 63 of a-z, 0-9 and -, not begin with -, and be no word of RunPod's API",
    hint: 'for example: name = "my-worker"',
  };
}

function imageProblem(): Problem {
  return {
    path: ["image"],
    why: "image is the name of an image, or a table",
    hint: 'image = "org/image:tag" runs it as it is; [image] says how one is made of this folder',
  };
}

function envProblem(path: readonly string[], code: string | undefined): Problem {
  const key = path[1] ?? "";
  if (code === "invalid_key") {
    return { path, why: `env: "${key}" cannot name a variable`, hint: "use letters, digits and _" };
  }
  return { path, why: `env.${key} must be text`, hint: `put the value in quotes: ${key} = "..."` };
}

function unknownKey(path: readonly string[], key: string): Problem {
  const at = [...path, key];
  const name = path.length === 0 ? `"${key}"` : `"${key}" in [${path.join(".")}]`;
  if (path.length === 0 && LATER_KEYS.includes(key)) {
    return {
      path: at,
      why: `${name} is not possible yet`,
      hint: 'say what runs: handler = "handler.py", dockerfile = "Dockerfile" or image = "org/image:tag"',
    };
  }
  const known = keysAt(path);
  const meant = closest(key, known);
  if (meant !== null) return { path: at, why: `there is no key ${name}`, hint: `did you mean "${meant}"?` };
  const table = tableWith(key);
  const hint = table === null ? `keys here: ${known.join(", ")}` : `"${key}" belongs under [${table}]`;
  return { path: at, why: `there is no key ${name}`, hint };
}

/** The keys that may stand in a table; none when there is no such table. */
function keysAt(path: readonly string[]): string[] {
  let shape: Readonly<Record<string, unknown>> = projectFileSchema.shape;
  for (const part of path) shape = shapeOf(shape[part]);
  return Object.keys(shape);
}

function tableWith(key: string): string | null {
  const tables = Object.entries(projectFileSchema.shape);
  return tables.find(([, schema]) => Object.hasOwn(shapeOf(schema), key))?.[0] ?? null;
}

function shapeOf(schema: unknown): Readonly<Record<string, unknown>> {
  const inner = schema instanceof z.ZodOptional ? schema.unwrap() : schema;
  if (inner instanceof z.ZodUnion) return Object.assign({}, ...inner.options.map(shapeOf));
  return inner instanceof z.ZodObject ? inner.shape : {};
}

/** What the types cannot say: names RunPod uses itself, durations and sizes that nobody could read. */
function unfitValue(file: ProjectFile): Problem | null {
  if (file.name !== undefined && !isEndpointName(file.name)) return nameProblem();
  const unread = [
    ...DURATION_KEYS.map((key) => unfit(file, key, parseDuration, 'a duration: "5s", "10m", "1h30m"')),
    ...SIZE_KEYS.map((key) => unfit(file, key, parseSize, 'a size: "512MiB", "8GiB", "50GB"')),
  ];
  return unread.find((problem) => problem !== null) ?? null;
}

function unfit(
  file: ProjectFile,
  key: string,
  read: (value: string | number) => number | null,
  wanted: string,
): Problem | null {
  const [table = "", name = ""] = key.split(".");
  const value = (Object(file) as Record<string, Record<string, unknown> | undefined>)[table]?.[name];
  if (typeof value !== "string" && typeof value !== "number") return null;
  if (read(value) !== null) return null;
  return { path: [table, name], why: `${key} is ${JSON.stringify(value)}`, hint: `give ${wanted}` };
}
