import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  createSimulatedClock,
  type SimulatedClock,
} from "../../../../src/runtime/adapters/simulated/clock.ts";
import { createSimulatedSecretBox } from "../../../../src/runtime/adapters/simulated/secret-box.ts";
import { openDatabase } from "../../../../src/runtime/adapters/sqlite/database.ts";
import { createSqliteStore } from "../../../../src/runtime/adapters/sqlite/store.ts";
import type { EndpointId, WorkerId } from "../../../../src/runtime/core/model.ts";
import type { SecretBox } from "../../../../src/runtime/ports/secret-box.ts";
import type { Store } from "../../../../src/runtime/ports/store.ts";
import { createEvents } from "../../../../src/runtime/service/events.ts";
import { createRedaction, type Redact } from "../../../../src/runtime/service/redaction.ts";
import { createSecrets, type Secrets } from "../../../../src/runtime/service/secrets.ts";
import { refusalOf } from "../../../conformance/secret-box.ts";
import { E, endpoint, release, T0, W, worker } from "../../../conformance/store-records.ts";

const ANN = { owner: "ann", scope: "deploy" };

let clock: SimulatedClock;
let store: Store;
let secrets: Secrets;
let redact: Redact;
let warnings: string[];

beforeEach(() => {
  clock = createSimulatedClock(T0);
  store = createSqliteStore({ db: openDatabase(":memory:"), clock, fatal: () => {}, makeRoom: () => false });
  start(createSimulatedSecretBox());
});
afterEach(() => store.close());

/** A daemon's secrets over the store: another one is what a restart makes. */
function start(box: SecretBox): void {
  warnings = [];
  const log = { warn: (_: object, message: string) => void warnings.push(message) };
  secrets = createSecrets({ store, clock, box, log });
  redact = createRedaction({
    fleet: store.fleet,
    events: createEvents({ store, clock }),
    valuesOf: secrets.valuesOf,
  });
}

async function settled<T>(promise: Promise<T>): Promise<T> {
  await clock.settle();
  return promise;
}

const set = (name: string, value: string) => settled(secrets.set(ANN, { name, value }));

async function deploy(id: EndpointId, env: Record<string, string>): Promise<void> {
  const live = release(id);
  await settled(store.fleet.createEndpoint(endpoint(id), { ...live, spec: { ...live.spec, env } }, T0));
}

/** A box of another data directory, or after its key was lost. */
const OTHER_KEY: SecretBox = {
  seal: createSimulatedSecretBox().seal,
  open: () => {
    throw refusalOf(() => createSimulatedSecretBox().open("", ""));
  },
};

describe("a secret whose key was lost", () => {
  test("is told by variable and name, and is set anew", async () => {
    await set("token", "hunter2");
    start(OTHER_KEY);
    expect(refusalOf(() => secrets.fill({ A: "plain", T: "secret:token" }, "ann"))).toMatchObject({
      code: "conflict",
      message: 'variable T asks for secret "token", which cannot be read',
      hint: "rpx secret set token gives it a new value",
    });
    expect(secrets.fill({ A: "plain" }, "ann")).toEqual({ A: "plain" });
    expect((await set("token", "again")).outcome).toBe("changed");
  });

  test("does not keep logs from being read: it is said that they are not redacted by it", async () => {
    await set("token", "hunter2");
    await deploy(E, { T: "secret:token" });
    await settled(store.fleet.addWorker(worker(W), "digest", T0));
    start(OTHER_KEY);
    expect(redact(W, "hunter2")).toBe("hunter2");
    expect(redact(W, "again")).toBe("again");
    expect(warnings).toEqual(["a secret cannot be read: logs are not redacted by it"]);
  });
});

test("a value is bound to its owner and name: moved in the database, it does not open", async () => {
  await set("token", "hunter2");
  const sealed = store.secrets.sealed("ann", "token") ?? "";
  const limits = { maxSecrets: 9, maxReplaced: 9 };
  for (const [owner, name] of [
    ["eve", "token"],
    ["ann", "other"],
  ] as const) {
    await settled(store.secrets.setSecret({ owner, name, sealed }, limits, T0));
    expect(refusalOf(() => secrets.fill({ T: `secret:${name}` }, owner)).code).toBe("conflict");
  }
});

test("an owner has 500 at most", async () => {
  const limits = { maxSecrets: 500, maxReplaced: 1 };
  const filled = Array.from({ length: 500 }, (_, n) =>
    store.secrets.setSecret({ owner: "ann", name: `s${n}`, sealed: "x" }, limits, T0),
  );
  await settled(Promise.all(filled));
  await expect(set("one-more", "x")).rejects.toMatchObject({ code: "conflict" });
  expect((await set("s7", "x")).outcome).toBe("changed");
});

test("webhooks of an endpoint without a secret, or of none, are not signed", async () => {
  const settings = endpoint(E).settings;
  const signedBy = (webhookSecret: string | null) =>
    secrets.signing(endpoint(E, { settings: { ...settings, webhookSecret } }));
  expect([secrets.signing(null), signedBy(null)]).toEqual([[], []]);
  expect(signedBy("whsec_bGl0ZXJhbA==")).toEqual(["whsec_bGl0ZXJhbA=="]);
  expect(refusalOf(() => signedBy("secret:hook")).message).toBe(
    'webhook.secret asks for secret "hook", which is not set',
  );
  await set("hook", "whsec_c2VjcmV0");
  expect(signedBy("secret:hook")).toEqual(["whsec_c2VjcmV0"]);
});

describe("what is redacted", () => {
  test("is what a worker's own release asks for, and nothing of other endpoints or owners", async () => {
    await set("token", "hunter2");
    await set("other", "another");
    await settled(secrets.set({ owner: "bob", scope: "deploy" }, { name: "token", value: "bobs-own" }));
    await deploy(E, { T: "x {{ RUNPOD_SECRET_token }}" });
    await settled(store.fleet.addWorker(worker(W), "digest", T0));
    expect(redact(W, "hunter2 another bobs-own")).toBe("[redacted] another bobs-own");
  });

  test("is every secret where nobody remembers the worker", async () => {
    await set("token", "hunter2");
    await set("gone", "earlier");
    await settled(secrets.unset(ANN, { name: "gone", force: false }));
    expect(redact("forgotten" as WorkerId, "hunter2 earlier")).toBe("[redacted] [redacted]");
  });

  test("changes with the secrets, for workers that were asked about before", async () => {
    await set("token", "hunter2");
    await deploy(E, { T: "secret:token" });
    await settled(store.fleet.addWorker(worker(W), "digest", T0));
    expect(redact(W, "hunter2 hunter3")).toBe("[redacted] hunter3");
    await set("token", "hunter3");
    expect(redact(W, "hunter2 hunter3")).toBe("[redacted] [redacted]");
  });
});
