import { type Chance, chanceOf } from "./chance.ts";
import { FLEET_OPERATIONS, type FleetAct, planFleetOperation, planHost } from "./plan-fleet.ts";

/** What a handler does with a job. `ms`: its run time. */
export type Work =
  | { readonly kind: "echo"; readonly ms: number; readonly chunks: number; readonly progress: number }
  | { readonly kind: "error"; readonly ms: number }
  /** Kills its worker. */
  | { readonly kind: "poison"; readonly ms: number }
  /** Never returns. */
  | { readonly kind: "endless" }
  /** Posts what is no JSON. */
  | { readonly kind: "unreadable"; readonly ms: number }
  | { readonly kind: "oversize"; readonly ms: number }
  /** Streams more than is kept. */
  | { readonly kind: "flood"; readonly ms: number }
  /** Asks for a fresh worker after it. */
  | { readonly kind: "refresh"; readonly ms: number };

export type Run = {
  readonly kind: "run";
  readonly endpoint: number;
  readonly work: Work;
  readonly sync: boolean;
  /** A careful client sends an idempotency key and repeats a request whose answer was lost. */
  readonly careful: boolean;
  readonly webhook: boolean;
  readonly lowPriority: boolean;
  readonly ttlMs: number | null;
};

/** One thing that happens: a client's operation, an operator's, or a fault. `of` is the id of a run. */
export type Act =
  | Run
  | { readonly kind: "status" | "stream" | "cancel" | "retry"; readonly of: number }
  /** Sends a run's request again under its key: the same body, or another one. */
  | { readonly kind: "repeat"; readonly of: number; readonly changed: boolean }
  /** A request that must be refused, and never run. */
  | { readonly kind: "malformed"; readonly endpoint: number }
  | { readonly kind: "purge"; readonly endpoint: number }
  | FleetAct
  | Fault;

export type Fault =
  /** SIGKILL to the daemon at some moment. */
  | { readonly kind: "kill"; readonly downMs: number }
  /** SIGKILL around the `skip`-th following commit that holds `holding` (any: every commit). */
  | {
      readonly kind: "kill-at-commit";
      readonly when: "before" | "after";
      readonly holding: CommitKind;
      readonly skip: number;
      readonly downMs: number;
    }
  /** The machine loses power: what was not synced may be gone, and every process is. */
  | { readonly kind: "power-cut"; readonly downMs: number }
  /** SIGKILL to the supervisor: its workers end with it. */
  | { readonly kind: "supervisor-kill"; readonly downMs: number }
  /** SIGSTOP and SIGCONT: the daemon stands still and the world goes on. */
  | { readonly kind: "pause"; readonly ms: number }
  /** SIGHUP: a successor takes over. */
  | { readonly kind: "handover" }
  /** SIGTERM, and a start later. */
  | { readonly kind: "restart"; readonly downMs: number }
  | { readonly kind: "clock-jump"; readonly ms: number }
  | { readonly kind: "full-disk"; readonly ms: number }
  /** The engine cannot be reached; its containers go on. */
  | { readonly kind: "pool-away"; readonly ms: number }
  /** One of the workers ends by itself. */
  | { readonly kind: "worker-death" }
  /** All workers end at once, those that sleep last. */
  | { readonly kind: "workers-die" }
  /** One of the workers stands still; `pings`: its heartbeat, a process of its own, goes on. */
  | { readonly kind: "worker-hang"; readonly pings: boolean }
  | { readonly kind: "partition"; readonly ms: number; readonly way: "in" | "out" | "both" };

export const COMMIT_KINDS = ["any", "job.submit", "job.take", "job.complete", "webhook.try"] as const;
export type CommitKind = (typeof COMMIT_KINDS)[number];

export type Step = { readonly id: number; readonly atMs: number; readonly act: Act };

/** Probabilities of what goes wrong by itself, for each request, reply, start and webhook. */
export const WEATHER = [
  "request-lost",
  "reply-lost-noticed",
  "reply-lost-silently",
  "post-doubled",
  "post-late",
  "post-stray",
  "client-gone",
  "start-refused",
  "pull-fails",
  "park-fails",
  "wake-fails",
  "boot-fails",
  "boot-never",
  "unfit",
  "webhook-refused",
  "webhook-broken",
] as const;
export type WeatherKind = (typeof WEATHER)[number];
export type Weather = Readonly<Record<WeatherKind, number>>;

