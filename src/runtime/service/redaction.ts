import { secretNames } from "../../text/secret-refs.ts";
import type { WorkerId } from "../core/model.ts";
import { createRedactor, type Redactor } from "../core/redaction.ts";
import type { Store } from "../ports/store.ts";
import type { Events } from "./events.ts";

/** Takes out of a text what the worker that wrote it was given to keep: its endpoint's secrets, its token. */
export type Redact = (workerId: WorkerId, text: string) => string;

export type RedactionOptions = {
  readonly fleet: Pick<Store["fleet"], "endpoints" | "release" | "worker">;
  readonly events: Events;
  /** What a secret is and was; null stands for every owner's and every name. */
  readonly valuesOf: (owner: string | null, names: readonly string[] | null) => readonly string[];
};

/** Workers whose secrets are held in memory; beyond, all are read anew. */
const MAX_HELD = 1_000;

/** Redaction happens when text of a worker is read, or enters a reason: what it prints is kept as it was printed. */
export function createRedaction({ fleet, events, valuesOf }: RedactionOptions): Redact {
  const held = new Map<WorkerId, Redactor>();
  events.subscribe(({ kind }) => {
    if (kind.startsWith("secret.")) held.clear();
  });

  /** A worker's release never changes. One that nobody remembers may have had any secret there is. */
  function make(workerId: WorkerId): Redactor {
    const worker = fleet.worker(workerId);
    const owner = fleet.endpoints().find(({ id }) => id === worker?.endpointId)?.owner ?? null;
    const release = worker && fleet.release(worker.endpointId, worker.release);
    const names = release ? Object.values(release.spec.env).flatMap(secretNames) : null;
    return createRedactor(valuesOf(owner, names));
  }

  return (workerId, text) => {
    let redactor = held.get(workerId);
    if (!redactor) {
      if (held.size >= MAX_HELD) held.clear();
      redactor = make(workerId);
      held.set(workerId, redactor);
    }
    return redactor(text);
  };
}
