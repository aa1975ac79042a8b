/**
 * The text that a base's server sends with an error. It may name the operator's account, so it is only for the worker's log:
 * errors have it as their cause and not in their message, which clients see.
 */

const CHARS_MAX = 200;
/** The server's texts for these often repeat a part of the key. */
const ACCESS_REFUSED: readonly number[] = [401, 403];

/** The cause of an error that a server has answered. */
class ServerText extends Error {}

/** The message for clients, and the server's text as its cause, if there is one. */
export function answerOf(status: number, body: Buffer, key: string | null) {
  if (ACCESS_REFUSED.includes(status)) {
    return { message: `it answered ${status}: it gives the worker no access` };
  }
  const text = textOf(body, key);
  return { message: `it answered ${status}`, ...(text && { cause: new ServerText(text) }) };
}

/** The server's text among the causes of an error; null if there is none. */
export function serverTextOf(error: unknown): string | null {
  for (let cause = error; cause instanceof Error; { cause } = cause) {
    if (cause instanceof ServerText) return cause.message;
  }
  return null;
}

/**
 * The message of an error body, in the forms of OpenAI, vLLM and FastAPI. A server may repeat the key in it, so it is taken out
 * before the text is cut.
 */
function textOf(body: Buffer, key: string | null): string | null {
  try {
    const { error, message, detail } = JSON.parse(body.toString("utf8")) as Record<string, unknown>;
    const text = (error as { message?: unknown } | null)?.message ?? error ?? message ?? detail;
    if (typeof text !== "string") return null;
    return (key ? text.replaceAll(key, "***") : text).slice(0, CHARS_MAX);
  } catch {
    return null;
  }
}
