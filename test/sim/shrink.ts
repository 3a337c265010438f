import { type Plan, type Step, WEATHER, type WeatherKind } from "./plan.ts";

export type Shrunk = { readonly plan: Plan; readonly runs: number };

/** Runs of the simulation that shrinking may cost. */
const MOST_RUNS = 400;

/** A smaller plan that still fails: fewer steps, calmer weather. `fails` must be true of the plan itself. */
export async function shrink(plan: Plan, fails: (plan: Plan) => Promise<boolean>): Promise<Shrunk> {
  let smallest = plan;
  let runs = 0;
  const attempt = async (candidate: Plan): Promise<boolean> => {
    if (runs >= MOST_RUNS) return false;
    runs += 1;
    if (!(await fails(candidate))) return false;
    smallest = candidate;
    return true;
  };
  // Large pieces first; then every step by itself, until none can go.
  for (let size = Math.ceil(plan.steps.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    let removed = true;
    while (removed && runs < MOST_RUNS) {
      removed = false;
      for (const piece of pieces(smallest.steps, size)) {
        const steps = smallest.steps.filter((step) => !piece.has(step.id));
        if (await attempt({ ...smallest, steps })) removed = true;
      }
      if (size > 1) break;
    }
  }
  for (const kind of WEATHER) {
    if (smallest.weather[kind] > 0) await attempt(calm(smallest, [kind]));
  }
  return { plan: smallest, runs };
}

function pieces(steps: readonly Step[], size: number): ReadonlySet<number>[] {
  const ids = steps.map(({ id }) => id);
  return Array.from(
    { length: Math.ceil(ids.length / size) },
    (_, at) => new Set(ids.slice(at * size, (at + 1) * size)),
  );
}

/** The plan with only these steps. */
export function keep(plan: Plan, ids: readonly number[]): Plan {
  const kept = new Set(ids);
  return { ...plan, steps: plan.steps.filter(({ id }) => kept.has(id)) };
}

/** The plan without these kinds of bad luck. */
export function calm(plan: Plan, kinds: readonly WeatherKind[]): Plan {
  const calmed = Object.fromEntries(kinds.map((kind) => [kind, 0]));
  return { ...plan, weather: { ...plan.weather, ...calmed } };
}
