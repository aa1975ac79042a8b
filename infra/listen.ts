/** `npm run listen`: webhooks on a machine that nothing can reach, forwarded as they are, signatures and all. */
import { setTimeout as delay } from "node:timers/promises";
import { Command } from "commander";
import type { EventSourceMessage } from "eventsource-parser";
import { EventSourceParserStream } from "eventsource-parser/stream";
import { explain, Problem } from "./stack/problem.ts";

const RECONNECT_MS = 1_000;
/** The edge sends something every 15 s, if only a comment; after this long a connection is dead. */
const SILENCE_MS = 60_000;
const FORWARD_TIMEOUT_MS = 15_000;

interface Options {
  readonly edge: string;
  readonly forward?: string;
  readonly key?: string;
  readonly after?: string;
}

/** What an inbox event holds: a delivery as a receiver would get it. */
interface Delivery {
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

const options = new Command("npm run listen --")
  .description("receive your webhooks here, without a tunnel; one line for each")
  .option("--forward <url>", "where to POST them, such as http://localhost:3000/hook")
  .option("--edge <url>", "the edge", process.env["TRIMTAB_URL"] ?? "http://localhost:8787")
  .option("--key <key>", "an API key (default: $TRIMTAB_API_KEY)")
  .option("--after <number>", "begin after this message; 0 begins with the oldest that is kept")
  .parse()
  .opts<Options>();
const key = options.key ?? process.env["TRIMTAB_API_KEY"];
/** Number of the last message that was dealt with. */
let cursor = options.after;

try {
  if (!key) throw new Problem("set TRIMTAB_API_KEY or pass --key");
  for (;;) {
    for await (const { id, event = "message", data } of connection(key)) {
      console.log(await handle(event, data));
      if (id !== undefined) cursor = id;
    }
    await delay(RECONNECT_MS);
  }
} catch (error) {
  console.error(explain(error));
  process.exitCode = 1;
}

/** The events of one connection; when it is lost it says why and ends. @throws Problem what no retry can help */
async function* connection(key: string): AsyncGenerator<EventSourceMessage> {
  const silence = new AbortController();
  const timer = setTimeout(() => silence.abort(), SILENCE_MS);
  let why = "the stream ended";
  try {
    const reply = await fetch(new URL("/v1/webhook_inbox", options.edge), {
      headers: {
        authorization: `Bearer ${key}`,
        ...(cursor !== undefined && { "last-event-id": cursor }),
      },
      signal: silence.signal,
    });
    if (reply.status >= 400 && reply.status < 500 && reply.status !== 429) {
      throw new Problem(`the edge answered ${reply.status}: ${await reply.text()}`);
    }
    if (!reply.ok || reply.body === null) {
      why = `the edge answered ${reply.status}`;
    } else {
      const alive = new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          timer.refresh();
          controller.enqueue(chunk);
        },
      });
      yield* reply.body
        .pipeThrough(alive)
        .pipeThrough(new TextDecoderStream())
        .pipeThrough(new EventSourceParserStream());
    }
  } catch (error) {
    if (error instanceof Problem) throw error;
    why = silence.signal.aborted ? "silent for too long" : reasonOf(error);
  } finally {
    clearTimeout(timer);
  }
  console.log(`connection lost (${why}); trying again`);
}

/** Deals with an event; the line to print for it. */
async function handle(event: string, data: string): Promise<string> {
  if (event === "ready") {
    const to = options.forward === undefined ? "" : `, forwarding to ${options.forward}`;
    return `listening to ${options.edge}${to}`;
  }
  if (event === "missed") {
    const { count } = JSON.parse(data) as { count: number };
    return `${count} messages are no longer kept and were missed`;
  }
  if (event === "error") return `the edge reports an error: ${data}`;
  const { headers, body } = JSON.parse(data) as Delivery;
  const outcome = options.forward && (await forward(options.forward, headers, body));
  return `${event}  ${headers["webhook-id"]}${outcome ?? ""}`;
}

async function forward(url: string, headers: Delivery["headers"], body: string): Promise<string> {
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
    return `  ->  ${reasonOf(error)}`;
  }
}

function reasonOf(error: unknown): string {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  if (!(cause instanceof Error)) return String(cause);
  return "code" in cause ? String(cause.code) : cause.message;
}
