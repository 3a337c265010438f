import type { Chance } from "./chance.ts";
import type { EndpointPlan } from "./plan.ts";

/** What becomes of a deployed release. Broken code does so in each of its workers. */
export type CodeFate = "well" | "builds-not" | "exits" | "never-asks";

/** A job that the release has to do well before it serves. */
export type TestPlan = { readonly ms: number; readonly passes: boolean };

export type Deploy = {
  readonly kind: "deploy";
  readonly endpoint: number;
  readonly rollout: "prove" | "at_once";
  readonly fate: CodeFate;
  readonly buildMs: number;
  readonly tests: readonly TestPlan[];
};

/** What operators do to endpoints, releases and workers. */
export type FleetAct =
  | Deploy
  | {
      readonly kind: "settings";
      readonly endpoint: number;
      readonly max: number;
      readonly min: number;
      readonly extra: number;
      readonly flashboot: boolean;
    }
  | { readonly kind: "rollback" | "pause-endpoint" | "resume-endpoint"; readonly endpoint: number }
  | { readonly kind: "warm"; readonly endpoint: number; readonly workers: number }
  | { readonly kind: "stop-worker" | "drain-worker" };

/** Those that set off something which takes a while. */
export const FLEET_OPERATIONS: ReadonlySet<string> = new Set([
  "deploy",
  "rollback",
  "pause-endpoint",
  "resume-endpoint",
  "warm",
  "settings",
]);

/** What an operator deploys when nothing may go wrong any more. */
export function goodCode(endpoint: number): Deploy {
  return { kind: "deploy", endpoint, rollout: "at_once", fate: "well", buildMs: 200, tests: [] };
}

/** Tests' jobs are numbered from here on: `TESTS_FROM + 10 * step + place`. */
export const TESTS_FROM = 100_000;
export const MOST_TESTS = 3;

/** The number that a test's job has as its input. */
export function testNumber(step: number, place: number): number {
  return TESTS_FROM + 10 * step + place;
}

/** Which deploy a test's job belongs to, and which of its tests it is; null for a client's job. */
export function testOf(number: number): { readonly step: number; readonly place: number } | null {
  if (number < TESTS_FROM) return null;
  return { step: Math.floor((number - TESTS_FROM) / 10), place: number % 10 };
}

const NIGHT_MS = [620_000, 800_000] as const;
/** Part of the seeds that have one, and of those whose machine is small. */
const NIGHTS = 0.08;
const SMALL_MACHINES = 0.5;

/** The machine under the endpoints: how long its night is, how much it gives, and what they want of it. */
export function planHost(chance: Chance, bare: readonly EndpointPlan[]) {
  const endpoints = bare.map((endpoint): EndpointPlan => {
    const flashboot = chance.hits(0.75);
    return {
      ...endpoint,
      flashboot,
      extra: chance.hits(0.2) ? chance.between(1, 2) : 0,
      prewarm: chance.hits(0.2),
      proves: chance.hits(0.2),
      pool: chance.hits(0.5) ? "docker" : "process",
      memoryGiB: chance.hits(0.5) ? chance.between(1, 2) : null,
    };
  });
  // What has to be there at the same time fits: the least workers of each, and one that proves itself.
  const needed = endpoints.reduce((sum, { min, memoryGiB }) => sum + (min + 1) * (memoryGiB ?? 0), 0);
  const isSmall = chance.hits(SMALL_MACHINES) && needed > 0;
  return {
    endpoints,
    budgetGiB: isSmall ? needed + chance.between(0, 2) : null,
    nightMs: chance.hits(NIGHTS) ? chance.between(...NIGHT_MS) : 0,
  };
}

export function planFleetOperation(chance: Chance, endpoint: number): FleetAct {
  const kind = chance.fraction();
  if (kind < 0.22) return planSettings(chance, endpoint);
  if (kind < 0.52) return planDeploy(chance, endpoint);
  if (kind < 0.58) return { kind: "rollback", endpoint };
  if (kind < 0.66) return { kind: "pause-endpoint", endpoint };
  if (kind < 0.78) return { kind: "resume-endpoint", endpoint };
  if (kind < 0.88) return { kind: "warm", endpoint, workers: chance.between(1, 3) };
  return { kind: chance.hits(0.5) ? "stop-worker" : "drain-worker" };
}

function planSettings(chance: Chance, endpoint: number): FleetAct {
  const max = chance.between(0, 4);
  const min = chance.between(0, Math.min(1, max));
  const extra = chance.hits(0.2) ? chance.between(1, 2) : 0;
  return { kind: "settings", endpoint, max, min, extra, flashboot: chance.hits(0.75) };
}

function planDeploy(chance: Chance, endpoint: number): Deploy {
  const proves = chance.hits(0.7);
  const isBroken = chance.hits(0.35);
  const tests = Array.from({ length: chance.hits(0.5) ? chance.between(1, MOST_TESTS) : 0 }, () => ({
    ms: chance.skewed(10, 20_000),
    passes: chance.hits(0.85),
  }));
  return {
    kind: "deploy",
    endpoint,
    rollout: proves ? "prove" : "at_once",
    // What nobody tries before it serves works: a broken one would leave nothing to look at.
    fate: isBroken ? (proves ? chance.pick(["builds-not", "exits", "never-asks"]) : "builds-not") : "well",
    buildMs: chance.skewed(50, 30_000),
    tests: proves ? tests : [],
  };
}
