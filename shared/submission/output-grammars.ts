/** The grammars of the latest response formats and tools: clients and batches send the same ones again and again. */
import { sourceJson } from "../api/json-source.ts";
import type { Grammar } from "../grammar/rules/grammar.ts";
import { inTurns, type Parts } from "../grammar/rules/parts.ts";
import { outputRulesParts, type OutputRules } from "../tools/grammar.ts";
import { refusalError, refusalOf, type Refusal } from "./refusal.ts";

/** Characters of JSON of all grammars and formats together: about 12 MB of memory. */
const CHARS_MAX = 2_000_000;
/** Added to the JSON of each entry, so that many small ones have a bound too. */
const ENTRY_CHARS = 1_000;

export interface CompiledRules {
  /** Null if any text is allowed. */
  readonly grammar: Grammar | null;
  /** Characters of its JSON. */
  readonly chars: number;
}

/**
 * Compiles a format and tools.
 * @param json the same as text, which another thread can read (api/json-source.ts)
 * @throws AppError as `outputRulesParts`
 */
export type CompileRules = (rules: OutputRules, json: string) => Promise<CompiledRules>;

/** The work itself. */
export function* compileParts(rules: OutputRules): Parts<CompiledRules> {
  const grammar = yield* outputRulesParts(rules);
  yield;
  return { grammar, chars: JSON.stringify(grammar).length };
}

/** On this thread, in turns with its other work. */
export const compileHere: CompileRules = (rules) => inTurns(compileParts(rules));

interface Known {
  readonly result: { readonly grammar: Grammar | null } | { readonly refusal: Refusal };
  readonly chars: number;
}

interface TenantFormats {
  readonly tenant: string;
  /** By content, the one that was used last at the end. */
  readonly known: Map<string, Known>;
  chars: number;
}

export class OutputGrammars {
  /** By tenant, the one that was here last at the end. */
  readonly #tenants = new Map<string, TenantFormats>();
  #chars = 0;

  /** @throws AppError as `outputRulesParts`, and the errors of `compile` */
  async get(
    tenant: string,
    { format, tools }: OutputRules,
    compile: CompileRules,
  ): Promise<Grammar | null> {
    const rules = { format, tools };
    const key = sourceJson(rules);
    const known = this.#find(tenant, key);
    if (known) return resultOf(known);
    try {
      const { grammar, chars } = await compile(rules, key);
      this.#keep(tenant, key, { grammar }, chars);
      return grammar;
    } catch (error) {
      const refusal = refusalOf(error);
      if (refusal) this.#keep(tenant, key, { refusal }, refusal.message.length);
      throw error;
    }
  }

  #find(tenant: string, key: string): Known | undefined {
    const formats = this.#tenants.get(tenant);
    const known = formats?.known.get(key);
    if (formats && known) {
      moveToEnd(formats.known, key, known);
      moveToEnd(this.#tenants, tenant, formats);
    }
    return known;
  }

  #keep(tenant: string, key: string, result: Known["result"], resultChars: number): void {
    const formats = this.#tenants.get(tenant) ?? { tenant, known: new Map(), chars: 0 };
    if (formats.known.has(key)) return;
    const chars = key.length + resultChars + ENTRY_CHARS;
    if (chars > CHARS_MAX / 2) return;
    formats.known.set(key, { result, chars });
    formats.chars += chars;
    this.#chars += chars;
    moveToEnd(this.#tenants, tenant, formats);
    while (this.#chars > CHARS_MAX) this.#dropOne(formats);
  }

  /**
   * Drops the oldest format of the tenant that uses most. The new format stays: if it is more than any other tenant has, the tenant
   * that has been away for longest makes room. So one tenant cannot take more than half from the others.
   */
  #dropOne(newest: TenantFormats): void {
    const tenants = [...this.#tenants.values()];
    const largest = tenants.reduce((most, other) => (other.chars > most.chars ? other : most));
    const formats = largest === newest && newest.known.size === 1 ? tenants[0]! : largest;
    const [key, { chars }] = formats.known.entries().next().value!;
    formats.known.delete(key);
    formats.chars -= chars;
    this.#chars -= chars;
    if (formats.known.size === 0) this.#tenants.delete(formats.tenant);
  }
}

/** @throws AppError of its own for each caller */
function resultOf({ result }: Known): Grammar | null {
  if ("grammar" in result) return result.grammar;
  throw refusalError(result.refusal);
}

function moveToEnd<K, V>(map: Map<K, V>, key: K, value: V): void {
  map.delete(key);
  map.set(key, value);
}
