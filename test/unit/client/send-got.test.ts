import { createHash } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { Readable } from "node:stream";
import { buffer, text } from "node:stream/consumers";
import { afterEach, describe, expect, test } from "vitest";
import { createClient } from "../../../src/client/client.ts";
import { readLines } from "../../../src/client/reply.ts";
import { createGotSend, type GotSendOptions, type Repeat } from "../../../src/client/send-got.ts";
import { RpxError } from "../../../src/contract/error.ts";

type Answer = (request: IncomingMessage, response: ServerResponse) => unknown;
type Place = {
  readonly url: string;
  readonly port: number;
  readonly server: Server;
  readonly seen: IncomingMessage[];
};

const open: Server[] = [];

/** A server that gives its answers in turn, the last one for ever. */
async function serve(answers: readonly Answer[], port = 0): Promise<Place> {
  const seen: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    const answer = answers[Math.min(seen.push(request), answers.length) - 1];
    void answer?.(request, response);
  });
  open.push(server);
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  const bound = (server.address() as AddressInfo).port;
  return { url: `http://127.0.0.1:${bound}`, port: bound, server, seen };
}

async function close(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}

afterEach(async () => {
  await Promise.all(open.splice(0).map(close));
});

const reset: Answer = (request) => request.socket.resetAndDestroy();
const hello: Answer = (_, response) => response.end("hello");
const answering =
  (status: number, headers: Record<string, string>, body = ""): Answer =>
  (_, response) =>
    response.writeHead(status, headers).end(body);

/** A send whose pauses are as short as they can be, and what it said of its repeats. */
function sendTo(url: string, options: GotSendOptions = {}) {
  const repeats: Repeat[] = [];
  const onRepeat = (repeat: Repeat): void => {
    repeats.push(repeat);
    options.onRepeat?.(repeat);
  };
  const send = createGotSend({ url, key: "rpxk_test" }, { random: () => 0, ...options, onRepeat });
  return { send, repeats };
}

const GET = { method: "GET", path: "/x" } as const;

