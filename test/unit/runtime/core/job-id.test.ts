import fc from "fast-check";
import { expect, test } from "vitest";
import { jobIdOf } from "../../../../src/runtime/core/job-id.ts";

const RANDOM = "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed";

test("an id begins with its time and ends as the random UUID did", () => {
  expect(jobIdOf("run", RANDOM, 0x0199_abcd_ef01)).toBe("0199abcd-ef01-7b2d-9b5d-ab8dfbbd4bed-u1");
  expect(jobIdOf("runsync", RANDOM, 0x0199_abcd_ef01)).toBe("sync-0199abcd-ef01-7b2d-9b5d-ab8dfbbd4bed-u1");
});

test("later ids sort behind earlier ones", () => {
  const timeMs = fc.integer({ min: 0, max: 2 ** 48 - 2 });
  fc.assert(
    fc.property(timeMs, fc.uuid({ version: 4 }), fc.uuid({ version: 4 }), (ms, earlier, later) => {
      expect(jobIdOf("run", earlier, ms) < jobIdOf("run", later, ms + 1)).toBe(true);
    }),
  );
});
