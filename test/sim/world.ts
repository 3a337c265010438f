import { createHash } from "node:crypto";
import { createSimulatedClock, type SimulatedClock } from "../../src/runtime/adapters/simulated/clock.ts";
import { type Chance, chanceOf } from "./chance.ts";
import { type Coverage, createCoverage } from "./coverage.ts";
import { createHistory, type History, type Violation } from "./history.ts";
import type { Plan, WeatherKind } from "./plan.ts";

/** What all parts of one simulation share. */
export type World = {
  readonly plan: Plan;
  /** True time: it starts at 0 and nobody can set it. */
  readonly clock: SimulatedClock;
  readonly history: History;
  readonly coverage: Coverage;
  readonly violations: Violation[];
  nowMs(): number;
  chance(name: string): Chance;
  /** Whether something goes wrong by itself now; never once the world has healed. */
  strikes(kind: WeatherKind, chance: Chance): boolean;
  /** No fault begins any more. */
  healed: boolean;
  /** Something went wrong that may keep jobs from workers for a while: those of one endpoint, or all. */
  disturb(endpoint?: number): void;
  disturbedAtMs(endpoint: number): number;
  fail(check: string, message: string): void;
  /** One line of what happened, for the hash and for people. */
  trace(line: string): void;
  /** Digest of the trace so far: the same seed gives the same. */
  digest(): string;
  readonly lines: readonly string[];
};

/** Lines kept for people: the last ones. */
const KEPT_LINES = 400;
const MAX_VIOLATIONS = 20;

export type WorldOptions = { readonly keepLines?: number };

export function createWorld(plan: Plan, { keepLines = KEPT_LINES }: WorldOptions = {}): World {
  const clock = createSimulatedClock(0);
  const chances = new Map<string, Chance>();
  const hash = createHash("sha256");
  const coverage = createCoverage();
  const lines: string[] = [];
  const violations: Violation[] = [];
  let pending = "";
  let allDisturbedAtMs = 0;
  const disturbedAtMs = new Map<number, number>();

  const world: World = {
    plan,
    clock,
    history: createHistory(),
    coverage,
    violations,
    lines,
    healed: false,
    nowMs: clock.nowMs,
    chance: (name) => {
      const chance = chances.get(name) ?? chanceOf(plan.seed, name);
      chances.set(name, chance);
      return chance;
    },
    strikes: (kind, chance) => {
      // Drawn always, so that a calmer world stays alike in everything else.
      const struck = chance.hits(plan.weather[kind]) && !world.healed;
      if (struck) coverage.fault(kind);
      return struck;
    },
    disturb: (endpoint) => {
      if (endpoint === undefined) allDisturbedAtMs = clock.nowMs();
      else disturbedAtMs.set(endpoint, clock.nowMs());
    },
    disturbedAtMs: (endpoint) => Math.max(allDisturbedAtMs, disturbedAtMs.get(endpoint) ?? 0),
    fail: (check, message) => {
      if (violations.length < MAX_VIOLATIONS) violations.push({ check, message });
      world.trace(`VIOLATION ${check}: ${message}`);
    },
    trace: (text) => {
      const line = `${clock.nowMs()} ${text}`;
      pending += line;
      if (pending.length > 65_536) {
        hash.update(pending);
        pending = "";
      }
      lines.push(line);
      if (lines.length > 2 * keepLines) lines.splice(0, lines.length - keepLines);
    },
    digest: () => hash.copy().update(pending).digest("hex").slice(0, 16),
  };
  return world;
}
