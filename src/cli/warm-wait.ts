import { setTimeout as sleep } from "node:timers/promises";
import type { Client } from "../client/client.ts";
import { RpxError } from "../contract/error.ts";
import type { EndpointBody } from "../contract/schemas/endpoint.ts";
import type { Interrupt } from "./interrupt.ts";
import type { Progress } from "./progress.ts";

/** Between two looks at an endpoint, in ms: less than the shortest idle time-out, so that no worker comes and goes unseen. */
const LOOK_MS = 300;

export type WarmWait = {
  readonly client: Client;
  readonly endpoint: Pick<EndpointBody, "id" | "name">;
  readonly workers: number;
  readonly progress: Progress;
  readonly interrupt: Interrupt;
};

/** Waits until so many workers are ready, saying what they wait for. Throws RpxError `unavailable` when they fail, `conflict` on a pause. */
export async function waitForWorkers({
  client,
  endpoint: { id, name },
  workers,
  progress,
  interrupt,
}: WarmWait): Promise<EndpointBody> {
  interrupt.explain({
    message: `stopped waiting; the workers of ${name} go on starting`,
    hint: `rpx worker list --endpoint ${name}`,
  });
  let said = "";
  for (;;) {
    const endpoint = await client.getEndpoint(id);
    const { idle, running, unhealthy } = endpoint.workerCounts;
    if (idle + running >= workers) return endpoint;
    if (unhealthy > 0 || endpoint.state === "paused") throw cannot(endpoint);
    const text = `${idle + running} of ${workers} workers are ready: ${endpoint.reason}`;
    if (text !== said) progress.step(text);
    said = text;
    await sleep(LOOK_MS, undefined, { signal: interrupt.signal }).catch(() =>
      interrupt.signal.throwIfAborted(),
    );
  }
}

function cannot({ name, state, reason }: EndpointBody): RpxError {
  return new RpxError(state === "paused" ? "conflict" : "unavailable", `${name} was not warmed`, {
    why: reason,
    hint: state === "paused" ? `rpx endpoint resume ${name}` : `rpx endpoint logs ${name}`,
  });
}
