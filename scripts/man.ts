// Writes man/rpx.1 and a page per topic from the manifest. `npm run build` first; then: node scripts/man.ts
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { TOPICS } from "../src/cli/topics.ts";

/** What the manifest holds of a command, as far as the manual shows it. */
export type ManifestCommand = {
  readonly id: string;
  readonly hidden?: boolean;
  readonly summary?: string;
  readonly description?: string;
  readonly examples?: readonly string[];
  readonly args: Readonly<
    Record<string, { readonly name: string; readonly description?: string; readonly required?: boolean }>
  >;
  readonly flags: Readonly<Record<string, ManifestFlag>>;
};

type ManifestFlag = {
  readonly name: string;
  readonly char?: string;
  readonly summary?: string;
  readonly description?: string;
  readonly type: "boolean" | "option";
  readonly helpValue?: string;
  readonly helpGroup?: string;
  readonly allowNo?: boolean;
  readonly env?: string;
  readonly hidden?: boolean;
  readonly required?: boolean;
  readonly options?: readonly string[];
};

export type Manifest = {
  readonly version: string;
  readonly commands: Readonly<Record<string, ManifestCommand>>;
};

/** Exit codes: documented here, never renumbered. */
const EXIT_CODES = [
  ["0", "Success."],
  ["1", "A bug in rpx."],
  [
    "2",
    "The command line, a file or a value cannot be used; a release cannot be built, or its first worker fails.",
  ],
  ["3", "Not found."],
  ["4", "Not allowed: key, scope, or file permissions."],
  ["5", "The daemon cannot be reached."],
  [
    "6",
    "Wrong state or conflict: a name, port or data directory is taken, a job has ended already, a newer deploy took a release's place.",
  ],
  ["7", "The job ended badly, or a test of a release did."],
  ["8", "Our own waiting timed out; what was waited for goes on."],
  ["9", "No capacity."],
  ["130", "Interrupted."],
] as const;

const ENVIRONMENT = [
  ["RPX_URL", "Address of the daemon. Then RUNPOD_ENDPOINT_BASE_URL, without its /v2."],
  ["RPX_API_KEY", "Key for the daemon. RUNPOD_API_KEY where RUNPOD_ENDPOINT_BASE_URL names the daemon."],
  ["RPX_CONTEXT", "A daemon by its name (rpx context list)."],
  ["RPX_DATA_DIR", "Data directory of the daemon."],
  ["NO_COLOR", "No colour."],
  ["DEBUG", "rpx:* prints stacks and what oclif does on stderr."],
] as const;

