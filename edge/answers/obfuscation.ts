/**
 * Stream obfuscation, as OpenAI's API has it: random characters pad the events that carry text, so that their sizes, which an encrypted
 * connection shows, tell less of the text.
 */
import { toBase64Url } from "../../shared/ids.ts";

/** The size of an event as JSON is a multiple of this many bytes: the text of most events is shorter. */
const BLOCK_BYTES = 64;
const EMPTY_BYTES = `,"obfuscation":""`.length;

/** The event with a field `obfuscation` of 1 to 64 characters. */
export function obfuscated<T extends object>(event: T): T & { readonly obfuscation: string } {
  const bytes = new TextEncoder().encode(JSON.stringify(event)).length + EMPTY_BYTES;
  const random = toBase64Url(crypto.getRandomValues(new Uint8Array(BLOCK_BYTES)));
  return { ...event, obfuscation: random.slice(0, BLOCK_BYTES - (bytes % BLOCK_BYTES)) };
}
