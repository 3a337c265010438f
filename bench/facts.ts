import { readFileSync } from "node:fs";
import { availableParallelism, cpus, release, totalmem } from "node:os";

/** What a figure depends on, without a name of the machine. */
export function machineFacts(): string {
  const processor = cpus()[0]?.model.trim() || processorName();
  const memoryGiB = Math.round(totalmem() / 2 ** 30);
  const { node, sqlite } = process.versions;
  return `${availableParallelism()} cores (${processor}), ${memoryGiB} GiB, Linux ${release().split("-")[0]}, Node ${node}, SQLite ${sqlite}`;
}

function processorName(): string {
  return /^model name\s*: (.*)$/m.exec(readFileSync("/proc/cpuinfo", "utf8"))?.[1] ?? "unknown";
}
