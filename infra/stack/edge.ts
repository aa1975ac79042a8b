/** The edge under workerd, Cloudflare's runtime, run locally by `wrangler dev`. */
import { join } from "node:path";
import { freePort } from "./port.ts";
import { Child } from "./process.ts";

const ROOT = join(import.meta.dirname, "../..");
const WRANGLER = join(ROOT, "node_modules/wrangler/bin/wrangler.js");
/** Bundling and starting workerd takes two to three seconds; a busy machine gets more. */
const READY_MS = 60_000;

export interface EdgeOptions {
  readonly redisUrl: string;
  /** Default: a free one. */
  readonly port?: number;
  /** Further variables (edge/env.ts). */
  readonly vars?: Readonly<Record<string, string>>;
}

export interface Edge {
  readonly child: Child;
  readonly url: string;
  stop(): Promise<void>;
}

/** Starts the edge and waits until it reaches Redis. */
export async function startEdge(options: EdgeOptions): Promise<Edge> {
  const port = options.port ?? (await freePort());
  const variables = Object.entries({ REDIS_URL: options.redisUrl, ...options.vars });
  const child = new Child({
    name: "edge",
    command: process.execPath,
    args: [
      WRANGLER,
      "dev",
      `--config=${join(ROOT, "wrangler.toml")}`,
      "--local",
      "--ip=127.0.0.1",
      `--port=${port}`,
      // The default is one fixed port, on which a second edge would meet the first.
      `--inspector-port=${await freePort()}`,
      "--show-interactive-dev-session=false",
      "--log-level=warn",
      ...variables.map(([name, value]) => `--var=${name}:${value}`),
    ],
    env: { WRANGLER_SEND_METRICS: "false", CI: "true" },
  });
  const url = `http://127.0.0.1:${port}`;
  await child.waitForUrl(`${url}/readyz`, READY_MS);
  return { child, url, stop: () => child.stop() };
}
