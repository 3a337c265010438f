import { expect, test } from "vitest";
import { addressOf } from "../../../../src/runtime/adapters/docker/bridge.ts";

test.each([
  ["as it says", { Subnet: "172.18.0.0/16", Gateway: "172.18.0.1" }, "172.18.0.1"],
  ["chosen by hand", { Subnet: "10.9.0.0/24", Gateway: "10.9.0.254" }, "10.9.0.254"],
  ["with the subnet's bits", { Subnet: "172.18.0.0/16", Gateway: "172.18.0.1/16" }, "172.18.0.1"],
  ["left out", { Subnet: "172.18.0.0/16" }, "172.18.0.1"],
  ["empty", { Subnet: "192.168.80.0/20", Gateway: "" }, "192.168.80.1"],
  ["left out of a subnet given by an address inside it", { Subnet: "10.7.3.129/25" }, "10.7.3.129"],
  ["left out of a high one", { Subnet: "223.255.255.252/30" }, "223.255.255.253"],
])("gateway %s", (_, config, gateway) => {
  expect(addressOf({ Config: [config] })).toEqual({ subnet: config.Subnet, gateway });
});

test("the IPv4 subnet is taken, wherever it stands", () => {
  const ipam = { Config: [{ Subnet: "fd00:7::/64", Gateway: "fd00:7::1" }, { Subnet: "172.19.0.0/16" }] };
  expect(addressOf(ipam)?.gateway).toBe("172.19.0.1");
});

test.each([[undefined], [{}], [{ Config: [] }], [{ Config: [{ Subnet: "fd00::/64" }] }], [{ Config: [{}] }]])(
  "no IPv4 subnet: %j",
  (ipam) => expect(addressOf(ipam)).toBeNull(),
);
