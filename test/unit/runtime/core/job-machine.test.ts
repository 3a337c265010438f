import { describe, expect, test } from "vitest";
import {
  isTerminal,
  JOB_TABLE,
  type JobInput,
  type JobInputKind,
  MAX_ATTEMPTS,
  next,
  RETRY_AFTER_STOP_MS,
  statesAccepting,
} from "../../../../src/runtime/core/job-machine.ts";
import {
  type EndpointId,
  JOB_STATES,
  type Job,
  type JobId,
  type JobState,
  type QueuedJob,
  type RunningJob,
  type WorkerId,
} from "../../../../src/runtime/core/model.ts";

const WORKER = "w-1" as WorkerId;
const T0 = 1_000_000;

const QUEUED: QueuedJob = {
  id: "job-1" as JobId,
  endpointId: "endpoint-1" as EndpointId,
  owner: "ann",
  generation: 1,
  attempts: 0,
  deliveries: 0,
  policy: {
    executionTimeoutMs: 600_000,
    ttlMs: 3_600_000,
    lowPriority: false,
    handlerRetries: 0,
    retention: { completedMs: 1_800_000, failedMs: 900_000 },
  },
  createdAtMs: T0,
  queuedAtMs: T0,
  expiresAtMs: T0 + 3_600_000,
  webhookUrl: null,
  state: "IN_QUEUE",
  availableAtMs: T0,
};

const INPUTS: { readonly [Kind in JobInputKind]: JobInput } = {
  take: { kind: "take", workerId: WORKER, started: true },
  start: { kind: "start" },
  complete: { kind: "complete" },
  fail: { kind: "fail", retryDelayMs: 15_000 },
  reject: { kind: "reject", failure: "invalid_result" },
  lose: { kind: "lose" },
  return: { kind: "return" },
  overrun: { kind: "overrun" },
  expire: { kind: "expire" },
  cancel: { kind: "cancel" },
  purge: { kind: "purge" },
  retry: { kind: "retry" },
};
const KINDS = Object.keys(INPUTS) as JobInputKind[];

/** The table once more, written down by hand from the rules of delivery: a second opinion, not a copy. */
const EXPECTED: { readonly [State in JobState]: Partial<Record<JobInputKind, readonly JobState[]>> } = {
  IN_QUEUE: { take: ["IN_PROGRESS"], expire: ["TIMED_OUT"], cancel: ["CANCELLED"], purge: ["CANCELLED"] },
  IN_PROGRESS: {
    start: ["IN_PROGRESS"],
    complete: ["COMPLETED"],
    fail: ["FAILED", "IN_QUEUE"],
    reject: ["FAILED"],
    lose: ["FAILED", "IN_QUEUE"],
    return: ["IN_QUEUE"],
    overrun: ["FAILED"],
    expire: ["TIMED_OUT"],
    cancel: ["CANCELLED"],
  },
  COMPLETED: {},
  FAILED: { retry: ["IN_QUEUE"] },
  CANCELLED: {},
  TIMED_OUT: { retry: ["IN_QUEUE"] },
};

/** The job after the inputs, which all have to be accepted. Time moves on by a second with each. */
function jobAfter(job: Job, ...inputs: JobInput[]): Job {
  return inputs.reduce<Job>((present, input, index) => {
    const step = next(present, input, T0 + (index + 1) * 1_000);
    if (!step.ok) throw new Error(`${input.kind} was refused in ${step.state}`);
    return step.job;
  }, job);
}

function withRetries(handlerRetries: number): QueuedJob {
  return { ...QUEUED, policy: { ...QUEUED.policy, handlerRetries } };
}

const RUNNING = jobAfter(QUEUED, INPUTS.take) as RunningJob;
const IN_STATE: { readonly [State in JobState]: Job } = {
  IN_QUEUE: QUEUED,
  IN_PROGRESS: RUNNING,
  COMPLETED: jobAfter(RUNNING, INPUTS.complete),
  FAILED: jobAfter(RUNNING, INPUTS.fail),
  CANCELLED: jobAfter(RUNNING, INPUTS.cancel),
  TIMED_OUT: jobAfter(RUNNING, INPUTS.expire),
};

