import { Config, run, settings } from "@oclif/core";
import { RpxError } from "../contract/error.ts";
import { closest } from "../text/closest.ts";
import { showError } from "./errors.ts";
import { packageWithTopics } from "./topics.ts";

/** `root`: the package's folder. `isDevelopment`: commands from src/, without the manifest. */
export type MainOptions = { readonly root: string; readonly isDevelopment: boolean };

/**
 * Runs one command line and sets the exit code. Errors are shown here and nowhere else, so that a usage error, a refusal of the daemon
 * and a bug leave in one form each.
 */
export async function main({ root, isDevelopment }: MainOptions): Promise<void> {
  quietBrokenPipe();
  settings.enableAutoTranspile = false; // or oclif would look for src/ whenever NODE_ENV says test
  const argv = process.argv.slice(2);
  try {
    const config = await Config.load({
      root,
      pjson: packageFor(root, isDevelopment),
      ignoreManifest: isDevelopment,
    });
    const words = withoutHelpWord(argv);
    refuseUnknown(words, config);
    await run(words, config);
  } catch (error) {
    process.exitCode = showError(error, { argv });
  }
}

function packageFor(root: string, isDevelopment: boolean): ReturnType<typeof packageWithTopics> {
  const pjson = packageWithTopics(root);
  return isDevelopment ? { ...pjson, oclif: { ...pjson.oclif, commands: "./src/commands" } } : pjson;
}

/** `rpx help job run` means `rpx job run --help`. */
function withoutHelpWord(argv: readonly string[]): string[] {
  return argv[0] === "help" ? [...argv.slice(1), "--help"] : [...argv];
}

/** A word that is no command, with the one that was meant: oclif would exit 127 and say nothing more. */
function refuseUnknown(argv: readonly string[], config: Config): void {
  const options = argv.findIndex((word) => word.startsWith("-"));
  const words = options < 0 ? argv : argv.slice(0, options);
  const [first, second] = words;
  if (first === undefined || config.findCommand(first)) return;
  if (config.findTopic(first) === undefined) throw unknown(first, names(config, ""), config);
  if (second === undefined || config.findCommand(`${first}:${second}`)) return;
  throw unknown(`${first} ${second}`, names(config, `${first} `), config);
}

/** The commands and topics one level below a prefix, as they are typed. */
function names(config: Config, prefix: string): string[] {
  const typed = config.commands.filter(({ hidden }) => !hidden).map(({ id }) => id.replaceAll(":", " "));
  const below = typed
    .filter((id) => id.startsWith(prefix))
    .map((id) => id.slice(prefix.length).split(" ")[0] ?? "");
  return [...new Set(below)].map((name) => prefix + name);
}

function unknown(typed: string, known: readonly string[], config: Config): RpxError {
  const near = closest(typed, known);
  return new RpxError("usage", `there is no command "${typed}"`, {
    hint: near === null ? `${config.bin} --help` : `did you mean: ${config.bin} ${near}`,
  });
}

/** `rpx job list | head`: the reader has seen enough, which is no failure. */
function quietBrokenPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(process.exitCode ?? 0);
      throw error;
    });
  }
}
