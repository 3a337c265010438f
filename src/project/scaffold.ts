import { lstat, mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { RpxError } from "../contract/error.ts";
import { projectToml } from "./toml.ts";

export type Language = "python" | "node";

const PYTHON_HANDLER = `import runpod


def handler(event):
    """One job: event["input"] is what the client sent, the result is what it gets."""
    name = event["input"].get("name", "world")
    return f"Hello, {name}!"


runpod.serverless.start({"handler": handler})
`;

const NODE_HANDLER = `import { start } from "rpx/worker";

/** One job: input is what the client sent, the result is what it gets. */
async function handler({ input }) {
  return \`Hello, \${input.name ?? "world"}!\`;
}

await start({ handler });
`;

const IGNORED = `# What the handler does not need: left out when the folder is sent to a daemon.
.git
**/__pycache__
**/*.pyc
.venv
.env
*.log
`;

const HANDLERS: Readonly<Record<Language, { readonly file: string; readonly text: string }>> = {
  python: { file: "handler.py", text: PYTHON_HANDLER },
  node: { file: "handler.mjs", text: NODE_HANDLER },
};

/** The files of a new endpoint called `name`: path to content. */
export function scaffold({ name, language }: { name: string; language: Language }): Map<string, string> {
  const { file, text } = HANDLERS[language];
  return new Map([
    [file, text],
    ["rpx.toml", projectToml({ name, handler: file })],
    ["test_input.json", '{ "input": { "name": "Ada" } }\n'],
    [".dockerignore", IGNORED],
  ]);
}

/**
 * Writes files into a folder, which is made. What is there is never overwritten unless `isForced`: throws RpxError `conflict` naming the
 * files, before anything is written.
 */
export async function writeNewFiles(
  folder: string,
  files: ReadonlyMap<string, string>,
  { isForced }: { isForced: boolean },
): Promise<void> {
  if (!isForced) await refuseExisting(folder, [...files.keys()]);
  await mkdir(folder, { recursive: true });
  for (const [name, text] of files) {
    await writeFile(join(folder, name), text, { flag: isForced ? "w" : "wx" });
  }
}

async function refuseExisting(folder: string, names: readonly string[]): Promise<void> {
  const entries = await Promise.all(names.map((name) => lstat(join(folder, name)).catch(() => null)));
  const there = names.filter((_, index) => entries[index] !== null);
  if (there.length === 0) return;
  throw new RpxError("conflict", `${folder} has ${there.join(", ")} already`, {
    why: "rpx init does not overwrite files",
    hint: "choose another folder, or --force to replace them",
  });
}
