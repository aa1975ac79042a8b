/**
 * HTTP to a remote base: pooled keep-alive connections, a bound on calls at once, timeouts, retries. It knows JSON, and nothing
 * of tokens. This folder owns everything about a base that is reached over HTTP, up to the rows that the decode loop reads.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { Pool } from "undici";
import { AppError } from "../../../shared/api/errors.ts";
import { InvalidRow } from "./base-row.ts";

export interface ConnectionOptions {
  /** Of the server, without a path below which its API begins; credentials are refused by the manifest. */
  readonly url: string;
  /** Name of the base in errors: the URL is the operator's business, not the client's. */
  readonly name: string;
  /** Read for each call, so that a key can be replaced; null for none. Its value appears in no error. */
  readonly key: () => string | null;
  /** Calls at once; further ones wait for a connection, in order. */
  readonly concurrency: number;
  /** Longest time of one call, in ms. */
  readonly timeoutMs: number;
  /** How long a call is tried again while the base is away, in ms. */
  readonly patienceMs: number;
}

export interface Call<T> {
  readonly method?: "GET" | "POST";
  readonly path: string;
  readonly body?: object;
  /** Longest accepted reply. */
  readonly bytesMax: number;
  readonly signal: AbortSignal;
  /** A call that finds out whether the base is still the same: nothing is compared before it is repeated. */
  readonly isProbe?: boolean;
  /** @throws InvalidRow or TypeError if the reply has another form; the call is then tried again, and fails the third time */
  readonly parse: (reply: unknown) => T;
}

/** A reply, and its size on the wire. */
export interface Reply<T> {
  readonly value: T;
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

/** A failure that may pass: the base is busy, restarts, or its reply was cut. */
class Passing extends Error {
  readonly retryAfterMs: number | null;
  /** Whether the connection or the process may be another one afterwards. */
  readonly isAway: boolean;

  constructor(message: string, isAway: boolean, retryAfterMs: number | null = null) {
    super(message);
    this.isAway = isAway;
    this.retryAfterMs = retryAfterMs;
  }
}

const BACKOFF_MS = 100;
const BACKOFF_MAX_MS = 5_000;
const RETRY_AFTER_MAX_MS = 60_000;
const WRONG_REPLIES_MAX = 3;
const ERROR_CHARS_MAX = 200;

export class Connection {
  readonly #options: ConnectionOptions;
  readonly #pool: Pool;
  readonly #prefix: string;
  /** Called before a call is repeated after the base was away: it may have come back as another one. */
  onReturn: () => Promise<void> = async () => {};
  /** Called when a connection ends: behind the next one may be another process. */
  onDisconnect: () => void = () => {};

  constructor(options: ConnectionOptions) {
    const { origin, pathname } = new URL(options.url);
    this.#options = options;
    this.#prefix = pathname.replace(/\/+$/, "");
    this.#pool = new Pool(origin, {
      connections: options.concurrency,
      pipelining: 1,
      headersTimeout: 0,
      bodyTimeout: 0,
    });
    this.#pool.on("disconnect", () => this.onDisconnect());
  }

  /**
   * Calls the base until it answers.
   * @throws AppError base_unavailable if it does not within the patience; base_failed if it refuses the call or its replies
   *   cannot be right
   * @throws the signal's reason
   */
  async call<T>(call: Call<T>): Promise<Reply<T>> {
    const startedMs = performance.now();
    let wrongReplies = 0;
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#once(call);
      } catch (error) {
        call.signal.throwIfAborted();
        const failure = this.#classify(error);
        if (!(failure instanceof Passing)) throw failure;
        if (error instanceof InvalidRow && ++wrongReplies === WRONG_REPLIES_MAX) {
          throw new AppError("base_failed", this.#message(failure.message), { cause: error });
        }
        const backoffMs = Math.min(BACKOFF_MAX_MS, BACKOFF_MS * 2 ** attempt);
        // A server that says 0 each time would be called without a pause.
        const waitMs = Math.max(backoffMs, failure.retryAfterMs ?? 0);
        if (performance.now() - startedMs + waitMs > this.#options.patienceMs) {
          throw new AppError("base_unavailable", this.#message(failure.message), { cause: error });
        }
        const { signal } = call;
        await sleep(waitMs, undefined, { signal }).catch(() => signal.throwIfAborted());
        if (failure.isAway && !call.isProbe) await this.onReturn();
      }
    }
  }

  async close(): Promise<void> {
    await this.#pool.destroy();
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
    if (statusCode !== 200) throw statusError(statusCode, response.headers, errorText(bytes, key));
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
    if (error instanceof AppError) return error;
    const { name, code } = error as { name?: string; code?: string };
    if (name === "TimeoutError") {
      return new Passing(`it did not answer within ${this.#options.timeoutMs} ms`, true);
    }
    return new Passing(`the connection failed${code ? ` (${code})` : ""}`, true);
  }

  /** In errors the base has its name: its address is the operator's business. */
  #message(reason: string): string {
    return `The base model ${this.#options.name}: ${reason}`;
  }
}

/** The base answered that it will never do this. */
class Refused extends Error {}

function statusError(
  status: number,
  headers: Readonly<Record<string, string | string[] | undefined>>,
  text: string,
): Error {
  const reason = `it answered ${status}${text}`;
  const passing = status === 408 || status === 425 || status === 429 || status >= 500;
  if (!passing) return new Refused(reason);
  return new Passing(reason, status >= 500, retryAfterMs(headers["retry-after"]));
}

/** Retry-After is a number of seconds or a date. */
function retryAfterMs(header: string | string[] | undefined): number | null {
  if (typeof header !== "string") return null;
  const seconds = Number(header);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - Date.now();
  return Number.isNaN(ms) ? null : Math.min(RETRY_AFTER_MAX_MS, Math.max(0, ms));
}

/**
 * The message of an error body, in the forms of OpenAI, vLLM and FastAPI. A server may repeat the key in it, so it is taken out
 * before the text is cut.
 */
function errorText(body: Buffer, key: string | null): string {
  try {
    const { error, message, detail } = JSON.parse(body.toString("utf8")) as Record<string, unknown>;
    const text = (error as { message?: unknown } | null)?.message ?? error ?? message ?? detail;
    if (typeof text !== "string") return "";
    return `: ${(key ? text.replaceAll(key, "***") : text).slice(0, ERROR_CHARS_MAX)}`;
  } catch {
    return "";
  }
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
