import { expect, test } from "vitest";
import {
  inheritedEnvironment,
  pipEnvironment,
} from "../../../../src/runtime/adapters/process/inherited-env.ts";

test("T-24: a worker inherits the allow-list and none of the daemon's secrets", () => {
  const inherited = inheritedEnvironment({
    PATH: "/usr/bin",
    HOME: "/home/ada",
    LC_ALL: "C.UTF-8",
    TZ: "UTC",
    LD_LIBRARY_PATH: "/usr/local/cuda/lib64",
    RPX_API_KEY: "secret",
    RUNPOD_API_KEY: "secret",
    AWS_SECRET_ACCESS_KEY: "secret",
    PIP_INDEX_URL: "https://user:secret@index.example",
    NODE_OPTIONS: "--require ./spy.js",
    PYTHONPATH: "/elsewhere",
    LC_: "no locale",
    EMPTY: undefined,
  });
  expect(inherited).toEqual({
    PATH: "/usr/bin",
    HOME: "/home/ada",
    LC_ALL: "C.UTF-8",
    TZ: "UTC",
    LD_LIBRARY_PATH: "/usr/local/cuda/lib64",
  });
});

test("a proxy is passed on with loopback excepted", () => {
  expect(
    inheritedEnvironment({ https_proxy: "http://proxy.example:3128", NO_PROXY: "10.0.0.1, localhost" }),
  ).toEqual({
    https_proxy: "http://proxy.example:3128",
    no_proxy: "10.0.0.1,localhost,127.0.0.1,::1",
    NO_PROXY: "10.0.0.1,localhost,127.0.0.1,::1",
  });
});

test("T-24: a proxy with a password is pip's alone", () => {
  const environment = { HTTPS_PROXY: "http://ada:secret@proxy.example", PIP_CERT: "/ca.pem" };
  expect(inheritedEnvironment(environment)).toEqual({});
  expect(pipEnvironment(environment)).toEqual(environment);
});
