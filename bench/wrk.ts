/** HTTP load from `wrk`: a client that costs little of the two sides' processor. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { output, temporaryFolder } from "./processes.ts";

export type Load = {
  readonly url: string;
  readonly body: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly connections: number;
  readonly seconds: number;
};

/** Posts the same body over kept connections; answered requests a second. Throws when one is refused. */
export async function postsPerSecond({ url, body, headers, connections, seconds }: Load): Promise<number> {
  const folder = temporaryFolder();
  const script = join(folder.path, "post.lua");
  const lines = Object.entries({ "Content-Type": "application/json", ...headers }).map(
    ([name, value]) => `wrk.headers["${name}"] = ${JSON.stringify(value)}`,
  );
  writeFileSync(
    script,
    ['wrk.method = "POST"', `wrk.body = ${JSON.stringify(body)}`, ...lines, ""].join("\n"),
  );
  try {
    const text = await output("wrk", [
      "-t1",
      `-c${connections}`,
      `-d${seconds}s`,
      "--timeout",
      "10s",
      "-s",
      script,
      url,
    ]);
    if (/Non-2xx|Socket errors/.test(text)) throw new Error(`wrk saw failures:\n${text}`);
    const rate = /Requests\/sec:\s+([\d.]+)/.exec(text)?.[1];
    if (rate === undefined) throw new Error(`wrk said no rate:\n${text}`);
    return Number(rate);
  } finally {
    folder.remove();
  }
}
