import { expect, test } from "vitest";
import { commonVocabulary } from "../../../../worker/engine/model/vocabulary.ts";

const vocabulary = (changes: Record<string, number | undefined> = {}) =>
  new Map(
    Object.entries({ a: 0, b: 1, c: 2, "<eos>": 3, ...changes }).filter(
      (entry): entry is [string, number] => entry[1] !== undefined,
    ),
  );

test("the size is the highest id plus one; ids below it without a token are unused", () => {
  const sparse = vocabulary({ "<eos>": 6 });
  expect(commonVocabulary({ base: sparse, expert: sparse, antiexpert: sparse })).toEqual({
    size: 7,
    unusedIds: [3, 4, 5],
  });
});

test.each<["expert" | "antiexpert", Record<string, number | undefined>, string]>([
  ["expert", { "<eos>": 4 }, 'base and expert differ in 1 tokens, for example "<eos>" (3 and 4)'],
  ["antiexpert", { b: 2, c: 1 }, "base and antiexpert differ in 2 tokens"],
  ["expert", { c: undefined }, '"c" (2 and absent)'],
  ["antiexpert", { d: 4 }, '"d" (absent and 4)'],
])("an %s with other tokens than the base is refused: %j", (role, changes, reason) => {
  const [base, expert, antiexpert] = [vocabulary(), vocabulary(), vocabulary()];
  const vocabularies = { base, expert, antiexpert, [role]: vocabulary(changes) };
  expect(() => commonVocabulary(vocabularies)).toThrow(reason);
});
