/** Where programs say how far they have come, in the bench's own process: both sides are timed by one clock. */
import { once } from "node:events";
import { cpSync } from "node:fs";
import { createServer, type ServerResponse } from "node:http";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { temporaryFolder } from "./processes.ts";
import { PROGRAMS } from "./rpx.ts";

export type Bell = {
  /** A copy of programs/entered with the socket in it: a container sees it mounted, and no firewall stands before it. */
  readonly folder: string;
  /** The moment of the next "entered". */
  next(): Promise<number>;
  /** Resolves once a program waits for the answer to its "held". */
  held(): Promise<void>;
  /** Answers it. */
  release(): void;
  close(): void;
};

/** A program that says nothing for this long has failed. */
const SILENCE_MS = 30_000;

export async function createBell(): Promise<Bell> {
  const folder = temporaryFolder();
  cpSync(join(PROGRAMS, "entered"), folder.path, { recursive: true });
  let onEntered: (atMs: number) => void = () => {};
  let onHeld: () => void = () => {};
  let waiting: ServerResponse | null = null;
  const server = createServer((request, response) => {
    if (request.url === "/entered") onEntered(performance.now());
    if (request.url !== "/held") return void response.end();
    waiting = response;
    onHeld();
  });
  server.listen(join(folder.path, "bell.sock"));
  await once(server, "listening");
  return {
    folder: folder.path,
    next: () =>
      soon("entered", (resolve) => {
        onEntered = resolve;
      }),
    held: () =>
      soon("held", (resolve) => {
        onHeld = resolve;
        if (waiting !== null) resolve();
      }),
    release() {
      waiting?.end();
      waiting = null;
    },
    close() {
      server.close();
      server.closeAllConnections();
      folder.remove();
    },
  };
}

function soon<Value>(what: string, begin: (resolve: (value: Value) => void) => void): Promise<Value> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`no "${what}" in ${SILENCE_MS} ms`)), SILENCE_MS);
    begin((value) => {
      clearTimeout(timer);
      resolve(value);
    });
  });
}
