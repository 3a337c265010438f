/** Small pure parts of the Docker pool. */
import { describe, expect, test } from "vitest";
import {
  canLimitDisk,
  type EngineFacts,
  engineFacts,
} from "../../../../src/runtime/adapters/docker/engine-facts.ts";
import { freezerFiles } from "../../../../src/runtime/adapters/docker/freezer.ts";
import { createFrameReader } from "../../../../src/runtime/adapters/docker/log-frames.ts";
import { createTransfer, type TransferMessage } from "../../../../src/runtime/adapters/docker/transfer.ts";

const ID = "f".repeat(64);

describe("freezer", () => {
  const V1 = "34 25 0:30 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer";
  const V2 = "29 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate";

  test("version 1, by the line of its controller", () => {
    const groups = `11:memory:/docker/${ID}\n7:freezer:/docker/${ID}\n0::/docker/${ID}\n`;
    const files = freezerFiles(groups, V1, ID);
    expect(files).toMatchObject({
      control: `/sys/fs/cgroup/freezer/docker/${ID}/freezer.state`,
      frozen: "FROZEN",
    });
    expect(files?.isFrozen("FROZEN\n")).toBe(true);
    expect(files?.isFrozen("FREEZING\n")).toBe(false);
  });

  test("version 2, with systemd's names", () => {
    const files = freezerFiles(`0::/system.slice/docker-${ID}.scope\n`, V2, ID);
    expect(files?.control).toBe(`/sys/fs/cgroup/system.slice/docker-${ID}.scope/cgroup.freeze`);
    expect(files?.isFrozen("populated 1\nfrozen 1\n")).toBe(true);
    expect(files?.isFrozen("populated 1\nfrozen 0\n")).toBe(false);
  });

  test("a mount that shows a part of the hierarchy", () => {
    const mount = `34 25 0:30 /docker /mnt/freezer rw - cgroup cgroup rw,freezer`;
    expect(freezerFiles(`7:freezer:/docker/${ID}`, mount, ID)?.control).toBe(
      `/mnt/freezer/${ID}/freezer.state`,
    );
    expect(freezerFiles(`7:freezer:/other/${ID}`, mount, ID)).toBe(null);
  });

  test("never a process that is not the container's: an engine elsewhere has process ids of its own", () => {
    expect(freezerFiles("7:freezer:/user/session\n0::/user.slice", `${V1}\n${V2}`, ID)).toBe(null);
    expect(freezerFiles("", V1, ID)).toBe(null);
  });
});

describe("engine facts", () => {
  const info = {
    ID: "AB:CD",
    OperatingSystem: "Debian\u001b[2J",
    Driver: "overlay2",
    DriverStatus: [["Backing Filesystem", "xfs"]],
    DockerRootDir: "/var/lib/docker",
    NCPU: 8,
    MemTotal: 1_000,
    SecurityOptions: ["name=seccomp,profile=default", "name=rootless"],
    Runtimes: { runc: {}, nvidia: {} },
  };
  const facts = engineFacts({ Version: "20.10.24", Os: "linux", Arch: "amd64" }, info);

  test("T-32: text of the engine's is safe to show, and what is missing is empty", () => {
    expect(facts).toMatchObject({
      operatingSystem: "Debian",
      isRootless: true,
      runtimes: ["runc", "nvidia"],
    });
    expect(engineFacts({}, {})).toMatchObject({ version: "", cpus: 0, cgroupVersion: "1", runtimes: [] });
    expect(() => engineFacts({}, "<html>")).toThrow();
  });

  test("a disk limit is the engine's where its driver keeps one", () => {
    const on = (changes: Partial<EngineFacts>, mounts: string | null) =>
      canLimitDisk({ ...facts, ...changes }, mounts);
    const xfs = "/dev/a / ext4 rw 0 0\n/dev/b /var/lib xfs rw,prjquota 0 0";
    expect(on({}, xfs)).toBe(true);
    expect(on({}, xfs.replace(",prjquota", ",noquota"))).toBe(false);
    expect(on({}, `${xfs}\n/dev/c /var/lib/docker xfs rw,noquota 0 0`)).toBe(false);
    expect(on({}, null)).toBe(false);
    expect(on({ backingFileSystem: "extfs" }, xfs)).toBe(false);
    expect(on({ storageDriver: "btrfs", backingFileSystem: "" }, null)).toBe(true);
  });
});

