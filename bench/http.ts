import { Agent, type RequestOptions, request } from "node:http";

const agent = new Agent({ keepAlive: true });

export type Reply = { readonly status: number; readonly text: string };

/** One request over a kept connection, by node:http alone: a peer that is called through a library would be slower for it. */
export function call(options: RequestOptions, body?: unknown): Promise<Reply> {
  const text = body === undefined ? "" : JSON.stringify(body);
  return new Promise((resolve, reject) => {
    const headers = { "Content-Type": "application/json", "Content-Length": Buffer.byteLength(text) };
    const sent = request({ ...options, agent, headers: { ...options.headers, ...headers } });
    sent.on("error", reject);
    sent.on("response", (response) => {
      const parts: Buffer[] = [];
      response.on("data", (part) => parts.push(part));
      response.on("end", () =>
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(parts).toString("utf8") }),
      );
    });
    sent.end(text);
  });
}
