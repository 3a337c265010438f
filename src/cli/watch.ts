import { setTimeout as sleep } from "node:timers/promises";
import { printJsonLine, printLine } from "./output.ts";

/** How often a watched list is read, in ms. */
const EVERY_MS = 1_000;

/** `fingerprint`: what must change for an item to be printed again; ages and reasons that count up must not be in it. */
export type Watched<Item> = {
  readonly read: () => Promise<readonly Item[]>;
  readonly id: (item: Item) => string;
  readonly fingerprint: (item: Item) => string;
  readonly json: (item: Item) => string;
  readonly table: (items: readonly Item[]) => string;
  readonly isJson: boolean;
  readonly signal: AbortSignal;
};

/** Prints a list again whenever it changed; with JSON each new or changed item on a line, oldest first. Ends by the signal alone. */
export async function watchList<Item>(watched: Watched<Item>): Promise<never> {
  const { signal } = watched;
  let before = new Map<string, string>();
  let isFirst = true;
  for (;;) {
    const items = await watched.read();
    const now = new Map(items.map((item) => [watched.id(item), watched.fingerprint(item)]));
    const changed = items.filter((item) => before.get(watched.id(item)) !== watched.fingerprint(item));
    const isChanged = isFirst || changed.length > 0 || now.size !== before.size;
    if (watched.isJson) for (const item of changed.toReversed()) printJsonLine(watched.json(item));
    else if (isChanged) printLine(`${isFirst ? "" : "\n"}${watched.table(items)}`);
    before = now;
    isFirst = false;
    await sleep(EVERY_MS, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}
