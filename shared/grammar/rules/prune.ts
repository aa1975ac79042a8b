/** Removes the parts of a grammar that no finite text can pass, so that no output is led into one of them. */
import type { Budget } from "./budget.ts";
import { EMPTY, NEVER, sequence } from "./expressions.ts";
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
  const { users, hasNever } = referencesTo(rules, budget, origins);
  const open = [...rules.keys()];
  for (let rule = open.pop(); rule !== undefined; rule = open.pop()) {
    if (finite[rule]) continue;
    const looked = { parts: 0 };
    const isNowFinite = isFinite(rules[rule]!, finite, looked);
    budget.spend(looked.parts >>> 3, origins[rule]!);
    if (!isNowFinite) continue;
    finite[rule] = true;
    for (const user of users[rule]!) if (!finite[user]) open.push(user);
  }
  if (!finite[0]) return null;
  if (finite.every(Boolean) && !hasNever) return grammar;
  return { rules: rules.map((rule, i) => (finite[i] ? pruned(rule, finite) : EMPTY)) };
}

/** Of each rule: the rules that refer to it. And whether any rule has a part without texts. */
function referencesTo(rules: readonly Expression[], budget: Budget, origins: readonly number[]) {
  const users: number[][] = rules.map(() => []);
  let hasNever = false;
  let [steps, user] = [0, 0];
  const visit = (part: Expression): void => {
    steps++;
    if (typeof part === "string" || "byte" in part) return;
    if ("rule" in part) {
      // The users come one after the other.
      const known = users[part.rule]!;
      if (known.at(-1) !== user) known.push(user);
    } else if ("text" in part) {
      if (part.first !== NEVER) visit(part.first);
      visit(part.others);
    } else if ("of" in part) visit(part.of);
    else {
      const parts = "all" in part ? part.all : part.any;
      hasNever ||= parts.length === 0;
      for (const child of parts) visit(child);
    }
  };
  for (; user < rules.length; user++) {
    steps = 1;
    visit(rules[user]!);
    budget.spend(steps >>> 2, origins[user]!);
  }
  return { users, hasNever };
}

/** @param looked counts the parts that were looked at */
function isFinite(part: Expression, finite: readonly boolean[], looked = { parts: 0 }): boolean {
  looked.parts++;
  if (typeof part === "string") return true;
  if ("byte" in part) return part.byte.length > 0;
  if ("rule" in part) return finite[part.rule]!;
  if ("of" in part) return part.min === 0 || isFinite(part.of, finite, looked);
  if ("text" in part) {
    return isFinite(part.others, finite, looked) || isFinite(part.first, finite, looked);
  }
  const isAny = "any" in part;
  for (const child of isAny ? part.any : part.all) {
    if (isFinite(child, finite, looked) === isAny) return isAny;
  }
  return !isAny;
}

/** The expression, which is finite, without its parts that are not. */
function pruned(part: Expression, finite: readonly boolean[]): Expression {
  if (typeof part === "string" || "byte" in part || "rule" in part) return part;
  if ("all" in part) return { all: part.all.map((child) => pruned(child, finite)) };
  if ("of" in part) {
    if (!isFinite(part.of, finite)) return EMPTY;
    return { ...part, of: pruned(part.of, finite) };
  }
  if ("text" in part) {
    const first = isFinite(part.first, finite) ? pruned(part.first, finite) : NEVER;
    if (!isFinite(part.others, finite)) return sequence(part.text, first);
    return { ...part, first, others: pruned(part.others, finite) };
  }
  const kept = part.any.filter((child) => isFinite(child, finite));
  const parts = kept.map((child) => pruned(child, finite));
  return parts.length === 0 ? NEVER : parts.length === 1 ? parts[0]! : { any: parts };
}
