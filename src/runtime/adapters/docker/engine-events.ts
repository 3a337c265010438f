import { z } from "zod";

/** What happened to a container: `die`, `oom`, `kill`, `start`, `pause`, `stop`, `destroy` and others. */
export type EngineEvent = {
  readonly action: string;
  readonly containerId: string;
  /** The container's labels and what belongs to the action: `signal` of `kill`, `exitCode` of `die`. */
  readonly attributes: Readonly<Record<string, string>>;
};

/** A longer line is none of an engine's: labels are a few hundred bytes. */
const MAX_LINE_BYTES = 1024 * 1024;

const eventSchema = z.object({
  Action: z.string(),
  Actor: z.object({ ID: z.string(), Attributes: z.record(z.string(), z.string()).nullable() }),
});

/** Calls back with each event of a stream until it ends. Rejects when it breaks, or is none of an engine's. */
export async function readEvents(
  stream: NodeJS.ReadableStream,
  onEvent: (event: EngineEvent) => void,
): Promise<void> {
  for await (const value of readJsonLines(stream)) {
    const event = eventSchema.safeParse(value).data;
    if (event === undefined) continue;
    onEvent({
      action: event.Action,
      containerId: event.Actor.ID,
      attributes: event.Actor.Attributes ?? {},
    });
  }
}

/** The values of a stream of JSON lines. Rejects when a line is no JSON or too long. */
export async function* readJsonLines(stream: NodeJS.ReadableStream): AsyncGenerator<unknown> {
  let held: Buffer[] = [];
  let heldBytes = 0;
  for await (const chunk of stream) {
    let rest = chunk as Buffer;
    for (let end = rest.indexOf(10); end !== -1; end = rest.indexOf(10)) {
      const line = Buffer.concat([...held, rest.subarray(0, end)])
        .toString("utf8")
        .trim();
      held = [];
      heldBytes = 0;
      rest = rest.subarray(end + 1);
      if (line !== "") yield JSON.parse(line);
    }
    held.push(rest);
    heldBytes += rest.length;
    if (heldBytes > MAX_LINE_BYTES) throw new Error("the engine sent a line without an end");
  }
}
