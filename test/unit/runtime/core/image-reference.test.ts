import { describe, expect, test } from "vitest";
import {
  canonicalRegistry,
  isImageId,
  parseImageReference,
} from "../../../../src/runtime/core/image-reference.ts";

const DIGEST = `sha256:${"a".repeat(64)}`;

describe("parseImageReference", () => {
  test.each([
    ["python", "docker.io", "python", "latest", null],
    ["python:3.11-slim", "docker.io", "python", "3.11-slim", null],
    ["docker.io/library/python:3", "docker.io", "python", "3", null],
    ["index.docker.io/org/image", "docker.io", "org/image", "latest", null],
    ["org/image:tag", "docker.io", "org/image", "tag", null],
    ["127.0.0.1:5000/a/b:v1", "127.0.0.1:5000", "127.0.0.1:5000/a/b", "v1", null],
    ["localhost/image", "localhost", "localhost/image", "latest", null],
    ["ghcr.io/org/image", "ghcr.io", "ghcr.io/org/image", "latest", null],
    [`ghcr.io/org/image@${DIGEST}`, "ghcr.io", "ghcr.io/org/image", null, DIGEST],
    [`image:tag@${DIGEST}`, "docker.io", "image", "tag", DIGEST],
    ["rpx/abc_d:v1", "docker.io", "rpx/abc_d", "v1", null],
  ])("%s", (text, registry, name, tag, digest) => {
    expect(parseImageReference(text)).toEqual({ registry, name, tag, digest });
  });

  test.each([
    "",
    "UPPER",
    "a b",
    "image:",
    "image:-tag",
    "image@sha256:1",
    `image@${DIGEST}@${DIGEST}`,
    "a//b",
    "-a",
    "a.b/",
    "a.b:x/c",
    "image\nFROM other",
    "a".repeat(300),
    "a".repeat(64),
  ])("%j is none", (text) => expect(parseImageReference(text)).toBeNull());
});

test("isImageId", () => {
  expect(isImageId(DIGEST)).toBe(true);
  expect(isImageId("sha256:1")).toBe(false);
});

test.each([
  ["https://index.docker.io/v1/", "docker.io"],
  ["registry-1.docker.io", "docker.io"],
  ["GHCR.io", "ghcr.io"],
  ["http://127.0.0.1:5000/", "127.0.0.1:5000"],
])("canonicalRegistry: %s", (server, host) => expect(canonicalRegistry(server)).toBe(host));
