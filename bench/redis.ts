/** The one question that a measurement asks Redis, without a client of its own. */
import { once } from "node:events";
import { connect } from "node:net";
import { createInterface } from "node:readline";
import type { Redis } from "./peers.ts";

/** Celery keeps each result under a key of its own. */
export type Results = { readonly count: () => Promise<number>; readonly close: () => void };

/** Counts them by DBSIZE, less the keys that were there before the worker: cheap at any depth. */
export async function countResults({ port }: Redis): Promise<Results> {
  const socket = connect(port, "127.0.0.1");
  await once(socket, "connect");
  const replies = createInterface({ input: socket })[Symbol.asyncIterator]();
  const size = async (): Promise<number> => {
    socket.write("DBSIZE\r\n");
    const { value } = await replies.next();
    return Number(String(value).slice(1));
  };
  const before = await size();
  return { count: async () => Math.max(0, (await size()) - before), close: () => socket.destroy() };
}
