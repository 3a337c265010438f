import { JOB_TABLE } from "../../src/runtime/core/job-machine.ts";
import type { JournalEvent } from "../../src/runtime/core/model.ts";
import { FIRST_RELEASE_STATES, RELEASE_TABLE } from "../../src/runtime/core/release-machine.ts";
import { WORKER_TABLE } from "../../src/runtime/core/worker-machine.ts";
import { COMMIT_KINDS, type Fault, WEATHER, type WeatherKind } from "./plan.ts";

/** How often each row of the state tables was taken, and each fault struck. */
export type Coverage = {
  observe(event: JournalEvent): void;
  fault(kind: string): void;
  readonly counts: ReadonlyMap<string, number>;
};

export function createCoverage(): Coverage {
  const counts = new Map<string, number>();
  const add = (name: string) => counts.set(name, (counts.get(name) ?? 0) + 1);
  return {
    counts,
    observe: ({ kind, data }) => {
      const row = rowOf(kind, data);
      if (row !== null) add(row);
    },
    fault: (kind) => add(`fault ${kind}`),
  };
}

function rowOf(kind: string, { from, to }: JournalEvent["data"]): string | null {
  if (kind === "job.submit") return "job (new) submit IN_QUEUE";
  if (kind === "job.available") return "job IN_QUEUE available IN_QUEUE";
  if (kind.startsWith("job.")) return `job ${from} ${kind.slice("job.".length)} ${to}`;
  if (kind === "worker.move") return `worker ${from} ${to}`;
  if (kind === "worker.add") return "worker (new) wanted";
  if (kind.startsWith("release.")) return `release ${from ?? "(none)"} ${to}`;
  return null;
}

type Timed = Fault["kind"];
const TIMED: Readonly<Record<Exclude<Timed, "kill-at-commit" | "worker-hang" | "partition">, true>> = {
  kill: true,
  "power-cut": true,
  "supervisor-kill": true,
  pause: true,
  handover: true,
  restart: true,
  "clock-jump": true,
  "full-disk": true,
  "pool-away": true,
  "worker-death": true,
  "workers-die": true,
};
const EVERY_FAULT: readonly string[] = [
  ...Object.keys(TIMED),
  ...(WEATHER satisfies readonly WeatherKind[]),
  ...COMMIT_KINDS.flatMap((kind) => [`kill before commit of ${kind}`, `kill after commit of ${kind}`]),
  "worker-hang, pings go on",
  "worker-hang, whole",
  "partition in",
  "partition out",
  "partition both",
  "unsynced commits lost",
  "slow-pull",
  "start-aborted",
  "build-fails",
];

function everyRow(): string[] {
  const jobs = Object.entries(JOB_TABLE).flatMap(([from, inputs]) =>
    Object.entries(inputs).flatMap(([input, states]) =>
      (states as readonly string[]).map((to) => `job ${from} ${input} ${to}`),
    ),
  );
  const workers = Object.entries(WORKER_TABLE).flatMap(([from, states]) =>
    states.map((to) => `worker ${from} ${to}`),
  );
  return [
    "job (new) submit IN_QUEUE",
    "job IN_QUEUE available IN_QUEUE",
    ...jobs,
    "worker (new) wanted",
    ...workers,
    ...FIRST_RELEASE_STATES.map((to) => `release (none) ${to}`),
    ...Object.entries(RELEASE_TABLE).flatMap(([from, states]) => states.map((to) => `release ${from} ${to}`)),
  ];
}

export type CoverageReport = {
  readonly rows: readonly (readonly [name: string, count: number])[];
  /** Rows and faults that never occurred. */
  readonly missing: readonly string[];
};

/** Every row and fault with its count, also those at 0. */
export function reportCoverage(counts: ReadonlyMap<string, number>): CoverageReport {
  const expected = [...everyRow(), ...EVERY_FAULT.map((kind) => `fault ${kind}`)];
  const rows = [...new Set([...expected, ...counts.keys()])].map(
    (name) => [name, counts.get(name) ?? 0] as const,
  );
  const missing = rows.flatMap(([name, count]) => (count === 0 ? [name] : []));
  return { rows, missing };
}

export function addCounts(into: Map<string, number>, counts: ReadonlyMap<string, number>): void {
  for (const [name, count] of counts) into.set(name, (into.get(name) ?? 0) + count);
}
