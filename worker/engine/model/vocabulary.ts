/**
 * Checks that three tokenizers have the same tokens with the same ids. Logits are added by token id, so a difference would
 * steer towards wrong tokens without any error. Equal sizes are not enough: one special token may have another id.
 */

export interface Vocabulary {
  /** V: one more than the highest token id. */
  readonly size: number;
  /** Ids below V that no token uses; they must not be sampled. */
  readonly unusedIds: readonly number[];
}

/**
 * The common vocabulary of three tokenizers.
 * @param vocabularies token text -> id
 * @throws Error with the first three tokens that differ
 */
export function commonVocabulary(
  vocabularies: Readonly<Record<"base" | "expert" | "antiexpert", ReadonlyMap<string, number>>>,
): Vocabulary {
  const { base } = vocabularies;
  for (const role of ["expert", "antiexpert"] as const) {
    const differing = differingTokens(base, vocabularies[role]);
    if (differing.length > 0) {
      throw new Error(
        `The tokenizers of base and ${role} differ in ${differing.length} tokens, for example ` +
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

function differingTokens(a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): string[] {
  const differing: string[] = [];
  for (const token of new Set([...a.keys(), ...b.keys()])) {
    const [idA, idB] = [a.get(token), b.get(token)];
    if (idA !== idB)
      differing.push(`${JSON.stringify(token)} (${idA ?? "absent"} and ${idB ?? "absent"})`);
  }
  return differing;
}
