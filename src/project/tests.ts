import { open } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { RpxError } from "../contract/error.ts";
import { type ReleaseTestBody, releaseTestSchema } from "../contract/schemas/endpoint.ts";
import { sanitizeLine } from "../text/sanitize.ts";

/** Where RunPod's hub looks for it. */
export const TESTS_FILE = ".runpod/tests.json";
/** A larger file is none that a request could carry. */
const MAX_BYTES = 1_000_000;
/** A test that names no timeout: what RunPod's own runner gives it, in ms (wire.md, row 24). */
const DEFAULT_TIMEOUT_MS = 300_000;

/** RunPod's file: unknown keys are RunPod's business and are accepted. `timeout` is in ms. */
const testsSchema = z.object({
  tests: z
    .array(
      z.object({
        name: z.string(),
        input: z.json(),
        timeout: z.number().optional(),
        expected: z.json().optional(),
      }),
    )
    .max(100),
});

/** The tests of a folder's .runpod/tests.json; none where there is no such file. Throws as {@link readTests} does. */
export async function folderTests(folder: string): Promise<ReleaseTestBody[]> {
  const path = join(folder, TESTS_FILE);
  const text = await readText(path);
  return text === null ? [] : parseTests(text, path);
}

/**
 * The tests in a file of the form of RunPod's tests.json, with `expected` (what the output must equal) as an addition. Throws RpxError
 * `usage` naming file and field, `not_found` where there is no such file: a test that is left out in silence proves nothing.
 */
export async function readTests(path: string): Promise<ReleaseTestBody[]> {
  const text = await readText(path);
  if (text !== null) return parseTests(text, path);
  throw new RpxError("not_found", `no file ${path}`, {
    hint: 'tests are JSON: {"tests": [{"name", "input"}]}',
  });
}

/** {@link readTests} for text that is there; `path` only names it in errors. */
export function parseTests(text: string, path: string): ReleaseTestBody[] {
  const read = testsSchema.safeParse(toJson(text, path));
  if (!read.success) throw refusal(path, read.error.issues[0]);
  return read.data.tests.map(({ name, input, timeout = DEFAULT_TIMEOUT_MS, expected }, index) => {
    const test = { name, input, timeoutMs: timeout, ...(expected === undefined ? {} : { expected }) };
    const checked = releaseTestSchema.safeParse(test);
    if (checked.success) return checked.data;
    throw refusal(path, asInFile(index, checked.error.issues[0]));
  });
}

type Issue = Pick<z.core.$ZodIssue, "path" | "message">;

/** Of the request's schema, in the words of the file. */
function asInFile(index: number, issue: Issue | undefined): Issue {
  const path = (issue?.path ?? []).map((part) => (part === "timeoutMs" ? "timeout" : part));
  return { path: ["tests", index, ...path], message: issue?.message ?? "not usable" };
}

function refusal(file: string, issue: Issue | undefined): RpxError {
  const field = (issue?.path ?? []).map((part) =>
    typeof part === "number" ? `[${part}]` : `.${String(part)}`,
  );
  const name = field.join("").replace(/^\./, "") || "the file";
  return new RpxError("usage", `cannot use ${file}`, {
    why: sanitizeLine(`${name}: ${issue?.message ?? "not usable"}`),
    hint: 'the form is {"tests": [{"name": "…", "input": {…}, "timeout": 10000, "expected": …}]}, timeout in ms',
  });
}

function toJson(text: string, path: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : "it is no JSON";
    throw new RpxError("usage", `cannot read ${path}`, { why: sanitizeLine(why), cause });
  }
}

async function readText(path: string): Promise<string | null> {
  try {
    await using file = await open(path);
    const { size } = await file.stat();
    if (size <= MAX_BYTES) return await file.readFile("utf8");
    throw new RpxError("usage", `cannot read ${path}`, { why: `it is larger than ${MAX_BYTES} bytes` });
  } catch (cause) {
    if (cause instanceof RpxError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    if (code === "ENOENT") return null;
    throw new RpxError("usage", `cannot read ${path}`, {
      why: `the system says ${code ?? "no more"}`,
      cause,
    });
  }
}
