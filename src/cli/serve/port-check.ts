import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { createServer } from "node:net";
import { RpxError } from "../../contract/error.ts";

/** Column of a socket's inode and its state in /proc/net/tcp; 0A: listening. */
const LOCAL_COLUMN = 1;
const STATE_COLUMN = 3;
const INODE_COLUMN = 9;
const LISTENING = "0A";

/**
 * F-36: a port in use is found before any data is touched. Throws RpxError `conflict` naming the flag and, where it can be seen, the
 * process; any other failure to bind is left to the daemon, which tells more of it.
 */
export async function checkPortFree(
  flag: string,
  { host, port }: { host: string; port: number },
): Promise<void> {
  if (port === 0 || (await bindFailure(host, port)) !== "EADDRINUSE") return;
  const pid = listenerPid(port);
  throw new RpxError("conflict", `${flag} ${port} is in use`, {
    why: pid === null ? "another program listens there" : `process ${pid} listens there`,
    hint: `stop it, or choose another: ${flag} 0 takes a free one`,
  });
}

function bindFailure(host: string, port: number): Promise<string | null> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? ""));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(null)));
  });
}

/** The process that listens at a port, if /proc shows it to this user. */
function listenerPid(port: number): number | null {
  const inodes = new Set(["tcp", "tcp6"].flatMap((table) => listenerInodes(`/proc/net/${table}`, port)));
  if (inodes.size === 0) return null;
  const pids = listFolder("/proc").filter((name) => /^\d+$/.test(name));
  const found = pids.find((pid) =>
    listFolder(`/proc/${pid}/fd`).some((fd) =>
      inodes.has(/^socket:\[(\d+)\]$/.exec(linkTarget(`/proc/${pid}/fd/${fd}`))?.[1] ?? ""),
    ),
  );
  return found === undefined ? null : Number(found);
}

function listenerInodes(table: string, port: number): string[] {
  const ending = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  return orElse(() => readFileSync(table, "utf8"), "")
    .split("\n")
    .map((line) => line.trim().split(/\s+/))
    .filter((columns) => columns[LOCAL_COLUMN]?.endsWith(ending) && columns[STATE_COLUMN] === LISTENING)
    .map((columns) => columns[INODE_COLUMN] ?? "");
}

function listFolder(path: string): string[] {
  return orElse(() => readdirSync(path), []);
}

function linkTarget(path: string): string {
  return orElse(() => readlinkSync(path), "");
}

/** Processes end while they are looked at, and those of others are closed to us. */
function orElse<Value>(read: () => Value, fallback: Value): Value {
  try {
    return read();
  } catch {
    return fallback;
  }
}
