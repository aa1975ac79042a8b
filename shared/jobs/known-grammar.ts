/** Whether this release knows a stored job's grammar (redis/version.ts). */
import { unknownMember } from "../grammar/rules/grammar.ts";
import { NewerRecord } from "../redis/version.ts";
import type { Generation } from "./record.ts";

/**
 * Checks the members of the grammar's expressions. Only workers need this, as the edge does not read them; a grammar has up to
 * 250,000 expressions.
 * @throws NewerRecord if one is not known
 */
export function requireKnownGrammar({ grammar }: Generation): void {
  const unknown = grammar && unknownMember(grammar);
  if (unknown !== undefined) throw new NewerRecord(`Unknown field ${unknown} of a grammar`);
}
