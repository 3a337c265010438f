import { readFile, stat } from "node:fs/promises";
import path from "node:path";
import { RpxError } from "../../../contract/error.ts";
import { checkHandler } from "../../../folder/handler.ts";
import { IGNORE_FILE } from "../../../folder/ignore-file.ts";
import { type BuildContext, contextPaths, createBuildContext, readSmallFolder } from "./build-context.ts";
import {
  basesOf,
  defaultBase,
  generateDockerfile,
  IN_PLACE_WORKDIR,
  type Install,
  type Language,
  languageOf,
  NPM_FILES,
  nodeInstall,
  pythonInstall,
  SDK_FOLDER,
  SOURCE_FOLDER,
} from "./dockerfile.ts";

export type PlanRequest = {
  /** Absolute. */
  readonly folder: string;
  /** Path of the handler inside the folder; null: a Dockerfile says what runs. */
  readonly handler: string | null;
  /** Path of the Dockerfile inside the folder; null: one is generated, or the one of the usual name where there is no handler. */
  readonly dockerfile: string | null;
  /** What a generated Dockerfile begins with; null: by the handler's language. */
  readonly base: string | null;
  /** Whether workers see the folder itself. */
  readonly inPlace: boolean;
  /** Folder of the stand-ins that the image gets a copy of; null: workers see it in place. */
  readonly copiedSdk: string | null;
};

/** What is built, before anything is. */
export type BuildPlan = {
  readonly context: BuildContext;
  /** Path of the Dockerfile in the context. */
  readonly dockerfile: string;
  /** Of a generated image; null where the user's Dockerfile decides. */
  readonly language: Language | null;
  /** Images that it begins with, as written. */
  readonly bases: readonly string[];
  /** Where workers see the folder; null: they do not, or the image says where (see `hidesPackages`). */
  readonly workdir: string | null;
  /** The user's image installs packages into its own working directory, which a mounted folder would hide. */
  readonly hidesPackages: boolean;
};

const DOCKERFILE = "Dockerfile";
/** A larger Dockerfile or list of packages is none. */
const MAX_TEXT_BYTES = 1024 * 1024;

/** Throws RpxError: `bad_request` for a folder, handler or Dockerfile that is not there, and what listing the folder refuses. */
export async function planBuild(request: PlanRequest): Promise<BuildPlan> {
  const found = await stat(request.folder).catch(() => null);
  if (!found?.isDirectory())
    throw new RpxError("bad_request", `there is no folder ${request.folder}`, { hint: "deploy it again" });
  if (request.handler === null || request.dockerfile !== null)
    return planOfDockerfile(request, request.dockerfile ?? DOCKERFILE);
  return planOfHandler(request, request.handler);
}

async function planOfDockerfile({ folder }: PlanRequest, named: string): Promise<BuildPlan> {
  const dockerfile = path.relative(folder, path.resolve(folder, named)).split(path.sep).join("/");
  if (dockerfile === "" || dockerfile.split("/")[0] === ".." || named.includes("\0"))
    throw new RpxError("bad_request", "the Dockerfile lies outside its folder", {
      hint: "give its path inside the folder, like docker/Dockerfile",
    });
  const text = await readText(folder, dockerfile);
  if (text === null)
    throw new RpxError("bad_request", `there is no ${dockerfile} in the folder`, {
      why: "without a handler, a Dockerfile says what runs",
      hint: "write one, or give a handler",
    });
  const listed = await contextPaths(folder, { kept: [dockerfile, IGNORE_FILE] });
  return {
    context: createBuildContext({ ...listed, into: "", files: new Map() }),
    dockerfile,
    language: null,
    bases: basesOf(text),
    workdir: null,
    hidesPackages: await needsPackages(folder),
  };
}

/** A folder for Node whose packages only the image has. */
async function needsPackages(folder: string): Promise<boolean> {
  const packageText = await readText(folder, "package.json");
  if (packageText === null || nodeInstall(packageText, []) === null) return false;
  return (await stat(path.join(folder, "node_modules")).catch(() => null)) === null;
}

async function planOfHandler(request: PlanRequest, named: string): Promise<BuildPlan> {
  const { folder, inPlace, copiedSdk } = request;
  const handler = await checkHandler(folder, named);
  const language = languageOf(handler);
  const base = request.base ?? defaultBase(language);
  const install = await installOf(folder, language);
  const recipe = { language, base, handler, install, copiesCode: !inPlace, copiesSdk: copiedSdk !== null };
  const sdk =
    copiedSdk === null
      ? []
      : await readSmallFolder(path.join(copiedSdk, language), `${SDK_FOLDER}/${language}`);
  return {
    context: createBuildContext({
      ...(await sentPaths(folder, { inPlace, install, language })),
      into: SOURCE_FOLDER,
      files: new Map([[DOCKERFILE, generateDockerfile(recipe)], ...sdk]),
    }),
    dockerfile: DOCKERFILE,
    language,
    bases: [base],
    workdir: inPlace ? IN_PLACE_WORKDIR : null,
    hidesPackages: false,
  };
}

async function installOf(folder: string, language: Language): Promise<Install | null> {
  if (language === "python") return pythonInstall((await readText(folder, "requirements.txt")) ?? "");
  const packageText = await readText(folder, "package.json");
  if (packageText === null) return null;
  const present = await Promise.all(NPM_FILES.map((name) => stat(path.join(folder, name)).catch(() => null)));
  return nodeInstall(
    packageText,
    NPM_FILES.filter((_, index) => present[index]?.isFile()),
  );
}

/** What of the folder goes into the image: all of it, or only what lists its packages where workers see the rest in place. */
async function sentPaths(
  folder: string,
  { inPlace, install, language }: { inPlace: boolean; install: Install | null; language: Language },
) {
  // Packages that were installed for this machine are not for the image's.
  const left = language === "node" && install !== null ? ["node_modules"] : [];
  const listed = await contextPaths(folder, { left });
  if (!inPlace || install?.files === null) return listed;
  const needed: readonly string[] = install?.files ?? [];
  return { ...listed, paths: listed.paths.filter((each) => needed.includes(each)) };
}

/** Null when there is no such file. */
async function readText(folder: string, name: string): Promise<string | null> {
  const file = path.join(folder, name);
  const found = await stat(file).catch(() => null);
  if (!found?.isFile()) return null;
  if (found.size > MAX_TEXT_BYTES)
    throw new RpxError("bad_request", `${name} is too large`, {
      why: `it has ${found.size} bytes, at most ${MAX_TEXT_BYTES} are read`,
    });
  return readFile(file, "utf8");
}
