import { needEngine } from "../engine.ts";
import { measureEntered } from "../entered.ts";
import type { Figure, Side } from "../figure.ts";
import { measureBareResume } from "../resume.ts";
import { median } from "../run.ts";

/** A daemon that may not write the kernel's switch asks the engine: one of root's sees it read-only. */
const WITHOUT_SWITCH = [
  "unshare",
  "--mount",
  "--propagation",
  "private",
  "sh",
  "-c",
  'while read -r _ at type _; do case $type in cgroup*) mount -o remount,bind,ro "$at";; esac; done </proc/self/mounts && exec "$0" "$@"',
];

export const figure: Figure = {
  id: "p18",
  title: "warm resume of a container through the engine, from submit to its handler",
  peer: "bare unpause to the container's next request",
  rows: [{ name: "", unit: "ms", better: "lower", gate: 1.3, stretch: 1.15 }],
  limit: "the engine's unpause, most of which is the start of its runtime's program",
  prepare: needEngine,
  measure: async (side) => [median(await measure(side))],
};

async function measure(side: Side): Promise<number[]> {
  if (side === "peer") return (await measureBareResume(["engine"])).flat();
  const daemon = process.getuid?.() === 0 ? { command: WITHOUT_SWITCH } : {};
  return measureEntered({ pool: "docker", from: "engine", daemon });
}
