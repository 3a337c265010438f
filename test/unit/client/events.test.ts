import { Readable } from "node:stream";
import { expect, test } from "vitest";
import { followEvents } from "../../../src/client/events.ts";
import type { Call, Send } from "../../../src/client/send.ts";
import { RpxError } from "../../../src/contract/error.ts";

function eventText(seq: number): string {
  return `id: ${seq}\ndata: ${JSON.stringify({ seq, kind: "job.submit" })}\n\n`;
}

/** Connections in turn: what each sends before it breaks, or that none comes about. */
function connections(...texts: readonly (string[] | "refused")[]): { send: Send; calls: Call[] } {
  const calls: Call[] = [];
  const send: Send = async (call) => {
    const parts = texts[calls.push(call) - 1] ?? "refused";
    if (parts === "refused") throw new RpxError("unreachable", "away");
    async function* body() {
      yield* parts as string[];
      throw new Error("reset");
    }
    return { status: 200, headers: {}, body: Readable.from(body(), { objectMode: false }) };
  };
  return { send, calls };
}

test("a broken connection is taken up after the last event: none lost, none doubled", async () => {
  const first = eventText(1) + eventText(2);
  const { send, calls } = connections([first.slice(0, 20), first.slice(20)], "refused", [eventText(3)]);
  const seen: number[] = [];
  for await (const { seq } of followEvents(send, { after: 0 })) {
    seen.push(seq);
    if (seq === 3) break;
  }
  expect(seen).toEqual([1, 2, 3]);
  expect(calls.map(({ headers }) => headers?.["last-event-id"])).toEqual(["0", "2", "2"]);
});

test("a refusal ends it at once", async () => {
  const send: Send = async () => ({
    status: 401,
    headers: {},
    body: Readable.from(['{"error":"no"}'], { objectMode: false }),
  });
  await expect(followEvents(send).next()).rejects.toMatchObject({ code: "unauthorized" });
});
