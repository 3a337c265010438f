/** The rate of a worker that runs jobs in bursts with a pause between them. */
import { performance } from "node:perf_hooks";
import { pause } from "./processes.ts";

const LOOK_EVERY_MS = 20;
/** Without an end of a job for so long, a burst is over. */
const QUIET_MS = 200;
const WARM_UP_MS = 4_000;
const MEASURED_MS = 20_000;
const START_MS = 60_000;

type Sample = { readonly atMs: number; readonly count: number };

/** Jobs a second between the end of the first whole burst and the end of the last one: no burst is counted in part. */
export async function steadyRate(completed: () => Promise<number>): Promise<number> {
  const startMs = performance.now();
  while ((await completed()) === 0) {
    if (performance.now() - startMs > START_MS) throw new Error(`no job had ended after ${START_MS} ms`);
    await pause(LOOK_EVERY_MS);
  }
  await pause(WARM_UP_MS);
  const ends = burstEnds(await watch(completed));
  const [first, last] = [ends[0], ends.at(-1)];
  if (first === undefined || last === undefined || first === last) throw new Error("no two bursts were seen");
  return ((last.count - first.count) * 1_000) / (last.atMs - first.atMs);
}

/** Each moment at which the count had grown. */
async function watch(completed: () => Promise<number>): Promise<Sample[]> {
  const endMs = performance.now() + MEASURED_MS;
  const samples: Sample[] = [];
  while (performance.now() < endMs) {
    const count = await completed();
    if (count !== samples.at(-1)?.count) samples.push({ atMs: performance.now(), count });
    await pause(LOOK_EVERY_MS);
  }
  return samples;
}

/** The last growth before each quiet time. The first sample is no growth: watching had only begun. */
function burstEnds(samples: readonly Sample[]): Sample[] {
  return samples.filter((sample, at) => {
    const next = samples[at + 1];
    return at > 0 && next !== undefined && next.atMs - sample.atMs >= QUIET_MS;
  });
}
