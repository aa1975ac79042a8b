/** One worker as a process of its own, as it runs in production. */
import { join } from "node:path";
import { freePort } from "./port.ts";
import { Child } from "./process.ts";

const MAIN = join(import.meta.dirname, "../../worker/main.ts");
/** Loading three small models takes about a second; a busy machine gets more. */
const READY_MS = 60_000;

export interface WorkerOptions {
  readonly redisUrl: string;
  /** Further environment variables (worker/env.ts). */
  readonly env?: Readonly<Record<string, string>>;
}

export interface Worker {
  readonly child: Child;
  readonly healthUrl: string;
  stop(): Promise<void>;
}

/** Starts a worker and waits until it takes jobs. */
export async function startWorker({ redisUrl, env }: WorkerOptions): Promise<Worker> {
  const port = await freePort();
  const child = new Child({
    name: "worker",
    command: process.execPath,
    args: [MAIN],
    env: { REDIS_URL: redisUrl, HEALTH_PORT: String(port), ...env },
  });
  const healthUrl = `http://127.0.0.1:${port}`;
  await child.waitForUrl(`${healthUrl}/readyz`, READY_MS);
  return { child, healthUrl, stop: () => child.stop() };
}
