/** The connection to the engine against a stand-in that answers as it likes. */
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { inspect } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { createContainers } from "../../../../src/runtime/adapters/docker/containers.ts";
import { createEngine, type Engine } from "../../../../src/runtime/adapters/docker/engine.ts";
import { connectEngine } from "../../../../src/runtime/adapters/docker/engine-connection.ts";
import { awaySentence } from "../../../../src/runtime/adapters/docker/engine-errors.ts";
import { createQuarantine } from "../../../../src/runtime/adapters/docker/quarantine.ts";
import { createSimulatedClock } from "../../../../src/runtime/adapters/simulated/clock.ts";
import { createSystemClock } from "../../../../src/runtime/adapters/system/clock.ts";

type Asked = { readonly method: string; readonly url: string; readonly body: string };
type Answer = (request: Asked, reply: ServerResponse) => void;

const QUIET = { info() {}, warn() {}, error() {} };
const HOSTILE = "evil\u001b[2J\u001b]52;c;AAAA\u0007\r\n" + "x".repeat(5_000);

let folder: string;
let server: Server;
let engine: Engine;
let asked: Asked[];
let answer: Answer;

beforeEach(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "rpx-stub-"));
  const socket = path.join(folder, "docker.sock");
  asked = [];
  answer = (_, reply) => json(reply, 404, { message: "nothing here" });
  server = createServer((request, reply) => void serve(request, reply));
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  engine = createEngine({
    connection: connectEngine({ DOCKER_HOST: `unix://${socket}` }),
    label: "rpx.daemon=d1",
    clock: createSystemClock({ newestStoredMs: 0 }),
    log: QUIET,
  });
  await engine.open();
});

afterEach(async () => {
  await engine.close();
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  rmSync(folder, { recursive: true });
});

async function serve(request: IncomingMessage, reply: ServerResponse): Promise<void> {
  const chunks = await request.toArray();
  const url = request.url ?? "";
  if (url === "/_ping") return void reply.end("OK");
  if (url.startsWith("/version")) return json(reply, 200, { Version: HOSTILE, Os: "linux", Arch: "amd64" });
  if (url.startsWith("/info")) return json(reply, 200, { ID: "A", DockerRootDir: "/x" });
  if (url.startsWith("/events")) return void reply.writeHead(200).flushHeaders();
  const one = { method: request.method ?? "", url, body: Buffer.concat(chunks).toString() };
  asked.push(one);
  answer(one, reply);
}

function json(reply: ServerResponse, status: number, value: unknown): void {
  reply.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}

const containers = () => createContainers(engine, "d1");

test("T-32: what it says of itself is safe to show", () => {
  expect(engine.away()).toBe(null);
  expect(engine.facts()?.version).toMatch(/^evil x+\.\.\.$/);
});

test("T-24: no variable of a worker stands in an address", async () => {
  answer = (_, reply) => json(reply, 201, { Id: "abc" });
  const options = { name: "rpx-w1", Image: "i", Env: ["TOKEN=canary"], HostConfig: { Init: true } };
  expect(await containers().create(options, new AbortController().signal)).toBe("abc");
  expect(asked).toHaveLength(1);
  expect(asked[0]?.url).toBe("/containers/create?name=rpx-w1");
  expect(JSON.parse(asked[0]?.body ?? "")).toEqual({
    Image: "i",
    Env: ["TOKEN=canary"],
    HostConfig: { Init: true },
  });
});

test("T-32: a container whose labels no daemon writes is none of ours", async () => {
  const id = "a".repeat(64);
  const labels = { "rpx.worker": "w1", "rpx.endpoint": "ep1" };
  const one = { Id: id, Names: ["/rpx-w1"], State: "running", Labels: labels };
  answer = (_, reply) =>
    json(reply, 200, [
      one,
      { ...one, Labels: { ...labels, "rpx.worker": "../../etc" } },
      { ...one, Labels: { ...labels, "rpx.endpoint": HOSTILE } },
      { ...one, State: "exploding" },
    ]);
  expect(await containers().list()).toEqual([
    { id, name: "rpx-w1", workerId: "w1", endpointId: "ep1", status: "running", diskBytesLimit: null },
  ]);
  expect(decodeURIComponent(asked[0]?.url ?? "")).toContain('{"label":["rpx.daemon=d1","rpx.role=worker"]}');
  answer = (_, reply) => json(reply, 200, [{ ...one, Id: "../x" }]);
  await expect(containers().list()).rejects.toThrow();
});

