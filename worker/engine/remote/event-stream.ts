/** Reads server-sent events whose data is JSON, as servers of language models stream them. */
import { createParser } from "eventsource-parser";
import { InvalidRow } from "./base-row.ts";

/** An event, and the bytes that have come since the one before it. */
export interface JsonEvent {
  readonly value: unknown;
  readonly bytes: number;
}

/**
 * @param bytesMax of the whole stream
 * @throws InvalidRow if it is longer, or if an event is not JSON
 */
export async function* jsonEvents(
  body: AsyncIterable<Uint8Array>,
  bytesMax: number,
): AsyncGenerator<JsonEvent> {
  const texts: string[] = [];
  const parser = createParser({ onEvent: ({ data }) => texts.push(data) });
  const decoder = new TextDecoder();
  let [total, bytes] = [0, 0];
  for await (const chunk of body) {
    bytes += chunk.length;
    total += chunk.length;
    if (total > bytesMax) throw new InvalidRow(`its stream is longer than ${bytesMax} bytes`);
    parser.feed(decoder.decode(chunk, { stream: true }));
    for (const text of texts.splice(0)) {
      if (text === "[DONE]") return;
      const value = parsed(text);
      // llama.cpp begins with null.
      if (value !== null) yield { value, bytes };
      if (value !== null) bytes = 0;
    }
  }
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new InvalidRow("an event of its stream is not JSON");
  }
}
