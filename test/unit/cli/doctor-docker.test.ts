import { expect, test } from "vitest";
import { engineChecks, type Machine } from "../../../src/cli/doctor-docker.ts";

const VERSION = {
  Version: "20.10.24",
  Components: [
    { Name: "Engine", Version: "20.10.24" },
    { Name: "containerd", Version: "1.6.20" },
    { Name: "runc", Version: "1.1.5" },
  ],
};
const INFO = {
  Driver: "overlay2",
  DriverStatus: [["Backing Filesystem", "extfs"]],
  DockerRootDir: "/var/lib/docker",
  CgroupVersion: "2",
  BridgeNfIptables: true,
  SecurityOptions: ["name=seccomp,profile=default"],
};
const MACHINE: Machine = { isLinux: true, isRoot: true, missingTools: [], mounts: "" };

function check(name: string, info: object = {}, machine: Partial<Machine> = {}) {
  const answers = { version: VERSION, info: { ...INFO, ...info } };
  return engineChecks("/run/docker.sock", answers, { ...MACHINE, ...machine }).find(
    (one) => one.name === name,
  );
}

test("the engine: version, its parts, storage and cgroup", () => {
  expect(check("docker")).toEqual({
    name: "docker",
    state: "ok",
    detail: "20.10.24 at /run/docker.sock (containerd 1.6.20, runc 1.1.5), overlay2 on extfs, cgroup v2",
  });
});

test("an engine that tells nothing of itself is still one that answers", () => {
  expect(engineChecks("/s", { version: {}, info: {} }, MACHINE)[0]?.detail).toBe(
    "unknown version at /s, unknown storage, cgroup v1",
  );
});

test.each<[string, object, Partial<Machine>, RegExp]>([
  ["no root", {}, { isRoot: false }, /root/],
  ["no iptables", {}, { missingTools: ["iptables"] }, /apt install iptables/],
  ["no ip6tables", {}, { missingTools: ["ip6tables"] }, /apt install iptables/],
  ["a bridge that is not filtered", { BridgeNfIptables: false }, {}, /bridge-nf-call-iptables=1/],
  ["an engine without root", { SecurityOptions: ["name=rootless"] }, {}, /engine with root/],
  ["an engine in a virtual machine", {}, { isLinux: false }, /on Linux/],
])("isolation is partial, and how to mend it: %s", (_, info, machine, hint) => {
  expect(check("isolation", info, machine)).toMatchObject({
    state: "note",
    detail: expect.stringMatching(/^partial: /),
    hint: expect.stringMatching(hint),
  });
});

test("isolation is full as root with a firewall", () => {
  expect(check("isolation")).toMatchObject({ state: "ok", detail: expect.stringMatching(/^full: /) });
});

test.each([
  ["overlay2 on ext4", {}, "", "note"],
  [
    "overlay2 on xfs without quotas",
    { DriverStatus: [["Backing Filesystem", "xfs"]] },
    "/dev/sda / xfs rw 0 0",
    "note",
  ],
  [
    "overlay2 on xfs with quotas",
    { DriverStatus: [["Backing Filesystem", "xfs"]] },
    "/dev/sda / ext4 rw 0 0\n/dev/sdb /var/lib/docker xfs rw,prjquota 0 0",
    "ok",
  ],
  ["btrfs", { Driver: "btrfs" }, "", "ok"],
])("disk limits: %s", (_, info, mounts, state) => {
  expect(check("disk limits", info, { mounts })?.state).toBe(state);
});
