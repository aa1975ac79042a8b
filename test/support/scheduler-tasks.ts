/** Tasks of a scheduler for tests, which record what becomes of them. */
import type { Scheduler, Task } from "../../worker/engine/scheduler.ts";
import { generateRequest, NO_EOS, type RequestOptions } from "./decode-loop.ts";

/** Of PROMPTS, the longest. */
export const PROMPT_TOKENS = 3;

export interface Progress {
  readonly tokens: number[];
  readonly ends: (Error | null)[];
}

/** Tasks of a scheduler: the callbacks of each task, and the order of all callbacks. */
export function tasksOver(scheduler: Scheduler) {
  const log: string[] = [];
  let open = 0;
  let wake = () => {};
  return {
    log,
    /** A named task. A token of a fake model takes one byte, so three models need three times `cacheTokensMax`. */
    task: (
      name: string,
      options: RequestOptions,
      { onToken, onEnd }: { onToken?: () => void; onEnd?: () => void } = {},
    ): Task & Progress => {
      const progress: Progress = { tokens: [], ends: [] };
      return {
        ...progress,
        request: generateRequest({
          ...options,
          sampling: { logitBias: [NO_EOS], ...options.sampling },
        }),
        cacheTokensMax: PROMPT_TOKENS + (options.maxTokens ?? 24),
        onStart: () => void log.push(`${name} starts`),
        onToken: ({ token }) => {
          progress.tokens.push(token);
          onToken?.();
        },
        onEnd: (error) => {
          progress.ends.push(error);
          log.push(`${name} ${error ? `fails: ${error.message}` : "ends"}`);
          onEnd?.();
          open--;
          if (open === 0) wake();
        },
      };
    },
    submit: (...tasks: Task[]): void => {
      open += tasks.length;
      for (const task of tasks) scheduler.submit(task);
    },
    /** Waits until all submitted tasks have ended. */
    ended: async (): Promise<void> => {
      if (open > 0) await new Promise<void>((resolve) => (wake = resolve));
    },
  };
}
