/**
 * The edge under workerd on this machine: for the demo, the stack tests, and those who host it themselves.
 * As `wrangler dev`, which is for working on the edge, but without watching the files: there, a change cuts streams off.
 * Configured by environment variables: those of edge/env.ts, and HOST and PORT.
 */
import { join } from "node:path";
import { unstable_startWorker } from "wrangler";
import { bucketVariables } from "../shared/bucket.ts";

const { HOST = "127.0.0.1", PORT = "8787" } = process.env;
const names = [
  "REDIS_URL",
  "REDIS_TIMEOUT_MS",
  "RESULT_TTL_SECONDS",
  "JOB_DEADLINE_SECONDS",
  "STREAM_HEARTBEAT_SECONDS",
  "STREAM_CONNECTIONS",
  "WEBHOOK_ALLOW",
  "OTEL_EXPORTER_OTLP_ENDPOINT",
  "OTEL_EXPORTER_OTLP_HEADERS",
  ...Object.keys(bucketVariables),
];
const given = names.flatMap((name) => {
  const value = process.env[name];
  return value === undefined ? [] : [[name, { type: "plain_text", value }] as const];
});

const edge = await unstable_startWorker({
  config: join(import.meta.dirname, "../wrangler.toml"),
  bindings: Object.fromEntries(given),
  dev: {
    server: { hostname: HOST, port: Number(PORT) },
    inspector: false,
    watch: false,
    persist: false,
    logLevel: "warn",
  },
});
console.log(`edge: ${(await edge.url).href}`);

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => void edge.dispose().finally(() => process.exit(0)));
}
