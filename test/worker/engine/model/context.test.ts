/** How many tokens a model can have, and which exports are refused. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { loadTokenizers } from "../../../../worker/engine/model/ensemble-tokenizers.ts";
import { contextOf, withSwitch } from "../../../../worker/engine/model/context.ts";
import { readConfig } from "../../../../worker/engine/model/model-config.ts";
import { inspectModel } from "../../../../worker/engine/model/model-folder.ts";
import { copyOf, ensembleEntry, modelFolder } from "../../../support/model-folder.ts";
import { folderOf } from "../../../support/tokenizers.ts";

const read = (config: object) => readConfig(folderOf({ "config.json": config }));

test.each([
  [{ max_position_embeddings: 99 }, 99],
  [{ n_positions: 77 }, 77],
  [{ max_seq_len: 2048 }, 2048],
  [{ seq_length: 1024 }, 1024],
  [{ n_ctx: 512 }, 512],
  [{ max_sequence_length: 300 }, 300],
  [{ n_positions: 1024, n_ctx: 512 }, 512],
  [{ text_config: { max_seq_len: 33 } }, 33],
  [{}, null],
])("the context of %o is %s", (config, tokens) => {
  expect(read(config)).toMatchObject({ contextTokens: tokens, contextReason: null });
});

describe("rope scaling", () => {
  const rope = (scaling: object, rest: object = {}) =>
    read({ max_position_embeddings: 131_072, rope_scaling: scaling, ...rest });

  test.each([
    ["longrope", { type: "longrope", short_factor: [1], long_factor: [2] }],
    ["its older name", { type: "su", short_factor: [1], long_factor: [2] }],
    ["dynamic", { rope_type: "dynamic", factor: 4 }],
  ])("ends the context at the original length: %s", (_, scaling) => {
    const config = rope(scaling, { original_max_position_embeddings: 4096 });
    expect(config.contextTokens).toBe(4096);
    expect(config.contextReason).toContain("right for the original 4096 tokens only");
  });

  test("has the original length in itself too", () => {
    const scaling = { rope_type: "longrope", original_max_position_embeddings: 2048 };
    expect(rope(scaling)).toMatchObject({ contextTokens: 2048 });
    const parameters = { full_attention: scaling, sliding_attention: { rope_type: "default" } };
    const config = { max_position_embeddings: 9999, rope_parameters: parameters };
    expect(read(config)).toMatchObject({ contextTokens: 2048 });
  });

  test("of longrope without an original length is refused", () => {
    expect(() => rope({ type: "longrope" })).toThrow(
      /config\.json: rope_scaling: longrope needs original_max_position_embeddings/,
    );
  });

  test("of YaRN multiplies the original length", () => {
    const scaling = { rope_type: "yarn", factor: 4, original_max_position_embeddings: 32_768 };
    const config = { max_position_embeddings: 32_768, rope_scaling: scaling };
    expect(read(config)).toMatchObject({ contextTokens: 131_072, contextReason: null });
  });

  test.each([
    { rope_type: "llama3", factor: 8, original_max_position_embeddings: 8192 },
    { type: "linear", factor: 4 },
    { type: "mrope", mrope_section: [16, 24, 24] },
    { rope_theta: 10_000 },
  ])("of other kinds leaves max_position_embeddings: %o", (scaling) => {
    expect(rope(scaling)).toMatchObject({ contextTokens: 131_072, contextReason: null });
  });
});

test("a graph that computes otherwise from a length on ends the context there", () => {
  const context = { contextTokens: 100, contextReason: null };
  expect(withSwitch(context, null)).toEqual(context);
  expect(withSwitch(context, 100)).toEqual(context);
  expect(withSwitch(context, 64)).toEqual({
    contextTokens: 64,
    contextReason: expect.stringContaining("beyond 64 tokens"),
  });
  expect(withSwitch({ contextTokens: null, contextReason: null }, 64).contextTokens).toBe(64);
});

test("the first chunk is the context of a graph without the chunks of its config", () => {
  const path = copyOf("llama/base", { attention_chunk_size: 40 });
  expect(contextOf({ path, dtype: "fp32" })).toMatchObject({
    contextTokens: 40,
    contextReason: expect.stringContaining("beyond 40 tokens its attention stays within chunks"),
  });
  const longer = copyOf("llama/base", { attention_chunk_size: 40_000 });
  expect(contextOf({ path: longer, dtype: "fp32" }).contextReason).toBeNull();
});

test("the smallest context of the three counts, and the reason is told", () => {
  const plain = modelFolder();
  const expert = modelFolder();
  const scaling = { rope_type: "dynamic", original_max_position_embeddings: 40 };
  writeFileSync(
    join(expert, "config.json"),
    JSON.stringify({ max_seq_len: 90, rope_scaling: scaling }),
  );
  const { contextTokens, warnings } = loadTokenizers(ensembleEntry(plain, { expert }));
  expect(contextTokens).toBe(40);
  expect(warnings).toContainEqual(
    expect.stringMatching(/^the expert's context ends at 40 tokens: its rope scaling \(dynamic\)/),
  );
});

describe("an export that is known to be wrong is refused:", () => {
  test("without the soft caps of its config", async () => {
    const choice = { dtype: "fp32" } as const;
    await expect(inspectModel({ ...choice, path: copyOf("gemma2/base") })).resolves.toBeDefined();
    const path = copyOf("gemma3_text/base", { attn_logit_softcapping: 50 });
    await expect(inspectModel({ ...choice, path })).rejects.toThrow(
      "the graph does not cap attention scores",
    );
  });

  test("Falcon with ALiBi", async () => {
    const path = copyOf("llama/base", { model_type: "falcon", alibi: true });
    await expect(inspectModel({ path, dtype: "fp32" })).rejects.toThrow("Falcon with ALiBi");
  });
});
