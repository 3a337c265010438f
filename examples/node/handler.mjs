import { start } from "rpx/worker";

async function handler({ input }, { progress }) {
  progress("thinking");
  return `Hello, ${input.name}!`;
}

await start({ handler });
