/** The grammars of the latest response formats and tools: clients and batches send the same ones again and again. */
import { lostNothing } from "../api/json-source.ts";
import { AppError } from "../api/errors.ts";
import type { Grammar } from "../grammar/rules/grammar.ts";
import type { Parts } from "../grammar/rules/parts.ts";
import { outputRulesParts, type OutputRules } from "../tools/grammar.ts";

/** Characters of JSON of all grammars and formats together: about 12 MB of memory. */
const CHARS_MAX = 2_000_000;

interface Known {
  readonly result: Grammar | AppError | null;
  readonly chars: number;
}

export class OutputGrammars {
  /** By tenant and content, the one that was used last at the end. A refused format has its error. */
  readonly #known = new Map<string, Known>();
  #chars = 0;

  /**
   * @param compile does the work
   * @throws AppError as `outputRulesParts`, and the errors of `compile`
   */
  async get(
    tenant: string,
    rules: OutputRules,
    compile: (work: Parts<Grammar | null>) => Promise<Grammar | null>,
  ): Promise<Grammar | null> {
    // The order of keys and exact numbers are not in the content.
    if (!lostNothing(rules)) return compile(outputRulesParts(rules));
    const key = JSON.stringify([tenant, rules.format, rules.tools]);
    const known = this.#known.get(key);
    if (known) {
      this.#known.delete(key);
      this.#known.set(key, known);
      if (known.result instanceof AppError) throw known.result;
      return known.result;
    }
    try {
      const grammar = await compile(outputRulesParts(rules));
      this.#keep(key, grammar, JSON.stringify(grammar).length);
      return grammar;
    } catch (error) {
      if (error instanceof AppError && REFUSALS.has(error.code)) this.#keep(key, error, 0);
      throw error;
    }
  }

  #keep(key: string, result: Known["result"], resultChars: number): void {
    if (this.#known.has(key)) return;
    const chars = key.length + resultChars;
    if (chars > CHARS_MAX / 2) return;
    this.#known.set(key, { result, chars });
    this.#chars += chars;
    for (const [oldest, { chars }] of this.#known) {
      if (this.#chars <= CHARS_MAX) break;
      this.#known.delete(oldest);
      this.#chars -= chars;
    }
  }
}

/** The errors of a format itself: another try gives the same. */
const REFUSALS: ReadonlySet<string> = new Set(["invalid_request", "unsupported_parameter"]);