describe("every state and input", () => {
  for (const state of JOB_STATES) {
    for (const kind of KINDS) {
      const targets = EXPECTED[state][kind];
      test(`${state} x ${kind}: ${targets ? targets.join(" or ") : "refused (INV-2)"}`, () => {
        const job = IN_STATE[state];
        const before = JSON.stringify(job);
        const step = next(job, INPUTS[kind], T0 + 9_000);
        expect(step.ok).toBe(targets !== undefined);
        if (step.ok) expect(targets).toContain(step.job.state);
        else expect(step.state).toBe(state);
        expect(JSON.stringify(job)).toBe(before);
        const listed = (JOB_TABLE[state] as Partial<Record<JobInputKind, readonly JobState[]>>)[kind];
        expect(listed && [...listed].sort()).toEqual(targets && [...targets].sort());
        expect(statesAccepting(kind).includes(state)).toBe(targets !== undefined);
      });
    }
  }

  test("INV-2 no terminal state leads anywhere but by retry", () => {
    for (const state of JOB_STATES.filter(isTerminal)) {
      expect(Object.keys(JOB_TABLE[state]).filter((kind) => kind !== "retry")).toEqual([]);
    }
    expect(JOB_STATES.filter(isTerminal)).toEqual(["COMPLETED", "FAILED", "CANCELLED", "TIMED_OUT"]);
  });

  test("both targets of fail and of lose are reached", () => {
    expect(jobAfter(withRetries(1), INPUTS.take, INPUTS.fail).state).toBe("IN_QUEUE");
    expect(jobAfter(withRetries(0), INPUTS.take, INPUTS.fail).state).toBe("FAILED");
    expect(jobAfter(QUEUED, INPUTS.take, INPUTS.lose).state).toBe("IN_QUEUE");
  });
});

describe("attempts", () => {
  const { take, lose, fail, retry } = INPUTS;
  const giveBack = INPUTS.return;

  test("F-15 three lost deliveries end the job as worker_lost", () => {
    expect(MAX_ATTEMPTS).toBe(3);
    const twice = jobAfter(QUEUED, take, lose, take, lose);
    expect(twice).toMatchObject({ state: "IN_QUEUE", attempts: 2, deliveries: 2 });
    const dead = jobAfter(twice, take, lose);
    expect(dead).toMatchObject({
      state: "FAILED",
      attempts: 3,
      deliveries: 3,
      end: { failure: "worker_lost" },
    });
  });

  test("a returned delivery does not count, but its number is used up", () => {
    const job = jobAfter(QUEUED, take, giveBack, take, giveBack, take, giveBack, take, giveBack);
    expect(job).toMatchObject({ state: "IN_QUEUE", attempts: 0, deliveries: 4 });
    const dead = jobAfter(job, take, lose, take, giveBack, take, lose, take, lose);
    expect(dead).toMatchObject({ state: "FAILED", attempts: 3, deliveries: 8 });
  });

  test("a handler's error is final unless retries are set", () => {
    expect(jobAfter(QUEUED, take, fail)).toMatchObject({ state: "FAILED", end: { failure: "handler" } });
    const once = jobAfter(withRetries(1), take, fail);
    expect(once).toMatchObject({ state: "IN_QUEUE", attempts: 1 });
    expect(jobAfter(once, take, fail)).toMatchObject({
      state: "FAILED",
      attempts: 2,
      end: { failure: "handler" },
    });
  });

  test("a handler's retry waits out its backoff, a lost delivery does not wait", () => {
    const failed = next(jobAfter(withRetries(1), take), fail, T0 + 50_000);
    expect(failed.ok && failed.job).toMatchObject({ queuedAtMs: T0 + 50_000, availableAtMs: T0 + 65_000 });
    const lost = next(jobAfter(QUEUED, take), lose, T0 + 50_000);
    expect(lost.ok && lost.job).toMatchObject({ queuedAtMs: T0 + 50_000, availableAtMs: T0 + 50_000 });
  });

  test("more retries than three allow as many lost deliveries", () => {
    let job: Job = withRetries(5);
    for (let delivery = 1; delivery <= 5; delivery += 1) job = jobAfter(job, take, lose);
    expect(job).toMatchObject({ state: "IN_QUEUE", attempts: 5 });
    expect(jobAfter(job, take, lose)).toMatchObject({ state: "FAILED", attempts: 6 });
  });

  test("INV-6 /retry waits until the worker of a stopped job has let go of it, and for no other", () => {
    // Taken a second after T0, ended two seconds after it, retried five seconds after it.
    const availableMs = (...inputs: JobInput[]) => {
      const step = next(jobAfter(QUEUED, ...inputs), retry, T0 + 5_000);
      return step.ok && step.job.state === "IN_QUEUE" ? step.job.availableAtMs - T0 : null;
    };
    expect(availableMs(take, INPUTS.overrun)).toBe(2_000 + RETRY_AFTER_STOP_MS);
    expect(availableMs(take, INPUTS.expire)).toBe(2_000 + RETRY_AFTER_STOP_MS);
    expect(availableMs(INPUTS.expire), "nobody ran it").toBe(5_000);
    expect(availableMs(take, fail), "the worker reported its end itself").toBe(5_000);
  });

  test("/retry begins a generation: attempts at zero, delivery numbers go on, a new time to live", () => {
    const dead = jobAfter(QUEUED, take, lose, take, lose, take, lose);
    const step = next(dead, retry, T0 + 70_000);
    expect(step.ok && step.job).toEqual({
      ...QUEUED,
      generation: 2,
      deliveries: 3,
      queuedAtMs: T0 + 70_000,
      availableAtMs: T0 + 70_000,
      expiresAtMs: T0 + 70_000 + QUEUED.policy.ttlMs,
    });
    const again = jobAfter(step.ok ? step.job : dead, take, lose, take, lose);
    expect(again).toMatchObject({ state: "IN_QUEUE", attempts: 2, deliveries: 5, generation: 2 });
  });
});

