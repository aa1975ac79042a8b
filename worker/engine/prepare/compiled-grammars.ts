/** Compiles the grammars of response formats, and keeps the latest: all choices of a request have the same one. */
import { createHash } from "node:crypto";
import { AppError } from "../../../shared/api/errors.ts";
import { compileGrammar } from "../../../shared/grammar/automaton/compile.ts";
import type { CompiledGrammar } from "../../../shared/grammar/automaton/compiled.ts";
import { GrammarError } from "../../../shared/grammar/rules/grammar-error.ts";
import type { Grammar } from "../../../shared/grammar/rules/grammar.ts";
import type { PreparedGrammar } from "../../engine-client/messages.ts";

/** A compiled grammar takes at most a few hundred kilobytes. */
const GRAMMARS_MAX = 16;

export class CompiledGrammars {
  readonly #latest = new Map<string, PreparedGrammar>();

  /**
   * @param json of the grammar
   * @throws AppError invalid_request for a grammar that an earlier version has accepted and that costs too much
   */
  get(json: string): PreparedGrammar {
    const hash = createHash("sha256").update(json).digest("hex");
    const compiled = this.#latest.get(hash) ?? {
      hash,
      tables: compile(JSON.parse(json) as Grammar),
    };
    this.#latest.delete(hash);
    this.#latest.set(hash, compiled);
    const [oldest] = this.#latest.keys();
    if (this.#latest.size > GRAMMARS_MAX) this.#latest.delete(oldest!);
    return compiled;
  }
}

function compile(grammar: Grammar): CompiledGrammar {
  try {
    return compileGrammar(grammar);
  } catch (error) {
    if (!(error instanceof GrammarError)) throw error;
    const param = "response_format";
    throw new AppError("invalid_request", `${param} ${error.message}`, { param });
  }
}
