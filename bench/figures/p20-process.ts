import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createBell } from "../bell.ts";
import { measureEntered } from "../entered.ts";
import { timeEntries } from "../entries.ts";
import type { Figure, Side } from "../figure.ts";
import { PYTHON } from "../peers.ts";
import { median } from "../run.ts";

export const figure: Figure = {
  id: "p20",
  title: "cold start of a child process, from submit to its handler, standard library only",
  peer: "bare spawn to the program's first request",
  rows: [{ name: "", unit: "ms", better: "lower", gate: 1.8, stretch: 1.3 }],
  limit: "the start of Python",
  prepare: async () => null,
  measure: async (side) => [median(await measure(side))],
};

async function measure(side: Side): Promise<number[]> {
  if (side === "rpx") return measureEntered({ pool: "process", from: "nothing" });
  const bell = await createBell();
  try {
    return await timeEntries(bell, {
      rest: async () => {},
      trigger: () => once(spawn(PYTHON, ["-u", join(bell.folder, "first.py")], { stdio: "ignore" }), "exit"),
    });
  } finally {
    bell.close();
  }
}
