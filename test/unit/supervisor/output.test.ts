import { spawn } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { captureOutput } from "../../../src/supervisor/output.ts";
import {
  createStamper,
  MAX_LINE_BYTES,
  MAX_OUTPUT_BYTES_PER_S,
  MAX_SEGMENT_BYTES,
} from "../../../src/supervisor/stamped-lines.ts";
import { makeDataDir, report, until } from "../../fixtures/supervisor/harness.ts";

const stamper = () => createStamper("o", () => 7);
const bytes = (text: string) => Buffer.from(text);

describe("createStamper", () => {
  test("stamps whole lines and keeps the rest for its end", () => {
    const { push, end } = stamper();
    expect(push(bytes("one\ntw"))).toBe("7\to\tone\n");
    expect(push(bytes("o\r\n\nthree"))).toBe("7\to\ttwo\n7\to\t\n");
    expect(end()).toBe("7\to\tthree\n");
    expect(end()).toBe("");
  });

  test("a line over 16 KiB is cut and says by how much, however it arrives", () => {
    const long = bytes(`${"x".repeat(MAX_LINE_BYTES + 5)}\nnext\n`);
    const expected = `7\to\t${"x".repeat(MAX_LINE_BYTES)} [line cut: 5 bytes dropped]\n7\to\tnext\n`;
    expect(stamper().push(long)).toBe(expected);
    const { push } = stamper();
    const parts = [0, 100, 9000, 16_384, 16_387].map((start, index, starts) =>
      push(long.subarray(start, starts[index + 1])),
    );
    expect(parts.join("")).toBe(expected);
  });

  test("a line of just 16 KiB is whole", () => {
    const line = "x".repeat(MAX_LINE_BYTES);
    expect(stamper().push(bytes(`${line}\n`))).toBe(`7\to\t${line}\n`);
  });

  test("the cut falls between characters", () => {
    const text = `${"x".repeat(MAX_LINE_BYTES - 2)}€uro\n`;
    expect(stamper().push(bytes(text))).toBe(
      `7\to\t${"x".repeat(MAX_LINE_BYTES - 2)} [line cut: 6 bytes dropped]\n`,
    );
  });

  test("invalid UTF-8 is replaced, a character split over two reads is not", () => {
    expect(stamper().push(Buffer.from([0x61, 0xff, 0x62, 0x0a]))).toBe("7\to\ta\ufffdb\n");
    const { push } = stamper();
    const euro = bytes("€\n");
    expect(push(euro.subarray(0, 1)) + push(euro.subarray(1))).toBe("7\to\t€\n");
  });
});

describe("captureOutput", () => {
  let folder: ReturnType<typeof makeDataDir>;
  let logPath: string;
  beforeEach(() => {
    folder = makeDataDir();
    logPath = join(folder.path, "logs", "w1.log");
  });
  afterEach(() => folder.remove());

  const capture = (stdout: PassThrough, stderr: PassThrough) =>
    captureOutput({ logPath, stdout, stderr, nowMs: () => 7 });

  test("writes both pipes and the partial line into a file nobody else can read", async () => {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const { done } = capture(stdout, stderr);
    stdout.end("one\ntwo");
    stderr.end("three\n");
    await done;
    expect(readFileSync(logPath, "utf8").split("\n").sort()).toEqual([
      "",
      "7\te\tthree",
      "7\to\tone",
      "7\to\ttwo",
    ]);
    expect(statSync(logPath).mode & 0o777).toBe(0o600);
    expect(statSync(join(folder.path, "logs")).mode & 0o777).toBe(0o700);
  });

  test("rotates at 10 MB and keeps two older segments, lines whole", async () => {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    const { done } = captureOutput({ logPath, stdout, stderr, nowMs: () => 7, maxBytesPerS: 1e9 });
    stderr.end();
    // Runs of empty lines: 65,536 bytes become 5 bytes of stamp and newline each.
    const total = Math.ceil((3.2 * MAX_SEGMENT_BYTES) / 5 / 65_536);
    for (let number = 0; number < total; number += 1) stdout.write(Buffer.alloc(65_536, "\n"));
    stdout.end();
    await done;
    const segments = [`${logPath}.2`, `${logPath}.1`, logPath];
    for (const segment of segments) {
      expect(statSync(segment).size).toBeLessThanOrEqual(MAX_SEGMENT_BYTES);
      expect(readFileSync(segment, "utf8").replaceAll("7\to\t\n", "")).toBe("");
    }
    expect(existsSync(`${logPath}.3`)).toBe(false);
  }, 30_000);

  test("F-48 a flood is slowed by its own pipe and costs no memory", async () => {
    const yes = spawn("yes", { stdio: ["ignore", "pipe", "pipe"] });
    const before = process.memoryUsage().rss;
    const startedMs = performance.now();
    const { done } = captureOutput({ logPath, stdout: yes.stdout, stderr: yes.stderr, nowMs: () => 7 });
    const cpu = process.cpuUsage();
    await new Promise((resolve) => setTimeout(resolve, 2000));
    const used = process.cpuUsage(cpu);
    yes.kill("SIGKILL");
    await done;
    const seconds = (performance.now() - startedMs) / 1000;
    const grownMiB = (process.memoryUsage().rss - before) / 2 ** 20;
    const written = statSync(logPath).size;
    report(
      `yes for ${seconds.toFixed(1)} s: ${(written / 2 ** 20).toFixed(1)} MiB written, RSS +${grownMiB.toFixed(0)} MiB, ` +
        `CPU ${(((used.user + used.system) / 2e6) * 100).toFixed(0)} %`,
    );
    expect(written).toBeGreaterThan(MAX_OUTPUT_BYTES_PER_S);
    expect(written).toBeLessThan(MAX_OUTPUT_BYTES_PER_S * (seconds + 1));
    expect(grownMiB).toBeLessThan(100);
  });

  test("a disk that refuses costs lines, not the capture, and says so", async () => {
    const [stdout, stderr] = [new PassThrough(), new PassThrough()];
    // A folder where the file should be: it cannot be opened, like a file on a disk that is full of inodes.
    mkdirSync(logPath, { recursive: true });
    const { done } = capture(stdout, stderr);
    // So much that nothing more is read before its write was tried.
    stdout.write("lost\n".repeat(13_107));
    await until("the lines are read", () => stdout.readableLength === 0);
    stdout.write("late\n");
    await until("the lines are lost", () => stdout.readableLength === 0);
    rmSync(logPath, { recursive: true });
    stdout.end("kept\n");
    stderr.end();
    await done;
    expect(readFileSync(logPath, "utf8")).toMatch(
      /^\d+\te\trpx: 1179\d\d bytes of output could not be written and are lost\n(7\to\tlate\n)?7\to\tkept\n$/,
    );
  });
});
