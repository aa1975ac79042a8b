/**
 * HTTP to a remote base: pooled keep-alive connections, a bound on calls at once, timeouts, retries. It knows JSON, and nothing
 * of tokens. This folder owns everything about a base that is reached over HTTP, up to the rows that the decode loop reads.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Pool } from "undici";
import { AppError } from "../../../shared/api/errors.ts";
import { InvalidRow, RefusedStream } from "./base-row.ts";
import { CallQueue, type CallKind } from "./call-queue.ts";
import { jsonEvents, type JsonEvent } from "./event-stream.ts";
import { answerOf, serverTextOf } from "./server-text.ts";
import { SpareConnection } from "./spare-connection.ts";

export interface ConnectionOptions {
  /** Of the server, without a path below which its API begins; credentials are refused by the manifest. */
  readonly url: string;
  /** Name of the base in errors: the URL is the operator's business, not the client's. */
  readonly name: string;
  /** Read for each call, so that a key can be replaced; null for none. Its value appears in no error. */
  readonly key: () => string | null;
  /** Calls at once; further ones wait (call-queue.ts). */
  readonly concurrency: number;
  /** Longest time of one call, in ms, without its wait for a place. */
  readonly timeoutMs: number;
  /** How long a call is tried again while the base is away, in ms, without its waits for a place. */
  readonly patienceMs: number;
}

export interface Call<T> {
  readonly method?: "GET" | "POST";
  readonly path: string;
  readonly body?: object;
  /** Longest accepted reply. */
  readonly bytesMax: number;
  readonly signal: AbortSignal;
  /** A probe finds out whether the base is still the same, so nothing is compared before it is repeated. */
  readonly kind: CallKind;
  /** Owners of calls take turns. */
  readonly owner: string;
  /** If it is shorter than the connection's. */
  readonly patienceMs?: number;
  /** @throws InvalidRow or TypeError if the reply has another form; the call is then tried again, and fails the third time */
  readonly parse: (reply: unknown) => T;
}

export interface StreamCall extends Omit<Call<unknown>, "parse" | "kind" | "method"> {
  readonly eventsMin: number;
}

/** A reply, and its size on the wire. */
export interface Reply<T> {
  readonly value: T;
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

/** The failed tries of a call. */
interface Tries {
  count: number;
  wrongReplies: number;
  /** With the pauses between them, without waits for a place. */
  ms: number;
}

/** A failure that may pass: the base is busy, restarts, or its reply was cut. */
class Passing extends Error {
  readonly retryAfterMs: number | null;
  /** Whether the connection or the process may be another one afterwards. */
  readonly isAway: boolean;

  constructor(
    message: string,
    isAway: boolean,
    retryAfterMs: number | null = null,
    options: ErrorOptions = {},
  ) {
    super(message, options);
    this.isAway = isAway;
    this.retryAfterMs = retryAfterMs;
  }
}

const BACKOFF_MS = 100;
const BACKOFF_MAX_MS = 5_000;
const RETRY_AFTER_MAX_MS = 60_000;
/** Shorter failures, as of a restarted proxy, only make calls slower. */
const AWAY_AFTER_MS = 2_000;
const WRONG_REPLIES_MAX = 3;

export class Connection {
  readonly #options: ConnectionOptions;
  readonly #pool: Pool;
  readonly #queue: CallQueue;
  /** A stream that is left ends its connection, which says nothing about the base. */
  readonly #streams: Pool;
  readonly #spare = new SpareConnection();
  readonly #prefix: string;
  /** Awaited before each try of a call that is no probe. An AppError ends the call, unless it is base_unavailable. */
  beforeTry: () => Promise<void> = async () => {};
  /** Called when the base did not answer: it may come back as another one. */
  onFailure: () => void = () => {};
  /** Called with the reason when a call that is no probe has failed for a while. */
  onAway: (reason: string) => void = () => {};
  /** Called with the text of an error that the server answers to a call, for the log. */
  onServerText: (text: string) => void = () => {};
  /** Called when a connection ends: behind the next one may be another process. */
  onDisconnect: () => void = () => {};

