import { realpath, stat } from "node:fs/promises";
import { extname, join, relative, resolve, sep } from "node:path";
import { RpxError } from "../contract/error.ts";
import type { ProjectFile } from "../contract/schemas/endpoint.ts";
import { PROJECT_FILE } from "./project-file.ts";

/** What runs: an image by its reference, else a handler, a Dockerfile or both, relative to the folder with forward slashes. */
export type Code = {
  readonly handler: string | null;
  readonly dockerfile: string | null;
  readonly image: string | null;
};

/** What a command line says of the code; it beats the file. */
export type GivenCode = {
  readonly handler?: string | undefined;
  readonly dockerfile?: string | undefined;
  readonly image?: string | undefined;
};

/** Handlers that are looked for, and what a handler's name may end in. */
const HANDLER_NAMES = ["handler.py", "handler.ts", "handler.mjs", "handler.js"] as const;
const HANDLER_ENDINGS: readonly string[] = [".py", ".ts", ".mjs", ".js"];
/** Where a Dockerfile is looked for, in RunPod's order: files under .runpod/ win over the root's. */
const DOCKERFILES = [".runpod/Dockerfile", "Dockerfile"] as const;

/**
 * Finds what a folder runs. A folder with a handler and a Dockerfile has both: containers are made from the Dockerfile, processes run
 * the handler. Throws RpxError `usage` where there is nothing to run, where it is not clear what, or where a named file will not do.
 */
export async function findCode(folder: string, given: GivenCode, file: ProjectFile): Promise<Code> {
  const image = imageOf(given, file);
  if (image !== null) return { handler: null, dockerfile: null, image };
  const dockerfile = await findDockerfile(folder, given.dockerfile ?? file.dockerfile);
  const named = given.handler ?? file.handler;
  const handler =
    named === undefined ? await findHandler(folder, dockerfile !== null) : await checkHandler(folder, named);
  return { handler, dockerfile, image: null };
}

/** The image that is run as it is; code given on the command line beats the file's. */
function imageOf(given: GivenCode, file: ProjectFile): string | null {
  if (given.image !== undefined) return given.image;
  if (typeof file.image !== "string" || given.handler !== undefined || given.dockerfile !== undefined)
    return null;
  const [other] = (["handler", "dockerfile", "python"] as const).filter((key) => file[key] !== undefined);
  if (other === undefined) return file.image;
  throw new RpxError("usage", `${PROJECT_FILE} names an image and a ${other}`, {
    why: "an image runs as it is, and no code is sent with it",
    hint: `take "image" or "${other}" out; what an image is built from is [image] base`,
  });
}

async function findHandler(folder: string, hasDockerfile: boolean): Promise<string | null> {
  const found = (await Promise.all(HANDLER_NAMES.map((name) => isFile(join(folder, name))))).flatMap(
    (there, index) => (there ? [HANDLER_NAMES[index] ?? ""] : []),
  );
  const [only, ...others] = found;
  if (hasDockerfile && found.length !== 1) return null; // the Dockerfile says what runs
  if (only === undefined) {
    throw new RpxError("usage", `no handler in ${folder}`, {
      why: `there is none of ${HANDLER_NAMES.join(", ")}, no Dockerfile, and no ${PROJECT_FILE} that names another file`,
      hint: `name it in ${PROJECT_FILE} (handler = "src/handler.py"), or write one: rpx init`,
    });
  }
  if (others.length > 0) {
    throw new RpxError("usage", `several handlers in ${folder}`, {
      why: `there are ${found.join(" and ")}, and no ${PROJECT_FILE} that says which`,
      hint: `name one in ${PROJECT_FILE} (handler = "${only}"), or on the command line`,
    });
  }
  return only;
}

/** A handler that was named: there, of a kind that runs, and inside the folder also after links. */
async function checkHandler(folder: string, named: string): Promise<string> {
  if (!HANDLER_ENDINGS.includes(extname(named))) {
    throw new RpxError("usage", `${named} is no handler`, {
      why: `a handler ends in ${HANDLER_ENDINGS.join(", ")}`,
      hint: "name the file that calls runpod.serverless.start or start of rpx/worker",
    });
  }
  return await fileInside(folder, named, "handler");
}

async function findDockerfile(folder: string, named: string | undefined): Promise<string | null> {
  if (named !== undefined) return await fileInside(folder, named, "dockerfile");
  for (const name of DOCKERFILES) {
    if (await isFile(join(folder, name))) return await fileInside(folder, name, "dockerfile");
  }
  return null;
}

const WORDS = {
  handler: { word: "handler", use: "where the handler runs" },
  dockerfile: { word: "Dockerfile", use: "where the image is built" },
} as const;

/** The path of a file as it stands in the folder. Throws RpxError `usage` where it is missing, or leads out of the folder (T-21). */
async function fileInside(folder: string, named: string, key: keyof typeof WORDS): Promise<string> {
  const { word, use } = WORDS[key];
  const path = resolve(folder, named);
  if (!(await isFile(path))) {
    throw new RpxError("usage", `no ${word} ${named} in ${folder}`, {
      why: "there is no such file",
      hint: `correct "${key}" in ${PROJECT_FILE}`,
    });
  }
  if (!isInside(folder, path) || !isInside(folder, await realpath(path))) {
    throw new RpxError("usage", `the ${word} ${named} is not in ${folder}`, {
      why: `only the folder itself is copied to ${use}`,
      hint: `move the ${word} into the folder, or name the folder it is in`,
    });
  }
  return relative(folder, path).split(sep).join("/");
}

function isInside(folder: string, path: string): boolean {
  return path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
}

async function isFile(path: string): Promise<boolean> {
  return await stat(path).then(
    (entry) => entry.isFile(),
    () => false,
  );
}