describe("a daemon that is away for a moment", () => {
  test("refused until it listens again: a GET, and a POST, of which nothing arrived", async () => {
    const gone = await serve([hello]);
    await close(gone.server);
    let back: Promise<Place> | undefined;
    const onRepeat = (): void => {
      back ??= serve([hello], gone.port);
    };
    const { send, repeats } = sendTo(gone.url, { onRepeat });
    expect(await text((await send({ method: "POST", path: "/x", body: "{}" })).body)).toBe("hello");
    expect(repeats[0]?.reason).toBe(`no daemon answers at ${gone.url}: nothing listens there`);
    expect((await back)?.seen).toHaveLength(1);
  });

  test("refused where nothing says that there is a daemon: the refusal, at once", async () => {
    const gone = await serve([hello]);
    await close(gone.server);
    const { send, repeats } = sendTo(gone.url, { isRefusalFinal: true });
    await expect(send(GET)).rejects.toMatchObject({ code: "unreachable", hint: "start it with: rpx serve" });
    expect(repeats).toEqual([]);
  });

  test("a reset before the answer", async () => {
    const { url, seen } = await serve([reset, reset, hello]);
    const { send, repeats } = sendTo(url);
    expect(await text((await send(GET)).body)).toBe("hello");
    expect(repeats.map(({ pauseMs }) => pauseMs)).toEqual([100, 200]);
    expect(seen.map(({ headers }) => headers.authorization)).toEqual(Array(3).fill("Bearer rpxk_test"));
  });

  test("503 with Retry-After is waited for", async () => {
    const { url } = await serve([answering(503, { "retry-after": "1" }, "stopping"), hello]);
    const { send, repeats } = sendTo(url);
    const startedAt = performance.now();
    expect(await text((await send(GET)).body)).toBe("hello");
    expect(performance.now() - startedAt).toBeGreaterThan(990);
    expect(repeats).toEqual([{ reason: `the daemon at ${url} answered 503`, pauseMs: 1_000 }]);
  });

  test("a POST whose answer was lost is not sent again", async () => {
    const { url, seen } = await serve([reset, hello]);
    const sent = sendTo(url).send({ method: "POST", path: "/x", body: "{}" });
    await expect(sent).rejects.toMatchObject({ code: "unreachable" });
    expect(seen).toHaveLength(1);
  });

  test("the chunks of a stream, which are handed out once, are not asked for again", async () => {
    const { url, seen } = await serve([reset, hello]);
    const client = createClient({ send: sendTo(url).send });
    await expect(client.jobStream("e", "j", { waitMs: 1_000 })).rejects.toMatchObject({
      code: "unreachable",
    });
    expect(seen).toHaveLength(1);
  });

  test("a DELETE that worked though its answer was lost is a success; one of what never was is none", async () => {
    const unknown = answering(404, {}, '{"error":"gone","code":"not_found"}');
    const { url } = await serve([reset, unknown]);
    await createClient({ send: sendTo(url).send }).deleteEndpoint("e");
    const second = createClient({ send: sendTo(url).send }).deleteEndpoint("e");
    await expect(second).rejects.toMatchObject({ code: "not_found" });
  });

  test("an upload is opened anew for each try and arrives whole", async () => {
    const bundle = Buffer.alloc(3_000_000, "rpx");
    const digest = createHash("sha256").update(bundle).digest("hex");
    let received: Buffer | undefined;
    const cut: Answer = (request) => request.once("data", () => request.socket.resetAndDestroy());
    const take: Answer = async (request, response) => {
      received = await buffer(request);
      response.end("{}");
    };
    const { url, seen } = await serve([cut, cut, take]);
    let opened = 0;
    const content = (): Readable => {
      opened += 1;
      return Readable.from([bundle.subarray(0, 1_000_000), bundle.subarray(1_000_000)]);
    };
    await createClient({ send: sendTo(url).send }).putBundle(digest, { bytes: bundle.length, content });
    expect(opened).toBe(3);
    expect(received?.equals(bundle)).toBe(true);
    expect(seen[2]?.headers).toMatchObject({
      "content-length": "3000000",
      "content-type": "application/x-tar",
    });
  });

  test("one that stays away ends in the error of the last try, after five repeats", async () => {
    const { url, seen } = await serve([reset]);
    const { send, repeats } = sendTo(url);
    await expect(send(GET)).rejects.toMatchObject({ code: "unreachable", hint: "rpx doctor" });
    expect([seen.length, repeats.length]).toEqual([6, 5]);
  });

  test("the signal ends a pause with its reason", async () => {
    const { url } = await serve([reset]);
    const stop = new AbortController();
    const reason = new RpxError("interrupted", "stopped");
    const { send, repeats } = sendTo(url, { onRepeat: () => stop.abort(reason) });
    await expect(send({ ...GET, signal: stop.signal })).rejects.toBe(reason);
    expect(repeats).toHaveLength(1);
  });
});

