import { needEngine } from "../engine.ts";
import { measureEntered } from "../entered.ts";
import type { Figure, Side } from "../figure.ts";
import { measureBareResume } from "../resume.ts";
import { median } from "../run.ts";

export const figure: Figure = {
  id: "p17",
  title: "warm resume of a frozen container, from submit to its handler",
  peer: "a bare container's next request",
  rows: [
    {
      name: "beside a direct thaw by the kernel's switch",
      unit: "ms",
      better: "lower",
      gate: 4,
      stretch: 2.5,
    },
    { name: "beside the engine's unpause", unit: "ms", better: "lower", gate: 0.6, stretch: 0.4 },
  ],
  limit:
    "the thaw (0.1 ms), three HTTP exchanges (submit, the answer to the held poll, a fresh one), two commits",
  prepare: async () =>
    process.getuid?.() === 0 ? needEngine() : "only root may use the kernel's switch for containers",
  measure: (side) => measure(side),
};

async function measure(side: Side): Promise<readonly number[]> {
  if (side === "peer") return (await measureBareResume(["kernel", "engine"])).map(median);
  const ours = median(await measureEntered({ pool: "docker", from: "kernel" }));
  return [ours, ours];
}
