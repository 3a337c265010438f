/** Walks through npm's runpod-sdk, one call after another, as the Python scripts beside the handlers do. */
import runpodSdk from "runpod-sdk";

export interface JsClientTarget {
  /** Ends in `/v2`. */
  readonly baseUrl: string;
  readonly key: string;
  readonly endpointId: string;
  readonly stepUrl?: string;
}

/** Each step's name with what the call gave back. */
export async function walkThroughJsClient(
  target: JsClientTarget,
): Promise<{ step: string; answer: unknown }[]> {
  const endpoint = runpodSdk(target.key, { baseUrl: target.baseUrl }).endpoint(target.endpointId);
  if (endpoint === null) {
    throw new Error("runpod-sdk gave no endpoint");
  }
  const answers: { step: string; answer: unknown }[] = [];
  const walk = async (step: string, call: () => Promise<unknown>): Promise<void> => {
    if (target.stepUrl !== undefined) {
      await fetch(`${target.stepUrl}?name=${step}`);
    }
    answers.push({ step, answer: await call() });
  };
  const runId = async (name: string): Promise<string> => (await endpoint.run({ input: { name } })).id;

  let first = "";
  await walk("run", async () => {
    first = await runId("first");
    return first;
  });
  await walk("status", () => endpoint.status(first));
  await walk("status_sync", () => endpoint.statusSync(first, 2_000));
  await walk("stream", async () => {
    const chunks: unknown[] = [];
    for await (const chunk of endpoint.stream(await runId("streamed"))) {
      chunks.push(chunk);
    }
    return chunks;
  });
  await walk("cancel", async () => endpoint.cancel(await runId("cancelled")));
  await walk("run_sync", () => endpoint.runSync({ input: { name: "sync" } }, 30_000));
  await walk("run_sync_pending", () => endpoint.runSync({ input: { name: "pending" } }, 30_000));
  await walk("health", () => endpoint.health());
  await walk("purge_queue", () => endpoint.purgeQueue());
  return answers;
}
