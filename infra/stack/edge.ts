/** Starts the self-hosted edge as a separate process. */
import { join } from "node:path";
import { freePort } from "./port.ts";
import { Child } from "./process.ts";

const MAIN = join(import.meta.dirname, "../cli/edge.ts");
/** It starts in about half a second; a busy machine needs more. */
const READY_MS = 60_000;
/** Streams that are open when it stops are cut after a second: their clients resume them. */
const ENV = { DRAIN_SECONDS: "1" };

export interface EdgeOptions {
  readonly redisUrl: string;
  /** Default: a free port. */
  readonly port?: number;
  /** Further environment variables (edge/runtime/env.ts, edge/server/settings.ts). */
  readonly env?: Readonly<Record<string, string>>;
  /** Whether its log goes to the output of this process; no log is then kept in memory. */
  readonly inherit?: boolean;
}

export interface EdgeProcess {
  readonly child: Child;
  readonly url: string;
  stop(): Promise<void>;
}

/** Starts the edge and waits until it reaches Redis. @throws UserError if it ends before that, or needs over a minute */
export async function startEdge(options: EdgeOptions): Promise<EdgeProcess> {
  const { redisUrl, env, inherit = false } = options;
  const port = options.port ?? (await freePort());
  const child = new Child({
    name: "edge",
    command: process.execPath,
    args: [MAIN],
    env: { ...ENV, REDIS_URL: redisUrl, PORT: String(port), ...env },
    inherit,
  });
  const url = `http://127.0.0.1:${port}`;
  await child.waitForUrl(`${url}/readyz`, READY_MS);
  return { child, url, stop: () => child.stop() };
}
