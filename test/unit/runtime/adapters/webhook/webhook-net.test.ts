import { once } from "node:events";
import http from "node:http";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, test } from "vitest";
import { createWebhookNet } from "../../../../../src/runtime/adapters/webhook/webhook-net.ts";

const closers: (() => void)[] = [];
afterEach(() => {
  for (const close of closers.splice(0)) close();
});

const SHORT = { connectMs: 300, totalMs: 600, maxBodyBytes: 64 * 1_024 };

async function listen(server: Server): Promise<number> {
  const sockets = new Set<Socket>();
  server.on("connection", (socket) => {
    sockets.add(socket);
    socket.on("error", () => undefined);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  closers.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

/** A receiver that notes what it is sent. */
async function receiver(answer: http.RequestListener) {
  const seen: { method: string; url: string; headers: http.IncomingHttpHeaders; body: string }[] = [];
  const port = await listen(
    http.createServer(async (request, response) => {
      let body = "";
      for await (const chunk of request) body += chunk;
      seen.push({ method: request.method ?? "", url: request.url ?? "", headers: request.headers, body });
      answer(request, response);
    }),
  );
  return { port, seen };
}

/** A receiver that speaks raw bytes. */
function raw(onConnection: (socket: Socket) => void): Promise<number> {
  return listen(createServer(onConnection));
}

function post(url: string, options: Partial<Parameters<typeof createWebhookNet>[0]> = {}) {
  const net = createWebhookNet({ ownListeners: () => [], limits: SHORT, ...options });
  return net.post({
    url,
    body: '{"id":"ä"}',
    headers: { "webhook-id": "msg_1_1" },
    guard: "private_allowed",
  });
}

describe("post", () => {
  test("sends body, headers and the name as Host; 200 is accepted", async () => {
    const { port, seen } = await receiver((_, response) => response.end("thanks"));
    const answer = await post(`http://hook.test:${port}/in?x=1`, { resolve: async () => ["127.0.0.1"] });
    expect(answer).toEqual({ accepted: true, status: "200" });
    expect(seen).toMatchObject([
      {
        method: "POST",
        url: "/in?x=1",
        body: '{"id":"ä"}',
        headers: { host: `hook.test:${port}`, "webhook-id": "msg_1_1", "content-length": "11" },
      },
    ]);
  });

  test.each([201, 204, 400, 500])("%d is not accepted", async (status) => {
    const { port } = await receiver((_, response) => response.writeHead(status).end());
    expect(await post(`http://127.0.0.1:${port}/`)).toEqual({ accepted: false, status: String(status) });
  });

  test("F-28 a redirect is not followed", async () => {
    const target = await receiver((_, response) => response.end());
    const { port } = await receiver((_, response) =>
      response.writeHead(307, { location: `http://127.0.0.1:${target.port}/` }).end(),
    );
    expect(await post(`http://127.0.0.1:${port}/`)).toEqual({ accepted: false, status: "307" });
    expect(target.seen).toEqual([]);
  });

  test("proxy variables are not read", async () => {
    const proxy = await receiver((_, response) => response.end());
    const { port, seen } = await receiver((_, response) => response.end());
    const restore = http.setGlobalProxyFromEnv({ http_proxy: `http://127.0.0.1:${proxy.port}` });
    closers.push(restore);
    await post(`http://127.0.0.1:${port}/`);
    expect([proxy.seen.length, seen.length]).toEqual([0, 1]);
  });
});

describe("F-28, T-17 hostile receivers", () => {
  test("nobody listens", async () => {
    const server = createServer();
    const port = await listen(server);
    server.close();
    await once(server, "close");
    expect(await post(`http://127.0.0.1:${port}/`)).toEqual({ accepted: false, status: "refused" });
  });

  test("one that never answers costs its time and no more", async () => {
    const port = await raw(() => undefined);
    expect(await post(`http://127.0.0.1:${port}/`)).toEqual({
      accepted: false,
      status: "timeout after 0.6 s",
    });
  });

  test("one that stalls in the TLS handshake", async () => {
    const port = await raw(() => undefined);
    expect(await post(`https://127.0.0.1:${port}/`)).toEqual({
      accepted: false,
      status: "no connection within 0.3 s",
    });
  });

  test("a name server that never answers", async () => {
    const answer = await post("http://hook.test:8080/", { resolve: () => new Promise(() => undefined) });
    expect(answer).toEqual({ accepted: false, status: "timeout after 0.6 s" });
  });

  test("an endless header", async () => {
    const port = await raw((socket) => {
      socket.write("HTTP/1.1 200 OK\r\n");
      const more = () => {
        while (socket.writable && socket.write(`x-more: ${"y".repeat(1_000)}\r\n`));
      };
      socket.on("drain", more);
      more();
    });
    expect(await post(`http://127.0.0.1:${port}/`)).toEqual({ accepted: false, status: "header too long" });
  });

  test("endless interim answers", async () => {
    const port = await raw((socket) => {
      const timer = setInterval(() => socket.write("HTTP/1.1 103 Early Hints\r\n\r\n"), 5);
      socket.on("close", () => clearInterval(timer));
    });
    expect(await post(`http://127.0.0.1:${port}/`)).toMatchObject({ accepted: false });
  });

  test("an endless body is cut at 64 KiB: the status decides", async () => {
    let sentBytes = 0;
    const { port } = await receiver((_, response) => {
      const more = () => {
        let open = true;
        while (open && !response.destroyed) {
          sentBytes += 16_384;
          open = response.write(Buffer.alloc(16_384));
        }
      };
      response.on("drain", more);
      more();
    });
    expect(await post(`http://127.0.0.1:${port}/`)).toEqual({ accepted: true, status: "200" });
    expect(sentBytes).toBeLessThan(16 * 1_024 * 1_024);
  });

  test("a body that drips ends with the time", async () => {
    const { port } = await receiver((_, response) => {
      const timer = setInterval(() => response.write("."), 20);
      response.on("close", () => clearInterval(timer));
    });
    expect(await post(`http://127.0.0.1:${port}/`)).toEqual({ accepted: true, status: "200" });
  });

  test("one that hangs up", async () => {
    const port = await raw((socket) => socket.once("data", () => socket.resetAndDestroy()));
    expect(await post(`http://127.0.0.1:${port}/`)).toEqual({ accepted: false, status: "reset" });
  });
});

describe("T-16 targets", () => {
  const forbidden = "not sent: its host has an address that webhooks may not reach";

  test("every address of a name must be allowed", async () => {
    const { port, seen } = await receiver((_, response) => response.end());
    for (const bad of [
      "169.254.169.254",
      "fe80::1",
      "::ffff:169.254.169.254",
      "64:ff9b::7f00:1",
      "0.0.0.0",
    ]) {
      const resolve = async () => ["127.0.0.1", bad];
      expect(await post(`http://hook.test:${port}/`, { resolve })).toEqual({
        accepted: false,
        status: forbidden,
      });
    }
    expect(seen).toEqual([]);
  });

  test("public_only: a public name with a private address is not reached", async () => {
    const net = createWebhookNet({
      ownListeners: () => [],
      resolve: async () => ["127.0.0.1"],
      limits: SHORT,
    });
    const request = { url: "https://example.com/", body: "{}", headers: {}, guard: "public_only" } as const;
    expect(await net.post(request)).toEqual({ accepted: false, status: forbidden });
    expect(await net.post({ ...request, url: "http://example.com/" })).toEqual({
      accepted: false,
      status: "not sent: it is not https",
    });
  });

  test("a name is resolved once: a second answer is never used", async () => {
    const { port, seen } = await receiver((_, response) => response.end());
    let calls = 0;
    const resolve = async () => {
      calls += 1;
      return calls === 1 ? ["127.0.0.1"] : ["169.254.169.254"];
    };
    expect(await post(`http://hook.test:${port}/`, { resolve })).toMatchObject({ accepted: true });
    expect([calls, seen.length]).toEqual([1, 1]);
  });

  test("TLS asks for the name, not for the address", async () => {
    const hello = Promise.withResolvers<Buffer>();
    const port = await raw((socket) =>
      socket.once("data", (bytes) => {
        hello.resolve(bytes);
        socket.destroy();
      }),
    );
    const answer = await post(`https://hook.test:${port}/`, { resolve: async () => ["127.0.0.1"] });
    expect(answer.accepted).toBe(false);
    expect((await hello.promise).includes("hook.test")).toBe(true);
  });

  test("our own listeners are never reached, under no spelling", async () => {
    const { port, seen } = await receiver((_, response) => response.end());
    const ownListeners = () => [{ host: "127.0.0.1", port }];
    for (const host of ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]", "[::1]", "127.0.0.2"]) {
      expect(await post(`http://${host}:${port}/`, { ownListeners })).toEqual({
        accepted: false,
        status: "not sent: it leads to this daemon",
      });
    }
    expect(seen).toEqual([]);
    const other = await receiver((_, response) => response.end());
    expect(await post(`http://127.0.0.1:${other.port}/`, { ownListeners })).toMatchObject({ accepted: true });
  });
});
