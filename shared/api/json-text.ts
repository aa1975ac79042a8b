/** Parses the JSON of a request, whose nesting is bounded first. */
import { AppError } from "./errors.ts";
import { rememberSource, TooManyParts } from "./json-source.ts";
import { LIMITS } from "./limits.ts";

const [QUOTE, BACKSLASH] = [34, 92];
const [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [91, 93, 123, 125];

/**
 * Parses a request. Code that handles the value later is recursive, as JSON.stringify is, and would exhaust the stack.
 * @param subject what is parsed, as it begins a sentence: "The body"
 * @param isSchema whether the text itself is a JSON Schema, and not a request that may have one
 * @throws AppError invalid_request
 */
export function parseJson(text: string, subject: string, { isSchema = false } = {}): unknown {
  if (nestingOf(text) > LIMITS.jsonDepthMax) {
    const message = `${subject} is nested too deep: at most ${LIMITS.jsonDepthMax} arrays and objects within each other`;
    throw new AppError("invalid_request", message);
  }
  try {
    const value: unknown = JSON.parse(text);
    rememberSource(text, value, isSchema);
    return value;
  } catch (cause) {
    if (cause instanceof TooManyParts) {
      const message = `${subject} has too many numbers with an exponent or more than 15 digits, and objects with keys such as "10" before "2", in its schemas: at most ${LIMITS.exactPartsMax} together`;
      throw new AppError("invalid_request", message);
    }
    // The parser's own message quotes the text, so it is only for the log.
    throw new AppError("invalid_request", `${subject} is not valid JSON`, { cause });
  }
}

/** Arrays and objects within each other, at most. The text may be invalid: then this is the depth up to there or more. */
function nestingOf(text: string): number {
  let [depth, deepest] = [0, 0];
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at);
    if (code === QUOTE) at = endOfString(text, at);
    else if (code === OPEN_ARRAY || code === OPEN_OBJECT) deepest = Math.max(deepest, ++depth);
    else if (code === CLOSE_ARRAY || code === CLOSE_OBJECT) depth--;
  }
  return deepest;
}

/** The index of the quote that closes a string, or the text's end. */
function endOfString(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let escapes = 0;
    while (text.charCodeAt(end - 1 - escapes) === BACKSLASH) escapes++;
    if (escapes % 2 === 0) return end;
  }
  return text.length;
}
