import { expect, test } from "vitest";
import { nameServers } from "../../../../src/runtime/adapters/docker/name-servers.ts";

test.each([
  ["a server of the network", "nameserver 192.168.1.1\n", ["192.168.1.1"]],
  ["on loopback: asked from the host", "nameserver 127.0.0.53\noptions edns0\n", []],
  ["IPv6", "nameserver fd00::1\nnameserver 10.0.0.2\n", ["10.0.0.2"]],
  ["comments and odd spacing", "# nameserver 1.1.1.1\n;x\n\tnameserver\t9.9.9.9 # quad\n", ["9.9.9.9"]],
  [
    "three at most",
    ["1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4"].map((address) => `nameserver ${address}`).join("\n"),
    ["1.1.1.1", "1.1.1.2", "1.1.1.3"],
  ],
  ["no address", "nameserver dns.example\nnameserver\n", []],
  ["nothing", "", []],
])("%s", (_, text, servers) => expect(nameServers(text)).toEqual(servers));
