import { describe, expect, test } from "vitest";
import type { Input } from "../../../shared/job.ts";
import { loadEnsembles } from "../../../worker/model/ensemble.ts";
import type { EnsembleEntry } from "../../../worker/model/manifest.ts";
import { ensembleEntry, LOGITS_WIDTH, modelFolder, words } from "../../support/model-folder.ts";

const load = (...ensembles: EnsembleEntry[]) => loadEnsembles({ ensembles }, { intraOpThreads: 1 });
const loadOne = async (entry: EnsembleEntry) => (await load(entry)).get(entry.id)!;

const plain = modelFolder();
const chat: Input = { kind: "chat", messages: [{ role: "user", content: "word7" }] };

describe("an ensemble that fits", () => {
  test("tells what it is in its card", async () => {
    const { card } = await loadOne(ensembleEntry(plain, { id: "x", alpha: 0.5, alphaMax: 1.5 }));
    expect(card).toMatchObject({
      id: "x",
      alphaDefault: 0.5,
      alphaMax: 1.5,
      vocabSize: LOGITS_WIDTH,
    });
  });

  test("has the smallest context of its models", async () => {
    const expert = modelFolder({ contextTokens: 20 });
    expect((await loadOne(ensembleEntry(plain, { expert }))).card.contextTokens).toBe(20);
  });

  test("ends at any model's end token", async () => {
    const [expert, antiexpert] = [modelFolder({ eos: 3 }), modelFolder({ eos: [4, 5] })];
    const { eosIds } = await loadOne(ensembleEntry(plain, { expert, antiexpert }));
    expect(eosIds).toEqual(new Set([3, 4, 5]));
  });

  test("never draws an id that has no token; padding beyond is no part of the vocabulary", async () => {
    // Of two equal words, the later has the token.
    const tokens = Object.assign(words(100), { 50: "word49", 70: "word69" });
    const { unusedIds, models } = await loadOne(ensembleEntry(modelFolder({ tokens })));
    expect(unusedIds).toEqual([49, 69]);
    expect(models.vocabSize).toBe(100);
  });

  test("shares a model with another ensemble instead of loading it again", async () => {
    const expert = modelFolder();
    const ensembles = await load(
      ensembleEntry(plain, { id: "one" }),
      ensembleEntry(plain, { id: "two", expert }),
    );
    const [one, two] = [ensembles.get("one")!.models, ensembles.get("two")!.models];
    expect(two.base).toBe(one.base);
    expect(two.antiexpert).toBe(one.base);
    expect(two.expert).not.toBe(one.base);
    const bases = [...ensembles.values()].map(({ card }) => card.base);
    expect(bases[0]).toBe(bases[1]);
    const { card } = await loadOne(ensembleEntry(expert));
    expect(card.base).not.toBe(bases[0]);
  });

  test("renders a prompt for each model with the model's own template", async () => {
    const one = modelFolder({ chatTemplate: "{{ messages[0].content }}" });
    const two = modelFolder({ chatTemplate: "word1 {{ messages[0].content }} word2" });
    const { encode } = await loadOne(ensembleEntry(one, { expert: two }));
    expect(encode(chat)).toEqual({ base: [7], expert: [1, 7, 2], antiexpert: [7] });
  });
});

describe("an ensemble that does not fit is refused with its name and reason:", () => {
  const moved = Object.assign(words(LOGITS_WIDTH), { 5: "word6", 6: "word5" });
  test.each<[string, () => EnsembleEntry, string]>([
    [
      "a token has another id in one model",
      () => ensembleEntry(plain, { antiexpert: modelFolder({ tokens: moved }) }),
      'base and antiexpert differ in 2 tokens, such as "word5" (5 and 6)',
    ],
    [
      "there are more tokens than logits",
      () => ensembleEntry(modelFolder({ tokens: words(LOGITS_WIDTH + 1) })),
      "base has 128 logits for 129 tokens",
    ],
    [
      "an end token is no token",
      () => ensembleEntry(plain, { expert: modelFolder({ eos: LOGITS_WIDTH }) }),
      "end token 128 is outside the vocabulary",
    ],
    [
      "the default steering is above the highest",
      () => ensembleEntry(plain, { alpha: 2, alphaMax: 1 }),
      "alpha 2 is above alphaMax 1",
    ],
    [
      "a model folder is missing",
      () => ensembleEntry(plain, { expert: "/nowhere" }),
      "/nowhere/tokenizer.json: ENOENT",
    ],
    [
      "a graph cannot be run",
      () => ensembleEntry(plain, { expert: modelFolder({ rename: ["logits", "logitz"] }) }),
      "no output logits",
    ],
  ])("%s", async (_, entry, reason) => {
    await expect(loadOne(entry())).rejects.toThrow("ensemble tiny: ");
    await expect(loadOne(entry())).rejects.toThrow(reason);
  });
});

describe("the caller is told", () => {
  test("that an ensemble without chat template wants a plain prompt", async () => {
    const expert = modelFolder({ chatTemplate: "word1" });
    const { encode } = await loadOne(ensembleEntry(plain, { expert }));
    expect(() => encode(chat)).toThrow(
      expect.objectContaining({ code: "invalid_request", param: "messages" }),
    );
  });

  test("why the chat template refuses the messages", async () => {
    const chatTemplate = "{{ raise_exception('roles must alternate') }}";
    const { encode } = await loadOne(ensembleEntry(modelFolder({ chatTemplate })));
    expect(() => encode(chat)).toThrow(
      expect.objectContaining({
        code: "invalid_request",
        message: "the chat template refuses the messages: roles must alternate",
      }),
    );
  });

  test("that a prompt must have a token", async () => {
    const { encode } = await loadOne(ensembleEntry(plain));
    expect(() => encode({ kind: "text", text: "" })).toThrow(
      expect.objectContaining({ code: "invalid_request", param: "prompt" }),
    );
  });
});
