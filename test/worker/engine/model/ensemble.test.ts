import { join } from "node:path";
import { describe, expect, test } from "vitest";
import type { Input } from "../../../../shared/jobs/record.ts";
import { loadEnsembles } from "../../../../worker/engine/model/load-ensembles.ts";
import type { EnsembleEntry } from "../../../../worker/engine/model/manifest.ts";
import { adapterFolder } from "../../../support/adapters.ts";
import { ensembleEntry, LOGITS_WIDTH, modelFolder, words } from "../../../support/model-folder.ts";

const load = (...ensembles: EnsembleEntry[]) => loadEnsembles({ ensembles }, { intraOpThreads: 1 });
const loadOne = async (entry: EnsembleEntry) => (await load(entry)).get(entry.id)!;

const plain = modelFolder();
const chat: Input = { kind: "chat", messages: [{ role: "user", content: "word7" }] };

describe("an ensemble whose models fit together", () => {
  test("describes itself in its model card", async () => {
    const { card } = await loadOne(ensembleEntry(plain, { id: "x", alpha: 0.5, alphaMax: 1.5 }));
    expect(card).toMatchObject({
      id: "x",
      alphaDefault: 0.5,
      alphaMax: 1.5,
      vocabSize: LOGITS_WIDTH,
    });
  });

  test("has the smallest context length of its models", async () => {
    const expert = modelFolder({ contextTokens: 20 });
    expect((await loadOne(ensembleEntry(plain, { expert }))).card.contextTokens).toBe(20);
  });

  test("ends a generation at an end-of-sequence token of any model", async () => {
    const [expert, antiexpert] = [modelFolder({ eos: 3 }), modelFolder({ eos: [4, 5] })];
    const { eosIds } = await loadOne(ensembleEntry(plain, { expert, antiexpert }));
    expect(eosIds).toEqual(new Set([3, 4, 5]));
  });

  test("lists ids that are no token; logits beyond the vocabulary are padding", async () => {
    // Of two equal words, the second has the id.
    const tokens = Object.assign(words(100), { 50: "word49", 70: "word69" });
    const { unusedIds, models } = await loadOne(ensembleEntry(modelFolder({ tokens })));
    expect(unusedIds).toEqual([49, 69]);
    expect(models.vocabSize).toBe(100);
  });

  test("shares a model with another ensemble, also from another folder: it is loaded once", async () => {
    const expert = modelFolder({ eos: 7 });
    const ensembles = await load(
      ensembleEntry(plain, { id: "one" }),
      ensembleEntry(modelFolder(), { id: "two", expert }),
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

  test("has one graph for an antiexpert and its adapters, each with a fingerprint of its own", async () => {
    const modules = { "model.layers.0.mlp.down_proj": [64, 32] } as const;
    const adapters = [1, 2].map((seed) => adapterFolder({ modules, seed }));
    const withAdapter = (id: string, adapter: string) => {
      const entry = ensembleEntry(plain, { id });
      return { ...entry, expert: { ...entry.expert, adapter } };
    };
    const ensembles = await load(
      ...adapters.map((adapter, i) => withAdapter(`with ${i}`, adapter)),
      withAdapter("again", adapters[0]!),
      ensembleEntry(plain, { id: "without" }),
    );
    const [one, two, again, without] = [...ensembles.values()];
    for (const { models } of [one!, two!, again!]) {
      expect(models.antiexpert).toBe(without!.models.expert);
      expect(models.expert.host).toBe(models.antiexpert);
    }
    expect(again!.models.expert).toBe(one!.models.expert);
    const fingerprints = [one, two, again, without].map((ensemble) => ensemble!.card.fingerprint);
    expect(fingerprints[2]).toBe(fingerprints[0]);
    expect(new Set(fingerprints).size).toBe(3);
  });

  test("is refused with the folder and the ensembles of an adapter that does not fit, though another ensemble loads its graph", async () => {
    const entryOf = (id: string, adapter: string) => {
      const entry = ensembleEntry(plain, { id });
      return { ...entry, expert: { ...entry.expert, adapter } };
    };
    const module = "model.layers.0.mlp.down_proj";
    const [fits, wide] = [64, 65].map((inputs) =>
      adapterFolder({ modules: { [module]: [inputs, 32] } }),
    ) as [string, string];
    const missing = join(plain, "adapter");
    for (const [adapter, reason] of [
      [wide, `${wide}: the adapter's module ${module} has 65 inputs and 32 outputs`],
      [missing, `${missing}: there is no such folder of an adapter`],
    ] as const) {
      const entries = [entryOf("good", fits), entryOf("bad", adapter), entryOf("too", adapter)];
      const loading = load(ensembleEntry(plain, { id: "plain" }), ...entries);
      await expect(loading).rejects.toThrow(/^Ensemble bad, too: /);
      await expect(loading).rejects.toThrow(reason);
    }
  });

  test("has a fingerprint of an adapter that does not depend on the graph's other adapters", async () => {
    const modules = { "model.layers.0.mlp.down_proj": [64, 32] } as const;
    const [a, b] = [1, 2].map((seed) => adapterFolder({ modules, seed }));
    const entry = ensembleEntry(plain);
    const fingerprintOf = async (...adapters: readonly string[]) => {
      const entries = adapters.map((adapter) => {
        return { ...entry, id: adapter, expert: { ...entry.expert, adapter } };
      });
      return (await load(...entries)).get(a!)!.card.fingerprint;
    };
    const together = await fingerprintOf(a!, b!);
    expect(await fingerprintOf(b!, a!)).toBe(together);
    expect(await fingerprintOf(a!)).toBe(together);
  });

  test("renders the prompt for each model with the template of that model", async () => {
    const one = modelFolder({ chatTemplate: "{{ messages[0].content }}" });
    const two = modelFolder({ chatTemplate: "word1 {{ messages[0].content }} word2" });
    const { encodePrompts: encode } = await loadOne(ensembleEntry(one, { expert: two }));
    expect(encode(chat)).toEqual({ base: [7], expert: [1, 7, 2], antiexpert: [7] });
  });
});

describe("an ensemble is refused, with its id and the reason, if", () => {
  const moved = Object.assign(words(LOGITS_WIDTH), { 5: "word6", 6: "word5" });
  test.each<[string, () => EnsembleEntry, string]>([
    [
      "a token has different ids in two models",
      () => ensembleEntry(plain, { antiexpert: modelFolder({ tokens: moved }) }),
      'base and antiexpert differ in 2 tokens, for example "word5" (5 and 6)',
    ],
    [
      "a model has fewer logits than tokens",
      () => ensembleEntry(modelFolder({ tokens: words(LOGITS_WIDTH + 1) })),
      "base returns 128 logits, fewer than the 129 tokens of its tokenizer",
    ],
    [
      "an end-of-sequence token is outside the vocabulary",
      () => ensembleEntry(plain, { expert: modelFolder({ eos: LOGITS_WIDTH }) }),
      "eos_token_id 128 is outside the vocabulary",
    ],
    [
      "the default alpha is above the highest alpha",
      () => ensembleEntry(plain, { alpha: 2, alphaMax: 1 }),
      "alpha 2 is greater than alphaMax 1",
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
    await expect(loadOne(entry())).rejects.toThrow("Ensemble tiny: ");
    await expect(loadOne(entry())).rejects.toThrow(reason);
  });
});

test("models without a chat template get the messages of a chat as a plain prompt, and it is told", async () => {
  const expert = modelFolder({ chatTemplate: "word1 {{ messages[0].content }}" });
  const { encodePrompts: encode, warnings } = await loadOne(ensembleEntry(plain, { expert }));
  const messages = [
    { role: "user", content: "word7" },
    { role: "assistant", content: "word8" },
  ] as const;
  const plainIds = [7, 8];
  expect(encode({ kind: "chat", messages })).toEqual({
    base: plainIds,
    expert: [1, 7],
    antiexpert: plainIds,
  });
  expect(warnings).toContainEqual(
    expect.stringContaining("tiny: base, antiexpert: no chat template, so of a chat it gets"),
  );
});

describe("a prompt is refused with invalid_request", () => {
  test("if it has messages and no model has a chat template", async () => {
    const { encodePrompts: encode } = await loadOne(ensembleEntry(plain));
    expect(() => encode(chat)).toThrow(
      expect.objectContaining({ code: "invalid_request", param: "messages" }),
    );
  });

  test("with the reason of the chat template that refuses the messages", async () => {
    const chatTemplate = "{{ raise_exception('roles must alternate') }}";
    const { encodePrompts: encode } = await loadOne(ensembleEntry(modelFolder({ chatTemplate })));
    expect(() => encode(chat)).toThrow(
      expect.objectContaining({
        code: "invalid_request",
        message: "messages: the chat template refuses them: roles must alternate",
      }),
    );
  });

  test("if it has no token", async () => {
    const { encodePrompts: encode } = await loadOne(ensembleEntry(plain));
    expect(() => encode({ kind: "text", text: "" })).toThrow(
      expect.objectContaining({ code: "invalid_request", param: "prompt" }),
    );
  });
});
