/** Runs a stage in a process of its own, whose crash, hang or error becomes part of the result. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import {
  errorLine,
  type Row,
  type StageMessage,
  type StageOptions,
  type StageResult,
} from "./stage.ts";

const PROCESS = join(import.meta.dirname, "stage-process.ts");
/** A stage that is late gets this long to end what it does. */
const GRACE_MS = 10_000;
const OUTPUT_CHARS_MAX = 2_000;

/** @param file the program of the stage */
export async function runStage(options: StageOptions, file = PROCESS): Promise<StageResult> {
  const { stage, provider, seconds } = options;
  const startedMs = performance.now();
  const child = fork(file, [JSON.stringify(options)], {
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    execArgv: ["--disable-warning=ExperimentalWarning"],
  });
  const rows: Row[] = [];
  let reason: string | null = null;
  let output = "";
  child.stderr!.setEncoding("utf8").on("data", (text: string) => {
    output = (output + text).slice(-OUTPUT_CHARS_MAX);
  });
  child.on("message", (message) => {
    const received = message as StageMessage;
    if (received.type === "row") rows.push(received.row);
    else reason = received.reason;
  });
  const timer = setTimeout(
    () => {
      reason = `it did not end within ${Math.round(seconds)} s and was killed`;
      child.kill("SIGKILL");
    },
    seconds * 1000 + GRACE_MS,
  );
  try {
    // All messages have been read when the channel is closed.
    const [[code, signal]] = await Promise.all([once(child, "close"), once(child, "disconnect")]);
    if (code !== 0) {
      const last = output.trim().split("\n").slice(-3).join(" ");
      reason ??= `its process ended with ${signal ?? `exit code ${code}`}: ${last}`;
    }
  } catch (error) {
    reason = errorLine(error);
  }
  clearTimeout(timer);
  const ended = Math.round((performance.now() - startedMs) / 100) / 10;
  return { stage, provider, seconds: ended, error: reason, rows };
}
