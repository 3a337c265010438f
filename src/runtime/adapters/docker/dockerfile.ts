import { extname } from "node:path";
import { includedFiles, isEmpty, parseRequirements } from "../../core/requirements.ts";

/** Where a generated image has the handler's folder, and runs it. */
export const WORKDIR = "/app";
/** Where workers see a folder in place: below, so that it hides nothing, and Node finds the packages in the folder above it. */
export const IN_PLACE_WORKDIR = `${WORKDIR}/source`;
/** Folders of the context of a generated image. */
export const SOURCE_FOLDER = "source";
export const SDK_FOLDER = "sdk";
/** Where containers find the SDK stand-ins. */
export const SDK_TARGET = "/opt/rpx/sdk";

export type Language = "python" | "node";

/** What a generated Dockerfile is made of. */
export type Recipe = {
  readonly language: Language;
  readonly base: string;
  /** Path of the handler in the folder. */
  readonly handler: string;
  readonly install: Install | null;
  /** False where workers see the user's folder in place. */
  readonly copiesCode: boolean;
  /** Where the engine cannot see this machine's folders, the stand-in is part of the image. */
  readonly copiesSdk: boolean;
};

/** How packages get into an image before the code does, so that a change of the code alone installs nothing anew. */
export type Install = {
  readonly command: string;
  /** What the command reads; null: it may need anything in the folder. */
  readonly files: readonly string[] | null;
};

const DEFAULT_BASES: Readonly<Record<Language, string>> = {
  python: "python:3.11-slim",
  node: "node:24-slim",
};
const PIP = "python -m pip install --no-cache-dir --no-input --disable-pip-version-check -r requirements.txt";
/** Options of pip that name no file of the folder. */
const HARMLESS_OPTION =
  /^(?:-i\s|--(?:index-url|extra-index-url|pre|prefer-binary|no-index|trusted-host|no-binary|only-binary)\b)/;

/** What makes programs find a copy of the stand-in, beside what the base has set. */
const SDK_VARIABLES: Readonly<Record<Language, string>> = {
  python: `ENV PYTHONPATH=${SDK_TARGET}/python/site\${PYTHONPATH:+:$PYTHONPATH}`,
  node: `ENV NODE_OPTIONS="\${NODE_OPTIONS:+$NODE_OPTIONS }--import file://${SDK_TARGET}/node/hook.js"`,
};

export function languageOf(handler: string): Language {
  return extname(handler) === ".py" ? "python" : "node";
}

export function defaultBase(language: Language): string {
  return DEFAULT_BASES[language];
}

/** Null where requirements.txt asks for nothing. */
export function pythonInstall(requirementsText: string): Install | null {
  const requirements = parseRequirements(requirementsText);
  if (isEmpty(requirements)) return null;
  const reads = requirements.other.some((line) => !HARMLESS_OPTION.test(line));
  const files = reads || includedFiles(requirements).length > 0 ? null : ["requirements.txt"];
  return { command: PIP, files };
}

/** Files that npm reads beside package.json, where they are there. */
export const NPM_FILES = ["package-lock.json", "npm-shrinkwrap.json", ".npmrc"] as const;

/** Null where package.json lists no dependencies. `present`: which of {@link NPM_FILES} are there. */
export function nodeInstall(packageText: string, present: readonly string[]): Install | null {
  if (!hasDependencies(packageText)) return null;
  const isLocked = present.some((name) => name !== ".npmrc");
  const command = `npm ${isLocked ? "ci" : "install"} --omit=dev --no-audit --no-fund`;
  // A package of the folder itself ("file:lib") needs more than these.
  const files = /"(?:file|link):/.test(packageText) ? null : ["package.json", ...present];
  return { command, files };
}

function hasDependencies(packageText: string): boolean {
  try {
    const parsed = JSON.parse(packageText) as {
      dependencies?: unknown;
      optionalDependencies?: unknown;
    } | null;
    return [parsed?.dependencies, parsed?.optionalDependencies].some(
      (list) => typeof list === "object" && list !== null && Object.keys(list).length > 0,
    );
  } catch {
    // npm says what is wrong with it.
    return true;
  }
}

/** The Dockerfile of a handler's folder. Same recipe, same text. */
export function generateDockerfile(recipe: Recipe): string {
  const lines = [
    `# Made by rpx for ${JSON.stringify(recipe.handler)}. A Dockerfile in the folder takes its place.`,
    `FROM ${recipe.base}`,
    ...installLines(recipe),
    ...(recipe.copiesSdk ? [`COPY ${SDK_FOLDER} ${SDK_TARGET}`, SDK_VARIABLES[recipe.language]] : []),
    ...(recipe.copiesCode && recipe.install?.files !== null ? [`COPY ${SOURCE_FOLDER} ./`] : []),
    `CMD ${JSON.stringify(commandOf(recipe))}`,
  ];
  return `${lines.join("\n")}\n`;
}

/** Packages, and the folder that the handler runs in. */
function installLines({ install, copiesCode }: Recipe): string[] {
  const inPlace = copiesCode ? [] : [`WORKDIR ${IN_PLACE_WORKDIR}`];
  if (install === null) return [`WORKDIR ${WORKDIR}`, ...inPlace];
  const sources = install.files?.map((file) => `${SOURCE_FOLDER}/${file}`) ?? [SOURCE_FOLDER];
  return [`WORKDIR ${WORKDIR}`, `COPY ${sources.join(" ")} ./`, `RUN ${install.command}`, ...inPlace];
}

function commandOf({ language, handler }: Recipe): string[] {
  return language === "python" ? ["python", "-u", handler] : ["node", handler];
}

const FROM = /^\s*FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?\s*$/i;

/** The images that a Dockerfile begins its stages with, as written; stages of its own, `scratch` and what variables name left out. */
export function basesOf(dockerfile: string): string[] {
  const stages = new Set<string>();
  const bases = new Set<string>();
  for (const line of dockerfile.split(/\r?\n/)) {
    const [, base, stage] = FROM.exec(line) ?? [];
    if (base === undefined) continue;
    if (base !== "scratch" && !base.includes("$") && !stages.has(base.toLowerCase())) bases.add(base);
    if (stage !== undefined) stages.add(stage.toLowerCase());
  }
  return [...bases];
}
