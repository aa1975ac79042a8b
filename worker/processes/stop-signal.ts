/**
 * The end of a process on request. As process 1 of a container, Node ignores a signal without a listener: the listeners must be
 * there before the models load, or a SIGTERM at that time is lost, and the process takes jobs until it is killed with them.
 */

/** Listens for SIGTERM and SIGINT. @returns aborted by the first of them, with its name as the reason */
export function listenForStop(): AbortSignal {
  const controller = new AbortController();
  for (const name of ["SIGTERM", "SIGINT"] as const) {
    process.on(name, () => controller.abort(name));
  }
  return controller.signal;
}
