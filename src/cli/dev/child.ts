import { spawn } from "node:child_process";
import { constants } from "node:os";
import { RpxError } from "../../contract/error.ts";

/** Exit code of a program that a signal ended: what a shell reports. */
const SIGNAL_BASE = 128;

export type ChildCommand = {
  /** A program, or a line for the shell where `arguments` is missing. */
  readonly file: string;
  readonly arguments?: readonly string[];
  readonly cwd?: string;
  readonly env: NodeJS.ProcessEnv;
  /** Asks it to end; on a terminal it heard Ctrl-C itself. */
  readonly signal: AbortSignal;
};

/** Runs a program on our terminal and resolves with its exit code. Throws RpxError `usage` when it cannot be started. */
export function runCommand(command: ChildCommand): Promise<number> {
  const child = spawn(command.file, [...(command.arguments ?? [])], {
    stdio: "inherit",
    shell: command.arguments === undefined,
    env: command.env,
    ...(command.cwd === undefined ? {} : { cwd: command.cwd }),
  });
  const onAbort = (): void => {
    if (!process.stdin.isTTY) child.kill("SIGINT");
  };
  command.signal.addEventListener("abort", onAbort, { once: true });
  return new Promise<number>((resolve, reject) => {
    child.once("error", (cause) => reject(cannotStart(command.file, cause)));
    child.once("exit", (code, signal) => {
      resolve(signal === null ? (code ?? 0) : SIGNAL_BASE + constants.signals[signal]);
    });
  }).finally(() => command.signal.removeEventListener("abort", onAbort));
}

function cannotStart(file: string, cause: NodeJS.ErrnoException): RpxError {
  const why = cause.code === "ENOENT" ? "there is no such program" : cause.message;
  return new RpxError("usage", `cannot run ${file}`, {
    why,
    hint: "for Python handlers: --python PATH",
    cause,
  });
}
