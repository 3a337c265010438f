#!/usr/bin/env node
// rpx from its sources, by Node's own type stripping: no build, no manifest.
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { main } from "../src/cli/main.ts";

await main({ root: dirname(dirname(fileURLToPath(import.meta.url))), isDevelopment: true });
