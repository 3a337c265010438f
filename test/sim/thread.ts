/** One thread of a run over many seeds: it is sent seeds and answers with what became of them. */
import { parentPort } from "node:worker_threads";
import { planOf } from "./plan.ts";
import { simulate } from "./simulate.ts";

parentPort?.on("message", (seed: number) => {
  void simulate(planOf(seed)).then(({ lines: _, ...outcome }) => parentPort?.postMessage(outcome));
});
