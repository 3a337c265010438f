/**
 * What the linter cannot say: who may import whom, no cycles, one source of time and chance in the daemon, files short enough
 * to read. Each rule is shown to fail on a planted example.
 */
import { readdirSync, readFileSync } from "node:fs";
import { join, posix } from "node:path";
import { fileURLToPath } from "node:url";
import { parseSync } from "oxc-parser";
import { describe, expect, test } from "vitest";

const ROOT = fileURLToPath(new URL("..", import.meta.url));
/** Lines. A file beyond has grown a second thing. */
const MAX_LINES = 400;
/** Files that are longer for a reason, with the lines they may have. */
const LONG_FILES: Readonly<Record<string, number>> = {
  // Every transition of a job beside its SQL: half of it is statements and their comments.
  "src/runtime/adapters/sqlite/jobs.ts": 600,
  // Every record that the daemon keeps: the one file that ports import.
  "src/runtime/core/model.ts": 450,
};

/** Sources by path from the root, with forward slashes. */
type Sources = ReadonlyMap<string, string>;
type Import = {
  /** A path from the root for ours, else the package or built-in as written. */
  readonly target: string;
  readonly ours: boolean;
  readonly kind: "value" | "type" | "lazy";
  readonly line: number;
};
type Node = { readonly type: string; readonly start: number; readonly [key: string]: unknown };
type File = {
  readonly path: string;
  readonly source: string;
  readonly program: Node;
  readonly imports: readonly Import[];
};

// --- Who may import whom --------------------------------------------------------------------------------

/** Prefixes of paths. The longest `area` that a file starts with decides for it; its own area is always allowed. */
type AreaRule = {
  readonly area: string;
  readonly may: readonly string[];
  /** Only as `import type`. */
  readonly mayTypes?: readonly string[];
  /** Only by `import()`. */
  readonly mayLazily?: readonly string[];
  /** Whether files of the area may import each other; absent: yes. */
  readonly itself?: false;
  readonly says: string;
};

const RUNTIME = "src/runtime";
const CORE = `${RUNTIME}/core/`;
const PORTS = `${RUNTIME}/ports/`;
const SERVICE = `${RUNTIME}/service/`;
const ADAPTERS = `${RUNTIME}/adapters/`;
const LOOP = `${RUNTIME}/loop.ts`;
const BASE = ["src/contract/", "src/text/"];

