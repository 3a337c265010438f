import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { manualPages, readManifest } from "../../../scripts/man.ts";

const root = fileURLToPath(new URL("../../..", import.meta.url));
const pages = manualPages(readManifest(root));

test("the manual is what the commands say now: npm run build && node scripts/man.ts", () => {
  expect(readdirSync(join(root, "man")).sort()).toEqual([...pages.keys()].sort());
  for (const [name, text] of pages) expect(readFileSync(join(root, "man", name), "utf8"), name).toBe(text);
});

test("rpx(1) has every exit code", () => {
  const codes = [...(pages.get("rpx.1") ?? "").matchAll(/^\.B (\d+)$/gm)].map(([, code]) => Number(code));
  expect(codes).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 130]);
});

test("every command has a summary, a description and two examples or more", () => {
  for (const { id, summary, description, examples } of Object.values(readManifest(root).commands)) {
    expect(summary, id).toMatch(/^[A-Z].*[^.]$/);
    expect(description, id).toBeTruthy();
    expect(examples?.length, id).toBeGreaterThanOrEqual(2);
  }
});
