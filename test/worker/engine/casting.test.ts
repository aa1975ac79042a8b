import { describe, expect, test } from "vitest";
import { cast } from "../../../worker/engine/casting.ts";
import type { Ensemble } from "../../../worker/model/ensemble.ts";
import { fakeModels } from "../../support/fake-decoder.ts";
import { generation } from "../../support/generation.ts";

const VOCAB = 20;

function ensemble(id: string, changes: Partial<Ensemble> = {}, contextTokens = 64): Ensemble {
  const card = { id, contextTokens, vocabSize: VOCAB } as Ensemble["card"];
  return {
    card,
    models: fakeModels(VOCAB),
    eosIds: new Set([0]),
    unusedIds: [],
    warnings: [],
    encode: () => ({ base: [1], expert: [1, 2], antiexpert: [3] }),
    encodeCompletion: () => [],
    decode: () => "",
    tokenText: () => ({ token: "" }),
    constrain: () => {
      throw new Error("no generation here has a grammar");
    },
    ...changes,
  };
}

const own = ensemble("own");
const sister = ensemble(
  "sister",
  {
    models: { ...fakeModels(VOCAB), base: own.models.base },
    eosIds: new Set([5]),
    encode: () => ({ base: [9], expert: [4, 5, 6, 7], antiexpert: [8] }),
  },
  32,
);
const served = new Map([own, sister, ensemble("stranger")].map((one) => [one.card.id, one]));
const castOf = (pairs?: string[], changes = {}) =>
  cast(
    served,
    generation({
      model: "own",
      ...(pairs && { pairs: pairs.map((model) => ({ model, weight: 0.5 })) }),
      ...changes,
    }),
  );

describe("a generation that names pairs", () => {
  test("has its own ensemble's base and prompt, and the others' experts with theirs", () => {
    const { casting, eosIds, promptTokensMax, contextTokens } = castOf(["sister"]);
    expect(casting.models.base).toBe(own.models.base);
    expect(casting.prompts.base).toEqual([1]);
    expect(casting.pairs).toMatchObject([{ weight: 0.5, prompts: { expert: [4, 5, 6, 7] } }]);
    expect(casting.pairs?.[0]?.models.expert).toBe(sister.models.expert);
    expect([...eosIds]).toEqual([0, 5]);
    expect([promptTokensMax, contextTokens]).toEqual([4, 32]);
  });

  test.each([
    ["stranger", "invalid_request", "stranger is not over the base of own"],
    ["nobody", "model_not_found", "this worker does not serve nobody"],
  ])("is refused where it cannot have them: %s", (model, code, message) => {
    expect(() => castOf(["own", model])).toThrow(expect.objectContaining({ code, message }));
  });
});

test("prompts of models that are not run count nothing", () => {
  expect(castOf().promptTokensMax).toBe(2);
  expect(castOf(["sister"], { alpha: 0 }).promptTokensMax).toBe(1);
});