/** Text for roff: a line never begins with a control character, and hyphens and backslashes are literal. */
function roff(text: string): string {
  return text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^([.'])/gm, "\\&$1");
}

function typed(id: string): string {
  return `rpx ${id.replaceAll(":", " ")}`;
}

function heading(page: string, summary: string, version: string): string[] {
  return [`.TH ${page.toUpperCase()} 1 "" "rpx ${version}" "rpx"`, ".SH NAME", roff(`${page} - ${summary}`)];
}

function list(rows: readonly (readonly [term: string, text: string])[]): string[] {
  return rows.flatMap(([term, text]) => [".TP", `.B ${roff(term)}`, roff(text)]);
}

function flagTerm({ name, char, type, helpValue, allowNo }: ManifestFlag): string {
  const long = `--${allowNo ? "[no-]" : ""}${name}`;
  return `${char === undefined ? "" : `-${char}, `}${long}${type === "option" ? ` ${helpValue ?? name.toUpperCase()}` : ""}`;
}

function flagText({ summary, description, options, env, required }: ManifestFlag): string {
  const parts = [summary ?? description ?? ""];
  if (required) parts.push("(required)");
  if (options !== undefined) parts.push(`(${options.join(", ")})`);
  if (env !== undefined) parts.push(`(${env})`);
  return parts.join(" ");
}

function shownFlags(command: ManifestCommand): ManifestFlag[] {
  return Object.values(command.flags).filter(({ hidden, helpGroup }) => !hidden && helpGroup !== "GLOBAL");
}

function section(command: ManifestCommand): string[] {
  const args = Object.values(command.args);
  const usage = args.map(({ name, required }) => (required ? name.toUpperCase() : `[${name.toUpperCase()}]`));
  const lines = [`.SS ${roff([typed(command.id), ...usage].join(" "))}`, roff(`${command.summary ?? ""}.`)];
  if (command.description !== undefined) lines.push(".PP", roff(command.description));
  lines.push(...list(args.map(({ name, description }) => [name.toUpperCase(), description ?? ""])));
  lines.push(...list(shownFlags(command).map((flag) => [flagTerm(flag), flagText(flag)])));
  const examples = (command.examples ?? []).map((example) =>
    example
      .replaceAll("<%= config.bin %>", "rpx")
      .replaceAll("<%= command.id %>", command.id.replaceAll(":", " ")),
  );
  if (examples.length > 0)
    lines.push(".PP", "Examples:", ".PP", ".nf", ...examples.map((example) => `    ${roff(example)}`), ".fi");
  return lines;
}

/** Flags of every command, from the first that has them. */
function globalFlags(commands: readonly ManifestCommand[]): ManifestFlag[] {
  const found = new Map<string, ManifestFlag>();
  for (const { flags } of commands) {
    for (const flag of Object.values(flags))
      if (flag.helpGroup === "GLOBAL" && !found.has(flag.name)) found.set(flag.name, flag);
  }
  return [...found.values()].sort((a, b) => a.name.localeCompare(b.name));
}

/** Every page by its file name. The same manifest gives the same text. */
export function manualPages({ commands, version }: Manifest): Map<string, string> {
  const shown = Object.values(commands)
    .filter(({ hidden }) => !hidden)
    .sort((a, b) => a.id.localeCompare(b.id));
  const alone = shown.filter(({ id }) => !id.includes(":"));
  const pages = new Map<string, string>();
  const main = [
    ...heading("rpx", "RunPod Serverless on a machine you own", version),
    ".SH SYNOPSIS",
    ".B rpx",
    roff("COMMAND [ARGUMENT] [--flags]"),
    ".SH DESCRIPTION",
    roff(
      "The answer is on stdout, everything else on stderr. With --json the answer, or the error, is one JSON document.",
    ),
    ".SH COMMANDS",
    ...alone.flatMap(section),
    ".SH TOPICS",
    ...list(Object.entries(TOPICS).map(([name, { description }]) => [`rpx-${name}(1)`, description])),
    ".SH GLOBAL FLAGS",
    ...list(globalFlags(shown).map((flag) => [flagTerm(flag), flagText(flag)])),
    ".SH EXIT STATUS",
    ...list(EXIT_CODES),
    ".SH ENVIRONMENT",
    ...list(ENVIRONMENT),
  ];
  pages.set("rpx.1", `${main.join("\n")}\n`);
  for (const [topic, { description }] of Object.entries(TOPICS)) {
    const lines = [
      ...heading(`rpx-${topic}`, description, version),
      ".SH COMMANDS",
      ...shown.filter(({ id }) => id.startsWith(`${topic}:`)).flatMap(section),
      ".SH EXIT STATUS",
      roff("See rpx(1)."),
      ".SH SEE ALSO",
      "rpx(1)",
    ];
    pages.set(`rpx-${topic}.1`, `${lines.join("\n")}\n`);
  }
  return pages;
}

/** The package's manifest, which the build writes. */
export function readManifest(root: string): Manifest {
  return JSON.parse(readFileSync(join(root, "oclif.manifest.json"), "utf8"));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = fileURLToPath(new URL("..", import.meta.url));
  mkdirSync(join(root, "man"), { recursive: true });
  for (const [name, text] of manualPages(readManifest(root))) writeFileSync(join(root, "man", name), text);
}