describe("times", () => {
  const step = (job: Job, input: JobInput, atMs: number): Job => {
    const result = next(job, input, atMs);
    if (!result.ok) throw new Error(`${input.kind} was refused`);
    return result.job;
  };

  test("delay is the wait before the pickup, execution is pickup to end", () => {
    const taken = step(QUEUED, INPUTS.take, T0 + 40);
    expect(taken).toMatchObject({ lease: { workerId: WORKER, takenAtMs: T0 + 40, startedAtMs: T0 + 40 } });
    expect(step(taken, INPUTS.complete, T0 + 140)).toMatchObject({
      end: { atMs: T0 + 140, workerId: WORKER, delayMs: 40, executionMs: 100, failure: null },
    });
  });

  test("the delay counts from the last time that the job was queued", () => {
    const lost = step(step(QUEUED, INPUTS.take, T0 + 40), INPUTS.lose, T0 + 1_000);
    const done = step(step(lost, INPUTS.take, T0 + 1_300), INPUTS.complete, T0 + 1_350);
    expect(done).toMatchObject({ createdAtMs: T0, end: { delayMs: 300, executionMs: 50 } });
  });

  test("a prefetched job waits until its turn", () => {
    const prefetched = step(QUEUED, { kind: "take", workerId: WORKER, started: false }, T0 + 10);
    expect(prefetched).toMatchObject({ attempts: 1, lease: { takenAtMs: T0 + 10, startedAtMs: null } });
    const started = step(prefetched, INPUTS.start, T0 + 500);
    expect(started).toMatchObject({ attempts: 1, lease: { takenAtMs: T0 + 10, startedAtMs: T0 + 500 } });
    expect(step(started, INPUTS.complete, T0 + 600)).toMatchObject({
      end: { delayMs: 500, executionMs: 100 },
    });
  });

  test("a prefetched job that ends before its turn ran since it was taken", () => {
    const prefetched = step(QUEUED, { kind: "take", workerId: WORKER, started: false }, T0 + 10);
    expect(step(prefetched, INPUTS.complete, T0 + 600)).toMatchObject({
      end: { delayMs: 10, executionMs: 590 },
    });
  });

  test("a job that ends in the queue has waited and not run", () => {
    expect(step(QUEUED, INPUTS.cancel, T0 + 70)).toMatchObject({
      state: "CANCELLED",
      end: { workerId: null, delayMs: 70, executionMs: 0, failure: null },
    });
    expect(step(QUEUED, INPUTS.expire, T0 + 80)).toMatchObject({
      state: "TIMED_OUT",
      end: { workerId: null, delayMs: 80, executionMs: 0, failure: "ttl" },
    });
  });

  test("retention goes by how the job ended", () => {
    const { completedMs, failedMs } = QUEUED.policy.retention;
    const kept = (input: JobInput) => {
      const job = step(step(QUEUED, INPUTS.take, T0), input, T0 + 5);
      return "end" in job ? job.end.retainUntilMs - job.end.atMs : null;
    };
    expect(kept(INPUTS.complete)).toBe(completedMs);
    expect(kept(INPUTS.cancel)).toBe(completedMs);
    for (const kind of ["fail", "reject", "overrun", "expire"] as const)
      expect(kept(INPUTS[kind])).toBe(failedMs);
  });

  test("the failure names its cause", () => {
    const failureOf = (input: JobInput) => {
      const job = step(RUNNING, input, T0 + 5_000);
      return "end" in job ? [job.state, job.end.failure] : null;
    };
    expect(failureOf(INPUTS.overrun)).toEqual(["FAILED", "execution_timeout"]);
    expect(failureOf(INPUTS.expire)).toEqual(["TIMED_OUT", "ttl"]);
    for (const failure of ["invalid_result", "result_too_large", "stream_too_large"] as const)
      expect(failureOf({ kind: "reject", failure })).toEqual(["FAILED", failure]);
  });

  test("nothing of a former state leaks into the next", () => {
    const queuedAgain = jobAfter(QUEUED, INPUTS.take, INPUTS.lose);
    expect(queuedAgain).not.toHaveProperty("lease");
    const ended = jobAfter(QUEUED, INPUTS.take, INPUTS.fail);
    expect(ended).not.toHaveProperty("lease");
    expect(ended).not.toHaveProperty("availableAtMs");
    expect(jobAfter(ended, INPUTS.retry)).not.toHaveProperty("end");
    expect(RUNNING).not.toHaveProperty("availableAtMs");
  });
});