export type EndpointPlan = {
  readonly name: string;
  readonly min: number;
  readonly max: number;
  readonly by: "queue-delay" | "request-count";
  readonly threshold: number;
  readonly idleS: number;
  readonly prefetch: number;
  readonly executionS: number;
  readonly ttlS: number;
  readonly startS: number;
  readonly retries: number;
  readonly retentionS: number;
  readonly maxQueued: number;
  readonly extra: number;
  readonly flashboot: boolean;
  readonly prewarm: boolean;
  /** Its first release has to prove itself. */
  readonly proves: boolean;
  readonly pool: "process" | "docker";
  /** What each of its workers claims of the machine; null: nothing is said. */
  readonly memoryGiB: number | null;
  readonly worker: WorkerPlan;
};

/** What runs in an endpoint's workers. `own`: our SDK with its fast path; `stock`: RunPod's. */
export type WorkerPlan = {
  readonly sdk: "own" | "stock";
  readonly concurrency: number;
  /** Takes through the batch route. */
  readonly batch: boolean;
  /** Listens for jobs to stop; older SDKs do not. */
  readonly stops: boolean;
  readonly bootMs: number;
};

/** Everything that a seed decides before the world begins: plain data. */
export type Plan = {
  readonly seed: number;
  readonly endpoints: readonly EndpointPlan[];
  readonly weather: Weather;
  readonly steps: readonly Step[];
  /** Faults end here, and everything has to come to its end. */
  readonly healAtMs: number;
  /** Memory that workers may claim together; null: more than they ask for. */
  readonly budgetGiB: number | null;
  /** Requests reach the machine at multiples of this: those of one moment are met by one turn of the daemon. */
  readonly turnMs: number;
};

/** About nine of ten are accepted: a hundred jobs a seed. */
const RUNS_PER_SEED = 115;

/** What happens in the world of a seed. Each seed has its own subset of faults and rates. */
export function planOf(seed: number): Plan {
  const chance = chanceOf(seed, "plan");
  const bare = Array.from({ length: chance.between(1, 3) }, (_, at) => planEndpoint(chance, at));
  const { endpoints, budgetGiB, nightMs } = planHost(chanceOf(seed, "host"), bare);
  const lengthMs = chance.between(20_000, 90_000);
  const runs: { readonly id: number; readonly atMs: number; readonly act: Run }[] = [];
  for (let id = 0; id < RUNS_PER_SEED; id += 1) {
    // Half of the jobs come in a burst, so that queues form; some at the same moment as another, when workers may be idle.
    const spreadMs = chance.hits(0.5) ? lengthMs : Math.floor(lengthMs / 8);
    const twin = chance.hits(0.3) ? runs.at(-1) : undefined;
    const act = planRun(chance, endpoints.length);
    const atMs = chance.between(0, spreadMs);
    runs.push(
      twin ? { id, atMs: twin.atMs, act: { ...act, endpoint: twin.act.endpoint } } : { id, atMs, act },
    );
  }
  const operations = Array.from({ length: chance.between(60, 120) }, (_, at) =>
    planOperation(chance, RUNS_PER_SEED + at, runs, lengthMs, endpoints),
  );
  const faults = planFaults(chance, { firstId: 1_000, lengthMs, operations });
  // In a night nothing is asked for: sleepers fall asleep more deeply.
  const late = (step: Step): Step =>
    step.atMs > lengthMs / 2 ? { ...step, atMs: step.atMs + nightMs } : step;
  const steps = [...runs, ...operations, ...faults].map(late).sort((a, b) => a.atMs - b.atMs || a.id - b.id);
  const turnMs = chance.pick([1, 20, 50]);
  const healAtMs = lengthMs + nightMs + 5_000;
  return { seed, endpoints, budgetGiB, weather: planWeather(chance), steps, healAtMs, turnMs };
}

