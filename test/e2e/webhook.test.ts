import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, expect, test } from "vitest";
import { eventually, type RealDaemon, startRealDaemon } from "../support/real-daemon.ts";
import { deploy, FIXTURES } from "./endpoint.ts";

type Post = { readonly path: string; readonly type: string | undefined; readonly text: string };

let daemon: RealDaemon;
let receiver: Server;
const posts: Post[] = [];

beforeAll(async () => {
  receiver = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    posts.push({
      path: request.url ?? "",
      type: request.headers["content-type"],
      text: Buffer.concat(chunks).toString(),
    });
    response.end("thanks");
  });
  await new Promise<void>((resolve) => receiver.listen(0, "127.0.0.1", resolve));
  daemon = await startRealDaemon();
  await deploy(daemon, "odd", { folder: FIXTURES, handler: "odd.py" });
});

afterAll(async () => {
  expect(await daemon.stop()).toBe(0);
  receiver.close();
});

test("a webhook brings a finished job once, with its input, as /status shows it", async () => {
  const base = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}`;
  const submit = async (path: string, input: unknown) => {
    const body = { input, webhook: `${base}${path}` };
    return (await daemon.call("POST", "/v2/odd/run", body)).json<{ id: string }>().id;
  };
  const text = '{"n": 12345678901234567890, "ü": "😀"}';
  const done = await submit("/done", { do: "json", text });
  const failed = await submit("/failed", { do: "raise" });
  await eventually(async () => posts.length >= 2, 15_000, "both webhooks arrive");
  const of = (path: string) => posts.filter((post) => post.path === path);
  expect(of("/done")).toHaveLength(1);
  const [post] = of("/done");
  expect(post?.type).toContain("application/json");
  expect(post?.text).toContain(`"output":${text},`);
  expect(JSON.parse(post?.text ?? "")).toMatchObject({
    id: done,
    status: "COMPLETED",
    input: { do: "json", text },
    webhook: `${base}/done`,
    delayTime: expect.any(Number),
    executionTime: expect.any(Number),
  });
  expect(JSON.parse(of("/failed")[0]?.text ?? "")).toMatchObject({
    id: failed,
    status: "FAILED",
    error: expect.stringContaining("ValueError"),
    input: { do: "raise" },
  });
  // Another job's webhook, sent later, is what shows that the first ones were not repeated.
  await submit("/last", { do: "nan" });
  await eventually(async () => of("/last").length > 0, 15_000, "the last webhook arrives");
  expect(posts.map(({ path }) => path).sort()).toEqual(["/done", "/failed", "/last"]);
});