test("T-32: why it refuses is one safe line of bounded length", async () => {
  answer = (_, reply) => json(reply, 500, { message: HOSTILE });
  const refusal = await containers()
    .list()
    .catch((error: Error) => error);
  expect(refusal).toMatchObject({ name: "EngineRefusal", status: 500 });
  expect((refusal as Error).message).toMatch(/^evil x{495}\.\.\.$/);
});

test("a call without an answer ends at its limit, and counts as an engine that does not answer", async () => {
  answer = () => {};
  const call = engine.ask((options) => engine.docker.listContainers(options), { limitMs: 50 });
  await expect(call).rejects.toMatchObject({
    code: "unavailable",
    message: /does not answer: no reply within 0 s$/,
  });
  expect(asked).toHaveLength(1);
});

test("what may be asked twice is asked again after a broken connection, and nothing else", async () => {
  answer = (_, reply) => (asked.length < 3 ? reply.destroy() : json(reply, 200, []));
  expect(await containers().list()).toEqual([]);
  expect(asked).toHaveLength(3);
  asked = [];
  answer = (_, reply) => void reply.destroy();
  await expect(containers().start("abc")).rejects.toMatchObject({ code: "unavailable" });
  expect(asked).toHaveLength(1);
});

test("a caller that gives up gets its own reason", async () => {
  const giveUp = new AbortController();
  answer = () => giveUp.abort(new Error("given up"));
  const call = engine.ask((options) => engine.docker.listContainers(options), { signal: giveUp.signal });
  await expect(call).rejects.toThrow("given up");
});

test("F-17: a container that cannot be removed holds nobody up, and is tried again", async () => {
  const clock = createSimulatedClock(0);
  const quarantine = createQuarantine({ containers: containers(), clock, log: QUIET });
  answer = (_, reply) => json(reply, asked.length === 1 ? 500 : 409, { message: "device or resource busy" });
  await quarantine.drop("abc");
  expect(quarantine.has("abc", "")).toBe(true);
  await quarantine.retry();
  expect(asked, "not due yet").toHaveLength(1);
  await clock.advance(1_000);
  await quarantine.retry();
  expect(asked).toHaveLength(2);
  answer = (_, reply) => void reply.writeHead(204).end();
  await clock.advance(2_000);
  await quarantine.retry();
  expect(quarantine.has("abc", "")).toBe(false);
  expect(asked.map(({ method, url }) => `${method} ${url}`)[0]).toBe(
    "DELETE /containers/abc?force=true&v=true",
  );
});

describe("why it is away", () => {
  const because = (code: string) => awaySentence("unix:///x", Object.assign(new Error("m"), { code }));
  test.each([
    ["ENOENT", "no Docker engine answers at unix:///x"],
    ["ECONNREFUSED", "no Docker engine answers at unix:///x"],
    ["EACCES", "this user may not use the Docker engine at unix:///x (add it to the group docker)"],
    ["EIO", "the Docker engine at unix:///x cannot be used: m"],
  ])("%s", (code, sentence) => expect(because(code)).toBe(sentence));
});

describe("where it is", () => {
  const at = (environment: Record<string, string>) => {
    const { docker, endpoint, isSocket } = connectEngine(environment);
    const { host, port, protocol, socketPath } = docker.modem as unknown as Record<string, unknown>;
    return { host, port: Number(port), protocol, socketPath, endpoint, isSocket };
  };
  test("the usual socket, another one, and engines over the network", () => {
    expect(at({})).toMatchObject({ socketPath: "/var/run/docker.sock", isSocket: true, host: undefined });
    expect(at({ DOCKER_HOST: "unix:///x/y.sock" })).toMatchObject({
      socketPath: "/x/y.sock",
      isSocket: true,
    });
    const tcp = { host: "engine", isSocket: false, socketPath: undefined };
    expect(at({ DOCKER_HOST: "tcp://engine:2375" })).toMatchObject({ ...tcp, port: 2375, protocol: "http" });
    expect(at({ DOCKER_HOST: "engine:4000" })).toMatchObject({ ...tcp, port: 4000, protocol: "http" });
    expect(at({ DOCKER_HOST: "tcp://engine:2376" })).toMatchObject({ ...tcp, port: 2376, protocol: "https" });
    expect(at({ DOCKER_HOST: "ssh://ada@engine" })).toMatchObject({ ...tcp, port: 22, protocol: "ssh" });
    expect(() => at({ DOCKER_HOST: "unix://" })).toThrow(/no address of an engine/);
  });

  test("its agent is one word where the library writes requests as text", () => {
    const { agent } = connectEngine({}).docker.modem as unknown as { agent: object };
    expect(inspect(agent, { showHidden: true, depth: null })).toBe("Agent");
  });
});
