/** One answer of the daemon, its body read whole. */
export type Reply = {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  json<T = Record<string, unknown>>(): T;
};

export type TakeOptions = {
  /** What the worker says of itself; default 0. */
  readonly jobInProgress?: 0 | 1;
  /** Asks the batch route for this many. */
  readonly batch?: number;
  readonly signal?: AbortSignal;
};

/** A worker that speaks the protocol as the stock SDK does, one call at a time as the test says. */
export type TestWorker = {
  readonly id: string;
  readonly token: string;
  take(options?: TakeOptions): Promise<Reply>;
  /** A take that must bring one job: its object. */
  takeJob(options?: TakeOptions): Promise<{ id: string; input: unknown; [name: string]: unknown }>;
  /** Posts a result: text goes as it is, anything else as JSON. */
  done(jobId: string, body: unknown, options?: { readonly isStream?: boolean }): Promise<Reply>;
  progress(jobId: string, output: unknown): Promise<Reply>;
  chunk(jobId: string, body: unknown): Promise<Reply>;
  ping(query?: string): Promise<Reply>;
  /** Holds for jobs to be stopped. */
  stopPoll(signal?: AbortSignal): Promise<Reply>;
};

export type WorkerEnvironment = Readonly<Record<string, string>>;

/** `authorization`: instead of the bare key that the SDK sends. */
export function createTestWorker(
  env: WorkerEnvironment,
  options: { authorization?: string } = {},
): TestWorker {
  const read = (name: string): string => {
    const value = env[name];
    if (value === undefined) throw new Error(`the worker's environment has no ${name}`);
    return value;
  };
  const id = read("RUNPOD_POD_ID");
  const token = read("RUNPOD_AI_API_KEY");
  const takeUrl = read("RUNPOD_WEBHOOK_GET_JOB").replace("$ID", id);
  const postUrl = (name: string, jobId: string) =>
    read(name).replace("$RUNPOD_POD_ID", id).replace("$ID", jobId);
  const headers = { authorization: options.authorization ?? token };

  const get = (url: string, signal?: AbortSignal) => request(url, { headers, ...(signal && { signal }) });
  const post = (url: string, body: unknown) =>
    request(url, {
      method: "POST",
      // As the SDK labels its JSON (wire: results).
      headers: { ...headers, "content-type": "application/x-www-form-urlencoded", charset: "utf-8" },
      body: typeof body === "string" ? body : JSON.stringify(body),
    });

  function take({ jobInProgress = 0, batch, signal }: TakeOptions = {}): Promise<Reply> {
    const url = batch ? takeUrl.replace("/job-take/", "/job-take-batch/") : takeUrl;
    const size = batch ? `&batch_size=${batch}` : "";
    return get(`${url}${size}&job_in_progress=${jobInProgress}`, signal);
  }

  const done: TestWorker["done"] = (jobId, body, { isStream = false } = {}) =>
    post(`${postUrl("RUNPOD_WEBHOOK_POST_OUTPUT", jobId)}&isStream=${isStream}`, body);

  return {
    id,
    token,
    take,
    takeJob: async (takeOptions) => {
      const reply = await take(takeOptions);
      if (reply.status !== 200) throw new Error(`the take brought no job: ${reply.status} ${reply.text}`);
      return reply.json();
    },
    done,
    progress: (jobId, output) => done(jobId, { status: "IN_PROGRESS", output }),
    chunk: (jobId, body) => post(`${postUrl("RUNPOD_WEBHOOK_POST_STREAM", jobId)}&isStream=false`, body),
    ping: (query = "") => get(`${read("RUNPOD_WEBHOOK_PING").replace("$RUNPOD_POD_ID", id)}${query}`),
    stopPoll: (signal) => get(takeUrl.replace("/job-take/", "/job-stop/"), signal),
  };
}

export async function request(url: string, init: RequestInit = {}): Promise<Reply> {
  const reply = await fetch(url, init);
  const text = await reply.text();
  return { status: reply.status, headers: reply.headers, text, json: () => JSON.parse(text) };
}
