/**
 * `npm run listen`: receives webhooks on a machine that the internet cannot reach. It reads the webhook inbox of the
 * edge, prints a line for each message, and forwards messages unchanged, with their signatures.
 */
import { setTimeout as delay } from "node:timers/promises";
import { Command, Option } from "commander";
import type { EventSourceMessage } from "eventsource-parser";
import { EventSourceParserStream } from "eventsource-parser/stream";
import type { ErrorBody } from "../../shared/api/errors.ts";
import { errorText, UserError } from "../stack/user-error.ts";
import { toHttpUrl } from "./terminal.ts";

/** Wait before the first new connection; it doubles with each one that fails. */
const RECONNECT_MS = 1_000;
const RECONNECT_MS_MAX = 30_000;
/** The edge sends at least a comment every 15 s; a connection that is silent for longer than this is dead. */
const SILENCE_MS = 60_000;
const FORWARD_TIMEOUT_MS = 15_000;

interface Options {
  readonly edge: string;
  readonly forward?: string;
  readonly key?: string;
  readonly after?: string;
}

/** Content of an inbox event: the request that a receiver of the webhook would get. */
interface InboxMessage {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

const options = new Command("npm run listen --")
  .description("receive webhooks in this terminal, without a tunnel; prints a line for each")
  .option(
    "--forward <url>",
    "also POST them to this URL, such as http://localhost:3000/hook",
    toHttpUrl,
  )
  .addOption(
    new Option("--edge <url>", "URL of the edge")
      .env("TRIMTAB_URL")
      .default("http://localhost:8787")
      .argParser(toHttpUrl),
  )
  .option("--key <key>", "an API key (default: $TRIMTAB_API_KEY)")
  .option(
    "--after <number>",
    "number of the message to start after; 0 starts with the oldest stored message",
  )
  .parse()
  .opts<Options>();
const key = options.key ?? process.env["TRIMTAB_API_KEY"];
/** Number of the last message that was handled. */
let lastId = options.after;
/** Why there is no connection; null after an event. */
let lostReason: string | null = null;

try {
  if (!key) throw new UserError("Set TRIMTAB_API_KEY or pass --key <key>");
  let waitMs = RECONNECT_MS;
  for (;;) {
    for await (const { id, event = "message", data } of inboxEvents(key)) {
      waitMs = RECONNECT_MS;
      lostReason = null;
      console.log(await handleEvent(event, data));
      if (id !== undefined) lastId = id;
    }
    await delay(waitMs);
    waitMs = Math.min(2 * waitMs, RECONNECT_MS_MAX);
  }
} catch (error) {
  console.error(errorText(error));
  process.exitCode = 1;
}

/**
 * The events of one connection to the inbox; when the connection is lost it prints the reason, if it is a new one, and ends.
 * @throws UserError if the edge refuses the request or fetch refuses its port, so that another try would not help
 */
async function* inboxEvents(key: string): AsyncGenerator<EventSourceMessage> {
  const silent = new AbortController();
  const timer = setTimeout(() => silent.abort(), SILENCE_MS);
  let reason = "the stream ended";
  try {
    const reply = await fetch(new URL("/v1/webhook_inbox", options.edge), {
      headers: {
        authorization: `Bearer ${key}`,
        ...(lastId !== undefined && { "last-event-id": lastId }),
      },
      signal: silent.signal,
    });
    if (reply.status >= 400 && reply.status < 500 && reply.status !== 429) {
      throw new UserError(`The edge answered ${reply.status}${await errorMessage(reply)}`);
    }
    if (!reply.ok || reply.body === null) {
      reason = `the edge answered ${reply.status}`;
    } else {
      const silenceTimer = new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          timer.refresh();
          controller.enqueue(chunk);
        },
      });
      yield* reply.body
        .pipeThrough(silenceTimer)
        .pipeThrough(new TextDecoderStream())
        .pipeThrough(new EventSourceParserStream());
    }
  } catch (error) {
    if (error instanceof UserError) throw error;
    reason = silent.signal.aborted ? `no data for ${SILENCE_MS / 1000} s` : errorReason(error);
    // fetch never connects to some ports, such as 25 (SMTP).
    if (reason === "bad port") throw new UserError(`--edge ${options.edge}: bad port`);
  } finally {
    clearTimeout(timer);
  }
  if (reason !== lostReason)
    console.log(`no connection to ${options.edge} (${reason}); trying again`);
  lostReason = reason;
}

/** The message of an error reply, after a colon; "" if the reply is not from an edge. */
async function errorMessage(reply: Response): Promise<string> {
  try {
    return `: ${((await reply.json()) as ErrorBody).error.message}`;
  } catch {
    return "";
  }
}

/** Forwards a message if --forward is given. @returns the line to print for an event */
async function handleEvent(event: string, data: string): Promise<string> {
  if (event === "ready") {
    const to = options.forward === undefined ? "" : `, forwarding to ${options.forward}`;
    return `listening to ${options.edge}${to}`;
  }
  if (event === "missed") {
    const { count } = JSON.parse(data) as { count: number };
    return `${count} messages were missed: they are no longer stored`;
  }
  if (event === "error") return `the edge reports an error: ${data}`;
  const { headers, body } = JSON.parse(data) as InboxMessage;
  const result = options.forward && (await forward(options.forward, headers, body));
  return `${event}  ${headers["webhook-id"]}${result ?? ""}`;
}

async function forward(
  url: string,
  headers: InboxMessage["headers"],
  body: string,
): Promise<string> {
  const startMs = Date.now();
  try {
    const reply = await fetch(url, {
      method: "POST",
      headers,
      body,
      redirect: "manual",
      signal: AbortSignal.timeout(FORWARD_TIMEOUT_MS),
    });
    await reply.body?.cancel();
    return `  ->  ${reply.status}  ${Date.now() - startMs} ms`;
  } catch (error) {
    return `  ->  ${errorReason(error)}`;
  }
}

function errorReason(error: unknown): string {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  if (!(cause instanceof Error)) return String(cause);
  return "code" in cause ? String(cause.code) : cause.message;
}
