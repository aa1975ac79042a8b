/**
 * Parsers of server-sent events that clients use: those that npm has, and models of those in Python, Go and Java. A model has
 * the parser's rule for a blank line, which is where they differ.
 */
import { getLines, getMessages } from "@microsoft/fetch-event-source/lib/esm/parse.js";
import { EventSource } from "eventsource";
import { EventSourceParserStream } from "eventsource-parser/stream";

/** The data of each event that a client's code receives. An event without data is an empty string. */
export type ReadEvents = (reply: Response) => Promise<string[]>;

/** The parsers by name. */
export const SSE_PARSERS: Readonly<Record<string, ReadEvents>> = {
  "eventsource-parser": async ({ body }) => {
    const text = body!.pipeThrough(new TextDecoderStream());
    const parser = new EventSourceParserStream() as unknown as ReadableWritablePair<
      { data: string },
      string
    >;
    return (await Array.fromAsync(text.pipeThrough(parser))).map(({ data }) => data);
  },

  eventsource: readWithEventSource,

  "@microsoft/fetch-event-source": async ({ body }) => {
    const events: string[] = [];
    const onLine = getMessages(
      () => {},
      () => {},
      ({ data }) => events.push(data),
    );
    const onChunk = getLines(onLine);
    for await (const chunk of body!) onChunk(chunk);
    return events;
  },

  // SSEDecoder.decode in openai/_streaming.py (1.109.1, 2.37.0, 3.57.0) and in httpx_sse/_decoders.py; SseState.flush in
  // openai-java before 4.0: the last id is kept, so after it every blank line is an event.
  "openai-python, httpx-sse, openai-java": model(
    ({ data, hasType, hasId }) => data.length > 0 || hasType || hasId,
  ),
  // eventStreamDecoder.Next in openai-go/packages/ssestream/ssestream.go of 1.x.
  "openai-go 1": model(() => true),
  // The same in 3.x; completeEvent in okhttp3/internal/sse/ServerSentEventReader.kt; the HTML standard.
  "openai-go 3, okhttp-sse": model(({ data }) => data.length > 0),

  // streamReader.processLines in sashabaranov/go-openai: an event is a line, and 300 lines without data are an error.
  "go-openai": async (reply) => {
    const events: string[] = [];
    let others = 0;
    for (const line of (await linesOf(reply)).map((line) => line.trim())) {
      others = line.startsWith("data: ") ? 0 : others + 1;
      if (others > 300) throw new Error("Too many empty messages");
      if (others === 0) events.push(line.slice(6));
    }
    return events;
  },

  // NewEventStreamReader and processEvent in r3labs/sse: a block up to two line breaks, of at most 64 KiB.
  "r3labs/sse": async (reply) => {
    const blocks = (await reply.text()).split(/\r\n\r\n|\n\n|\r\r/).slice(0, -1);
    if (blocks.some((block) => block.length > 65_536)) throw new Error("bufio: token too long");
    const lines = blocks.map((block) => block.split(/[\r\n]+/));
    return lines
      .filter((block) => block.some((line) => /^(id|event|data):/.test(line)))
      .map((block) => dataOf(block).join("\n"));
  },
};

/** The fields that a parser has read since the last event. */
interface Block {
  readonly data: readonly string[];
  readonly hasType: boolean;
  /** Whether any event so far had an id. */
  readonly hasId: boolean;
}

/** A parser that reads line by line. @param isEvent whether a blank line ends an event */
function model(isEvent: (block: Block) => boolean): ReadEvents {
  return async (reply) => {
    const events: string[] = [];
    let block: string[] = [];
    let hasId = false;
    for (const line of await linesOf(reply)) {
      if (line !== "") {
        block.push(line);
        continue;
      }
      hasId ||= block.some((line) => line.startsWith("id:"));
      const data = dataOf(block);
      const hasType = block.some((line) => line.startsWith("event:"));
      if (isEvent({ data, hasType, hasId })) events.push(data.join("\n"));
      block = [];
    }
    return events;
  };
}

/** The lines that a line break ends. httpx (`iter_lines`) also splits at the last three. */
async function linesOf(reply: Response): Promise<string[]> {
  return (await reply.text()).split(/\r\n|[\n\r\u0085\u2028\u2029]/).slice(0, -1);
}

function dataOf(lines: readonly string[]): string[] {
  return lines
    .filter((line) => line.startsWith("data:"))
    .map((line) => line.replace(/^data: ?/, ""));
}

/** Listeners receive one type of events each; this client receives all types. */
class AnyEventSource extends EventSource {
  readonly #events: string[] = [];
  readonly #ended = Promise.withResolvers<string[]>();

  /** The data of all events, when the stream has ended. */
  readonly ended = this.#ended.promise;

  override dispatchEvent(event: Event): boolean {
    if ("data" in event) this.#events.push(String(event.data));
    // The stream has ended, and the client would reconnect.
    if (event.type === "error") {
      this.close();
      this.#ended.resolve(this.#events);
    }
    return true;
  }
}

function readWithEventSource(reply: Response): Promise<string[]> {
  return new AnyEventSource("http://edge.test/", { fetch: async () => reply }).ended;
}
