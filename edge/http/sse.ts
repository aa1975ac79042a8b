/**
 * Server-sent events: their format, and a reply whose body is written only as fast as it is read. It must not know jobs or
 * the content of the events. Hono's helper is not used because it sends an error as plain text, which the `openai` clients
 * cannot parse.
 */
import type { AppContext } from "./context.ts";

export interface SseFrame {
  readonly id?: number;
  readonly event?: string;
  /** One line: JSON, or the `[DONE]` of the OpenAI protocols. */
  readonly data: string;
}

export interface StreamControl {
  /** Aborted when the reader has disconnected. */
  readonly signal: AbortSignal;
  /** Writes a comment, which readers ignore and which keeps proxies from closing the connection. */
  readonly heartbeat: () => void;
}

/**
 * A comment line, without the blank line that ends an event: openai-python, openai-java, openai-go, httpx-sse and
 * fetch-event-source make an event with empty data of a blank line. For a parser the comment is a part of the next event. It is
 * as short as it can be, because some parsers (r3labs/sse) buffer at most 64 KiB for one event.
 */
const HEARTBEAT = ":\n";

const HEADERS = {
  "Content-Type": "text/event-stream; charset=utf-8",
  "Cache-Control": "no-cache, no-transform",
  // By default, nginx buffers a reply.
  "X-Accel-Buffering": "no",
};

/**
 * Replies 200 with the frames. If the reader disconnects, the signal is aborted. An error of the source becomes the last
 * frame, because the status was sent before.
 */
export function streamFrames(
  c: AppContext,
  source: (control: StreamControl) => AsyncIterable<SseFrame>,
  toFrame: (error: unknown) => SseFrame,
): Response {
  // A HEAD request is served by the route for GET, and its body would never be read or cancelled.
  if (c.req.method === "HEAD") return c.body(null, 200, HEADERS);
  const encoder = new TextEncoder();
  const bytesOf = (frame: SseFrame) => encoder.encode(formatFrame(frame));
  const cancelled = new AbortController();
  const signal = AbortSignal.any([cancelled.signal, c.req.raw.signal]);
  const ended = Promise.withResolvers<unknown>();
  let frames: AsyncIterator<SseFrame>;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const heartbeat = () => {
        // No heartbeat is added while the reader has not read the last one.
        if (controller.desiredSize! > 0) controller.enqueue(encoder.encode(HEARTBEAT));
      };
      frames = source({ signal, heartbeat })[Symbol.asyncIterator]();
      // A reader that has disconnected may never pull again, so the source is ended here, not in pull().
      signal.addEventListener("abort", () => {
        void frames.return?.().then(ended.resolve, ended.resolve);
      });
    },
    async pull(controller) {
      try {
        const { done, value } = await frames.next();
        if (!done) return controller.enqueue(bytesOf(value));
      } catch (error) {
        if (!signal.aborted) controller.enqueue(bytesOf(toFrame(error)));
      }
      if (!signal.aborted) controller.close();
      ended.resolve(null);
    },
    cancel() {
      cancelled.abort();
    },
  });
  c.set("streamEnd", ended.promise);
  return c.body(body, 200, HEADERS);
}

function formatFrame({ id, event, data }: SseFrame): string {
  const head = `${id === undefined ? "" : `id: ${id}\n`}${event === undefined ? "" : `event: ${event}\n`}`;
  return `${head}data: ${data.replace(OTHER_LINE_BREAKS, toEscape)}\n\n`;
}

/** Line breaks that JSON allows in a string. Python's `str.splitlines`, and so `iter_lines` of httpx, splits at them. */
const OTHER_LINE_BREAKS = /[\u0085\u2028\u2029]/g;

function toEscape(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
