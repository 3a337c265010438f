import { extname } from "node:path";
import { fileURLToPath } from "node:url";

/** Source or build: the entries end as this file does. */
const ENDING = extname(import.meta.filename);

/** The files that `rpx serve` and `rpx dev` start by path. */
export const SUPERVISOR_ENTRY = fileURLToPath(new URL(`../../supervisor/main${ENDING}`, import.meta.url));
export const DAEMON_ENTRY = fileURLToPath(new URL(`../../runtime/main${ENDING}`, import.meta.url));

/** Folders of the SDKs, for a handler that runs outside the queue. */
export const PYTHON_SITE = fileURLToPath(new URL("../../../sdk/python/site", import.meta.url));
export const NODE_HOOK = new URL("../../../sdk/node/hook.js", import.meta.url).href;

/** What one supervisor is started with. `stopWithParent`: the end of its standard input ends everything. */
export type SupervisorOptions = {
  readonly dataDir: string;
  readonly daemonConfig: object;
  readonly stopWithParent?: boolean;
};

/** Arguments for Node that start the supervisor. */
export function supervisorArguments(options: SupervisorOptions): string[] {
  return [SUPERVISOR_ENTRY, JSON.stringify({ ...options, daemonEntry: DAEMON_ENTRY })];
}
