/** Serves bare.ts under workerd, as infra/edge.ts serves the edge. Configured by REDIS_URL and PORT. */
import { join } from "node:path";
import { unstable_startWorker } from "wrangler";

const { REDIS_URL = "", PORT = "0" } = process.env;
const worker = await unstable_startWorker({
  name: "bare",
  entrypoint: join(import.meta.dirname, "bare.ts"),
  // No other part of the edge's configuration: that names classes which are not here.
  config: "",
  compatibilityDate: "2026-11-01",
  compatibilityFlags: ["nodejs_compat"],
  bindings: { REDIS_URL: { type: "plain_text", value: REDIS_URL } },
  dev: {
    server: { hostname: "127.0.0.1", port: Number(PORT) },
    inspector: false,
    watch: false,
    persist: false,
    logLevel: "warn",
  },
});
process.once("SIGTERM", () => void worker.dispose().finally(() => process.exit(0)));
