import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { containerEnv } from "../../../../src/runtime/adapters/docker/container-env.ts";
import {
  CAPABILITIES,
  containerSpec,
  type SpecInput,
} from "../../../../src/runtime/adapters/docker/container-spec.ts";
import type { BuiltImage, EndpointId, WorkerId } from "../../../../src/runtime/core/model.ts";

const BUILT: BuiltImage = {
  kind: "image",
  image: `sha256:${"a".repeat(64)}`,
  reference: "hello:1",
  registry: null,
  entrypoint: null,
  command: null,
  mounts: [],
  env: {},
  runtime: "",
  warnings: [],
};

function inputOf(changes: Partial<SpecInput> = {}): SpecInput {
  return {
    worker: {
      workerId: "w1" as WorkerId,
      endpointId: "ep1" as EndpointId,
      release: 3,
      built: changes.built ?? BUILT,
      env: { RUNPOD_WEBHOOK_GET_JOB: "http://x/job-take/$ID?gpu=a+b" },
      limits: { memoryBytes: null, cpus: null, pids: 512, shmBytes: null, diskBytes: null },
    },
    built: BUILT,
    daemonId: "d1",
    networkMode: "rpx-d1",
    needsHostAlias: false,
    image: { env: {}, labels: {} },
    mounts: [],
    engine: { cpus: 8, canLimitDisk: false },
    ...changes,
  };
}

