/**
 * Arguments of calls as objects, for templates that take no text. JavaScript would write some numbers otherwise than their text (1.0
 * as 1, 9007199254740993 as …992), and keys such as "10" and "2" in another order. These are replaced by names for the template, and in
 * the rendered text the names by what they stand for.
 */
const STRING_OR_NUMBER = /("(?:[^"\\]|\\.)*")(\s*:)?|-?\d[\d.eE+-]*/g;
/** JavaScript orders such keys by number. */
const NUMBER_KEY = /^"\d+"$/;

export class ExactArguments {
  /** No text of a conversation contains it. */
  readonly #prefix = `exact-${crypto.randomUUID()}-`;
  readonly #texts: string[] = [];

  /** Parses arguments for a template; their text if it is not JSON. */
  parse(text: string): unknown {
    try {
      const named = text.replaceAll(STRING_OR_NUMBER, (part, string?: string, colon = "") => {
        if (string === undefined) {
          return String(Number(part)) === part ? part : `"${this.#name(part)}"`;
        }
        const isChanged = colon !== "" && NUMBER_KEY.test(string);
        return isChanged ? `"${this.#name(string.slice(1, -1), "k")}"${colon}` : part;
      });
      return JSON.parse(named === "" ? "{}" : named);
    } catch {
      return text;
    }
  }

  /** The rendered text with what the names stand for. A number loses its quotes, which the template may have escaped. */
  restore(rendered: string): string {
    if (this.#texts.length === 0) return rendered;
    const textOf = (name: string, index: string) => this.#texts[Number(index)] ?? name;
    const numbers = new RegExp(`\\\\*"${this.#prefix}n(\\d+);\\\\*"`, "g");
    const names = new RegExp(`${this.#prefix}[kn](\\d+);`, "g");
    return rendered.replaceAll(numbers, textOf).replaceAll(names, textOf);
  }

  #name(text: string, kind: "k" | "n" = "n"): string {
    return `${this.#prefix}${kind}${this.#texts.push(text) - 1};`;
  }
}
