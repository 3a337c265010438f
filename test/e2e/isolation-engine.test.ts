/**
 * What containers reach around an engine that is restarted, and how names resolve, with an engine and a network namespace of the test's
 * own: there whole tables may be flushed, 169.254.169.254 be an address of the host, and /etc/resolv.conf be any (ACC-17, T-11).
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ruleNames } from "../../src/runtime/adapters/docker/firewall-rules.ts";
import { ensureImages, PYTHON_IMAGE } from "../support/engine/engine.ts";
import {
  createPrivateEngine,
  type PrivateEngine,
  privateEngineMissing,
} from "../support/engine/private-engine.ts";
import {
  createContainers,
  linkLocalOf,
  NEIGHBOUR_PORT,
  type Place,
  type TestContainer,
} from "../support/network/containers.ts";
import { ADDRESSES, createOutside, type Outside, outsideMissing, tool } from "../support/network/outside.ts";
import { eventually } from "../support/real-daemon.ts";

const OPEN_LIMIT_MS = 30_000;
const LIMIT_MS = 240_000;
const DAEMON_ID = "isolation-engine-test";
const BRIDGE = ruleNames(DAEMON_ID).bridge;
const HOST_PORT = 17_981;
const WORKER_PORT = 17_982;
const OUTSIDE_PORT = 17_983;
const TCP_HOST = "tcp://127.0.0.1:2375";
const METADATA = "169.254.169.254";
/** What test/fixtures/e2e/name-server.py says of every name. */
const ANSWER = "192.0.2.53";
const FIXTURE = path.resolve("test/fixtures/e2e/worker-network.ts");

const missing = privateEngineMissing() ?? outsideMissing();
if (missing !== null && process.env.CI === "true") throw new Error(`CI lacks ${missing}`);
if (missing !== null)
  console.warn(`skipped, what containers reach around an engine's restart: this needs ${missing}`);

