// For `node --import`: makes `rpx/worker` importable from any folder, installed or not.
import * as module from "node:module";

const WORKER_URL = new URL("./worker.js", import.meta.url).href;

if (typeof module.registerHooks === "function") {
  module.registerHooks({
    resolve(specifier, context, nextResolve) {
      if (specifier !== "rpx/worker") return nextResolve(specifier, context);
      return { url: WORKER_URL, format: "module", shortCircuit: true };
    },
  });
} else {
  // Before Node 22.15 hooks live in a thread of their own, loaded from a URL.
  const source = `export async function resolve(specifier, context, nextResolve) {
    if (specifier !== "rpx/worker") return nextResolve(specifier, context);
    return { url: ${JSON.stringify(WORKER_URL)}, format: "module", shortCircuit: true };
  }`;
  module.register(`data:text/javascript,${encodeURIComponent(source)}`);
}
