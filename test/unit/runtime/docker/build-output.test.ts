import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  type BuildMessage,
  createBuildOutput,
} from "../../../../src/runtime/adapters/docker/build-output.ts";
import { readTrace } from "../../../../src/runtime/adapters/docker/buildkit-trace.ts";

const ID = `sha256:${"c".repeat(64)}`;

/** What the engine said of a build, a line of JSON each, as recorded. */
function recorded(name: string): BuildMessage[] {
  const file = new URL(`../../../fixtures/docker/${name}.ndjson`, import.meta.url);
  return readFileSync(file, "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

function replay(messages: readonly BuildMessage[]) {
  const steps: [string, number | undefined][] = [];
  const output = createBuildOutput((text, percent) => steps.push([text, percent]));
  for (const message of messages) output.take(message);
  return { steps, output };
}

describe("BuildKit, as an engine 20.10 said it", () => {
  test("steps in their order with a percentage that only grows, then the image", () => {
    const { steps, output } = replay(recorded("buildkit-ok"));
    expect(steps.map(([text]) => text)).toEqual([
      "step 1/3: FROM docker.io/library/python:3.11-slim",
      "step 2/3: WORKDIR /app (cached)",
      "step 3/3: RUN echo hello && python -V",
      "hello",
      "Python 3.11.2",
      expect.stringContaining("Successfully tagged"),
    ]);
    const percents = steps.map(([, percent]) => percent ?? 0);
    expect(percents).toEqual(percents.toSorted((one, other) => one - other));
    expect(percents.at(-1)).toBe(100);
    expect([output.error(), output.hasBegun()]).toEqual([null, true]);
    expect(output.imageId()).toMatch(/^sha256:[0-9a-f]{64}$/);
  });

  test("a failing step: its lines and the builder's words", () => {
    const { output } = replay(recorded("buildkit-failed"));
    expect(output.lastLines()).toEqual(["one", "two"]);
    expect(output.error()).toBe(
      "executor failed running [/bin/sh -c echo one; echo two; false]: exit code: 1",
    );
    expect(output.imageId()).toBeNull();
  });

  test("a Dockerfile that cannot be read begins no step", () => {
    const { output } = replay(recorded("buildkit-unreadable"));
    expect(output.hasBegun()).toBe(false);
    expect(output.error()).toContain("unknown instruction: FOO");
  });
});

describe("the classic builder", () => {
  test("steps, lines, image", () => {
    const { steps, output } = replay([
      { stream: "Step 1/2 : FROM python:3.11-slim" },
      { stream: "\n" },
      { stream: " ---> a4994c65c09c\n" },
      { stream: "Step 2/2 : RUN echo hi" },
      { stream: "\u001b[91mhi\u001b[0m\n" },
      { aux: { ID } },
      { stream: "Successfully built cccccccccccc\n" },
    ]);
    expect(steps).toEqual([
      ["step 1/2: FROM python:3.11-slim", 0],
      [" ---> a4994c65c09c", 0],
      ["step 2/2: RUN echo hi", 50],
      ["hi", 50],
      ["Successfully built cccccccccccc", 50],
    ]);
    expect(output.imageId()).toBe(ID);
  });

  test("the last lines are bounded, in number and length", () => {
    const lines = Array.from({ length: 100 }, (_, index) => ({ stream: `${index} ${"x".repeat(2_000)}\n` }));
    const { output } = replay(lines);
    expect(output.lastLines()).toHaveLength(20);
    expect(output.lastLines().every((line) => line.length === 500)).toBe(true);
    expect(output.lastLines().at(-1)).toMatch(/^99 x/);
  });
});

test("an id that is none is not believed (T-32)", () => {
  expect(replay([{ aux: { ID: "--privileged" } }]).output.imageId()).toBeNull();
});

test("readTrace: a message that is cut short is an error", () => {
  expect(readTrace("")).toEqual({ vertexes: [], logs: [] });
  expect(() => readTrace(Buffer.from([0x0a, 0x05, 0x01]).toString("base64"))).toThrow(RangeError);
});
