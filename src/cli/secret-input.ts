import { isUtf8 } from "node:buffer";
import { createInterface } from "node:readline/promises";
import { Writable } from "node:stream";
import { RpxError } from "../contract/error.ts";
import { sanitizeLine } from "../text/sanitize.ts";

/** Largest value in bytes: what the daemon takes. With a newline behind it. */
const MAX_BYTES = 64 * 1024;
const NEWLINE = 10;

/** What is asked for, in words, what stops the asking, and the command that is typed with a value piped in. */
export type SecretQuestion = {
  readonly question: string;
  readonly signal: AbortSignal;
  readonly command: string;
};

/**
 * A value that nobody is to see: standard input byte for byte, one newline at its end dropped; on a terminal it is asked for and not
 * shown. Throws RpxError `usage` where it is empty or no UTF-8, `too_large` beyond 64 KiB, `interrupted` at Ctrl-C.
 */
export async function readSecretValue(question: SecretQuestion): Promise<string> {
  const bytes = process.stdin.isTTY ? Buffer.from(await ask(question)) : await readPipe();
  const value = bytes.at(-1) === NEWLINE ? bytes.subarray(0, -1) : bytes;
  if (value.length === 0) {
    throw new RpxError("usage", "the value is empty", {
      why: process.stdin.isTTY ? "nothing was typed" : "nothing was piped in",
      hint: `${question.command} < FILE`,
    });
  }
  if (value.length > MAX_BYTES) throw tooLarge();
  if (isUtf8(value)) return value.toString("utf8");
  throw new RpxError("usage", "the value is no UTF-8 text", {
    why: "a variable of a worker holds text",
    hint: `encode it: base64 FILE | ${question.command}`,
  });
}

async function readPipe(): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  for await (const part of process.stdin) {
    bytes += part.length;
    if (bytes > MAX_BYTES + 1) throw tooLarge();
    parts.push(part);
  }
  return Buffer.concat(parts);
}

/** One line; what is typed goes nowhere but here. */
async function ask({ question, signal, command }: SecretQuestion): Promise<string> {
  if (!process.stderr.isTTY) {
    throw new RpxError("usage", "the value was not given", {
      why: "there is no terminal to ask on",
      hint: `${command} < FILE`,
    });
  }
  const silent = new Writable({ write: (_chunk, _encoding, done) => done() });
  const prompt = createInterface({ input: process.stdin, output: silent, terminal: true, historySize: 0 });
  prompt.on("SIGINT", () => process.kill(process.pid, "SIGINT")); // raw mode hides Ctrl-C from the process
  process.stderr.write(`${sanitizeLine(question)}: `);
  try {
    return await prompt.question("", { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw error;
  } finally {
    prompt.close();
    process.stderr.write("\n");
  }
}

function tooLarge(): RpxError {
  return new RpxError("too_large", `the value is over ${MAX_BYTES} bytes`, {
    hint: "put large files into the handler's folder, an image or a volume",
  });
}
