/** The tests' engine as the daemon's own code has it. */
import pino from "pino";
import { createEngine, type Engine } from "../../../src/runtime/adapters/docker/engine.ts";
import { connectEngine } from "../../../src/runtime/adapters/docker/engine-connection.ts";
import { createSystemClock } from "../../../src/runtime/adapters/system/clock.ts";

export async function openEngine(label: string): Promise<Engine> {
  const engine = createEngine({
    connection: connectEngine(process.env),
    label,
    clock: createSystemClock({ newestStoredMs: 0 }),
    log: pino({ level: "silent" }),
  });
  await engine.open();
  return engine;
}
