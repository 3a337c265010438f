/** A way from this process into another network namespace: a port here leads to a port of that one's loopback. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { fileURLToPath } from "node:url";

const PROGRAM = fileURLToPath(new URL("../../fixtures/e2e/doorway.mjs", import.meta.url));

/** `enter` runs a program there: `nsenter --net=...`. The port here, and how to close the way; it also ends with this process. */
export async function openDoorway(
  enter: readonly string[],
  port: number,
): Promise<{ readonly port: number; close(): void }> {
  // The listening socket belongs to the namespace that it was made in, whoever accepts from it.
  const listener = createServer();
  listener.listen(0, "127.0.0.1");
  await once(listener, "listening");
  const address = listener.address();
  const [file = "", ...args] = [...enter, process.execPath];
  const child = fork(PROGRAM, [String(port)], { execPath: file, execArgv: args });
  child.send("listener", listener);
  await once(child, "message");
  // It has the socket too: of two that accept, this one would answer nobody.
  listener.close();
  const here = typeof address === "object" && address !== null ? address.port : 0;
  return { port: here, close: () => child.disconnect() };
}
