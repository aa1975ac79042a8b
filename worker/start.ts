/**
 * Reads the configuration (env.ts) and does what ROLES says (run.ts).
 * With `generate` and another role, it starts a child process that generates, so that a crash of the engine ends nothing else.
 * The child is started before the modules of the other roles are loaded, because loading models takes longest.
 */
import { readEnv, type WorkerEnv } from "./env.ts";
import { GeneratingProcess } from "./processes/generating-process.ts";
import { CANNOT_START } from "./processes/messages.ts";
import { endWithParentProcess, hasParentProcess, keptText } from "./processes/parent-process.ts";
import { createLog } from "./telemetry/log.ts";

/**
 * Starts the worker. It ends the process if it cannot start.
 * @param program path of the program of a child process
 * @param stop aborted by a signal to end
 */
export async function start(program: string, stop: AbortSignal): Promise<void> {
  endWithParentProcess();
  const env = readConfiguration();
  const log = createLog(env.LOG_LEVEL);
  const child =
    env.ROLES.has("generate") && env.ROLES.size > 1
      ? new GeneratingProcess({
          program,
          env: { ROLES: "generate", HEALTH_PORT: "0" },
          log,
          hangSeconds: env.HANG_SECONDS,
          onCannotStart: () => process.exit(1),
        })
      : null;
  try {
    const manifestText = await keptText();
    const { run } = await import("./run.ts");
    await run(env, log, { child, stop, manifestText });
  } catch (error) {
    log.fatal(error instanceof Error ? error.message : String(error));
    process.exit(hasParentProcess() ? CANNOT_START : 1);
  }
}

function readConfiguration(): WorkerEnv {
  try {
    return readEnv(process.env);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    createLog("fatal").fatal(`Configuration: ${reason}`);
    return process.exit(1);
  }
}
