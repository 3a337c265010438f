import { readFile } from "node:fs/promises";
import { RpxError } from "../contract/error.ts";
import { jsonString, readValue, spliceObject } from "../text/json-text.ts";

/** Deepest nesting of an input that the daemon takes. */
const MAX_DEPTH = 200;
/** Largest body of any submission in bytes (RunPod's /runsync); more is not read. */
const MAX_INPUT_BYTES = 20_000_000;
const PAIR = /^([A-Za-z_][A-Za-z0-9_.-]*)=(.*)$/s;
const EXAMPLE = `-i '{"name": "Ada"}', -i @input.json, or -i name=Ada`;

/**
 * The input of a job as raw JSON text, from `-i` values: one JSON value, one `@file` (`@-` and `-`: standard input), or any number of
 * `key=value`, whose values are JSON where they read as JSON and text elsewhere. None: an empty object. Throws RpxError `usage`.
 */
export async function readInput(values: readonly string[], stdin: () => Promise<string>): Promise<string> {
  const [first] = values;
  if (first === undefined) return "{}";
  if (values.every((value) => isPair(value))) return pairs(values);
  if (values.length > 1) {
    throw new RpxError("usage", "these inputs cannot be joined", {
      why: "only key=value may be given several times",
      hint: EXAMPLE,
    });
  }
  if (first === "-" || first === "@-") return checked(await stdin(), "standard input");
  if (first.startsWith("@")) return checked(await readInputFile(first.slice(1)), first.slice(1));
  return checked(first, "-i");
}

/** Standard input as text. Throws RpxError `usage` when it is a terminal or holds too much. */
export async function readStdin(): Promise<string> {
  if (process.stdin.isTTY)
    throw new RpxError("usage", "nothing was piped in", { hint: "echo '{}' | rpx job run EP -" });
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of process.stdin) {
    bytes += part.length;
    if (bytes > MAX_INPUT_BYTES)
      throw new RpxError("too_large", `the input is over ${MAX_INPUT_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString("utf8");
}

function isPair(value: string): boolean {
  return PAIR.test(value) && !value.startsWith("@");
}

function pairs(values: readonly string[]): string {
  const members = new Map<string, string>();
  for (const value of values) {
    const [, key = "", text = ""] = PAIR.exec(value) ?? [];
    const read = readValue(text, { maxDepth: MAX_DEPTH });
    members.set(key, read.ok ? read.text : jsonString(text));
  }
  return spliceObject(members);
}

async function readInputFile(path: string): Promise<string> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new RpxError("usage", `cannot read the input file ${path}`, { why, cause: error });
  }
}

function checked(text: string, from: string): string {
  const read = readValue(text, { maxDepth: MAX_DEPTH });
  if (read.ok) return read.text;
  throw new RpxError("usage", `the input (${from}) is no JSON`, { why: read.reason, hint: EXAMPLE });
}
