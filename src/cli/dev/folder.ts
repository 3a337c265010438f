import { createHash } from "node:crypto";
import { join } from "node:path";
import { dataDir } from "../paths.ts";

/** Hexadecimal digits of a folder's hash: 64 bits tell the folders of one person apart. */
const HASH_LENGTH = 16;

/** Where `rpx dev` keeps the data of a folder: below the XDG data path, whatever RPX_DATA_DIR says of the daemon. */
export function devDataDir(folder: string, env: NodeJS.ProcessEnv): string {
  const { RPX_DATA_DIR: _daemon, ...rest } = env;
  const hash = createHash("sha256").update(folder).digest("hex").slice(0, HASH_LENGTH);
  return join(dataDir(rest).path, "dev", hash);
}
