/**
 * Server-sent events: their format, and a reply whose body is written only as fast as it is read. It must not know jobs or
 * the content of the events. Hono's helper is not used because it sends an error as plain text, which the `openai` clients
 * cannot parse.
 */
import { ERRORS } from "../../shared/api/error-codes.ts";
import { AppError } from "../../shared/api/errors.ts";
import type { AppContext } from "./context.ts";

export interface SseFrame {
  readonly id?: number;
  readonly event?: string;
  /** One line: JSON, or the `[DONE]` of the OpenAI protocols. */
  readonly data: string;
  /** Whether the frame only opens the stream: it says nothing of the result, or not enough. */
  readonly isOpening?: boolean;
  /** The reply's error, if it has not begun and waits for its start. */
  readonly refusal?: AppError;
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
  const stream = new FrameStream(c, source);
  return c.body(stream.body(toFrame), 200, HEADERS);
}

/**
 * How long a reply waits for its start. A model that has a place starts within a second, and a client that waits for a place sees that
 * the request was accepted. Tests change it, so that they do not depend on the machine's speed.
 */
export const STREAM_START = { msMax: 1_000 };

/**
 * Like `streamFrames`, but the reply waits up to a second for the first frame that is not an opening one, so that a request
 * whose prompt does not fit gets the status of its error. An error after which clients send the request again stays in the
 * stream: its job may still run.
 * @throws AppError the source's error within this time
 */
export async function streamOnceStarted(
  c: AppContext,
  source: (control: StreamControl) => AsyncIterable<SseFrame>,
  toFrame: (error: unknown) => SseFrame,
): Promise<Response> {
  if (c.req.method === "HEAD") return c.body(null, 200, HEADERS);
  const stream = new FrameStream(c, source);
  await stream.started(STREAM_START.msMax);
  return c.body(stream.body(toFrame), 200, HEADERS);
}

/** The frames of a reply, which may be read before the reply begins. */
class FrameStream {
  readonly #frames: AsyncIterator<SseFrame>;
  readonly #cancelled = new AbortController();
  readonly #signal: AbortSignal;
  readonly #ended = Promise.withResolvers<unknown>();
  /** Frames that were read before the reply. The last one may still be awaited. */
  readonly #read: Promise<IteratorResult<SseFrame>>[] = [];
  #heartbeat = () => {};

  constructor(c: AppContext, source: (control: StreamControl) => AsyncIterable<SseFrame>) {
    const signal = AbortSignal.any([this.#cancelled.signal, c.req.raw.signal]);
    this.#signal = signal;
    const frames = source({ signal, heartbeat: () => this.#heartbeat() })[Symbol.asyncIterator]();
    this.#frames = frames;
    // A reader that has disconnected may never pull again, so the source is ended here, not in pull().
    signal.addEventListener("abort", () => {
      void frames.return?.().then(this.#ended.resolve, this.#ended.resolve);
    });
    c.set("streamEnd", this.#ended.promise);
  }

  /** Resolves when a frame that is not an opening one is there, or after `msMax`. @throws AppError as streamOnceStarted does */
  async started(msMax: number): Promise<void> {
    const late = Promise.withResolvers<null>();
    const timer = setTimeout(late.resolve, msMax, null);
    try {
      for (;;) {
        const next = this.#frames.next();
        this.#read.push(next);
        const result = await Promise.race([next, late.promise]);
        const frame = result?.value as SseFrame | undefined;
        if (frame?.refusal) throw frame.refusal;
        if (!frame?.isOpening) return;
      }
    } catch (error) {
      if (!(error instanceof AppError) || ERRORS[error.code].retry) return;
      void this.#frames.return?.().catch(() => {});
      this.#ended.resolve(null);
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** The reply's body, which is written only as fast as it is read. */
  body(toFrame: (error: unknown) => SseFrame): ReadableStream<Uint8Array> {
    const encoder = new TextEncoder();
    const bytesOf = (frame: SseFrame) => encoder.encode(formatFrame(frame));
    return new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#heartbeat = () => {
          // No heartbeat is added while the reader has not read the last one.
          if (controller.desiredSize! > 0) controller.enqueue(encoder.encode(HEARTBEAT));
        };
      },
      pull: async (controller) => {
        try {
          const { done, value } = await (this.#read.shift() ?? this.#frames.next());
          if (!done) return controller.enqueue(bytesOf(value));
        } catch (error) {
          if (!this.#signal.aborted) controller.enqueue(bytesOf(toFrame(error)));
        }
        if (!this.#signal.aborted) controller.close();
        this.#ended.resolve(null);
      },
      cancel: () => this.#cancelled.abort(),
    });
  }
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
