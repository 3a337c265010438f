import { type Bell, createBell } from "../bell.ts";
import { ask, createBare, needEngine, removeContainer } from "../engine.ts";
import { measureEntered } from "../entered.ts";
import { timeEntries } from "../entries.ts";
import type { Figure, Side } from "../figure.ts";
import { median } from "../run.ts";

export const figure: Figure = {
  id: "p19",
  title: "cold start of a container on a bridge, from submit to its handler, standard library only",
  peer: "bare create and start to the program's first request",
  rows: [{ name: "", unit: "ms", better: "lower", gate: 1.25, stretch: 0.7 }],
  limit: "the engine's create and start, half of which is a new network namespace; the start of Python",
  prepare: needEngine,
  measure: async (side) => [median(await measure(side))],
};

async function measure(side: Side): Promise<number[]> {
  if (side === "rpx") return measureEntered({ pool: "docker", from: "nothing" });
  const bell = await createBell();
  try {
    return await measureBare(bell);
  } finally {
    bell.close();
  }
}

async function measureBare(bell: Bell): Promise<number[]> {
  const made: string[] = [];
  const clear = async () => {
    for (const id of made.splice(0)) await removeContainer(id);
  };
  try {
    return await timeEntries(bell, {
      rest: clear,
      async trigger() {
        const id = await createBare(bell.folder, "first.py");
        made.push(id);
        await ask("POST", `/containers/${id}/start`);
      },
    });
  } finally {
    await clear();
  }
}
