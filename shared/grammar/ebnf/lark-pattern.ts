/** Patterns of Lark grammars, which are Python's, in the spelling of JavaScript with the flag `u`. */
import { LIMITS } from "../../api/limits.ts";
import { GrammarError, type Path } from "../rules/grammar-error.ts";

/** An escape sequence, a set of characters up to its end, a group's start, a dot, or any other character. */
const TOKENS = /\\[^]|\[\^?\]?(?:\\[^]|[^\]\\])*\]|\(\?P?<(?![=!])|\.|[^]/gu;
/** Punctuation that JavaScript allows to be escaped with the flag `u`. */
const ESCAPED = /^\\[\^$\\.*+?()[\]{}|/]$/u;
const FLAGS = /^[isu]*$/u;

/** @throws GrammarError for a pattern that is too long, and flags that are not supported */
export function larkPattern(
  source: string,
  flags: string,
  path: Path,
): { readonly source: string; readonly flags: string } {
  if (!FLAGS.test(flags)) {
    throw new GrammarError(path, "has a pattern with flags other than i, s and u", {
      unsupported: true,
    });
  }
  // The search for the end of a set takes up to the square of the length.
  if (source.length > LIMITS.regexCharsMax) {
    throw new GrammarError(path, `must be at most ${LIMITS.regexCharsMax} characters`);
  }
  const isDotAll = flags.includes("s");
  const tokens = source.match(TOKENS) ?? [];
  const written = tokens.map((token) => {
    if (token === ".") return isDotAll ? "[^]" : String.raw`[^\n]`;
    if (token.startsWith("(?P<")) return "(?<";
    if (token.startsWith("[") && token.length > 1) return setOf(token);
    return token.startsWith("\\") ? escapeOf(token) : token;
  });
  return { source: written.join(""), flags: flags.includes("i") ? "iu" : "u" };
}

/** Python takes a bracket at the start of a set for a member of it. */
function setOf(token: string): string {
  const [, start, content] = /^(\[\^?)([^]*)\]$/u.exec(token)!;
  const members = content!.match(/\\[^]|[^]/gu) ?? [];
  const written = members.map((member) => {
    if (member === "]" || member === "[") return `\\${member}`;
    return member === String.raw`\-` || !member.startsWith("\\") ? member : escapeOf(member);
  });
  return `${start}${written.join("")}]`;
}

/** Python allows every punctuation to be escaped. */
const escapeOf = (token: string) =>
  /^\\[\p{L}\p{N}]$/u.test(token) || ESCAPED.test(token) ? token : token.slice(1);
