/** From a trigger to the moment when code of the user runs, again and again. */
import { performance } from "node:perf_hooks";
import type { Bell } from "./bell.ts";
import { pause } from "./processes.ts";

export type Entered = {
  /** Resolves when there is nothing left of the time before: asleep, or gone. */
  rest(): Promise<void>;
  /** Lets it go; what it resolves with is waited for before the next one. */
  trigger(): Promise<unknown>;
};

const WARM_UP = 1;
const SAMPLES = 9;
/** After a time without work a machine is slower: every trigger comes after this long in which nothing happens. */
const IDLE_MS = 1_000;

/** Times in ms, without those of the warm-up. */
export async function timeEntries(bell: Bell, { rest, trigger }: Entered): Promise<number[]> {
  const times: number[] = [];
  for (let sample = 0; sample < WARM_UP + SAMPLES; sample += 1) {
    await rest();
    await pause(IDLE_MS);
    const entered = bell.next();
    const startMs = performance.now();
    const [atMs] = await Promise.all([entered, trigger()]);
    times.push(atMs - startMs);
  }
  return times.slice(WARM_UP);
}
