import type { Chance } from "./chance.ts";
import { type Message, outcomeOf } from "./clients.ts";
import type { Order, Rollout, SeenRelease } from "./history.ts";
import type { Reply } from "./network.ts";
import { type Deploy, type FleetAct, testNumber } from "./plan-fleet.ts";
import type { World } from "./world.ts";

/** Those who change endpoints, releases and workers, and what they are told. */
export type Operators = {
  perform(id: number, act: FleetAct): Promise<void>;
  /** Follows an endpoint until no release is built or proven; null when that takes too long. */
  settled(endpoint: number): Promise<readonly SeenRelease[] | null>;
};

export type OperatorsOptions = {
  readonly world: World;
  readonly chance: Chance;
  readonly endpointId: (endpoint: number) => string;
  readonly send: (message: Message) => Promise<Reply | null>;
};

const LOOK_EVERY_MS = [500, 2_000] as const;
/** A release is followed this often: longer than a pull, a start and its tests take. */
const MOST_LOOKS = 1_500;
/** What a test's job may take. */
const TEST_TIMEOUT_MS = 30_000;

export function createOperators({ world, chance, endpointId, send }: OperatorsOptions): Operators {
  const { clock, history, plan } = world;
  const params = (endpoint: number) => ({ endpoint: endpointId(endpoint) });

  /** Notes what was asked for, and what came of it. */
  async function noted<T extends { endedAtMs: number | null; outcome: Order["outcome"] }>(
    list: T[],
    order: Omit<T, "endedAtMs" | "outcome">,
    message: Message,
  ): Promise<void> {
    const entry = { ...order, endedAtMs: null, outcome: "open" } as T;
    list.push(entry);
    const reply = await send(message);
    entry.endedAtMs = clock.nowMs();
    entry.outcome = outcomeOf(reply);
  }

  function change(act: Extract<FleetAct, { kind: "settings" }>): Promise<void> {
    const { endpoint, max, min, extra, flashboot } = act;
    const workers = { max, min, extra, flashboot };
    const order = { endpoint, max: max === 0 ? 0 : max + extra, sentAtMs: clock.nowMs() };
    const body = JSON.stringify({ config: { workers } });
    return noted(history.maxOrders, order, { route: "updateEndpoint", params: params(endpoint), body });
  }

  async function pause(endpoint: number, paused: boolean): Promise<void> {
    const route = paused ? "pauseEndpoint" : "resumeEndpoint";
    const order = { endpoint, paused, sentAtMs: clock.nowMs() };
    await noted(history.pauses, order, { route, params: params(endpoint) });
    world.disturb(endpoint);
  }

  /** Sends a change of code, and follows it to its end. */
  async function roll(
    step: number,
    { endpoint, proves }: Pick<Rollout, "endpoint" | "proves">,
    message: Omit<Message, "params">,
  ): Promise<void> {
    const open = { version: null, settledAtMs: null };
    const rollout: Rollout = { ...{ endpoint, step, proves, sentAtMs: clock.nowMs() }, ...open };
    history.rollouts.push(rollout);
    const reply = await send({ ...message, params: params(endpoint) });
    if (reply?.status === 200)
      rollout.version = (JSON.parse(reply.text) as { madeRelease: number | null }).madeRelease;
    if ((await settled(endpoint)) !== null) rollout.settledAtMs = clock.nowMs();
    world.disturb(endpoint);
  }

  function deploy(id: number, { endpoint, rollout, tests }: Deploy): Promise<void> {
    const code = { source: { kind: "folder", path: "/handlers" }, handler: "handler.py" };
    const name = plan.endpoints[endpoint]?.name ?? "";
    const config = { env: { SIM_ENDPOINT: name, SIM_DEPLOY: String(id) } };
    const body = JSON.stringify({
      ...{ code, config, rollout },
      tests: tests.map((_, place) => ({
        ...{ name: `test ${place}`, input: { n: testNumber(id, place) }, timeoutMs: TEST_TIMEOUT_MS },
      })),
    });
    return roll(id, { endpoint, proves: rollout === "prove" }, { route: "updateEndpoint", body });
  }

  async function settled(endpoint: number): Promise<readonly SeenRelease[] | null> {
    for (let looks = 0; looks < MOST_LOOKS; looks += 1) {
      const sentAtMs = clock.nowMs();
      const reply = await send({ route: "listReleases", params: params(endpoint) });
      if (reply?.status === 200) {
        const releases = JSON.parse(reply.text) as SeenRelease[];
        history.releaseLooks.push({ endpoint, sentAtMs, atMs: clock.nowMs(), releases });
        if (releases.every(({ state }) => state !== "building" && state !== "proving")) return releases;
      }
      await clock.sleep(chance.between(...LOOK_EVERY_MS));
    }
    return null;
  }

  async function endWorker(route: "stopWorker" | "drainWorker"): Promise<void> {
    const listed = await send({ route: "listWorkers" });
    if (listed?.status !== 200) return;
    const workers = JSON.parse(listed.text) as { id: string }[];
    if (workers.length > 0) await send({ route, params: { worker: chance.pick(workers).id } });
  }

  async function warm(endpoint: number, workers: number): Promise<void> {
    await send({ route: "warmEndpoint", params: params(endpoint), body: JSON.stringify({ workers }) });
  }

  function perform(id: number, act: FleetAct): Promise<void> {
    switch (act.kind) {
      case "settings":
        return change(act);
      case "deploy":
        return deploy(id, act);
      case "rollback":
        return roll(id, { endpoint: act.endpoint, proves: true }, { route: "rollbackEndpoint", body: "{}" });
      case "pause-endpoint":
      case "resume-endpoint":
        return pause(act.endpoint, act.kind === "pause-endpoint");
      case "warm":
        return warm(act.endpoint, act.workers);
      case "stop-worker":
        return endWorker("stopWorker");
      case "drain-worker":
        return endWorker("drainWorker");
    }
  }

  return { perform, settled };
}
