/** Repeats an action that needs Redis, through outages: never twice at the same time, and a failure only delays it. */

export interface Repetition {
  /** Resolves when the action has succeeded for the first time. */
  readonly firstSuccess: Promise<void>;
  readonly stop: () => void;
}

/** Runs the action at once, then at intervals; a run that takes longer than the interval is waited for. */
export function repeat(
  action: () => Promise<void>,
  { everyMs, onError }: { readonly everyMs: number; readonly onError: (error: unknown) => void },
): Repetition {
  const { promise: firstSuccess, resolve } = Promise.withResolvers<void>();
  let isRunning = false;
  const run = () => {
    if (isRunning) return;
    isRunning = true;
    action()
      .then(resolve, onError)
      .finally(() => (isRunning = false));
  };
  run();
  const timer = setInterval(run, everyMs);
  return { firstSuccess, stop: () => clearInterval(timer) };
}