const AREAS: readonly AreaRule[] = [
  { area: "src/text/", may: [], says: "text imports nothing of ours" },
  { area: "src/contract/", may: ["src/text/"], says: "contract imports text only" },
  { area: "src/client/", may: BASE, says: "client imports contract and text only" },
  {
    area: "src/cli/",
    may: [...BASE, "src/client/", "src/project/", "src/folder/"],
    says: "cli imports contract, client, project, folder and text only",
  },
  { area: "src/folder/", may: BASE, says: "folder imports contract and text only" },
  {
    area: "src/project/",
    may: [...BASE, "src/folder/"],
    says: "project imports folder, contract and text only",
  },
  {
    area: "src/commands/",
    may: [...BASE, "src/cli/", "src/client/", "src/project/"],
    mayLazily: ["src/tui/", "src/conformance/"],
    says: "commands import cli, client, contract, project and text; the tui lazily, the daemon and supervisor by path",
  },
  { area: "src/tui/", may: [...BASE, "src/client/"], says: "tui imports client, contract and text only" },
  {
    area: "src/conformance/",
    may: [...BASE, "src/client/"],
    says: "conformance imports client, contract and text only",
  },
  { area: "src/web/", may: ["src/text/"], says: "web imports text only" },
  {
    area: "src/supervisor/",
    may: [],
    mayTypes: [PORTS],
    says: "the supervisor imports Node's built-ins only, and types of ports",
  },
  {
    area: CORE,
    may: ["src/text/", "src/contract/error.ts"],
    mayTypes: ["src/contract/"],
    says: "core imports text, RpxError and the types of contract only",
  },
  { area: PORTS, may: [`${CORE}model.ts`], says: "ports import core/model.ts only" },
  {
    area: SERVICE,
    may: [...BASE, CORE, PORTS, `${SERVICE}events.ts`, LOOP],
    itself: false,
    says: "a service imports core, ports, contract, text, service/events.ts and loop.ts; what it needs of another service is passed to it",
  },
  {
    area: `${SERVICE}fleet/`,
    may: [...BASE, CORE, PORTS, `${SERVICE}events.ts`, LOOP],
    says: "the fleet's parts import each other, core, ports, contract, text, service/events.ts and loop.ts",
  },
  {
    area: `${RUNTIME}/api/`,
    may: [...BASE, SERVICE, CORE],
    mayTypes: [PORTS],
    says: "api imports contract, service, core and text, and types of ports: what touches a store, pool or network is a service",
  },
  {
    area: `${RUNTIME}/gateway/`,
    may: [...BASE, SERVICE, CORE, PORTS],
    says: "gateway imports service, core, ports, contract and text only",
  },
  {
    area: ADAPTERS,
    may: [...BASE, CORE, PORTS, "src/folder/"],
    says: "adapters import ports, core, contract, text and folder, and their own technology",
  },
  { area: LOOP, may: [PORTS], says: "loop.ts imports ports only" },
  {
    area: `${RUNTIME}/main.ts`,
    may: [...BASE, `${RUNTIME}/`],
    says: "the daemon's main imports the daemon only",
  },
  {
    area: `${RUNTIME}/`,
    may: [...BASE, CORE, PORTS, SERVICE, `${RUNTIME}/api/`, `${RUNTIME}/gateway/`],
    says: "the daemon imports contract and text; only main.ts names adapters; never commands, tui, client, cli, project",
  },
];