describe("an answer", () => {
  test("of any status comes as it is, with its headers and its body's bytes", async () => {
    const body = '{"output":12345678901234567890, "x":"\\u0041"}';
    const { url } = await serve([
      answering(418, { "x-rpx-version": "0.1.0", "content-type": "application/json" }, body),
    ]);
    const reply = await sendTo(url).send(GET);
    expect([reply.status, reply.headers["x-rpx-version"]]).toEqual([418, "0.1.0"]);
    expect(await text(reply.body)).toBe(body);
  });

  test("the daemon's version is handed on", async () => {
    const { url } = await serve([answering(200, { "x-rpx-version": "0.9.0" }, "[]")]);
    const versions: string[] = [];
    const client = createClient({ send: sendTo(url).send, onVersion: (one) => void versions.push(one) });
    await client.listEndpoints();
    expect(versions).toEqual(["0.9.0"]);
  });

  test("is not decompressed, and no compression is asked for", async () => {
    const { url, seen } = await serve([answering(200, { "content-encoding": "gzip" }, "not gzip")]);
    expect(await text((await sendTo(url).send(GET)).body)).toBe("not gzip");
    expect(seen[0]?.headers["accept-encoding"]).toBeUndefined();
    expect(seen[0]?.headers["user-agent"]).toBeUndefined();
  });

  test("of a redirect is not followed: the key goes nowhere else", async () => {
    const other = await serve([hello]);
    const { url } = await serve([answering(307, { location: other.url })]);
    expect((await sendTo(url).send(GET)).status).toBe(307);
    expect(other.seen).toEqual([]);
  });

  test("comes line by line while it is written", async () => {
    let goOn: (() => void) | undefined;
    const { url } = await serve([
      (_, response) => {
        response.write('{"progress":"one"}\n');
        goOn = () => response.end('{"progress":"two"}\n');
      },
    ]);
    const { body } = await sendTo(url).send({ method: "POST", path: "/x", body: "{}" });
    const lines: string[] = [];
    for await (const line of readLines(body)) {
      lines.push(line);
      goOn?.(); // only now is there a second line
    }
    expect(lines).toEqual(['{"progress":"one"}', '{"progress":"two"}']);
  });

  test("that breaks off is an error, not an end, and not asked for again", async () => {
    const { url, seen } = await serve([
      (request, response) => response.write("half", () => request.socket.resetAndDestroy()),
    ]);
    const { body } = await sendTo(url).send(GET);
    await expect(text(body)).rejects.toMatchObject({
      code: "unreachable",
      why: "the connection was closed in the middle of it",
    });
    expect(seen).toHaveLength(1);
  });

  test("is cut off by the signal, with its reason", async () => {
    const { url } = await serve([(_, response) => response.write("half")]);
    const stop = new AbortController();
    const { body } = await sendTo(url).send({ ...GET, signal: stop.signal });
    const reason = new RpxError("interrupted", "stopped");
    body.once("data", () => stop.abort(reason));
    await expect(text(body)).rejects.toBe(reason);
  });

  test("whose reader goes away frees the connection", async () => {
    const closed = Promise.withResolvers<void>();
    const { url } = await serve([
      (_, response) => {
        response.once("close", () => closed.resolve());
        response.write("half");
      },
    ]);
    (await sendTo(url).send(GET)).body.destroy();
    await closed.promise;
  });

  test("to a request without a body", async () => {
    const { url, seen } = await serve([hello]);
    const { send } = sendTo(url);
    for (const method of ["GET", "POST", "DELETE"] as const)
      expect(await text((await send({ method, path: "/x", query: { a: "1&2", b: undefined } })).body)).toBe(
        "hello",
      );
    expect(seen.map(({ method, url }) => `${method} ${url}`)).toEqual([
      "GET /x?a=1%262",
      "POST /x?a=1%262",
      "DELETE /x?a=1%262",
    ]);
  });

  test("that refuses an upload before its end is the refusal", async () => {
    const { url } = await serve([
      answering(413, { connection: "close" }, '{"error":"too much","code":"too_large"}'),
    ]);
    const content = (): Readable => Readable.from(Array(50).fill(Buffer.alloc(100_000)));
    const sent = createClient({ send: sendTo(url).send }).putBundle("d", { bytes: 5_000_000, content });
    await expect(sent).rejects.toMatchObject({ code: "too_large", message: "too much" });
  });

  test("that does not come in time: timed_out, once; silence in its middle too", async () => {
    const mute: Answer = () => {};
    const half: Answer = (_, response) => response.write("half");
    const { url, seen } = await serve([mute, half]);
    const { send } = sendTo(url);
    await expect(send({ ...GET, silenceMs: 60 })).rejects.toMatchObject({
      code: "timed_out",
      why: "nothing came for 0.06 s",
    });
    const { body } = await send({ ...GET, silenceMs: 60 });
    await expect(text(body)).rejects.toMatchObject({ code: "timed_out" });
    expect(seen).toHaveLength(2);
  });
});
