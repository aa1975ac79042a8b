/**
 * The end of a process on request. As process 1 of a container, Node ignores a signal without a listener: the listeners must be
 * there before the models load, or a SIGTERM at that time is lost, and the process takes jobs until it is killed with them.
 */

import { isatty } from "node:tty";

/** Whether a SIGHUP ends this process: it comes from a terminal that closes. Otherwise it asks for the manifest to be read again. */
export const endsOnHangup = () => isatty(0) || isatty(1);

/** Listens for SIGTERM and SIGINT. @returns aborted by the first of them, with its name as the reason */
export function listenForStop(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.on(name, () => controller.abort(name));
  }
  // The manifest is read later.
  if (!endsOnHangup()) process.on("SIGHUP", () => {});
  return controller.signal;
}
