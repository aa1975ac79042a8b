/** The edge under workerd as a process of its own. */
import { join } from "node:path";
import { freePort } from "./port.ts";
import { Child } from "./process.ts";

const MAIN = join(import.meta.dirname, "../edge.ts");
/** Bundling and starting workerd takes two to three seconds; a busy machine gets more. */
const READY_MS = 60_000;

export interface EdgeOptions {
  readonly redisUrl: string;
  /** Default: a free one. */
  readonly port?: number;
  /** Further environment variables (edge/env.ts). */
  readonly env?: Readonly<Record<string, string>>;
}

export interface Edge {
  readonly child: Child;
  readonly url: string;
  stop(): Promise<void>;
}

/** Starts the edge and waits until it reaches Redis. */
export async function startEdge({ redisUrl, port, env }: EdgeOptions): Promise<Edge> {
  const listen = port ?? (await freePort());
  const child = new Child({
    name: "edge",
    command: process.execPath,
    args: [MAIN],
    env: { REDIS_URL: redisUrl, PORT: String(listen), WRANGLER_SEND_METRICS: "false", ...env },
  });
  const url = `http://127.0.0.1:${listen}`;
  await child.waitForUrl(`${url}/readyz`, READY_MS);
  return { child, url, stop: () => child.stop() };
}
