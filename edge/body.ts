/** Reading a request's JSON body, cut off at the limit while it is read. */
import { AppError } from "../shared/errors.ts";
import { LIMITS } from "../shared/limits.ts";

/**
 * The content type is not looked at: there is one kind of body, and `curl -d` claims another one.
 * @throws AppError payload_too_large, invalid_request
 */
export async function readJson(request: Request): Promise<unknown> {
  const bytes = await readBytes(request);
  try {
    // The parser's own message quotes the body, so it stays in the log.
    return JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: false }).decode(bytes));
  } catch (cause) {
    throw new AppError("invalid_request", "The body is not valid JSON", { cause });
  }
}

async function readBytes(request: Request): Promise<Uint8Array> {
  const { bodyBytesMax } = LIMITS;
  // Believed only where it refuses: a length that lies low is caught below.
  if (Number(request.headers.get("content-length")) > bodyBytesMax) throw tooLarge();
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of request.body ?? []) {
    bytes += chunk.byteLength;
    // Leaving the loop cancels the stream.
    if (bytes > bodyBytesMax) throw tooLarge();
    chunks.push(chunk);
  }
  const body = new Uint8Array(bytes);
  let offset = 0;
  for (const chunk of chunks) {
    body.set(chunk, offset);
    offset += chunk.byteLength;
  }
  return body;
}

function tooLarge(): AppError {
  return new AppError("payload_too_large", `The body must be at most ${LIMITS.bodyBytesMax} bytes`);
}