describe("log frames", () => {
  const frame = (stream: number, text: string): Buffer => {
    const header = Buffer.alloc(8);
    header[0] = stream;
    header.writeUInt32BE(Buffer.byteLength(text), 4);
    return Buffer.concat([header, Buffer.from(text)]);
  };
  const STAMP = "2026-11-28T04:50:59.970909903Z";

  test("are read wherever the stream is cut", () => {
    const whole = Buffer.concat([
      frame(1, `${STAMP} one\n`),
      frame(2, `${STAMP} two words\n`),
      frame(1, `${STAMP} `),
    ]);
    for (let cut = 0; cut <= whole.length; cut += 1) {
      const read = createFrameReader();
      const pieces = [...read(whole.subarray(0, cut)), ...read(whole.subarray(cut))];
      expect(pieces.map(({ source, tsMs, bytes }) => [source, tsMs, bytes.toString()])).toEqual([
        ["o", Date.parse("2026-11-28T04:50:59.970Z"), "one\n"],
        ["e", Date.parse("2026-11-28T04:50:59.970Z"), "two words\n"],
        ["o", Date.parse("2026-11-28T04:50:59.970Z"), ""],
      ]);
    }
  });

  test.each([
    ["another stream", frame(7, `${STAMP} x\n`)],
    ["a frame that is too long", Buffer.from([1, 0, 0, 0, 0x7f, 0, 0, 0])],
    ["no time", frame(1, "plain\n")],
    ["nonsense for a time", frame(1, "yesterday plain\n")],
  ])("T-32: %s is refused", (_, bytes) => {
    expect(() => createFrameReader()(bytes)).toThrow(/log stream/);
  });
});

/** Takes messages; answers with the percentage told last. */
function createProgress() {
  let told: number | null = null;
  const transfer = createTransfer("pulling", (_text, percent) => {
    told = percent ?? null;
  });
  return (message: TransferMessage): number | null => {
    transfer.take(message);
    return told;
  };
}

describe("pull progress", () => {
  test("grows over all layers, from nothing known to 100", () => {
    const take = createProgress();
    const layer = (id: string, status: string, current?: number, total?: number) =>
      take({ id, status, progressDetail: current === undefined ? {} : { current, total } });
    expect(take({ status: "Pulling from x", id: "1.0" })).toBe(null);
    expect(layer("a", "Pulling fs layer")).toBe(0);
    expect(layer("b", "Already exists")).toBe(50);
    expect(layer("a", "Downloading", 50, 100)).toBe(67);
    // A third layer becomes known late: what was shown stays.
    expect(layer("c", "Pulling fs layer")).toBe(67);
    expect(layer("a", "Download complete")).toBe(67);
    expect(layer("a", "Pull complete")).toBe(67);
    expect(layer("c", "Extracting", 1, 2)).toBe(95);
    expect(layer("c", "Pull complete")).toBe(100);
    expect(take({ status: "Digest: sha256:x" })).toBe(100);
  });

  test("T-32: what makes no sense counts for nothing", () => {
    const take = createProgress();
    expect(take({ id: 5, status: "Downloading" })).toBe(null);
    expect(take({ id: "a", status: "Downloading", progressDetail: { current: "x", total: -1 } })).toBe(0);
    expect(take({ id: "a", status: "Downloading", progressDetail: null })).toBe(0);
    for (let count = 0; count < 2_000; count += 1) take({ id: `l${count}`, status: "Pull complete" });
    expect(take({ id: "a", status: "Pull complete" })).toBe(100);
  });
});