/** Single edges beside the table. */
const EXTRA_EDGES: readonly (readonly [RegExp, string])[] = [
  [/^src\/runtime\/adapters\/process\//, "src/supervisor/messages.ts"],
  // The process host without a supervisor, for tests and simulations.
  [/^src\/runtime\/adapters\/process\/in-process-host\.ts$/, "src/supervisor/workers.ts"],
  // Endpoints hand their new releases over in the terms of who makes them.
  [/^src\/runtime\/service\/endpoints\.ts$/, "src/runtime/service/releases.ts"],
  [/^src\/runtime\/adapters\/(sqlite|postgres)\//, `${ADAPTERS}sql-migrate.ts`],
  // Output of containers goes into the same files as that of processes.
  [/^src\/runtime\/adapters\/docker\/log-(follow|frames)\.ts$/, "src/supervisor/stamped-lines.ts"],
  // What it knows of its containers is looked at again and again, like everything.
  [/^src\/runtime\/adapters\/docker\//, LOOP],
];

/** Packages and built-ins that only some files may import. */
const OUTSIDE: readonly {
  readonly what: RegExp;
  readonly where: RegExp;
  readonly only?: RegExp;
  readonly types?: "allowed";
  readonly says: string;
}[] = [
  {
    what: /^@?fastify/,
    where: /^src\//,
    only: /^src\/runtime\/api\/server\.ts$/,
    says: "only api/server.ts knows the HTTP framework",
  },
  {
    what: /^(dockerode|docker-modem)/,
    where: /^src\//,
    only: /^src\/runtime\/adapters\/docker\//,
    says: "only adapters/docker talks to the engine, whose socket is as good as root",
  },
  { what: /^(?!node:)/, where: /^src\/supervisor\//, says: "the supervisor imports Node's built-ins only" },
  {
    what: /^node:(?!crypto$)/,
    where: /^src\/runtime\/core\//,
    says: "core does no input or output: of Node only node:crypto",
  },
  { what: /^(?!node:)/, where: /^src\/runtime\/core\//, says: "core imports no package" },
  {
    what: /^/,
    where: /^src\/runtime\/ports\//,
    types: "allowed",
    says: "ports import core/model.ts only, and types of Node's",
  },
  {
    what: /^node:timers/,
    where: /^src\/runtime\//,
    only: /^src\/runtime\/adapters\/(system\/|process\/strays\.ts$)/,
    says: "time comes from the clock port",
  },
];

function forbiddenImports(files: readonly File[]): string[] {
  return files.flatMap((file) =>
    file.imports.flatMap((one) => {
      const says = one.ours ? forbiddenEdge(file.path, one) : forbiddenPackage(file.path, one);
      return says === null ? [] : [`${file.path}:${one.line} imports ${one.target}: ${says}`];
    }),
  );
}

function forbiddenEdge(from: string, { target, kind }: Import): string | null {
  const rule = areaOf(from);
  if (rule === undefined) return "this folder has no rule yet: give it one in test/tidy.test.ts";
  if (EXTRA_EDGES.some(([file, to]) => file.test(from) && to === target)) return null;
  const inOne = (prefixes: readonly string[] = []) => prefixes.some((prefix) => target.startsWith(prefix));
  if (inOne(rule.may)) return null;
  if (kind === "type" && inOne(rule.mayTypes)) return null;
  if (kind === "lazy" && inOne(rule.mayLazily)) return null;
  if (target.startsWith(ADAPTERS) && rule.area === ADAPTERS) {
    return technology(from) === technology(target)
      ? null
      : "an adapter never imports another technology's folder";
  }
  return rule.itself !== false && areaOf(target) === rule ? null : rule.says;
}

function areaOf(path: string): AreaRule | undefined {
  const fitting = AREAS.filter(({ area }) => path.startsWith(area));
  return fitting.sort((one, other) => other.area.length - one.area.length)[0];
}

function technology(path: string): string {
  return path.slice(ADAPTERS.length).split("/")[0] ?? "";
}

function forbiddenPackage(from: string, { target, kind }: Import): string | null {
  const rule = OUTSIDE.find(
    ({ what, where, only, types }) =>
      what.test(target) && where.test(from) && !only?.test(from) && !(types === "allowed" && kind === "type"),
  );
  return rule?.says ?? null;
}

// --- Cycles ---------------------------------------------------------------------------------------------

/** Each cycle once, as the path of its files. Lazy imports close none: they load when everything has. */
function cycles(files: readonly File[]): string[] {
  const edges = new Map(files.map((file) => [file.path, targetsOf(file)]));
  const done = new Set<string>();
  const found: string[] = [];
  const visit = (path: string, trail: readonly string[]): void => {
    const at = trail.indexOf(path);
    if (at >= 0) {
      found.push(`${[...trail.slice(at), path].join(" -> ")}: move what both need into a third file`);
      return;
    }
    if (done.has(path)) return;
    for (const target of edges.get(path) ?? []) visit(target, [...trail, path]);
    done.add(path);
  };
  for (const { path } of files) visit(path, []);
  return found;
}

function targetsOf(file: File): string[] {
  return file.imports.filter(({ ours, kind }) => ours && kind !== "lazy").map(({ target }) => target);
}

// --- Time, chance, talk ---------------------------------------------------------------------------------

/** Where the real ones are, and who may go around them. */
const OWN_TIME = [
  `${ADAPTERS}system/`,
  // Lets input and output in between while it reads /proc at the start: no time passes that anything is judged by.
  `${ADAPTERS}process/strays.ts`,
  // Writes for people when the process started, once.
  `${RUNTIME}/main.ts`,
];
const TIMERS = ["setTimeout", "setInterval", "setImmediate", "randomUUID"];
const MEMBERS: Readonly<Record<string, readonly string[]>> = {
  Date: ["now"],
  Math: ["random"],
  globalThis: TIMERS,
  crypto: ["randomUUID"],
};

function ownTimeOrChance(files: readonly File[]): string[] {
  return files
    .filter(inDaemon)
    .flatMap((file) =>
      found(file, timeOrChance).map(
        ([line, name]) =>
          `${file.path}:${line} uses ${name}: take it from the Clock or Random port (adapters/system alone has the real ones)`,
      ),
    );
}

function inDaemon({ path }: File): boolean {
  return path.startsWith(`${RUNTIME}/`) && !OWN_TIME.some((prefix) => path.startsWith(prefix));
}

function timeOrChance(node: Node, parent: Node | null): string | null {
  if (node.type === "Identifier" && TIMERS.includes(String(node.name)) && !isName(node, parent)) {
    return String(node.name);
  }
  if (node.type === "MemberExpression") {
    const [object, property] = [nameOf(node.object), nameOf(node.property)];
    return MEMBERS[object]?.includes(property) ? `${object}.${property}` : null;
  }
  const now = node.type === "NewExpression" && nameOf(node.callee) === "Date";
  return now && (node.arguments as unknown[]).length === 0 ? "new Date()" : null;
}

/** Whether an identifier is the name of a member (`socket.setTimeout`, `{ setTimeout: ... }`), not a reference. */
function isName(node: Node, parent: Node | null): boolean {
  if (parent === null || parent.computed === true || parent.shorthand === true) return false;
  return parent.property === node || parent.key === node;
}

function talk(files: readonly File[]): string[] {
  const isConsole = (node: Node) =>
    node.type === "MemberExpression" && nameOf(node.object) === "console" ? "console" : null;
  return files
    .filter(({ path }) => path.startsWith(`${RUNTIME}/`))
    .flatMap((file) =>
      found(file, isConsole).map(
        ([line]) => `${file.path}:${line} uses console: the daemon logs through the log it is given`,
      ),
    );
}

function found(file: File, judge: (node: Node, parent: Node | null) => string | null): [number, string][] {
  const results: [number, string][] = [];
  const visit = (value: unknown, parent: Node | null): void => {
    if (Array.isArray(value)) {
      for (const one of value) visit(one, parent);
    } else if (isNode(value)) {
      const name = judge(value, parent);
      if (name !== null) results.push([lineOf(file.source, value.start), name]);
      for (const child of Object.values(value)) visit(child, value);
    }
  };
  visit(file.program, null);
  return results;
}

function isNode(value: unknown): value is Node {
  return typeof value === "object" && value !== null && "type" in value && "start" in value;
}

function nameOf(value: unknown): string {
  return isNode(value) && value.type === "Identifier" ? String(value.name) : "";
}

// --- Length ---------------------------------------------------------------------------------------------

function tooLong(files: readonly File[]): string[] {
  return files.flatMap(({ path, source }) => {
    const lines = source.split("\n").length - 1;
    const limit = LONG_FILES[path] ?? MAX_LINES;
    if (lines <= limit) return [];
    return [
      `${path} has ${lines} lines, over ${limit}: ask what second thing lives there, and give it a file`,
    ];
  });
}

// --- Reading --------------------------------------------------------------------------------------------

function parse(sources: Sources): File[] {
  return [...sources].map(([path, source]) => {
    const { program, module, errors } = parseSync(path, source);
    if (errors.length > 0) throw new Error(`${path}: ${errors[0]?.message}`);
    const fixed = [...module.staticImports, ...exportsFrom(module.staticExports)].map((one) => ({
      text: one.moduleRequest.value,
      start: one.start,
      // "import {}" and "import 'x'" have no entries and load the module.
      kind: one.entries.length > 0 && one.entries.every(({ isType }) => isType) ? "type" : "value",
    }));
    const lazy = module.dynamicImports.flatMap(({ moduleRequest: { start, end } }) => {
      const text = /^(["'`])([^$]*)\1$/.exec(source.slice(start, end))?.[2];
      return text === undefined ? [] : [{ text, start, kind: "lazy" }];
    });
    const imports = [...fixed, ...lazy].map(({ text, start, kind }): Import => {
      const ours = text.startsWith(".");
      const target = ours ? posix.join(posix.dirname(path), text) : text;
      return { target, ours, kind: kind as Import["kind"], line: lineOf(source, start) };
    });
    return { path, source, program: program as unknown as Node, imports };
  });
}

type StaticExports = ReturnType<typeof parseSync>["module"]["staticExports"];

function exportsFrom(all: StaticExports) {
  return all.flatMap(({ start, entries }) => {
    const moduleRequest = entries.find((entry) => entry.moduleRequest)?.moduleRequest;
    return moduleRequest ? [{ start, entries, moduleRequest }] : [];
  });
}

function lineOf(source: string, offset: number): number {
  return source.slice(0, offset).split("\n").length;
}

function readTree(folder: string): Sources {
  const names = readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" });
  const paths = names.filter((name) => /\.tsx?$/.test(name)).sort();
  return new Map(
    paths.map((name) => [
      posix.join(folder, name.replaceAll("\\", "/")),
      readFileSync(join(ROOT, folder, name), "utf8"),
    ]),
  );
}

// --- Tests ----------------------------------------------------------------------------------------------

const RULES = { forbiddenImports, cycles, ownTimeOrChance, talk, tooLong };

describe("the source tree", () => {
  const files = parse(readTree("src"));

  test("has been read", () => {
    expect(files.length).toBeGreaterThan(20);
    expect(files.flatMap(({ imports }) => imports).length).toBeGreaterThan(50);
  });

  test.each(Object.entries(RULES))("%s: none", (_, rule) => expect(rule(files)).toEqual([]));
});

describe("each rule finds what it is for", () => {
  type Planted = readonly [path: string, source: string, message: string];
  const check = (rule: (files: readonly File[]) => string[], path: string, source: string) =>
    rule(parse(new Map([[path, source]])));

  test.each<Planted>([
    ["src/text/a.ts", 'import "../contract/error.ts";', "text imports nothing"],
    [
      "src/contract/a.ts",
      'import type { Job } from "../runtime/core/model.ts";',
      "contract imports text only",
    ],
    ["src/client/a.ts", 'import { x } from "../cli/output.ts";', "client imports contract and text"],
    ["src/commands/a.ts", 'export { x } from "../runtime/daemon.ts";', "by path"],
    ["src/commands/tui.ts", 'import { run } from "../tui/run.tsx";', "the tui lazily"],
    ["src/supervisor/a.ts", 'import "../text/size.ts";', "built-ins only"],
    ["src/supervisor/a.ts", 'import pino from "pino";', "built-ins only"],
    ["src/runtime/service/a.ts", 'import { f } from "./jobs.ts";', "passed to it"],
    [
      "src/runtime/service/a.ts",
      'const f = await import("../adapters/sqlite/store.ts");',
      "a service imports",
    ],
    ["src/runtime/core/a.ts", 'import { routes } from "../../contract/routes.ts";', "types of contract"],
    ["src/runtime/core/a.ts", 'import fs from "node:fs";', "core does no input or output"],
    ["src/runtime/core/a.ts", 'import { z } from "zod";', "core imports no package"],
    ["src/runtime/ports/a.ts", 'import type { X } from "../core/scaling.ts";', "core/model.ts only"],
    [
      "src/runtime/daemon.ts",
      'import { x } from "./adapters/sqlite/store.ts";',
      "only main.ts names adapters",
    ],
    ["src/runtime/daemon.ts", 'import { x } from "../client/client.ts";', "never commands"],
    ["src/runtime/adapters/docker/a.ts", 'import { x } from "../process/b.ts";', "another technology"],
    [
      "src/runtime/adapters/docker/a.ts",
      'import "../../../supervisor/messages.ts";',
      "adapters import ports",
    ],
    ["src/runtime/api/a.ts", 'import { x } from "../ports/store.ts";', "types of ports"],
    ["src/runtime/loop.ts", 'import { x } from "./service/jobs.ts";', "ports only"],
    ["src/runtime/api/a.ts", 'import fastify from "fastify";', "only api/server.ts"],
    ["src/runtime/daemon.ts", 'import cors from "@fastify/cors";', "only api/server.ts"],
    ["src/runtime/loop.ts", 'import { setTimeout as wait } from "node:timers/promises";', "clock port"],
    ["src/runtime/service/a.ts", 'import Docker from "dockerode";', "as good as root"],
    ["src/elsewhere/a.ts", 'import "../text/size.ts";', "has no rule yet"],
  ])("forbiddenImports: %s with %s", (path, source, message) => {
    expect(check(forbiddenImports, path, source)).toEqual([expect.stringContaining(message)]);
  });

  test.each([
    ["src/commands/tui.ts", 'const { run } = await import("../tui/run.tsx");'],
    ["src/runtime/core/a.ts", 'import type { Route } from "../../contract/routes.ts"; import "node:crypto";'],
    ["src/runtime/service/a.ts", 'import type { Events } from "./events.ts";'],
    ["src/runtime/api/a.ts", 'import type { Job } from "../core/model.ts"; import { b } from "./b.ts";'],
    ["src/runtime/api/server.ts", 'import fastify from "fastify";'],
    ["src/runtime/adapters/process/a.ts", 'import "../../../supervisor/messages.ts"; import "./b.ts";'],
    ["src/runtime/adapters/docker/a.ts", 'import "../../../folder/list.ts";'],
    ["src/runtime/adapters/sqlite/a.ts", 'import "../sql-migrate.ts"; import "node:sqlite";'],
    ["src/runtime/main.ts", 'import "./adapters/sqlite/store.ts"; import "./daemon.ts";'],
  ])("forbiddenImports allows %s with %s", (path, source) => {
    expect(check(forbiddenImports, path, source)).toEqual([]);
  });

  test("cycles: of two files, of one with itself, and by types too", () => {
    const tree = parse(
      new Map([
        ["src/text/a.ts", 'import { b } from "./b.ts";'],
        ["src/text/b.ts", 'import type { A } from "./a.ts"; const later = import("./c.ts");'],
        ["src/text/c.ts", 'import { b } from "./b.ts"; export * from "./c.ts";'],
      ]),
    );
    expect(cycles(tree)).toEqual([
      expect.stringContaining("src/text/a.ts -> src/text/b.ts -> src/text/a.ts"),
      expect.stringContaining("src/text/c.ts -> src/text/c.ts"),
    ]);
  });

  test.each([
    "Date.now()",
    "new Date()",
    "Math.random()",
    "setTimeout(f, 1)",
    "const wait = setInterval;",
    "globalThis.setImmediate(f)",
    'import { randomUUID } from "node:crypto";',
    "crypto.randomUUID()",
    "const { setTimeout } = globalThis;",
  ])("ownTimeOrChance: %s", (source) => {
    expect(check(ownTimeOrChance, "src/runtime/service/a.ts", source).length).toBeGreaterThan(0);
    expect(check(ownTimeOrChance, "src/runtime/adapters/system/clock.ts", source)).toEqual([]);
    expect(check(ownTimeOrChance, "src/supervisor/main.ts", source)).toEqual([]);
  });

  test.each(["socket.setTimeout(5)", "new Date(5)", "const x = { setTimeout: 5 };", "clock.now()"])(
    "ownTimeOrChance allows %s",
    (source) => expect(check(ownTimeOrChance, "src/runtime/service/a.ts", source)).toEqual([]),
  );

  test("talk: console in the daemon", () => {
    expect(check(talk, "src/runtime/daemon.ts", "\nconsole.log(1)")).toEqual([
      expect.stringContaining("src/runtime/daemon.ts:2 uses console"),
    ]);
  });

  test("tooLong: says how long, and what to do", () => {
    expect(check(tooLong, "src/text/a.ts", "\n".repeat(401))).toEqual([
      expect.stringContaining("src/text/a.ts has 401 lines, over 400: ask what second thing lives there"),
    ]);
    expect(check(tooLong, "src/text/a.ts", "\n".repeat(400))).toEqual([]);
  });
});
