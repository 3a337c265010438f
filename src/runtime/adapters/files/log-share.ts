import path from "node:path";
import { folderBytes } from "../../../folder/bytes.ts";
import type { DiskShare } from "../../ports/artifacts.ts";

/** What the log files of workers, present and gone, take. */
export function createLogsShare(deps: { readonly dataDir: string }): DiskShare {
  return { kind: "logs", bytes: () => folderBytes(path.join(deps.dataDir, "logs")) };
}
