import { performance } from "node:perf_hooks";

/** A run counts only while the same work takes the same time: the loop's spread before and after is at most this. */
export const MAX_CV = 0.05;
const RUNS = 15;
const LOOPS = 20_000_000;

/** Coefficient of variation of a fixed loop on one core: standard deviation over mean. */
export function measureNoise(): number {
  spin();
  const times = Array.from({ length: RUNS }, spin);
  const mean = times.reduce((sum, ms) => sum + ms, 0) / RUNS;
  const variance = times.reduce((sum, ms) => sum + (ms - mean) ** 2, 0) / RUNS;
  return Math.sqrt(variance) / mean;
}

function spin(): number {
  const start = performance.now();
  let value = 1;
  for (let at = 0; at < LOOPS; at += 1) value = (Math.imul(value, 1_664_525) + at) | 0;
  const ms = performance.now() - start;
  // Never true; without a use of it the loop could be left out.
  return value === 0.5 ? 0 : ms;
}
