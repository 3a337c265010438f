/** The job that every figure runs: about 200 bytes of JSON, echoed. */
export const INPUT = {
  prompt: "a figure is only worth the conditions it was measured under, so here they are",
  steps: 30,
  seed: 123_456_789,
  size: [512, 512],
  options: { guidance: 7.5, sampler: "euler", upscale: false },
} as const;

/** The body of /run and /runsync. */
export const RUN_BODY = JSON.stringify({ input: INPUT });
