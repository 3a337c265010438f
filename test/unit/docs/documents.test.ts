import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseSync } from "oxc-parser";
import { describe, expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("../../..", import.meta.url));

const read = (path: string): string => readFileSync(join(ROOT, path), "utf8");

function documents(): string[] {
  const decisions = readdirSync(join(ROOT, "docs/adr")).map((name) => `docs/adr/${name}`);
  const examples = readdirSync(join(ROOT, "examples")).map((name) => `examples/${name}/README.md`);
  const others = [
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "sdk/python/README.md",
    "sdk/node/README.md",
  ];
  return [...others, ...decisions, ...examples];
}

/** The packages that files of src/ import, as values or types, now or later. */
function importedPackages(): string[] {
  const files = readdirSync(join(ROOT, "src"), { recursive: true, encoding: "utf8" });
  const specifiers = files.filter((name) => name.endsWith(".ts")).flatMap(specifiersOf);
  const outside = specifiers.filter((one) => !one.startsWith(".") && !one.startsWith("node:"));
  return [...new Set(outside.map((one) => /^(@[^/]+\/)?[^/]+/.exec(one)?.[0] ?? one))].sort();
}

function specifiersOf(name: string): string[] {
  const source = read(join("src", name));
  const { module } = parseSync(name, source);
  const later = module.dynamicImports.map(({ moduleRequest: { start, end } }) =>
    source.slice(start + 1, end - 1),
  );
  return [...module.staticImports.map(({ moduleRequest }) => moduleRequest.value), ...later];
}

describe("documents", () => {
  test.each(documents())("%s links only to files that are there", (path) => {
    const targets = [...read(path).matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g)].map(
      (match) => match[1] ?? "",
    );
    const missing = targets.filter((target) => !existsSync(join(ROOT, dirname(path), target)));
    expect(missing).toEqual([]);
  });

  test("ARCHITECTURE.md names only folders and files that are there", () => {
    const text = read("ARCHITECTURE.md");
    const named = [...text.matchAll(/`((?:src|bin|sdk|test|docs|scripts|examples)\/[\w./-]*)`/g)].map(
      (one) => one[1] ?? "",
    );
    expect(named.length).toBeGreaterThan(20);
    expect(named.filter((path) => !existsSync(join(ROOT, path)))).toEqual([]);
    const inDaemon = [...text.matchAll(/`((?:api|service|core|adapters)\/[\w./-]+\.ts)`/g)].map(
      (one) => one[1] ?? "",
    );
    expect(inDaemon.length).toBeGreaterThan(20);
    expect(inDaemon.filter((path) => !existsSync(join(ROOT, "src/runtime", path)))).toEqual([]);
  });

  test("decisions are numbered without a gap, each under the number of its file", () => {
    const names = readdirSync(join(ROOT, "docs/adr")).sort();
    expect(names.map((name) => Number.parseInt(name, 10))).toEqual(names.map((_, index) => index + 1));
    for (const name of names) {
      expect(read(`docs/adr/${name}`)).toMatch(new RegExp(`^# ${Number.parseInt(name, 10)}\\. `));
    }
  });

  test("each package that src/ imports has its reason, and each reason its package", () => {
    const table = read("docs/adr/0002-dependencies.md").matchAll(/^\| `([^`]+)` +\|/gm);
    expect([...table].map((match) => match[1]).sort()).toEqual(importedPackages());
  });
});

describe("README.md", () => {
  test("lists every command with its summary", async () => {
    const files = readdirSync(join(ROOT, "src/commands"), { recursive: true, encoding: "utf8" });
    const rows = await Promise.all(
      files
        .filter((name) => name.endsWith(".ts"))
        .map(async (name) => {
          const command: { default: { summary: string; hidden?: boolean } } = await import(
            join(ROOT, "src/commands", name)
          );
          const typed = name.replace(/\.ts$/, "").replaceAll("/", " ");
          return command.default.hidden ? [] : [`| \`rpx ${typed}\` | ${command.default.summary} |`];
        }),
    );
    const listed = [...read("README.md").matchAll(/^\| `rpx [^`]+` +\| .* \|$/gm)].map(([row]) =>
      row.replaceAll(/ +\|/g, " |"),
    );
    expect(listed.toSorted()).toEqual(rows.flat().toSorted());
  });
});
