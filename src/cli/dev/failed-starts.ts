import type { Client } from "../../client/client.ts";
import { RpxError } from "../../contract/error.ts";
import type { EndpointBody } from "../../contract/schemas/endpoint.ts";
import type { EventBody } from "../../contract/schemas/job.ts";
import type { WorkerBody } from "../../contract/schemas/worker.ts";
import { sanitizeLine } from "../../text/sanitize.ts";

/** Whose workers; `endpoint.release` and later ones count, those before it may fail as they like. */
export type Watch = {
  readonly client: Client;
  readonly endpoint: EndpointBody;
  readonly signal: AbortSignal;
};

/** Workers that ended unwell, each once, as the journal tells of them; ends with the signal or the daemon. */
export async function* failedWorkers({ client, endpoint, signal }: Watch): AsyncGenerator<WorkerBody> {
  const told = new Set<string>();
  const look = async (): Promise<WorkerBody[]> => {
    const workers = await client.listWorkers({ endpoint: endpoint.id }).catch(() => []);
    const failed = workers.filter(
      ({ id, state, release }) => state === "unhealthy" && release >= endpoint.release && !told.has(id),
    );
    for (const { id } of failed) told.add(id);
    return failed;
  };
  yield* await look();
  try {
    for await (const event of client.events({ signal })) if (concernsWorker(event)) yield* await look();
  } catch (error) {
    if (!signal.aborted && !(error instanceof RpxError)) throw error;
  }
}

/** What a failed start is called. */
export function failedStartText({ id, reason, release }: WorkerBody): string {
  return sanitizeLine(
    `the handler of release ${release} does not start: ${reason} (worker ${id.slice(0, 6)})`,
  );
}

function concernsWorker(event: EventBody): boolean {
  return event.workerId !== null && event.jobId === null;
}
