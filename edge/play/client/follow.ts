/** A job's events as they come. A connection that is lost is opened again, after the last event that was read. */
import { EventSourceParserStream } from "eventsource-parser/stream";
import type { JobEvent } from "../../../shared/api/job-events.ts";
import { ApiError, type Api } from "./api.ts";

const RETRY_MS_MIN = 250;
const RETRY_MS_MAX = 5000;

/**
 * Yields the events up to the terminal one.
 * @param onLost called when the connection is lost, before it is opened again
 * @throws ApiError if the server refuses the stream
 */
export async function* followJob(
  api: Api,
  jobId: string,
  signal: AbortSignal,
  onLost: () => void,
): AsyncGenerator<JobEvent, void, undefined> {
  let last = 0;
  let waitMs = RETRY_MS_MIN;
  for (;;) {
    try {
      for await (const event of connect(api, jobId, last, signal)) {
        waitMs = RETRY_MS_MIN;
        // After a reconnect an event may come again.
        if (event.seq <= last) continue;
        last = event.seq;
        yield event;
        if ("finish_reason" in event) return;
      }
    } catch (error) {
      if (signal.aborted || (error instanceof ApiError && !error.isTemporary)) throw error;
    }
    onLost();
    await delay(waitMs, signal);
    waitMs = Math.min(2 * waitMs, RETRY_MS_MAX);
  }
}

async function* connect(api: Api, jobId: string, last: number, signal: AbortSignal) {
  const reply = await api.request(`/v1/jobs/${encodeURIComponent(jobId)}/events`, {
    headers: last > 0 ? { "last-event-id": String(last) } : {},
    signal,
  });
  if (reply.body === null) return;
  const messages = reply.body
    .pipeThrough(new TextDecoderStream())
    .pipeThrough(new EventSourceParserStream());
  const reader = messages.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      if (value.event === "error") throw streamError(value.data);
      yield JSON.parse(value.data) as JobEvent;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** An error that the server sends within a stream. */
function streamError(data: string): ApiError {
  const { error, status } = JSON.parse(data) as { error?: { message?: string }; status?: number };
  return new ApiError(status ?? 500, error?.message ?? "The stream ended with an error", 1);
}

function delay(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    });
  });
}
