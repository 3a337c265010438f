/** The peers of a warm resume: one bare container, frozen by the kernel's switch or by the engine. */
import { readFileSync, writeFileSync } from "node:fs";
import { freezerFiles } from "../src/runtime/adapters/docker/freezer.ts";
import { type Bell, createBell } from "./bell.ts";
import { ask, createBare, inspect, removeContainer } from "./engine.ts";
import { timeEntries } from "./entries.ts";
import { pause } from "./processes.ts";

export type Means = "kernel" | "engine";

type Switch = { freeze(): Promise<unknown>; thaw(): Promise<unknown> };

/** Times from a thaw to the next request of the frozen process, by each of the means in turn. */
export async function measureBareResume(means: readonly Means[]): Promise<number[][]> {
  const bell = await createBell();
  try {
    const id = await createBare(bell.folder, "frozen.py");
    try {
      await ask("POST", `/containers/${id}/start`);
      const times: number[][] = [];
      for (const each of means) times.push(await timeSwitch(bell, await switchOf(each, id)));
      return times;
    } finally {
      await removeContainer(id);
    }
  } finally {
    bell.close();
  }
}

/** Its request is answered just before it goes on, as a worker's held poll is. */
function timeSwitch(bell: Bell, { freeze, thaw }: Switch): Promise<number[]> {
  return timeEntries(bell, {
    async rest() {
      await bell.held();
      await freeze();
    },
    trigger() {
      bell.release();
      return thaw();
    },
  });
}

async function switchOf(means: Means, id: string): Promise<Switch> {
  if (means === "engine")
    return {
      freeze: () => ask("POST", `/containers/${id}/pause`),
      thaw: () => ask("POST", `/containers/${id}/unpause`),
    };
  const files = await freezerOf(id);
  return {
    async freeze() {
      writeFileSync(files.control, files.frozen);
      while (!isFrozen(files)) await pause(1);
    },
    thaw: async () => writeFileSync(files.control, files.thawed),
  };
}

/** By what a container is frozen now. The engine knows nothing of one that the kernel's switch holds, and uses that switch itself. */
export async function frozenBy(id: string): Promise<Means | null> {
  const { Status } = (await inspect(id)).State;
  if (Status === "paused") return "engine";
  return process.getuid?.() === 0 && isFrozen(await freezerOf(id)) ? "kernel" : null;
}

type Freezer = NonNullable<ReturnType<typeof freezerFiles>>;

async function freezerOf(id: string): Promise<Freezer> {
  const { Pid } = (await inspect(id)).State;
  const groups = readFileSync(`/proc/${Pid}/cgroup`, "utf8");
  const files = freezerFiles(groups, readFileSync("/proc/self/mountinfo", "utf8"), id);
  if (files === null) throw new Error("the container's freezer cannot be seen from here");
  return files;
}

function isFrozen(files: Freezer): boolean {
  return files.isFrozen(readFileSync(files.state, "utf8"));
}
