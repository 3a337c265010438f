import type { EndpointConfig } from "../contract/schemas/endpoint.ts";

/** What a new endpoint has where its file says nothing: RunPod's console defaults, as rpx.toml spells them. */
export const DEFAULT_CONFIG = {
  workers: { min: 0, max: 3, idle_timeout: "5s", flashboot: true, prefetch: 1, extra: 0, prewarm: false },
  scale: { by: "queue-delay", threshold: 4, max_queued: 0 },
  limits: { execution_timeout: "10m", ttl: "24h", start_timeout: "7m", retries: 0 },
  retention: { async: "30m", sync: "1m", failed: "30m" },
} as const satisfies EndpointConfig;

/** Settings in full: what a file leaves out is its default, not what the endpoint had before. */
export function completeConfig(config: EndpointConfig): EndpointConfig {
  return {
    ...config,
    workers: { ...DEFAULT_CONFIG.workers, ...config.workers },
    scale: { ...DEFAULT_CONFIG.scale, ...config.scale },
    limits: { ...DEFAULT_CONFIG.limits, ...config.limits },
    retention: { ...DEFAULT_CONFIG.retention, ...config.retention },
    env: config.env ?? {},
  };
}
