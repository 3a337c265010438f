import { createServer, type IncomingHttpHeaders, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";

/** A request as it came. */
export type Seen = {
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
};

/** Answers with a value as JSON, raw text, or in its own way; `status` is 200 unless told. */
export type Reply =
  | { readonly json: unknown; readonly status?: number }
  | { readonly text: string; readonly status?: number }
  | ((response: ServerResponse, seen: Seen) => void);

/**
 * Answers of a daemon that the real one gives only when it is broken, old or slow. What is not set answers 404 in the contract's form.
 */
export type StandInDaemon = {
  readonly url: string;
  readonly seen: Seen[];
  /** `route`: method and path, as in "GET /api/status". */
  readonly on: (route: string, reply: Reply) => void;
  readonly close: () => Promise<void>;
};

export async function startStandIn(options: { readonly version?: string } = {}): Promise<StandInDaemon> {
  const replies = new Map<string, Reply>();
  const seen: Seen[] = [];
  const server = createServer(async (request, response) => {
    const url = new URL(request.url ?? "/", "http://stand-in");
    const { method = "", headers } = request;
    const one: Seen = {
      method,
      path: url.pathname,
      query: url.searchParams,
      headers,
      body: await text(request),
    };
    seen.push(one);
    response.setHeader("x-rpx-version", options.version ?? "0.1.0");
    give(response, one, replies.get(`${method} ${url.pathname}`));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    seen,
    on: (route, reply) => void replies.set(route, reply),
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

function give(response: ServerResponse, seen: Seen, reply: Reply | undefined): void {
  if (typeof reply === "function") {
    reply(response, seen);
    return;
  }
  const known = reply ?? { status: 404, json: { error: `no ${seen.path}`, code: "not_found" } };
  response.writeHead(known.status ?? 200, { "content-type": "application/json" });
  response.end("text" in known ? known.text : JSON.stringify(known.json));
}
