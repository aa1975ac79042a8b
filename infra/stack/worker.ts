/** Starts a worker as a separate process, as it runs in production. */
import { join } from "node:path";
import { freePort } from "./port.ts";
import { Child } from "./process.ts";

const MAIN = join(import.meta.dirname, "../../worker/main.ts");
/** Loading three small models takes about a second; a busy machine needs more. */
const READY_MS = 60_000;

export interface WorkerOptions {
  readonly redisUrl: string;
  /** Further environment variables (worker/env.ts). */
  readonly env?: Readonly<Record<string, string>>;
  /** Whether its log goes to the output of this process; no log is then kept in memory. */
  readonly inherit?: boolean;
  /** Limit of its start, which prepares large models the first time; default a minute. */
  readonly readyMs?: number;
}

export interface WorkerProcess {
  readonly child: Child;
  readonly healthUrl: string;
  stop(): Promise<void>;
}

/** Starts a worker and waits until it accepts jobs. @throws UserError if it ends before that, or needs longer than `readyMs` */
export async function startWorker(options: WorkerOptions): Promise<WorkerProcess> {
  const { redisUrl, env, inherit = false, readyMs = READY_MS } = options;
  const port = await freePort();
  const child = new Child({
    name: "worker",
    command: process.execPath,
    args: [MAIN],
    env: { REDIS_URL: redisUrl, HEALTH_PORT: String(port), ...env },
    inherit,
  });
  const healthUrl = `http://127.0.0.1:${port}`;
  await child.waitForUrl(`${healthUrl}/readyz`, readyMs);
  return { child, healthUrl, stop: () => child.stop() };
}