describe.skipIf(missing !== null)("around an engine", { timeout: LIMIT_MS }, () => {
  let folder: string;
  let engine: PrivateEngine;
  let outside: Outside;
  let containers: ReturnType<typeof createContainers>;
  let inside: readonly string[];
  let created = 0;

  const iptables = async (...args: string[]) => {
    for (const command of ["iptables", "ip6tables"]) await tool([...inside, command, "-w", ...args]);
  };
  const jumps = async (chain: string) =>
    (await tool([...inside, "iptables", "-w", "-S", chain])).split(`-i ${BRIDGE} -j RPX-FWD-`).length - 1;
  const resolvConf = (...servers: string[]) =>
    writeFileSync(path.join(folder, "resolv.conf"), servers.map((one) => `nameserver ${one}\n`).join(""));

  /** What the daemon says after a look, from where the engine is: its network, and its /etc/resolv.conf. */
  const look = (...more: string[]) =>
    said(["nsenter", `--target=${engine.pid()}`, "--net", "--mount"], engine.host, more);

  async function said(enter: readonly string[], host: string, more: readonly string[] = []) {
    const command = [process.execPath, FIXTURE, DAEMON_ID, String(WORKER_PORT), "ensure", ...more];
    return JSON.parse(await tool([...enter, ...command], { DOCKER_HOST: host }));
  }

  async function ensure(): Promise<string> {
    const { isolation, address } = await look();
    expect(isolation.level, isolation.reason).toBe("full");
    return address.urlHost;
  }

  /** Two workers, as /etc/resolv.conf is when they are made. */
  async function twoWorkers(): Promise<readonly [TestContainer, TestContainer]> {
    created += 1;
    const make = (name: string) => containers.create(`${name}-${created}`, `rpx-${DAEMON_ID}`);
    return Promise.all([make("rpxt-a"), make("rpxt-b")]);
  }

  const CLOSED = [
    "a port of the host",
    "metadata",
    "a private network",
    "IPv6: a port of the host",
    "IPv6: a neighbour",
  ];
  const OPEN = ["the worker port", "the internet"];

  async function reached(gateway: string, workers: readonly [TestContainer, TestContainer]) {
    const places: Place[] = [
      ["the worker port", gateway, WORKER_PORT],
      ["the internet", ADDRESSES.internet, OUTSIDE_PORT],
      ["a port of the host", gateway, HOST_PORT],
      ["metadata", METADATA, HOST_PORT],
      ["a private network", ADDRESSES.privateNetwork, OUTSIDE_PORT],
      ["a neighbour", workers[1].v4, NEIGHBOUR_PORT],
      ["IPv6: a port of the host", `${await linkLocalOf(BRIDGE, inside)}%eth0`, HOST_PORT],
      ["IPv6: a neighbour", workers[1].linkLocalV6, NEIGHBOUR_PORT],
    ];
    return workers[0].reach(places);
  }

  beforeAll(async () => {
    folder = mkdtempSync(path.join(tmpdir(), "rpx-isolation-"));
    resolvConf("127.0.0.1");
    engine = await createPrivateEngine({
      resolvConf: path.join(folder, "resolv.conf"),
      args: [`--host=${TCP_HOST}`],
    });
    ensureImages([PYTHON_IMAGE], engine.host);
    containers = createContainers(engine.host);
    inside = ["nsenter", `--net=/run/netns/${path.basename(path.dirname(engine.host))}`];
    outside = await createOutside(inside, [`${METADATA}/32`]);
    await outside.serve("there", "banner.mjs", [String(OUTSIDE_PORT)]);
    await outside.serve("here", "banner.mjs", [String(HOST_PORT), String(WORKER_PORT)]);
  }, LIMIT_MS);

  afterAll(async () => {
    await outside?.close();
    await engine?.close();
    rmSync(folder, { recursive: true, force: true });
  }, LIMIT_MS);

  test("ACC-17: closed after a restart of the engine, open once the tables are flushed, closed after the next look", async () => {
    const gateway = await ensure();
    const workers = await twoWorkers();
    expect(await reached(gateway, workers)).toEqual(OPEN);

    await engine.stop();
    await engine.start();
    expect(await reached(gateway, workers), "before the daemon has looked").toEqual(OPEN);
    expect(await ensure()).toBe(gateway);
    expect(await reached(gateway, workers)).toEqual(OPEN);

    // Everything, the engine's own rules too: only neighbours by IPv4 are kept apart then, by nobody.
    await iptables("-F");
    await iptables("-P", "FORWARD", "ACCEPT");
    // IPv6 addresses are of use a moment after their interface is up.
    const open = [...OPEN, ...CLOSED, "a neighbour"];
    const isOpen = async () => {
      const seen = await reached(gateway, workers);
      return open.every((place) => seen.includes(place));
    };
    await eventually(isOpen, OPEN_LIMIT_MS, `open: ${open.join(", ")}`);
    await ensure();
    expect(await reached(gateway, workers)).toEqual(OPEN);

    // With live containers engine 20.10 leads to DOCKER-USER again when it makes its next network: until then FORWARD is the place.
    await engine.kill();
    await engine.start();
    await ensure();
    expect(await reached(gateway, workers)).toEqual(OPEN);
    expect(await jumps("FORWARD")).toBe(1);
    await containers.docker("network", "create", "rpxt-another");
    expect(await reached(gateway, workers), "before the daemon has looked").toEqual(OPEN);
    await ensure();
    expect(await reached(gateway, workers)).toEqual(OPEN);
    expect([await jumps("FORWARD"), await jumps("DOCKER-USER")]).toEqual([0, 1]);
  });

  test.each([
    ["on the host's loopback: asked from the host", "127.0.0.1", "here"],
    ["on another address of the host: its port 53 alone", ADDRESSES.here.v4, "here"],
    ["in a private network: its port 53 alone", ADDRESSES.privateNetwork, "there"],
  ] as const)("names resolve by a server %s", async (_, server, where) => {
    await outside.serve(where, "name-server.py", [server]);
    resolvConf(server);
    const gateway = await ensure();
    const workers = await twoWorkers();
    expect((await workers[0].resolve("models.example")).trim()).toBe(ANSWER);
    expect(await reached(gateway, workers)).toEqual(OPEN);
    expect(
      await workers[0].reach([
        ["another port", server, HOST_PORT],
        ["another port beyond", server, OUTSIDE_PORT],
      ]),
    ).toEqual([]);
  });

  test("control: no name resolves by a server that nobody opened", async () => {
    resolvConf(ADDRESSES.alibabaMetadata);
    await ensure();
    resolvConf(ADDRESSES.privateNetwork);
    const worker = await containers.create("rpxt-alone", `rpx-${DAEMON_ID}`);
    await expect(worker.resolve("models.example")).rejects.toThrow();
    await ensure();
    expect((await worker.resolve("models.example")).trim()).toBe(ANSWER);
  });

  test("another worker URL and an opened network: those instead of the gateway", async () => {
    const url = `http://${ADDRESSES.here.v4}:${WORKER_PORT}`;
    const { address, isolation } = await look(url, `${ADDRESSES.privateNetwork}/24`);
    expect(address).toEqual({ listenHost: null, urlHost: ADDRESSES.here.v4 });
    expect(isolation).toEqual({ level: "full", reason: expect.stringContaining("10.77.77.0/24") });
    const [worker] = await twoWorkers();
    const found = await worker.reach([
      ["the worker URL", ADDRESSES.here.v4, WORKER_PORT],
      ["the opened network", ADDRESSES.privateNetwork, OUTSIDE_PORT],
      ["another port beside the worker URL", ADDRESSES.here.v4, HOST_PORT],
      ["metadata", METADATA, HOST_PORT],
    ]);
    expect(found).toEqual(["the worker URL", "the opened network"]);
    await expect(look("http://[fd00::1]:7791")).rejects.toThrow("workers cannot find [fd00::1]:7791");
    await expect(look("", "nas.example")).rejects.toThrow("not a network that workers can be let into");
  });

  test.each([
    ["over a socket that leads into another network", () => said([], engine.host)],
    ["over TCP", () => said(inside, TCP_HOST)],
  ])("an engine %s is another machine's: loopback, and no claim", async (_, asked) => {
    expect(await asked()).toEqual({
      address: { listenHost: null, urlHost: "host.docker.internal" },
      isolation: { level: "partial", reason: expect.stringContaining("the engine runs elsewhere (") },
    });
  });
});