describe("container spec", () => {
  test("T-14: a worker without limits", () => {
    expect(containerSpec(inputOf())).toEqual({
      warnings: [],
      options: {
        name: "rpx-w1",
        Image: `sha256:${"a".repeat(64)}`,
        Hostname: "w1",
        Env: ["RUNPOD_WEBHOOK_GET_JOB=http://x/job-take/$ID?gpu=a+b"],
        Labels: {
          "rpx.daemon": "d1",
          "rpx.role": "worker",
          "rpx.worker": "w1",
          "rpx.endpoint": "ep1",
          "rpx.release": "3",
        },
        Tty: false,
        OpenStdin: false,
        AttachStdin: false,
        AttachStdout: false,
        AttachStderr: false,
        StopSignal: "SIGTERM",
        Healthcheck: { Test: ["NONE"] },
        HostConfig: {
          NetworkMode: "rpx-d1",
          Init: true,
          Privileged: false,
          SecurityOpt: ["no-new-privileges"],
          CapDrop: ["ALL"],
          CapAdd: [
            "CHOWN",
            "DAC_OVERRIDE",
            "FOWNER",
            "FSETID",
            "KILL",
            "SETGID",
            "SETUID",
            "NET_BIND_SERVICE",
          ],
          PidsLimit: 512,
          LogConfig: { Type: "json-file", Config: { "max-size": "10m", "max-file": "3" } },
          RestartPolicy: { Name: "no" },
          AutoRemove: false,
          Ulimits: [
            { Name: "nofile", Soft: 16_384, Hard: 16_384 },
            { Name: "core", Soft: 0, Hard: 0 },
          ],
          IpcMode: "private",
          CgroupnsMode: "private",
          PublishAllPorts: false,
          Mounts: [],
        },
      },
    });
  });

  test("limits, mounts, a program of its own and the host's name", () => {
    const built = { ...BUILT, entrypoint: ["/e"], command: ["a", "b"] };
    const limits = { memoryBytes: 2 ** 30, cpus: 1.5, pids: 64, shmBytes: 2 ** 20, diskBytes: 2 ** 31 };
    const input = inputOf({ built, needsHostAlias: true, engine: { cpus: 8, canLimitDisk: true } });
    const mounts = [{ source: "/sdk", target: "/opt/rpx", readOnly: true }];
    const { options, warnings } = containerSpec({ ...input, mounts, worker: { ...input.worker, limits } });
    expect(warnings).toEqual([]);
    expect(options).toMatchObject({ Entrypoint: ["/e"], Cmd: ["a", "b"] });
    expect(options.HostConfig).toMatchObject({
      Memory: 2 ** 30,
      MemorySwap: 2 ** 30,
      NanoCpus: 1_500_000_000,
      PidsLimit: 64,
      ShmSize: 2 ** 20,
      StorageOpt: { size: String(2 ** 31) },
      ExtraHosts: ["host.docker.internal:host-gateway"],
      Mounts: [
        {
          Type: "bind",
          Source: "/sdk",
          Target: "/opt/rpx",
          ReadOnly: true,
          BindOptions: { Propagation: "rprivate" },
        },
      ],
    });
  });

  test("a disk limit that the engine does not keep is known by a label, CPUs that are not there by a warning", () => {
    const input = inputOf({ engine: { cpus: 2, canLimitDisk: false } });
    const limits = { ...input.worker.limits, cpus: 4, diskBytes: 1_000 };
    const { options, warnings } = containerSpec({ ...input, worker: { ...input.worker, limits } });
    expect(options.Labels).toMatchObject({ "rpx.disk-bytes": "1000" });
    expect(options.HostConfig).not.toHaveProperty("StorageOpt");
    expect(options.HostConfig?.NanoCpus).toBe(2_000_000_000);
    expect(warnings).toEqual(["a limit of 4 CPUs is more than the 2 there are"]);
  });

  test("T-13: labels of the image cannot pose as ours", () => {
    const labels = { "rpx.daemon": "x", "rpx.role": "holder", "rpx.new": "y", other: "z" };
    const { options } = containerSpec(inputOf({ image: { env: {}, labels } }));
    expect(options.Labels).toMatchObject({ "rpx.daemon": "d1", "rpx.role": "worker", "rpx.new": "" });
    expect(options.Labels).not.toHaveProperty("other");
  });

  test("T-12, ACC-18: no accepted settings give more than the list", () => {
    fc.assert(
      fc.property(anyInput(), (input) => {
        const { options } = containerSpec(input);
        const host: Record<string, unknown> = { ...options.HostConfig };
        expect(host).toMatchObject({
          Privileged: false,
          CapDrop: ["ALL"],
          SecurityOpt: ["no-new-privileges"],
          IpcMode: "private",
          CgroupnsMode: "private",
          RestartPolicy: { Name: "no" },
          NetworkMode: "rpx-d1",
        });
        expect(Object.keys(host).filter((key) => !KNOWN_FIELDS.has(key))).toEqual([]);
        expect(CAPABILITIES).toEqual(expect.arrayContaining(host.CapAdd as string[]));
        expect(host.PidsLimit).toBeGreaterThan(0);
        expect(host.MemorySwap).toBe(host.Memory);
        expect(options.Labels).toMatchObject({ "rpx.daemon": "d1", "rpx.worker": input.worker.workerId });
        for (const variable of options.Env ?? [])
          expect(variable).not.toMatch(/^(LD_(?!LIBRARY_PATH)[^=]*|NVIDIA_DISABLE_REQUIRE)=/);
      }),
      { numRuns: 10_000 },
    );
  });
});

/** All of a host's settings that a container of ours ever has: neither devices nor another's namespaces are among them. */
const KNOWN_FIELDS: ReadonlySet<string> = new Set([
  ...[
    "NetworkMode",
    "Init",
    "Privileged",
    "SecurityOpt",
    "CapDrop",
    "CapAdd",
    "PidsLimit",
    "Memory",
    "MemorySwap",
  ],
  ...["NanoCpus", "ShmSize", "StorageOpt", "LogConfig", "RestartPolicy", "AutoRemove", "Ulimits", "IpcMode"],
  ...["CgroupnsMode", "PublishAllPorts", "ExtraHosts", "Mounts"],
]);

