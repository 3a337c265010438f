/**
 * What containers reach, tried from inside (ACC-17, T-11), on this machine's own engine and packet filter. Every place that must be
 * closed is shown to be open first: on a plain bridge, and on a daemon's own with its rules taken away.
 */
import { execFileSync } from "node:child_process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { createEngine } from "../../src/runtime/adapters/docker/engine.ts";
import { connectEngine } from "../../src/runtime/adapters/docker/engine-connection.ts";
import { ruleNames } from "../../src/runtime/adapters/docker/firewall-rules.ts";
import { createDockerNetwork, type DockerNetwork } from "../../src/runtime/adapters/docker/network.ts";
import { createSystemClock } from "../../src/runtime/adapters/system/clock.ts";
import { ensureImages, findEngine, PYTHON_IMAGE, skipAloud } from "../support/engine/engine.ts";
import {
  createContainers,
  linkLocalOf,
  NEIGHBOUR_PORT,
  type Place,
  type TestContainer,
} from "../support/network/containers.ts";
import {
  ADDRESSES,
  createOutside,
  holdTheWorld,
  type Outside,
  outsideMissing,
  tool,
} from "../support/network/outside.ts";

const LIMIT_MS = 120_000;
/** With the wait for another test that holds the world. */
const BEFORE_LIMIT_MS = 600_000;
const DAEMON_ID = "isolation-test";
const USERS_DAEMON_ID = "isolation-test-user";
const PLAIN = "rpxt-plain";
/** Some service of this machine, on all its addresses. */
const HOST_PORT = 17_981;
const WORKER_PORT = 17_982;
const OUTSIDE_PORT = 17_983;
const PUBLISHED_PORT = 17_984;
const FIXTURE = "test/fixtures/e2e/worker-network.ts";

const missing = outsideMissing();
if (missing !== null && process.env.CI === "true") throw new Error(`CI lacks ${missing}`);
if (missing !== null) console.warn(`skipped, what containers reach: this needs ${missing}`);

