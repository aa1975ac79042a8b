/** A rule of a grammar of the request, as messages name it. */
import type { Expression } from "../rules/grammar.ts";
import type { Path } from "../rules/grammar-error.ts";

export interface NamedRule {
  /** Empty for a part of a rule. */
  readonly name: string;
  /** Keys from the top of the format to the rule, which end with its name. */
  readonly path: Path;
  /** An expression that stands for the rule. */
  readonly reference: Expression;
  /** Its definition; absent if the grammar has none. */
  expression?: Expression;
  /** The first rule that uses it. */
  readonly user: string;
}

/** Characters of a rule's name that a message repeats. */
const NAME_CHARS_MAX = 64;

/** A name as messages repeat it. */
export const shortName = (name: string) =>
  name.length <= NAME_CHARS_MAX ? name : `${name.slice(0, NAME_CHARS_MAX)}…`;
