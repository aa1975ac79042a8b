/** Removes the parts of a grammar that no finite text can pass, so that no output is led into one of them. */
import type { Budget } from "./budget.ts";
import { EMPTY, NEVER } from "./expressions.ts";
import type { Expression, Grammar } from "./grammar.ts";

/**
 * @param origins the origin of each rule, as the budget numbers it
 * @returns the same texts without dead ends; null if there is no text
 * @throws GrammarError if the budget is exceeded
 */
export function prune(
  grammar: Grammar,
  budget: Budget,
  origins: readonly number[],
): Grammar | null {
  const { rules } = grammar;
  const finite = rules.map(() => false);
  const references = referencesTo(rules, budget, origins);
  const open = [...rules.keys()];
  for (let rule = open.pop(); rule !== undefined; rule = open.pop()) {
    if (finite[rule]) continue;
    const looked = { parts: 0 };
    const isNowFinite = isFinite(rules[rule]!, finite, looked);
    budget.spend(looked.parts >>> 3, origins[rule]!);
    if (!isNowFinite) continue;
    finite[rule] = true;
    for (const user of references[rule]!) if (!finite[user]) open.push(user);
  }
  if (!finite[0]) return null;
  if (finite.every(Boolean) && !rules.some(hasNever)) return grammar;
  return { rules: rules.map((rule, i) => (finite[i] ? pruned(rule, finite) : EMPTY)) };
}

/** Of each rule: the rules that refer to it. */
function referencesTo(rules: readonly Expression[], budget: Budget, origins: readonly number[]) {
  const users: Set<number>[] = rules.map(() => new Set());
  for (const [user, expression] of rules.entries()) {
    let steps = 1;
    const visit = (part: Expression) => {
      steps++;
      if (typeof part === "object" && "rule" in part) users[part.rule]!.add(user);
      for (const child of childrenOf(part)) visit(child);
    };
    visit(expression);
    budget.spend(steps >>> 2, origins[user]!);
  }
  return users;
}

function childrenOf(part: Expression): readonly Expression[] {
  if (typeof part === "string") return [];
  if ("all" in part) return part.all;
  if ("any" in part) return part.any;
  return "of" in part ? [part.of] : [];
}

/** @param looked counts the parts that were looked at */
function isFinite(part: Expression, finite: readonly boolean[], looked = { parts: 0 }): boolean {
  looked.parts++;
  if (typeof part === "string") return true;
  if ("byte" in part) return part.byte.length > 0;
  if ("rule" in part) return finite[part.rule]!;
  if ("all" in part) return part.all.every((child) => isFinite(child, finite, looked));
  if ("any" in part) return part.any.some((child) => isFinite(child, finite, looked));
  return part.min === 0 || isFinite(part.of, finite, looked);
}

const hasNever = (part: Expression): boolean =>
  (typeof part === "object" && "any" in part && part.any.length === 0) ||
  childrenOf(part).some(hasNever);

/** The expression, which is finite, without its parts that are not. */
function pruned(part: Expression, finite: readonly boolean[]): Expression {
  if (typeof part === "string" || "byte" in part || "rule" in part) return part;
  if ("all" in part) return { all: part.all.map((child) => pruned(child, finite)) };
  if ("of" in part) {
    if (!isFinite(part.of, finite)) return EMPTY;
    return { ...part, of: pruned(part.of, finite) };
  }
  const kept = part.any.filter((child) => isFinite(child, finite));
  const parts = kept.map((child) => pruned(child, finite));
  return parts.length === 0 ? NEVER : parts.length === 1 ? parts[0]! : { any: parts };
}