describe.skipIf(missing !== null || skipAloud(findEngine()))(
  "what containers reach",
  { timeout: LIMIT_MS },
  () => {
    const silent = () => {};
    const engine = createEngine({
      connection: connectEngine(process.env),
      label: `rpx.daemon=${DAEMON_ID}`,
      clock: createSystemClock({ newestStoredMs: 0 }),
      log: { info: silent, warn: silent, error: silent },
    });
    const containers = createContainers();
    const { docker } = containers;
    const names = ruleNames(DAEMON_ID);
    const network = networkOf(DAEMON_ID);
    let lock: { close(): void };
    let outside: Outside;
    /** Neighbours on a plain bridge with IPv6; the first publishes a port. */
    let plain: readonly [TestContainer, TestContainer];
    let plainGateways: readonly [v4: string, v6: string];
    /** Workers of two endpoints. */
    let workers: readonly [TestContainer, TestContainer];

    function networkOf(daemonId: string): DockerNetwork {
      return createDockerNetwork({
        engine,
        daemonId,
        workerPort: () => WORKER_PORT,
        workerUrl: null,
        openNetworks: [],
      });
    }

    async function removeAll(): Promise<void> {
      await containers.removeAll();
      await docker("network", "rm", PLAIN).catch(() => {});
      for (const daemonId of [DAEMON_ID, USERS_DAEMON_ID]) await networkOf(daemonId).remove();
    }

    const gateway = () => network.address()?.urlHost ?? "";
    const twoWorkers = () =>
      Promise.all([
        containers.create("rpxt-worker-a", network.name),
        containers.create("rpxt-worker-b", network.name),
      ]);

    /** Everything that a container may try: first what it may reach, then what it may not. */
    async function places(own: {
      gateway: string;
      bridge: string;
      neighbour: TestContainer;
    }): Promise<Place[]> {
      const bridgeV6 = `${await linkLocalOf(own.bridge, [])}%eth0`;
      const [plainGateway, plainGatewayV6] = plainGateways;
      return [
        ["the worker port", gateway(), WORKER_PORT],
        ["the internet", ADDRESSES.internet, OUTSIDE_PORT],
        ["a port of the host, by its gateway", own.gateway, HOST_PORT],
        ["a port of the host, by its own address", ADDRESSES.here.v4, HOST_PORT],
        ["a port of the host, by the default bridge", await defaultGateway(), HOST_PORT],
        ["a port of the host, by another bridge", plainGateway, HOST_PORT],
        ["the worker port, by another address", ADDRESSES.here.v4, WORKER_PORT],
        ["a port that a container publishes", ADDRESSES.here.v4, PUBLISHED_PORT],
        ["link-local, of the host", ADDRESSES.linkLocalHere, HOST_PORT],
        ["link-local, beyond", ADDRESSES.linkLocalThere, OUTSIDE_PORT],
        ["metadata, beyond", ADDRESSES.alibabaMetadata, OUTSIDE_PORT],
        ["a private network", ADDRESSES.privateNetwork, OUTSIDE_PORT],
        ["a neighbour", own.neighbour.v4, NEIGHBOUR_PORT],
        ["IPv6: a port of the host, by its bridge", bridgeV6, HOST_PORT],
        ["IPv6: a neighbour", own.neighbour.linkLocalV6, NEIGHBOUR_PORT],
        ["IPv6: a port of the host, by its own address", ADDRESSES.here.v6, HOST_PORT],
        ["IPv6: a port of the host, by another bridge", plainGatewayV6, HOST_PORT],
        ["IPv6: metadata, of the host", ADDRESSES.awsMetadataV6, HOST_PORT],
      ];
    }

    async function defaultGateway(): Promise<string> {
      return (
        /inet ([0-9.]+)/.exec(await tool(["ip", "-4", "-o", "address", "show", "dev", "docker0"]))?.[1] ?? ""
      );
    }

    const placesOf = (self: 0 | 1) =>
      places({ gateway: gateway(), bridge: names.bridge, neighbour: workers[self === 0 ? 1 : 0] });
    const OPEN = ["the worker port", "the internet"];

    async function expectIsolated(): Promise<void> {
      const reached = ([0, 1] as const).map(async (self) => workers[self].reach(await placesOf(self)));
      expect(await Promise.all(reached)).toEqual([OPEN, OPEN]);
    }

    beforeAll(async () => {
      lock = await holdTheWorld();
      ensureImages([PYTHON_IMAGE]);
      await engine.open();
      await removeAll();
      outside = await createOutside([], [`${ADDRESSES.linkLocalHere}/32`]);
      await outside.serve("there", "banner.mjs", [String(OUTSIDE_PORT)]);
      await outside.serve("here", "banner.mjs", [String(HOST_PORT), String(WORKER_PORT)]);
      await network.ensure();
      await docker("network", "create", "--ipv6", "--subnet", "fd00:7e57:1::/64", PLAIN);
      const format = "{{range .IPAM.Config}}{{.Gateway}} {{end}}";
      const found = (await docker("network", "inspect", "--format", format, PLAIN)).trim().split(" ");
      plainGateways = [
        found.find((address) => address.includes(".")) ?? "",
        // Engine 20.10 does not say the IPv6 one.
        found.find((address) => address.includes(":")) ?? "fd00:7e57:1::1",
      ];
      plain = await Promise.all([
        containers.create("rpxt-plain-a", PLAIN, "--publish", `${PUBLISHED_PORT}:${NEIGHBOUR_PORT}`),
        containers.create("rpxt-plain-b", PLAIN),
      ]);
      workers = await twoWorkers();
    }, BEFORE_LIMIT_MS);

    afterAll(async () => {
      await removeAll();
      await outside?.close();
      await engine.close();
      lock?.close();
    }, LIMIT_MS);

    test("control: from a plain bridge, all of it", async () => {
      const [self, neighbour] = plain;
      const id = await docker("network", "inspect", "--format", "{{.Id}}", PLAIN);
      const all = await places({ gateway: plainGateways[0], bridge: `br-${id.slice(0, 12)}`, neighbour });
      expect(await self.reach(all)).toEqual(all.map(([name]) => name));
    });

    test("ACC-17: from a daemon's bridge the worker port and the internet, over IPv4 and IPv6", async () => {
      expect(network.isolation()).toEqual({ level: "full", reason: expect.stringContaining("internet") });
      expect(network.address()).toEqual({ listenHost: gateway(), urlHost: gateway() });
      await expectIsolated();
    });

    test("the host still reaches workers", async () => {
      const code = `import socket; print(socket.create_connection(("${workers[0].v4}", ${NEIGHBOUR_PORT}), 2).makefile().readline())`;
      expect((await tool(["python3", "-c", code])).trim()).toBe("reached");
    });

    test("control and re-check: with the rules flushed by hand the host is open, and closed again at the next look", async () => {
      for (const command of ["iptables", "ip6tables"])
        for (const chain of [names.input, names.forward]) await tool([command, "-w", "-F", chain]);
      const bare = await workers[0].reach(await placesOf(0));
      expect(bare).toEqual([
        ...OPEN,
        "a port of the host, by its gateway",
        "a port of the host, by its own address",
        "a port of the host, by the default bridge",
        "a port of the host, by another bridge",
        "the worker port, by another address",
        "a port that a container publishes",
        "link-local, of the host",
        "link-local, beyond",
        "metadata, beyond",
        "a private network",
        // `enable_icc=false` is about IPv4 alone.
        "IPv6: a port of the host, by its bridge",
        "IPv6: a neighbour",
      ]);
      await network.ensure();
      await expectIsolated();
    });

    test("re-check: jumps taken out, or pushed behind a rule that lets everything through", async () => {
      const jump = ["INPUT", "-i", names.bridge, "-j", names.input];
      await tool(["iptables", "-w", "-D", ...jump]);
      expect(await workers[0].reach(await placesOf(0))).toContain("a port of the host, by its gateway");
      await network.ensure();
      await expectIsolated();
      const early = ["-i", names.bridge, "-m", "comment", "--comment", "rpx test", "-j", "ACCEPT"];
      await tool(["iptables", "-w", "-I", "DOCKER-USER", "1", ...early]);
      try {
        expect(await workers[0].reach(await placesOf(0))).toContain("a private network");
        await network.ensure();
        await expectIsolated();
      } finally {
        await tool(["iptables", "-w", "-D", "DOCKER-USER", ...early]);
      }
    });

    test("a look at what is in order changes nothing", async () => {
      const table = () => tool(["iptables-save", "-c", "-t", "filter"]);
      const ours = (text: string) =>
        text.split("\n").filter((line) => line.includes(names.bridge) && line.includes("RPX"));
      await expectIsolated();
      const before = ours(await table());
      await network.ensure();
      // Counters of rules that were made again would begin at 0.
      expect(ours(await table())).toEqual(before);
      expect(before.some((line) => /^\[[1-9]/.test(line))).toBe(true);
    });

    test("a network removed by hand is made again, with its address, and says so to nobody", async () => {
      for (const worker of workers) await worker.remove();
      const before = network.address();
      let changes = 0;
      const stop = network.onChange(() => {
        changes += 1;
      });
      await docker("network", "rm", network.name);
      await network.ensure();
      stop();
      expect(network.address()).toEqual(before);
      expect(changes).toBe(0);
      workers = await twoWorkers();
      await expectIsolated();
    });

    test("a network of that name that holds nobody apart is refused", async () => {
      const foreign = networkOf(USERS_DAEMON_ID);
      await docker("network", "create", foreign.name);
      try {
        await expect(foreign.ensure()).rejects.toMatchObject({
          code: "conflict",
          hint: `docker network rm ${foreign.name}`,
        });
        expect(foreign.address()).toBeNull();
      } finally {
        await docker("network", "rm", foreign.name);
      }
    });

    test("a user of the docker group, not root: partial, with the reason; and so it is", async () => {
      const group = execFileSync("stat", ["--format=%g", "/var/run/docker.sock"], {
        encoding: "utf8",
      }).trim();
      const user = ["setpriv", "--reuid=65534", `--regid=${group}`, "--clear-groups", "--inh-caps=-all"];
      const command = [process.execPath, FIXTURE, USERS_DAEMON_ID, String(WORKER_PORT), "ensure"];
      const said = JSON.parse(await tool([...user, ...command]));
      expect(said.isolation).toEqual({
        level: "partial",
        reason: expect.stringMatching(/other ports of this machine.*need root: sudo rpx serve/),
      });
      const [worker, neighbour] = await Promise.all([
        containers.create("rpxt-user", `rpx-${USERS_DAEMON_ID}`),
        containers.create("rpxt-user-neighbour", `rpx-${USERS_DAEMON_ID}`),
      ]);
      const reached = await worker.reach([
        ["the worker port", said.address.urlHost, WORKER_PORT],
        ["a port of the host", said.address.urlHost, HOST_PORT],
        ["a neighbour", neighbour.v4, NEIGHBOUR_PORT],
      ]);
      expect(reached).toEqual(["the worker port", "a port of the host"]);
    });

    test("removed: nothing is left of it in the packet filter, nor of the network", async () => {
      await containers.removeAll();
      await network.remove();
      for (const command of ["iptables", "ip6tables"])
        expect(await tool([command, "-w", "-S"])).not.toContain(names.bridge);
      expect((await docker("network", "ls", "--format", "{{.Name}}")).split("\n")).not.toContain(
        network.name,
      );
      await network.remove();
    });
  },
);