function planEndpoint(chance: Chance, at: number): EndpointPlan {
  const by = chance.pick(["queue-delay", "request-count"] as const);
  const sdk = chance.pick(["own", "stock"] as const);
  const concurrency = chance.hits(0.4) ? chance.between(2, 4) : 1;
  // Old SDKs take one by one, however many places they have: not for them is the prefetch.
  const batch = chance.hits(concurrency > 1 ? 0.8 : 0.3);
  const prefetches = chance.hits(0.3) && (batch || concurrency === 1);
  return {
    name: `e${at}`,
    min: chance.hits(0.3) ? 1 : 0,
    max: chance.between(1, 4),
    by,
    threshold: by === "queue-delay" ? chance.pick([0.5, 1, 4]) : chance.between(1, 5),
    idleS: chance.between(1, 15),
    prefetch: prefetches ? chance.between(2, 6) : 1,
    executionS: chance.between(5, 15),
    ttlS: chance.between(60, 180),
    startS: chance.between(5, 15),
    retries: chance.hits(0.4) ? chance.between(1, 2) : 0,
    retentionS: chance.hits(0.15) ? chance.between(20, 60) : 1_800,
    maxQueued: chance.hits(0.1) ? chance.between(5, 20) : 0,
    ...{ extra: 0, flashboot: true, prewarm: false, proves: false, pool: "process", memoryGiB: null },
    worker: {
      sdk,
      concurrency,
      batch,
      stops: sdk === "own" || chance.hits(0.6),
      bootMs: chance.between(50, 1_500),
    },
  };
}

function planRun(chance: Chance, endpoints: number): Run {
  return {
    kind: "run",
    endpoint: chance.between(0, endpoints - 1),
    work: planWork(chance),
    sync: chance.hits(0.3),
    careful: chance.hits(0.5),
    webhook: chance.hits(0.2),
    lowPriority: chance.hits(0.08),
    ttlMs: chance.hits(0.08) ? 10_000 : null,
  };
}

function planWork(chance: Chance): Work {
  const ms = chance.hits(0.1) ? chance.between(1_000, 5_000) : chance.skewed(5, 2_000);
  const kind = chance.fraction();
  if (kind < 0.02) return { kind: "poison", ms };
  if (kind < 0.035) return { kind: "endless" };
  if (kind < 0.05) return { kind: "unreadable", ms };
  if (kind < 0.06) return { kind: "oversize", ms };
  if (kind < 0.07) return { kind: "flood", ms };
  if (kind < 0.09) return { kind: "refresh", ms };
  if (kind < 0.17) return { kind: "error", ms: chance.between(100, 4_000) };
  const streams = chance.hits(0.2);
  return {
    kind: "echo",
    ms,
    chunks: streams ? chance.between(1, 5) : 0,
    progress: chance.hits(0.2) ? chance.between(1, 3) : 0,
  };
}

function planOperation(
  chance: Chance,
  id: number,
  runs: readonly Step[],
  lengthMs: number,
  endpoints: readonly EndpointPlan[],
): Step {
  const run = pickRun(chance, runs);
  const atMs = Math.min(lengthMs, run.atMs + chance.skewed(0, 20_000));
  const anywhere = { id, atMs: chance.between(0, lengthMs) };
  const endpoint = chance.between(0, endpoints.length - 1);
  const kind = chance.fraction();
  if (kind < 0.22) return { id, atMs, act: { kind: "status", of: run.id } };
  if (kind < 0.4) return { id, atMs, act: { kind: "stream", of: run.id } };
  if (kind < 0.55) return { id, atMs, act: { kind: "cancel", of: run.id } };
  if (kind < 0.65) return { id, atMs: atMs + 5_000, act: { kind: "retry", of: run.id } };
  if (kind < 0.75) return { id, atMs, act: { kind: "repeat", of: run.id, changed: chance.hits(0.3) } };
  if (kind < 0.78) return { ...anywhere, act: { kind: "malformed", endpoint } };
  if (kind < 0.81) return { ...anywhere, act: { kind: "purge", endpoint } };
  return { ...anywhere, act: planFleetOperation(chance, endpoint) };
}

