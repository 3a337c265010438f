import { formatSize } from "../../text/size.ts";
import type { WorkerId, WorkerLimits } from "./model.ts";

/** What this machine gives to workers, and what one of them asks for. 0: not counted. */
export type Resources = { readonly cpus: number; readonly memoryBytes: number; readonly diskBytes: number };

/** A worker that holds or wants a part of the machine. */
export type Claim = {
  readonly workerId: WorkerId;
  /** The endpoint's name. */
  readonly endpoint: string;
  readonly needs: Resources;
};

type Resource = keyof Resources;

const RESOURCES: readonly Resource[] = ["memoryBytes", "cpus", "diskBytes"];
const NAMES: Readonly<Record<Resource, string>> = { cpus: "CPU", memoryBytes: "memory", diskBytes: "disk" };
const NOTHING: Resources = { cpus: 0, memoryBytes: 0, diskBytes: 0 };
/** Holders that a sentence names. */
const MAX_NAMED = 3;

/** What a worker needs of the machine: its limits where they are set. A sleeping one holds less. */
export function needsOf(limits: WorkerLimits, asleep: "frozen" | "stopped" | null): Resources {
  return {
    cpus: asleep === null ? (limits.cpus ?? 0) : 0,
    memoryBytes: asleep === "stopped" ? 0 : (limits.memoryBytes ?? 0),
    diskBytes: limits.diskBytes ?? 0,
  };
}

/**
 * Why a worker does not fit beside those that are there: which resource is short, and who holds it; null when it fits. One that asks
 * for more than there is at all fits when nobody else holds any of it.
 */
export function shortage(claim: Claim, holders: readonly Claim[], total: Resources): string | null {
  const used = holders.reduce((sum, { needs }) => add(sum, needs), NOTHING);
  const short = RESOURCES.find(
    (name) => claim.needs[name] > 0 && used[name] > 0 && used[name] + claim.needs[name] > total[name],
  );
  return short === undefined ? null : sentence(short, claim, used, holders, total);
}

function sentence(
  name: Resource,
  { needs }: Claim,
  used: Resources,
  holders: readonly Claim[],
  total: Resources,
): string {
  const free = Math.max(0, total[name] - used[name]);
  const amount = (value: number) => (name === "cpus" ? String(value) : formatSize(value));
  return `waits for ${NAMES[name]}: needs ${amount(needs[name])}, ${amount(free)} of ${amount(total[name])} are free; ${heldBy(name, holders)}`;
}

function heldBy(name: Resource, holders: readonly Claim[]): string {
  const byEndpoint = Map.groupBy(
    holders.filter(({ needs }) => needs[name] > 0),
    ({ endpoint }) => endpoint,
  );
  const named = [...byEndpoint].sort(([, a], [, b]) => b.length - a.length);
  const texts = named.slice(0, MAX_NAMED).map(([endpoint, { length }]) => `${endpoint} (${workers(length)})`);
  const others = named.length - texts.length;
  return `held by ${texts.join(", ")}${others > 0 ? ` and ${others} more` : ""}`;
}

function workers(count: number): string {
  return count === 1 ? "1 worker" : `${count} workers`;
}

function add(a: Resources, b: Resources): Resources {
  return {
    cpus: a.cpus + b.cpus,
    memoryBytes: a.memoryBytes + b.memoryBytes,
    diskBytes: a.diskBytes + b.diskBytes,
  };
}
