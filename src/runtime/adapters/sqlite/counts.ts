import type { DatabaseSync } from "node:sqlite";
import type { EndpointId, JobCounts } from "../../core/model.ts";

/** The columns of `counts` by their name in the model. */
const COLUMNS = {
  inQueue: "in_queue",
  inProgress: "in_progress",
  completed: "completed",
  failed: "failed",
  cancelled: "cancelled",
  timedOut: "timed_out",
  retried: "retried",
  accepted: "accepted",
} as const satisfies Record<keyof JobCounts, string>;

type Name = keyof JobCounts;
const NAMES = Object.keys(COLUMNS) as Name[];

/** Counters of jobs per endpoint and owner. Changes of one transaction are added up and written once. */
export type Counts = {
  begin(): void;
  add(endpointId: EndpointId, owner: string, name: Name, by: number): void;
  /** Writes what the running transaction added. */
  flush(): void;
  /** The counts of one endpoint, of one owner or all, as the running transaction sees them. */
  read(endpointId: EndpointId, owner: string | null): JobCounts;
  /** Jobs of an owner waiting on all endpoints. */
  ownerQueued(owner: string): number;
};

export function createCounts(db: DatabaseSync): Counts {
  const upsert = db.prepare(
    `INSERT INTO counts (endpoint_id, owner, ${NAMES.map((name) => COLUMNS[name]).join(", ")})
     VALUES (?, ?, ${NAMES.map(() => "?").join(", ")})
     ON CONFLICT DO UPDATE SET ${NAMES.map((name) => `${COLUMNS[name]} = ${COLUMNS[name]} + excluded.${COLUMNS[name]}`).join(", ")}`,
  );
  const sums = NAMES.map((name) => `coalesce(sum(${COLUMNS[name]}), 0) AS ${name}`).join(", ");
  const readAll = db.prepare(`SELECT ${sums} FROM counts WHERE endpoint_id = ?`);
  const readOwner = db.prepare(`SELECT ${sums} FROM counts WHERE endpoint_id = ? AND owner = ?`);
  const queuedOfOwner = db.prepare("SELECT coalesce(sum(in_queue), 0) AS queued FROM counts WHERE owner = ?");
  let pending = new Map<string, { endpointId: EndpointId; owner: string; delta: Record<Name, number> }>();

  const flush = () => {
    for (const { endpointId, owner, delta } of pending.values()) {
      upsert.run(endpointId, owner, ...NAMES.map((name) => delta[name]));
    }
    pending = new Map();
  };

  return {
    begin: () => {
      pending = new Map();
    },
    add: (endpointId, owner, name, by) => {
      const key = `${endpointId}/${owner}`;
      let entry = pending.get(key);
      if (!entry) {
        entry = {
          endpointId,
          owner,
          delta: Object.fromEntries(NAMES.map((each) => [each, 0])) as Record<Name, number>,
        };
        pending.set(key, entry);
      }
      entry.delta[name] += by;
    },
    flush,
    read: (endpointId, owner) => {
      flush();
      const row = owner === null ? readAll.get(endpointId) : readOwner.get(endpointId, owner);
      return Object.fromEntries(NAMES.map((name) => [name, Number(row?.[name] ?? 0)])) as JobCounts;
    },
    ownerQueued: (owner) => {
      flush();
      return Number(queuedOfOwner.get(owner)?.queued ?? 0);
    },
  };
}