  constructor(options: ConnectionOptions) {
    const { origin, pathname } = new URL(options.url);
    this.#options = options;
    this.#prefix = pathname.replace(/\/+$/, "");
    this.#queue = new CallQueue(options.concurrency);
    const poolOptions = {
      connections: options.concurrency,
      pipelining: 1,
      headersTimeout: 0,
      bodyTimeout: 0,
    };
    this.#pool = new Pool(origin, poolOptions);
    this.#streams = new Pool(origin, { ...poolOptions, connect: this.#spare.connector });
    this.#pool.on("disconnect", () => this.onDisconnect());
  }

  /**
   * Calls the base until it answers.
   * @throws AppError base_unavailable if it does not within the patience; base_failed if it refuses the call or its replies
   *   cannot be right
   * @throws the signal's reason
   */
  async call<T>(call: Call<T>): Promise<Reply<T>> {
    const tries: Tries = { count: 0, wrongReplies: 0, ms: 0 };
    const { signal } = call;
    for (;;) {
      let startedMs = performance.now();
      try {
        if (call.kind !== "probe") await abortable(this.beforeTry(), signal);
        const queuedMs = performance.now();
        const leave = await this.#queue.enter(call);
        startedMs += performance.now() - queuedMs;
        return await this.#once(call).finally(leave);
      } catch (error) {
        signal.throwIfAborted();
        tries.ms += performance.now() - startedMs;
        const waitMs = this.#pauseAfter(error, call, tries);
        await sleep(waitMs, undefined, { signal }).catch(() => signal.throwIfAborted());
      }
    }
  }

  /**
   * Counts a failed try.
   * @returns milliseconds after which the call is repeated
   * @throws the error of the call if it is not
   */
  #pauseAfter(error: unknown, call: Call<unknown>, tries: Tries): number {
    const text = serverTextOf(error);
    if (text !== null) this.onServerText(text);
    const failure = this.#classify(error);
    if (!(failure instanceof Passing)) throw failure;
    const message = this.#message(failure.message);
    if (error instanceof InvalidRow && ++tries.wrongReplies === WRONG_REPLIES_MAX) {
      throw new AppError("base_failed", message, { cause: error });
    }
    const backoffMs = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** tries.count++);
    // A server that says 0 each time would be called without a pause.
    const waitMs = Math.max(backoffMs, failure.retryAfterMs ?? 0);
    tries.ms += waitMs;
    const patienceMs = Math.min(this.#options.patienceMs, call.patienceMs ?? Infinity);
    if (failure.isAway && call.kind !== "probe") {
      this.onFailure();
      if (tries.ms > Math.min(AWAY_AFTER_MS, patienceMs)) this.onAway(message);
    }
    if (tries.ms <= patienceMs) return waitMs;
    throw new AppError("base_unavailable", message, { cause: error });
  }

