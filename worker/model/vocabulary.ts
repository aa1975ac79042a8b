/**
 * Whether three tokenizers speak of the same tokens. Adding logits by index is only meaningful if they do, and equal
 * sizes prove nothing: one moved special token steers towards garbage without any error.
 */

export interface Vocabulary {
  /** V: one more than the highest token id. */
  readonly size: number;
  /** Ids below V that no token has; never drawn. */
  readonly unusedIds: readonly number[];
}

/** Compares token -> id maps; throws with the first tokens that differ. */
export function commonVocabulary(
  vocabularies: Readonly<Record<"base" | "expert" | "antiexpert", ReadonlyMap<string, number>>>,
): Vocabulary {
  const { base } = vocabularies;
  for (const role of ["expert", "antiexpert"] as const) {
    const differing = difference(base, vocabularies[role]);
    if (differing.length > 0) {
      throw new Error(
        `the tokenizers of base and ${role} differ in ${differing.length} tokens, such as ` +
          differing.slice(0, 3).join(", "),
      );
    }
  }
  const ids = new Set(base.values());
  let size = 0;
  for (const id of ids) size = Math.max(size, id + 1);
  const unusedIds: number[] = [];
  for (let id = 0; id < size; id++) if (!ids.has(id)) unusedIds.push(id);
  return { size, unusedIds };
}

function difference(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): string[] {
  const differing: string[] = [];
  for (const token of new Set([...a.keys(), ...b.keys()])) {
    const [idA, idB] = [a.get(token), b.get(token)];
    if (idA !== idB)
      differing.push(`${JSON.stringify(token)} (${idA ?? "absent"} and ${idB ?? "absent"})`);
  }
  return differing;
}