/** Often one that will fail: what follows a failure is where mistakes are made. */
function pickRun(chance: Chance, runs: readonly Step[]): Step {
  const failing = runs.filter(({ act }) => act.kind === "run" && act.work.kind !== "echo");
  return chance.hits(0.3) && failing.length > 0 ? chance.pick(failing) : chance.pick(runs);
}

/** Kinds of faults with how many of each a seed that has them gets at most. */
const FAULTS: readonly (readonly [most: number, make: (chance: Chance) => Fault])[] = [
  [3, (chance) => ({ kind: "kill", downMs: chance.skewed(50, 20_000) })],
  [6, planKillAtCommit],
  [1, (chance) => ({ kind: "power-cut", downMs: chance.skewed(500, 20_000) })],
  [1, (chance) => ({ kind: "supervisor-kill", downMs: chance.skewed(200, 10_000) })],
  [2, (chance) => ({ kind: "pause", ms: chance.skewed(100, 90_000) })],
  [2, () => ({ kind: "handover" })],
  [1, (chance) => ({ kind: "restart", downMs: chance.skewed(200, 10_000) })],
  [
    2,
    (chance) => ({
      kind: "clock-jump",
      ms: chance.pick([-1, 1]) * chance.pick([5_000, 3_600_000, TEN_YEARS_MS]),
    }),
  ],
  [2, (chance) => ({ kind: "full-disk", ms: chance.skewed(200, 20_000) })],
  [2, (chance) => ({ kind: "pool-away", ms: chance.skewed(200, 90_000) })],
  [4, () => ({ kind: "worker-death" })],
  [2, () => ({ kind: "workers-die" })],
  [2, (chance) => ({ kind: "worker-hang", pings: chance.hits(0.5) })],
  [
    3,
    (chance) => ({
      kind: "partition",
      ms: chance.skewed(500, 90_000),
      way: chance.pick(["in", "out", "both"]),
    }),
  ],
];
const TEN_YEARS_MS = 10 * 365 * 24 * 3_600_000;

function planKillAtCommit(chance: Chance): Fault {
  return {
    kind: "kill-at-commit",
    when: chance.pick(["before", "after"]),
    holding: chance.pick(COMMIT_KINDS),
    skip: chance.between(0, 5),
    downMs: chance.skewed(50, 5_000),
  };
}

/** From an operation on the fleet, or another fault, to a fault that is to meet what it set off. */
const SOON_MS = 8_000;

type FaultsOf = { readonly firstId: number; readonly lengthMs: number; readonly operations: readonly Step[] };

function planFaults(chance: Chance, { firstId, lengthMs, operations }: FaultsOf): Step[] {
  const faults = FAULTS.flatMap(([most, make]) =>
    chance.hits(0.35) ? Array.from({ length: chance.between(1, most) }, () => make(chance)) : [],
  );
  const moments = operations.flatMap(({ act, atMs }) => (FLEET_OPERATIONS.has(act.kind) ? [atMs] : []));
  return faults.map((act, at) => {
    const anywhereMs = chance.between(500, lengthMs);
    const soonMs = chance.skewed(0, SOON_MS);
    const isSoon = chance.hits(0.5) && moments.length > 0;
    const atMs = isSoon ? Math.min(lengthMs, chance.pick(moments) + soonMs) : anywhereMs;
    moments.push(atMs);
    return { id: firstId + at, atMs, act };
  });
}

/** Most of a rate that a seed can have. */
const WORST_WEATHER: Weather = {
  "request-lost": 0.05,
  "reply-lost-noticed": 0.05,
  "reply-lost-silently": 0.05,
  "post-doubled": 0.5,
  "post-late": 0.1,
  "post-stray": 0.3,
  "client-gone": 0.1,
  "start-refused": 0.2,
  "pull-fails": 0.3,
  "park-fails": 0.2,
  "wake-fails": 0.2,
  "boot-fails": 0.3,
  "boot-never": 0.15,
  unfit: 0.2,
  "webhook-refused": 0.4,
  "webhook-broken": 0.3,
};

function planWeather(chance: Chance): Weather {
  const rates = WEATHER.map((kind) => [kind, chance.hits(0.4) ? WORST_WEATHER[kind] * chance.fraction() : 0]);
  return Object.fromEntries(rates);
}
