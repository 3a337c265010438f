/**
 * What clients, workers and webhook receivers saw, in true time (ms since the world began). Checkers read this and nothing else:
 * never our tables.
 */

/** One sending of a run's request. `status` is null while it is open, 0 when the connection broke. */
export type Sending = {
  readonly sentAtMs: number;
  readonly changed: boolean;
  endedAtMs: number | null;
  status: number | null;
  jobId: string | null;
};

/** A run step as its client knows it. */
export type Submission = {
  readonly step: number;
  readonly endpoint: number;
  readonly key: string | null;
  readonly ttlMs: number;
  readonly webhook: boolean;
  /** Nobody is started, or woken, for it. */
  readonly lowPriority: boolean;
  readonly sendings: Sending[];
  /** As first answered with 2xx. */
  jobId: string | null;
};

/** A look at a job: `state` null means that it was not found. */
export type Sight = {
  readonly jobId: string;
  readonly sentAtMs: number;
  readonly atMs: number;
  readonly state: string | null;
  readonly output: string | null;
  readonly error: string | null;
  /** False: a ticket, which says id and state alone. */
  readonly whole: boolean;
  readonly by: "status" | "runsync" | "ticket" | "webhook";
};

/** An order that changes jobs. `outcome` unknown: its answer did not arrive. */
export type Order = {
  readonly kind: "cancel" | "retry" | "purge";
  /** A job's id, or an endpoint's number. */
  readonly target: string | number;
  readonly sentAtMs: number;
  endedAtMs: number | null;
  outcome: "open" | "done" | "refused" | "unknown";
};

/** A setting of `max` that an operator sent; `extra` ones are part of it. */
export type MaxOrder = {
  readonly endpoint: number;
  readonly max: number;
  readonly sentAtMs: number;
  endedAtMs: number | null;
  outcome: Order["outcome"];
};

/** A pause of an endpoint, or its end. */
export type PauseOrder = {
  readonly endpoint: number;
  readonly paused: boolean;
  readonly sentAtMs: number;
  endedAtMs: number | null;
  outcome: Order["outcome"];
};

/** A change of an endpoint's code as an operator follows it. `settledAtMs`: nothing is on its way any more, he was told. */
export type Rollout = {
  readonly endpoint: number;
  readonly step: number;
  /** It serves only after it was proven. */
  readonly proves: boolean;
  /** The release that it made, as its answer said; null: it did not say. */
  version: number | null;
  readonly sentAtMs: number;
  settledAtMs: number | null;
};

export type SeenRelease = {
  readonly version: number;
  readonly state: "building" | "proving" | "live" | "superseded" | "failed";
  readonly liveAt: string | null;
};

/** A look at an endpoint's releases. */
export type ReleaseLook = {
  readonly endpoint: number;
  readonly sentAtMs: number;
  readonly atMs: number;
  readonly releases: readonly SeenRelease[];
};

/** A time in which a worker stood still, and the deliveries that it held at its beginning. */
export type Frozen = {
  readonly workerId: string;
  readonly fromMs: number;
  toMs: number | null;
  readonly holding: readonly Delivery[];
};

/** A time in which the engine could not be reached. */
export type Absence = { readonly fromMs: number; toMs: number | null };

/**
 * A job that reached a worker. `number`: the delivery's, as the daemon told it. `order`: the same, but growing over power cuts, which
 * may take a claim back with its number.
 */
export type Delivery = {
  readonly jobId: string;
  readonly step: number;
  readonly workerId: string;
  readonly number: number;
  readonly order: number;
  readonly atMs: number;
  /** When the worker sent the request that brought it. */
  readonly askedAtMs: number;
  /** When its handler began; null: never. */
  begunAtMs: number | null;
  /** When the worker let go of it, and how. */
  overAtMs: number | null;
  over: "posted" | "stopped" | "died" | "swallowed" | null;
};

/** A job in a reply that left the daemon, whether it reached its worker or not. */
export type Departure = Pick<Delivery, "jobId" | "workerId" | "order" | "step" | "atMs">;

/** What a worker posted about a job. */
export type Post = {
  readonly jobId: string;
  readonly workerId: string;
  readonly number: number;
  readonly order: number;
  readonly kind: "result" | "error" | "unreadable" | "oversize" | "progress" | "chunk";
  /** Raw JSON of the output or chunk; the error's text. */
  readonly text: string;
  readonly sentAtMs: number;
};

export type WorkerLife = {
  readonly workerId: string;
  readonly endpoint: number;
  readonly build: string;
  readonly release: number;
  /** The step of the deploy that its code is of; null: the code that its endpoint began with. */
  readonly deploy: number | null;
  readonly startedAtMs: number;
  stopAskedAtMs: number | null;
  /** Its program was ended and its container kept: it holds no memory. */
  kept: boolean;
  /** When its container was started again; null: never. */
  wokenAtMs: number | null;
  /** It stood still, or was cut off, by a fault. */
  struck: boolean;
  endedAtMs: number | null;
  /** Own: by itself; killed: by the daemon; lost: with its host. */
  ended: "own" | "killed" | "lost" | "asked" | null;
  /** When it sent takes that say that it holds nothing. */
  readonly idleTakesMs: number[];
};

export type StreamRead = {
  readonly jobId: string;
  readonly atMs: number;
  readonly chunks: readonly string[];
};

export type WebhookPost = {
  readonly id: string;
  readonly jobId: string;
  readonly atMs: number;
  readonly body: string;
  readonly accepted: boolean;
};

/** A daemon that found, at its start, more time gone by on the wall clock than had: F-24 allows it then, and only then. */
export type Leap = { readonly atMs: number; readonly ms: number };

/** Times at which every process of the machine ended, or the daemon was not there. */
export type Outage = {
  readonly fromMs: number;
  toMs: number;
  readonly kind: string;
  readonly endsWorkers: boolean;
};

export type History = {
  readonly submissions: Map<number, Submission>;
  readonly sights: Sight[];
  readonly orders: Order[];
  readonly maxOrders: MaxOrder[];
  readonly pauses: PauseOrder[];
  readonly rollouts: Rollout[];
  readonly releaseLooks: ReleaseLook[];
  readonly frozen: Frozen[];
  readonly absences: Absence[];
  readonly deliveries: Delivery[];
  readonly departures: Departure[];
  readonly posts: Post[];
  readonly lives: Map<string, WorkerLife>;
  readonly streams: StreamRead[];
  readonly webhooks: WebhookPost[];
  readonly outages: Outage[];
  /** When daemons began to serve. */
  readonly servesMs: number[];
  readonly leaps: Leap[];
};

export function createHistory(): History {
  return {
    submissions: new Map(),
    sights: [],
    orders: [],
    maxOrders: [],
    pauses: [],
    rollouts: [],
    releaseLooks: [],
    frozen: [],
    absences: [],
    deliveries: [],
    departures: [],
    posts: [],
    lives: new Map(),
    streams: [],
    webhooks: [],
    outages: [],
    servesMs: [],
    leaps: [],
  };
}

/** The order of a delivery: in one power-on they are counted below a thousand. */
export function orderOf({ outages }: History, number: number): number {
  return 1_000 * outages.filter(({ kind }) => kind === "power cut").length + number;
}

/** Something that must never happen, with the invariant that it breaks. */
export type Violation = { readonly check: string; readonly message: string };
