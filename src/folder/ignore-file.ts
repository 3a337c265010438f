import { readFile } from "node:fs/promises";
import { join } from "node:path";
import ignore from "ignore";

/**
 * Left out unless .dockerignore takes them back with `!`: history, caches, and virtual environments, whose links lead to this
 * machine's interpreter. node_modules stays: a Node handler runs with it.
 */
const DEFAULT_IGNORED = ["**/.git", "**/__pycache__", "**/*.pyc", "**/.venv", "**/.DS_Store"] as const;
/** Docker's own: one file says what the handler does not need. */
export const IGNORE_FILE = ".dockerignore";

/** Whether a path (relative, forward slashes) is left out, and whether a folder that is may hold something that is not. */
export type Ignored = { isIgnored(path: string): boolean; readonly mayTakeBack: boolean };

/**
 * .dockerignore as Docker reads it: every pattern starts at the root, the last one that fits a path or a folder above it
 * decides. One matcher a line, because in the rules of git nothing below a left-out folder could be taken back. `more` are patterns
 * behind the file's, which decide before it: `!Dockerfile` keeps what Docker sends whatever the file says.
 */
export async function readIgnoreFile(root: string, more: readonly string[] = []): Promise<Ignored> {
  const text = await readFile(join(root, IGNORE_FILE), "utf8").catch(() => "");
  const lines = text.split(/\r?\n/).map((line) => line.trim());
  const asked = lines.filter((line) => line !== "" && !line.startsWith("#"));
  const rules = [...DEFAULT_IGNORED, ...asked, ...more].map(ignoreRule);
  return {
    isIgnored: (path) => rules.findLast((rule) => rule.matches(path))?.leavesOut ?? false,
    mayTakeBack: rules.some((rule) => !rule.leavesOut),
  };
}

function ignoreRule(line: string): { leavesOut: boolean; matches(path: string): boolean } {
  const leavesOut = !line.startsWith("!");
  const pattern = (leavesOut ? line : line.slice(1))
    .trim()
    .replace(/^(?:\.?\/)+/, "")
    .replace(/\/+$/, "");
  const matcher = ignore({ ignorecase: false }).add(`/${pattern}`);
  return { leavesOut, matches: (path) => pattern !== "" && matcher.ignores(path) };
}
