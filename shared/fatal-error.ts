/** The end of a process by an error that nothing has caught: a line in the form of the logs, not the text that Node writes. */
import { loggedError } from "./logged-error.ts";

/** The level of such lines, as pino numbers it. */
export const FATAL = 60;

/** The parts of Node's `process` that are used. */
interface Process {
  on(event: "uncaughtException", listener: (error: unknown) => void): unknown;
  exit(code: number): never;
}

/** From now on, an uncaught error ends the process with a line of its log. @param stream that of the log */
export function logUncaughtErrors(
  process: Process,
  stream: { write(text: string): unknown },
  name: string,
): void {
  process.on("uncaughtException", (error) => {
    const msg = `${name} ends because of an error`;
    const line = { level: FATAL, time: Date.now(), msg, err: loggedError(error) };
    stream.write(`${JSON.stringify(line)}\n`);
    process.exit(1);
  });
}
