import { stat } from "node:fs/promises";
import path from "node:path";
import { RpxError } from "../contract/error.ts";

const HANDLERS = ".py, .ts, .mjs or .js";
const ENDINGS: ReadonlySet<string> = new Set([".py", ".ts", ".mjs", ".js"]);

/** A handler's path inside its folder, checked: a file of a kind that rpx runs, and not outside. Throws RpxError `bad_request`. */
export async function checkHandler(folder: string, handler: string): Promise<string> {
  const inside = path.relative(folder, path.resolve(folder, handler));
  if (inside === "" || inside.split(path.sep)[0] === ".." || handler.includes("\0"))
    throw new RpxError("bad_request", "the handler lies outside its folder", {
      hint: "give its path inside the folder, like handler.py",
    });
  if (!ENDINGS.has(path.extname(inside)))
    throw new RpxError("bad_request", `cannot run ${inside}`, { why: `a handler is a ${HANDLERS} file` });
  const found = await stat(path.join(folder, inside)).catch(() => null);
  if (!found?.isFile())
    throw new RpxError("bad_request", `there is no handler ${inside}`, {
      why: `looked in ${folder}`,
      hint: `set handler in rpx.toml to a ${HANDLERS} file`,
    });
  // A name that begins with a hyphen would be read as an option.
  return inside.startsWith("-") ? `./${inside}` : inside;
}
