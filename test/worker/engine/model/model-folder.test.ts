import { expect, test } from "vitest";
import { readConfig } from "../../../../worker/engine/model/model-config.ts";
import { loadDecoder } from "../../../../worker/engine/model/model-folder.ts";
import { folderOf } from "../../../support/tokenizers.ts";

const LLAMA = { max_position_embeddings: 99, num_attention_heads: 8, hidden_size: 64 };
const read = (config: object, generation?: object) =>
  readConfig(
    folderOf({
      "config.json": config,
      ...(generation && { "generation_config.json": generation }),
    }),
  );

test("the KV cache has num_key_value_heads heads, or one for each attention head", () => {
  expect(read(LLAMA)).toMatchObject({ kvHeads: 8, headDim: 8 });
  expect(read({ ...LLAMA, num_key_value_heads: 2 })).toMatchObject({ kvHeads: 2, headDim: 8 });
  expect(read({ ...LLAMA, head_dim: 16 })).toMatchObject({ kvHeads: 8, headDim: 16 });
});

test("the names in the config of GPT-2 are read", () => {
  const config = read({ n_positions: 77, n_head: 4, n_embd: 32 });
  expect(config).toMatchObject({ contextTokens: 77, kvHeads: 4, headDim: 8 });
});

test("values in text_config are read, and override those beside it", () => {
  const config = read({ eos_token_id: 5, text_config: LLAMA });
  expect(config).toMatchObject({ contextTokens: 99, kvHeads: 8, headDim: 8, eosIds: [5] });
});

test("chunks of attention are recognised, and windows are none", () => {
  expect(read({ ...LLAMA, sliding_window: 8 })).toMatchObject({
    hasAttentionWindow: true,
    hasAttentionChunks: false,
  });
  expect(read({ ...LLAMA, attention_chunk_size: 8 }).hasAttentionChunks).toBe(true);
});

test("eos_token_id of generation_config.json has priority", () => {
  expect(read({ eos_token_id: 5 }).eosIds).toEqual([5]);
  expect(read({ eos_token_id: 5 }, { eos_token_id: [6, 7] }).eosIds).toEqual([6, 7]);
  expect(read({ eos_token_id: 5 }, {}).eosIds).toEqual([5]);
  expect(read({}).eosIds).toEqual([]);
});

test("a context length that is not in config.json is null, not 0", () => {
  expect(read({}).contextTokens).toBeNull();
});

test("a weight format that the folder does not have is refused with the file name", async () => {
  const folder = folderOf({ "config.json": LLAMA });
  await expect(loadDecoder(folder, { dtype: "q4", intraOpThreads: 1 })).rejects.toThrow(
    `${folder}/onnx/model_q4.onnx does not exist`,
  );
});