function anyInput(): fc.Arbitrary<SpecInput> {
  const name = fc.oneof(
    fc.constantFrom(
      "LD_PRELOAD",
      "LD_LIBRARY_PATH",
      "NVIDIA_DISABLE_REQUIRE",
      "NVIDIA_DRIVER_CAPABILITIES",
      "PATH",
    ),
    fc.string({ maxLength: 20 }),
  );
  const variables = fc.dictionary(name, fc.string({ maxLength: 40 }), { maxKeys: 5 });
  const size = fc.option(fc.nat({ max: 2 ** 40 }));
  const words = fc.option(fc.array(fc.string(), { maxLength: 3 }));
  const path = fc.string({ maxLength: 20 }).map((text) => `/${text}`);
  return fc
    .record({
      env: variables,
      builtEnv: variables,
      imageEnv: variables,
      labels: fc.dictionary(fc.constantFrom("rpx.daemon", "rpx.worker", "rpx.role", "a"), fc.string()),
      entrypoint: words,
      command: words,
      limits: fc.record({
        memoryBytes: size,
        cpus: fc.option(fc.double({ min: 0.01, max: 1_000, noNaN: true })),
        pids: fc.integer({ min: -5, max: 10_000 }),
        shmBytes: size,
        diskBytes: size,
      }),
      mounts: fc.array(fc.record({ source: path, target: path, readOnly: fc.boolean() }), { maxLength: 3 }),
      needsHostAlias: fc.boolean(),
      engine: fc.record({ cpus: fc.nat({ max: 256 }), canLimitDisk: fc.boolean() }),
    })
    .map(({ env, builtEnv, imageEnv, labels, entrypoint, command, limits, ...rest }) => {
      const built = { ...BUILT, env: builtEnv, entrypoint, command };
      const input = inputOf({ built, image: { env: imageEnv, labels }, ...rest });
      return { ...input, worker: { ...input.worker, env, limits } };
    });
}

describe("container variables", () => {
  const of = (
    built: Record<string, string>,
    env: Record<string, string>,
    image: Record<string, string> = {},
  ) => containerEnv({ env: built }, env, image);

  test("pass as they are, the endpoint's over the build's", () => {
    expect(of({ A: "1", B: "2" }, { B: '$ID `x` "y"', EMPTY: "" })).toEqual({
      list: ["A=1", 'B=$ID `x` "y"', "EMPTY="],
      warnings: [],
    });
  });

  test("ours come first in lists, before the endpoint's or else the image's", () => {
    const ours = { PYTHONPATH: "/sdk", NODE_OPTIONS: "--import=h" };
    expect(of(ours, { PYTHONPATH: "/own" }, { PYTHONPATH: "/image", NODE_OPTIONS: "--x" }).list).toEqual([
      "PYTHONPATH=/sdk:/own",
      "NODE_OPTIONS=--import=h --x",
    ]);
    expect(of(ours, { PYTHONPATH: "" }).list).toEqual(["PYTHONPATH=/sdk", "NODE_OPTIONS=--import=h"]);
    expect(of({}, {}, { PYTHONPATH: "/image" }).list).toEqual([]);
  });

  test("T-13: what reaches programs outside the container is dropped, with a warning", () => {
    expect(
      of({}, { LD_PRELOAD: "x", NVIDIA_DISABLE_REQUIRE: "1", NVIDIA_DRIVER_CAPABILITIES: "utility,all" }),
    ).toEqual({
      list: ["NVIDIA_DRIVER_CAPABILITIES=compute,utility"],
      warnings: [
        "LD_PRELOAD is not passed to workers",
        "NVIDIA_DISABLE_REQUIRE is not passed to workers",
        "NVIDIA_DRIVER_CAPABILITIES=all becomes compute,utility",
      ],
    });
  });

  test("T-13: also where the image sets it: a bare name takes it away", () => {
    const image = { LD_PRELOAD: "./x.so", LD_LIBRARY_PATH: "/usr/local/nvidia/lib", KEPT: "1" };
    expect(of({}, {}, image)).toEqual({
      list: ["LD_PRELOAD"],
      warnings: ["LD_PRELOAD is not passed to workers (set by the image)"],
    });
    expect(of({}, { LD_PRELOAD: "y" }, image).list).toEqual(["LD_PRELOAD"]);
    expect(of({}, {}, { LD_LIBRARY_PATH: "lib::/a" }).list).toEqual(["LD_LIBRARY_PATH=/a"]);
  });

  test("a name or value that no program can be given is left out", () => {
    expect(of({}, { "A=B": "1", "": "2", N: "a\0b", "NUL\0": "x" }).list).toEqual([]);
  });
});
