import type { Chance } from "./chance.ts";
import type { World } from "./world.ts";

export type Request = {
  readonly listener: "client" | "worker";
  /** Its name in the route table. */
  readonly route: string;
  readonly params: Readonly<Record<string, string>>;
  readonly query?: Readonly<Record<string, string>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  /** The body is larger than the route takes; it is not sent. */
  readonly oversize?: true;
};

export type Reply = {
  readonly status: number;
  readonly text: string;
  readonly headers: Readonly<Record<string, string>>;
};

/** The jobs that a reply brings a worker, with the numbers of their deliveries. */
export function jobsIn({ status, text, headers }: Reply): { id: string; step: number; number: number }[] {
  const numbers = headers["x-rpx-attempts"]?.split(",");
  if (status !== 200 || numbers === undefined) return [];
  const parsed: unknown = JSON.parse(text);
  const jobs = (Array.isArray(parsed) ? parsed : [parsed]) as { id: string; input: { n: number } }[];
  return jobs.map(({ id, input }, at) => ({ id, step: input.n, number: Number(numbers[at]) }));
}

/** A request on its way through the machine. */
export type Exchange = {
  readonly request: Request;
  /** Aborted when this side learns that the peer is gone. */
  readonly abort: AbortController;
  /** The daemon has answered. False: the connection had ended, and the daemon knows. */
  answer(reply: Reply): boolean;
  /** The connection ends without an answer. */
  reset(): void;
};

/** Who sends: a client or a worker's process. */
export type Peer = {
  readonly name: string;
  readonly chance: Chance;
  /** Closes all its connections: the process has ended. */
  close(): void;
  /** Cuts it off one way or both for a time. */
  cutOff(way: "in" | "out" | "both", ms: number): void;
  /** Whether something that it waits for cannot reach it, or what it says nobody. */
  isCut(): boolean;
  /** Null: the connection broke, or the sender gave up; what became of the request is not known. */
  send(request: Request, options?: SendOptions): Promise<Reply | null>;
};

export type SendOptions = { readonly giveUpMs?: number };

/** `endpoint`: of a worker. What it does not hear may keep jobs from it for a while. */
export type Network = { peer(name: string, endpoint?: number): Peer };

/** Latency of one way, and of one that is late. */
const LATENCY_MS = [1, 40] as const;
const LATE_MS = [100, 60_000] as const;
/** A post whose sender believes it lost arrives after this long. */
const STRAY_MS = [500, 12_000] as const;
/** A dead connection is noticed after this long. */
const DEAF_MS = [500, 60_000] as const;
/** Without an answer a sender gives up, unless it says when. */
const GIVE_UP_MS = 90_000;
const POSTS: ReadonlySet<string> = new Set(["jobDone", "jobStream"]);

/** Loses, doubles and delays what goes between peers and the machine. */
export function createNetwork(world: World, accept: (exchange: Exchange) => void): Network {
  const { clock } = world;

  function createPeer(name: string, endpoint?: number): Peer {
    const disturb = () => endpoint !== undefined && world.disturb(endpoint);
    const chance = world.chance(`peer ${name.split(" ")[0]}`);
    const open = new Set<() => void>();
    const cutUntilMs = { in: 0, out: 0 };
    let closed = false;
    const isCut = (way: "in" | "out") => clock.nowMs() < cutUntilMs[way];
    let deaf = 0;
    const latencyMs = () => chance.skewed(...LATENCY_MS);

    function send(request: Request, { giveUpMs = GIVE_UP_MS }: SendOptions = {}): Promise<Reply | null> {
      if (closed) return new Promise(() => {});
      const isPost = POSTS.has(request.route);
      const late = isPost && world.strikes("post-late", chance);
      const delayMs = late ? chance.skewed(...LATE_MS) : latencyMs();
      if (isPost && world.strikes("post-doubled", chance)) {
        void travel(request, delayMs + chance.between(...LATE_MS), GIVE_UP_MS, true);
      }
      if (isPost && world.strikes("post-stray", chance)) return stray(request);
      return travel(request, delayMs, giveUpMs, false);
    }

    /** The sender's connection breaks, and yet the request is on its way. */
    async function stray(request: Request): Promise<null> {
      void travel(request, chance.between(...STRAY_MS), GIVE_UP_MS, true);
      await clock.sleep(latencyMs());
      return closed ? new Promise(() => {}) : null;
    }

    /** `orphan`: a copy, whose answer nobody awaits and whose sender may be gone. */
    function travel(
      request: Request,
      delayMs: number,
      giveUpMs: number,
      orphan: boolean,
    ): Promise<Reply | null> {
      const { promise, resolve } = Promise.withResolvers<Reply | null>();
      const timer = new AbortController();
      const exchange = { request, abort: new AbortController(), answer, reset };
      let over = false;

      const finish = (reply: Reply | null): void => {
        if (over) return;
        over = true;
        open.delete(hangUp);
        // With a reason of ours: the default one costs a stack trace.
        timer.abort(null);
        // A process that has ended learns nothing any more.
        if (!closed) resolve(reply);
      };
      /** The peer's side ends: the machine hears of it unless it is cut off. */
      const hangUp = (): void => {
        finish(null);
        if (!isCut("out")) exchange.abort.abort(null);
      };
      const back = (reply: Reply | null): void => {
        void clock.sleep(latencyMs()).then(() => finish(reply));
      };

      function answer(reply: Reply): boolean {
        if (orphan || exchange.abort.signal.aborted) return false;
        if (world.strikes("reply-lost-noticed", chance)) {
          disturb();
          back(null);
          return false;
        }
        if (world.strikes("reply-lost-silently", chance) || isCut("in")) void loseReply();
        else back(reply);
        return true;
      }
      /** The daemon believes that it arrived; the peer learns late that its connection is dead. */
      async function loseReply(): Promise<void> {
        disturb();
        deaf += 1;
        await clock.sleep(chance.skewed(...DEAF_MS), timer.signal);
        deaf -= 1;
        disturb();
        finish(null);
      }
      function reset(): void {
        back(null);
      }

      if (!orphan) {
        open.add(hangUp);
        void clock.sleep(giveUpMs, timer.signal).then(() => {
          if (!timer.signal.aborted) hangUp();
        });
      }
      void arrive(exchange, delayMs, () => over && !orphan);
      return promise;
    }

    /** Rounded up, so that it ends with a turn. */
    function untilTurn(delayMs: number): number {
      const { turnMs } = world.plan;
      return Math.ceil((clock.nowMs() + delayMs) / turnMs) * turnMs - clock.nowMs();
    }

    async function arrive(exchange: Exchange, delayMs: number, isOver: () => boolean): Promise<void> {
      await clock.sleep(untilTurn(delayMs));
      while (isCut("out")) await clock.sleep(cutUntilMs.out - clock.nowMs());
      // What was given up while it waited at the sender was never sent.
      if (isOver()) return;
      if (world.strikes("request-lost", chance)) exchange.reset();
      else accept(exchange);
    }

    return {
      name,
      chance,
      send,
      isCut: () => isCut("in") || isCut("out") || deaf > 0,
      close: () => {
        closed = true;
        for (const hangUp of [...open]) hangUp();
      },
      cutOff: (way, ms) => {
        const untilMs = clock.nowMs() + ms;
        if (way !== "out") cutUntilMs.in = Math.max(cutUntilMs.in, untilMs);
        if (way !== "in") cutUntilMs.out = Math.max(cutUntilMs.out, untilMs);
      },
    };
  }

  return { peer: createPeer };
}
