/**
 * `npm run dev`: Redis, a worker with the demo models and the edge on this machine, and an API key, until Ctrl-C.
 * A change in worker/ or shared/ restarts the worker; a change in edge/ or shared/ restarts the edge.
 */
import { Command } from "commander";
import { startEdge } from "../stack/edge.ts";
import { stopOnInterrupt } from "../stack/interrupt.ts";
import { ensurePortFree } from "../stack/port.ts";
import { stopAllChildren, type Child } from "../stack/process.ts";
import { errorText, UserError } from "../stack/user-error.ts";
import { startWorker } from "../stack/worker.ts";
import { createTemporaryKeys, redisForCommand } from "./redis-and-key.ts";
import { watchSources } from "./source-watch.ts";
import { portOption, printLabelled } from "./terminal.ts";

/** An editor or git changes several files at once; they cause one restart. */
const SETTLE_MS = 100;

const ENV = { WEBHOOK_ALLOW: "127.0.0.1" };
/** A worker that restarts does not wait long for its running jobs: the next one continues them. */
const WORKER_ENV = { ...ENV, LOG_LEVEL: process.env["LOG_LEVEL"] ?? "warn", DRAIN_SECONDS: "1" };

const { port } = new Command("npm run dev --")
  .description("run all parts on this machine and restart them when their files change")
  .addOption(portOption())
  .parse()
  .opts<{ port: number }>();

let revokeKey = async () => {};
const interrupted = stopOnInterrupt(async () => {
  console.log("\nstopping");
  await revokeKey();
});
try {
  await runDev();
} catch (error) {
  // After an interrupt many calls fail; their errors are not of interest.
  if (!interrupted.aborted) console.error(errorText(error));
  process.exitCode = 1;
}
if (!interrupted.aborted) {
  await revokeKey();
  await stopAllChildren();
  process.exit();
}

async function runDev(): Promise<never> {
  await ensurePortFree(port, "pass --port N");
  const { redisUrl, child: redis } = await redisForCommand();
  const { apiKey, operatorKey, revoke } = await createTemporaryKeys(
    redisUrl,
    "dev",
    redis !== null,
  );
  revokeKey = revoke;
  const worker = keepRunning("worker", ["worker", "shared"], async () => {
    const { child, healthUrl } = await startWorker({ redisUrl, env: WORKER_ENV, inherit: true });
    return { child, url: `${healthUrl}/readyz` };
  });
  const edge = keepRunning("edge", ["edge", "shared"], () =>
    startEdge({ redisUrl, port, env: ENV, inherit: true }),
  );
  printLabelled("API key", `valid until the end: ${apiKey}`);
  if (operatorKey !== null) printLabelled("operator key", `for /admin: ${operatorKey}`);
  return Promise.race([worker, edge, ...(redis === null ? [] : [failOnExit(redis)])]);
}

/** A part of the stack that runs, and the URL to print. */
interface Part {
  readonly child: Child;
  readonly url: string;
}

/** Starts a part and restarts it on each change of its files. Never returns. */
async function keepRunning(
  name: string,
  folders: readonly string[],
  start: () => Promise<Part>,
): Promise<never> {
  for (;;) {
    // Watching begins before the start, so that no change is missed while the part loads its files.
    const change = nextChange(folders);
    const part = await start().catch((error: unknown) => {
      if (!interrupted.aborted) console.error(`${errorText(error)}; waiting for a change`);
      return null;
    });
    if (part !== null) {
      printLabelled(name, `ready, ${part.url}`);
      reportExit(name, part.child, change);
    }
    printLabelled(name, `${await change} has changed; restarting`);
    await part?.child.stop();
  }
}

/** Prints a line if the part ends before a change asks for its restart. */
function reportExit(name: string, child: Child, change: Promise<string>): void {
  void Promise.race([child.exited, change]).then((first) => {
    if (typeof first === "string" || interrupted.aborted) return;
    const exit = first.signal ?? `exit code ${first.code}`;
    printLabelled(name, `ended (${exit}); waiting for a change`);
  });
}

/** Resolves with the path of a TypeScript file that has changed, once no further file changes for 100 ms. */
function nextChange(folders: readonly string[]): Promise<string> {
  return new Promise((resolve) => {
    let timer: NodeJS.Timeout | undefined;
    let firstPath: string | undefined;
    const stopWatching = watchSources(folders, (changedPath) => {
      const path = (firstPath ??= changedPath);
      clearTimeout(timer);
      timer = setTimeout(() => {
        stopWatching();
        resolve(path);
      }, SETTLE_MS);
    });
  });
}

async function failOnExit(child: Child): Promise<never> {
  const { code, signal } = await child.exited;
  throw new UserError(`${child.name} ended (${signal ?? `exit code ${code}`})`);
}
