// Echoes its input. BENCH_LANES: how many jobs at once in this process.
import { start } from "rpx/worker";

const lanes = Number(process.env.BENCH_LANES ?? 1);
start({ handler: async (job) => job.input, concurrencyModifier: () => lanes });
