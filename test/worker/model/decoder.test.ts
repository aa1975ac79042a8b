import { join } from "node:path";
import { expect, test } from "vitest";
import { loadDecoder } from "../../../worker/model/files.ts";
import { modelFolder, VECTORS, type ModelFolderOptions } from "../../support/model-folder.ts";
import { folderOf } from "../../support/tokenizers.ts";

const OPTIONS = { dtype: "fp32", intraOpThreads: 1 } as const;

test.each<[string, NonNullable<ModelFolderOptions["rename"]>, string]>([
  [
    "wants an unknown input",
    ["attention_mask", "attention_musk"],
    "wants inputs that are not known here: attention_musk (int64)",
  ],
  ["has no token input", ["input_ids", "input_idz"], "no input input_ids"],
  ["has no cache", ["past_key_values.", "fast_key_values."], "export it with a KV cache"],
  ["does not return its cache", ["present.", "prezent."], "no output present.0.key"],
  ["has no logits", ["logits", "logitz"], "no output logits"],
])("a graph that %s is refused with file and reason", async (_, rename, reason) => {
  const folder = modelFolder({ rename });
  const file = join(folder, "onnx/model.onnx");
  await expect(loadDecoder(folder, OPTIONS)).rejects.toThrow(reason);
  await expect(loadDecoder(folder, OPTIONS)).rejects.toThrow(file);
});

test("a file that is no graph is refused with its name", async () => {
  const folder = folderOf({ "config.json": {}, "onnx/model.onnx": "no graph" });
  await expect(loadDecoder(folder, OPTIONS)).rejects.toThrow(`${folder}/onnx/model.onnx: `);
});

test("a prompt in pieces gives the logits of the prompt in one, and counts its tokens", async () => {
  const decoder = await loadDecoder(join(VECTORS, "llama/base"), OPTIONS);
  const ids = [34, 39, 5, 9, 2, 7];
  const whole = await decoder.open().forward(ids);
  const sequence = decoder.open();
  await sequence.forward(ids.slice(0, 2));
  await sequence.forward(ids.slice(2, 5));
  const pieces = await sequence.forward(ids.slice(5));
  expect(sequence.length).toBe(6);
  for (const [i, logit] of whole.entries()) expect(pieces[i]).toBeCloseTo(logit, 4);
});

test("sequences of one model do not see each other", async () => {
  const decoder = await loadDecoder(join(VECTORS, "llama/base"), OPTIONS);
  const alone = decoder.open();
  await alone.forward([3]);
  const undisturbed = [...(await alone.forward([4]))];
  const [one, other] = [decoder.open(), decoder.open()];
  await one.forward([1, 2]);
  await other.forward([3]);
  await one.forward([4]);
  expect([...(await other.forward([4]))]).toEqual(undisturbed);
});

test("the width of the logits is known before the first run", async () => {
  const decoder = await loadDecoder(join(VECTORS, "qwen2/base"), OPTIONS);
  expect(decoder.logitsWidth).toBe(152);
});
