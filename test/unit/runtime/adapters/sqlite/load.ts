import { writeSync } from "node:fs";
import { openDatabase } from "../../../../../src/runtime/adapters/sqlite/database.ts";
import { createSqliteStore } from "../../../../../src/runtime/adapters/sqlite/store.ts";
import { createSystemClock } from "../../../../../src/runtime/adapters/system/clock.ts";
import { addReady, leaseOf, submission, T0, take, W } from "../../../../conformance/store-records.ts";

/** A process that loads a database until it is killed. Each id is printed once its job is acknowledged, with how it stands. */
const store = createSqliteStore({
  db: openDatabase(process.argv[2] ?? "", { busyMs: 200 }),
  clock: createSystemClock({ newestStoredMs: 0 }),
  fatal: () => process.exit(70),
  makeRoom: () => false,
});
await addReady(store, W);
const say = (state: string, id: string) => writeSync(1, `${state} ${id}\n`);

for (let round = 0; ; round += 1) {
  const names = Array.from({ length: 1 + (round % 20) }, (_, index) => `job-${round}-${index}`);
  await Promise.all(
    names.map(async (name) => {
      await store.jobs.enqueue(submission(name, { webhookUrl: "https://hook.test/" }), T0);
      say("accepted", name);
    }),
  );
  const taken = await take(store, { max: 1 + (round % 7) });
  for (const { job } of taken) say("taken", job.id);
  await Promise.all(
    taken.slice(1).map(async (delivery) => {
      await store.jobs.finish(leaseOf(delivery), { kind: "output", outputJson: `"${delivery.job.id}"` }, T0);
      say("done", delivery.job.id);
    }),
  );
}
