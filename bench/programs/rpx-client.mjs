// Posts to rpx over kept connections with undici, the client beneath fetch.
import { createRequire } from "node:module";

/** `post(path, body)` resolves once the answer is 200; `get(path)` with the answer's JSON. `base`: URL of the endpoint. */
export function connect(modules, base, key, connections) {
  const { Pool } = createRequire(`${modules}/`)("undici");
  const { origin, pathname } = new URL(base);
  const pool = new Pool(origin, { connections });
  const authorization = `Bearer ${key}`;
  const postHeaders = { authorization, "content-type": "application/json" };

  async function call(path, options) {
    const { statusCode, body } = await pool.request({ path: pathname + path, ...options });
    const text = await body.text();
    if (statusCode !== 200) throw new Error(`${path} answered ${statusCode}: ${text}`);
    return text;
  }

  return {
    post: (path, body) => call(path, { method: "POST", headers: postHeaders, body }),
    get: async (path) => JSON.parse(await call(path, { method: "GET", headers: { authorization } })),
    close: () => pool.close(),
  };
}

/** Posts the same body so many times, with so many in flight. */
export async function postAll(client, path, body, times, inFlight) {
  let left = times;
  async function lane() {
    while (left > 0) {
      left -= 1;
      await client.post(path, body);
    }
  }
  await Promise.all(Array.from({ length: inFlight }, lane));
}