  /**
   * The events of a reply that is streamed. Nothing is repeated. It holds its place long, and for rows that may never be used: after
   * `eventsMin` of them it ends if a call waits.
   * @throws any error, and the signal's reason
   */
  async *events({
    path,
    body,
    bytesMax,
    eventsMin,
    signal,
    owner,
  }: StreamCall): AsyncGenerator<JsonEvent> {
    await abortable(this.beforeTry(), signal);
    const leave = await this.#queue.enter({ kind: "drafted", owner, signal });
    const key = this.#options.key();
    try {
      const response = await this.#streams.request({
        method: "POST",
        path: this.#prefix + path,
        headers: {
          accept: "text/event-stream",
          "content-type": "application/json",
          ...(key && { authorization: `Bearer ${key}` }),
        },
        body: JSON.stringify(body),
        signal: AbortSignal.any([signal, AbortSignal.timeout(this.#options.timeoutMs)]),
      });
      if (response.statusCode !== 200) {
        // Without a listener the error of a body that is not read would end the process.
        response.body.on("error", () => {}).destroy();
        throw streamError(response.statusCode);
      }
      let count = 0;
      for await (const event of jsonEvents(response.body, bytesMax)) {
        yield event;
        if (++count >= eventsMin && this.#queue.hasWaiting) return;
      }
    } catch (error) {
      // Its connection broke and was not left: the next one may lead to another process.
      const isAway = error instanceof Passing ? error.isAway : !(error instanceof InvalidRow);
      if (!signal.aborted && isAway) this.onFailure();
      throw error;
    } finally {
      leave();
    }
  }

  async close(): Promise<void> {
    this.#spare.close();
    await Promise.all([this.#pool.destroy(), this.#streams.destroy()]);
  }

  async #once<T>({ method = "POST", path, body, bytesMax, signal, parse }: Call<T>) {
    const key = this.#options.key();
    const text = body && JSON.stringify(body);
    const timeout = AbortSignal.timeout(this.#options.timeoutMs);
    const response = await this.#pool.request({
      method,
      path: this.#prefix + path,
      headers: {
        accept: "application/json",
        ...(text && { "content-type": "application/json" }),
        ...(key && { authorization: `Bearer ${key}` }),
      },
      ...(text && { body: text }),
      signal: AbortSignal.any([signal, timeout]),
    });
    const { statusCode } = response;
    const bytes = await bodyOf(response.body, statusCode === 200 ? bytesMax : 2 ** 16);
    if (statusCode !== 200) {
      throw statusError(statusCode, response.headers, answerOf(statusCode, bytes, key));
    }
    let reply: unknown;
    try {
      reply = JSON.parse(bytes.toString("utf8"));
    } catch {
      throw new InvalidRow("its reply is not JSON");
    }
    try {
      const bytesSent = text ? Buffer.byteLength(text) : 0;
      return { value: parse(reply), bytesSent, bytesReceived: bytes.length };
    } catch (error) {
      if (error instanceof InvalidRow) throw error;
      // A parser reads members that a reply in another form does not have.
      throw new InvalidRow("its reply has not the form of this API", { cause: error });
    }
  }

  #classify(error: unknown): Error {
    if (error instanceof Passing) return error;
    if (error instanceof InvalidRow) return new Passing(error.message, false);
    if (error instanceof Refused) {
      return new AppError("base_failed", this.#message(error.message), { cause: error });
    }
    if (error instanceof AppError) {
      // The base did not answer its check.
      if (error.code === "base_unavailable")
        return new Passing(this.#reasonOf(error), true, null, { cause: error });
      return error;
    }
    const { name, code } = error as { name?: string; code?: string };
    if (name === "TimeoutError") {
      return new Passing(`it did not answer within ${this.#options.timeoutMs} ms`, true);
    }
    return new Passing(`the connection failed${code ? ` (${code})` : ""}`, true);
  }

  /** Of an error that `#message` has made. */
  #reasonOf({ message }: AppError): string {
    const prefix = this.#message("");
    return message.startsWith(prefix) ? message.slice(prefix.length) : message;
  }

  /** In errors the base has its name: its address is the operator's business. */
  #message(reason: string): string {
    return `The base model ${this.#options.name}: ${reason}`;
  }
}

/** The base answered that it will never do this. */
class Refused extends Error {}

const isPassing = (status: number) =>
  status === 408 || status === 425 || status === 429 || status >= 500;

function streamError(status: number): Error {
  const message = `its stream has the status ${status}`;
  return isPassing(status) ? new Passing(message, status >= 500) : new RefusedStream(message);
}

function statusError(
  status: number,
  headers: Readonly<Record<string, string | string[] | undefined>>,
  { message, ...options }: ReturnType<typeof answerOf>,
): Error {
  if (!isPassing(status)) return new Refused(message, options);
  return new Passing(message, status >= 500, retryAfterMs(headers["retry-after"]), options);
}

/** Retry-After is a number of seconds or a date. */
function retryAfterMs(header: string | string[] | undefined): number | null {
  if (typeof header !== "string") return null;
  const seconds = Number(header);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? null : Math.min(RETRY_AFTER_MAX_MS, Math.max(0, ms));
}

/** @throws the signal's reason, if it is aborted before the promise is settled */
async function abortable(promise: Promise<void>, signal: AbortSignal): Promise<void> {
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(signal.reason as Error);
  signal.addEventListener("abort", abort);
  await Promise.race([promise, aborted.promise]).finally(() =>
    signal.removeEventListener("abort", abort),
  );
}

async function bodyOf(body: AsyncIterable<Uint8Array>, bytesMax: number): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > bytesMax) throw new InvalidRow(`its reply is longer than ${bytesMax} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
