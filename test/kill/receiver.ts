import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

/** A webhook receiver on loopback that says yes to everything and remembers it. */
export type Receiver = {
  readonly url: string;
  /** What arrived about a job: bodies by `webhook-id`. */
  about(jobId: string): ReadonlyMap<string, ReadonlySet<string>>;
  close(): void;
};

export async function startReceiver(): Promise<Receiver> {
  const posts = new Map<string, Map<string, Set<string>>>();
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    try {
      for await (const chunk of request) chunks.push(chunk as Buffer);
    } catch {
      // The daemon was killed in the middle of its post: nothing arrived.
      return;
    }
    const id = String(request.headers["webhook-id"]);
    const body = Buffer.concat(chunks).toString();
    const job = (JSON.parse(body) as { id: string }).id;
    const bodies = posts.get(job) ?? new Map<string, Set<string>>();
    posts.set(job, bodies.set(id, (bodies.get(id) ?? new Set()).add(body)));
    response.end("thanks");
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://127.0.0.1:${port}`, about: (jobId) => posts.get(jobId) ?? new Map(), close };
}
