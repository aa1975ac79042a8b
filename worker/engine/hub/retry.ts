/** Repeats calls that a server puts off (429) or fails to answer, with growing pauses. */
import { setTimeout as sleep } from "node:timers/promises";

const TRIES_MAX = 6;
const PAUSE_MS = 500;
const PAUSE_MS_MAX = 30_000;

/** The pause after the given try, counted from 1. @param retryAfter header of the reply, in seconds */
export function pauseMs(tries: number, retryAfter: string | null = null): number {
  const seconds = Number(retryAfter ?? "");
  if (retryAfter !== null && Number.isFinite(seconds)) {
    return Math.min(PAUSE_MS_MAX, Math.max(0, seconds * 1000));
  }
  return Math.min(PAUSE_MS_MAX, PAUSE_MS * 2 ** (tries - 1));
}

export const isTemporary = (status: number) => status === 429 || status >= 500;

/** `fetch` that repeats such calls. The last reply is returned whatever it is. */
export async function retrying(
  input: Parameters<typeof fetch>[0],
  init?: Parameters<typeof fetch>[1],
): Promise<Response> {
  for (let tries = 1; ; tries++) {
    let retryAfter: string | null = null;
    try {
      const response = await fetch(input, init);
      if (!isTemporary(response.status) || tries === TRIES_MAX) return response;
      retryAfter = response.headers.get("retry-after");
      await response.body?.cancel();
    } catch (error) {
      if (tries === TRIES_MAX) throw error;
    }
    await sleep(pauseMs(tries, retryAfter));
  }
}
