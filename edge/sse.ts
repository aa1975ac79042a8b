/**
 * Server-sent events: framing, and a reply whose body is written only as fast as it is read.
 * It knows neither jobs nor what the frames say. (Hono's helper writes a plain-text error frame, which the `openai`
 * clients cannot parse, and does not wait for the reader.)
 */
import type { AppContext } from "./context.ts";

export interface Frame {
  readonly id?: number;
  readonly event?: string;
  /** One line: JSON, or the `[DONE]` of the OpenAI protocols. */
  readonly data: string;
}

export interface StreamControl {
  /** Aborted when the reader has gone. */
  readonly signal: AbortSignal;
  /** Writes a comment, which readers ignore and proxies take for life. */
  readonly heartbeat: () => void;
}

const HEADERS = {
  "Content-Type": "text/event-stream; charset=utf-8",
  "Cache-Control": "no-cache, no-transform",
  // nginx holds a reply back by default.
  "X-Accel-Buffering": "no",
};

/**
 * Replies 200 with the frames. The reader's going aborts the signal; an error of the source becomes the last frame,
 * because the status was sent long ago.
 */
export function streamFrames(
  c: AppContext,
  source: (control: StreamControl) => AsyncIterable<Frame>,
  toFrame: (error: unknown) => Frame,
): Response {
  // A HEAD request is served by the route for GET, and nobody would ever read or cancel its body.
  if (c.req.method === "HEAD") return c.body(null, 200, HEADERS);
  const encoder = new TextEncoder();
  const bytesOf = (frame: Frame) => encoder.encode(format(frame));
  const cancelled = new AbortController();
  const signal = AbortSignal.any([cancelled.signal, c.req.raw.signal]);
  const ended = Promise.withResolvers<unknown>();
  let frames: AsyncIterator<Frame>;
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      const heartbeat = () => {
        // Who does not read gets no more of them.
        if (controller.desiredSize! > 0) controller.enqueue(encoder.encode(": heartbeat\n\n"));
      };
      frames = source({ signal, heartbeat })[Symbol.asyncIterator]();
      // A reader that has gone may never pull again, so the source is ended here, not there.
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

function format({ id, event, data }: Frame): string {
  const head = `${id === undefined ? "" : `id: ${id}\n`}${event === undefined ? "" : `event: ${event}\n`}`;
  return `${head}data: ${data}\n\n`;
}
