/** What an engine itself says happened to containers, and when: what a daemon's journal is held against. */
import { spawn } from "node:child_process";
import { createInterface } from "node:readline";

export type ContainerEvent = {
  readonly atMs: number;
  /** How much later this process heard of it: what this machine itself costs. */
  readonly lagMs: number;
  readonly action: string;
  readonly container: string;
};

export type EngineWatch = {
  /** The first event of one of these kinds of a container, once it is there. */
  first(container: string, actions: readonly string[]): ContainerEvent | undefined;
  close(): void;
};

/** Follows the events of containers that carry a label. */
export function watchEngine(label: string): EngineWatch {
  const format = "{{.TimeNano}} {{.Action}} {{.Actor.ID}}";
  const args = ["events", "--filter", "type=container", "--filter", `label=${label}`, "--format", format];
  const child = spawn("docker", args, { stdio: ["ignore", "pipe", "inherit"] });
  const events: ContainerEvent[] = [];
  createInterface(child.stdout).on("line", (line) => {
    const [nanos = "", action = "", container = ""] = line.split(" ");
    const atMs = Number(BigInt(nanos) / 1_000_000n);
    events.push({ atMs, lagMs: Date.now() - atMs, action, container });
  });
  return {
    first: (container, actions) =>
      events.find((event) => event.container === container && actions.includes(event.action)),
    close: () => void child.kill(),
  };
}
